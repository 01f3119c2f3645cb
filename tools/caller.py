"""Who is calling: travels with every call from the listener to the router, which enforces it."""

from __future__ import annotations

from dataclasses import dataclass, field

MANAGE = "manage"
"""The right to install, register, remove, start and stop servers."""

CALL = "call"
"""The right to call tools."""

REGISTER = "register"
"""The right to dial in as a server."""

SESSION_KEY = "toolscore/session"
"""Member of a request's `_meta` by which a client names the episode that its calls belong to."""

LONGEST_SESSION = 128
"""Characters of such a name."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller.

    Attributes:
        principal: Who it is, as far as that was proven: `owner` on the owner's own pipes. Never `clientInfo`,
            which anybody can write.
        listener: Where it came in: `stdio`, `unix` or `command` (the command line without a running ToolScore).
        connection: Number of its connection, unique in this process; 0 where there is none.
        rights: What it may do.
        parent: The call in whose name this one is made, for calls from inside a call.
        depth: How many calls it is made from inside of; 0 for a client's own.
        cwd: Its working directory, where it told: relative folders are meant from there.
        session: What it calls the episode its calls belong to, where it named one.
        span: What those who keep traces call the call it is made from; empty for a client's own.
        token: Digest of the token it came in by, which other gateways know it by; empty where there is none.
    """

    principal: str
    listener: str
    connection: int = 0
    rights: frozenset[str] = frozenset({CALL, MANAGE})
    parent: str | None = None
    cwd: str | None = None
    depth: int = 0
    session: str = ""
    span: str = ""
    token: bytes = field(default=b"", compare=False, repr=False)

    @property
    def client(self) -> int | str:
        """Who it is for what only one client may share: its connection, or where it has none, the principal."""
        return self.connection or self.principal


OWNER = Caller(principal="owner", listener="command")
"""The owner of the home, at the command line."""
