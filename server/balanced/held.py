"""What a client holds by an id at one gateway: leases, tasks, sessions of Python; and which request names which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...tools.functions.names import EXECUTOR
from ...tools.leases import LEASE_KEY
from ...tools.names import OWN_SERVER

if TYPE_CHECKING:
    from ..exchange import Exchange
    from ..front import Front
    from ..toolset import ToolSet

LEASE, TASK, SESSION = "lease", "task", "session"

_BY_LEASE = frozenset({"execute_tool", "acquire_server", "release_server"})
_OWN = OWN_SERVER + "__"

LIMIT = 10_000
"""Sessions of Python that are remembered; the oldest are forgotten first."""

LONGEST = 200
"""Characters of an id."""


class Held:
    """What clients hold at this gateway.

    Args:
        front: Answers them.
        toolset: The tools.
    """

    def __init__(self, front: Front, toolset: ToolSet) -> None:
        self._front = front
        self._toolset = toolset
        self._sessions: dict[str, str] = {}
        """Sessions of Python that began here, each with whose it is."""

    def named(self, exchange: Exchange) -> tuple[str, str] | None:
        """Give what a request names that somebody must hold, and its id; `None` if it names nothing."""
        params = exchange.params
        if exchange.method in ("tasks/get", "tasks/result", "tasks/cancel"):
            return _named(TASK, params.get("taskId"))
        if (lease := exchange.meta.get(LEASE_KEY)) is not None:
            return _named(LEASE, lease)
        arguments = params.get("arguments")
        if exchange.method != "tools/call" or not isinstance(arguments, dict) or not arguments:
            return None
        name = str(params.get("name")).removeprefix(_OWN)
        if name in _BY_LEASE and arguments.get("lease") is not None:
            return _named(LEASE, arguments["lease"])
        if name == "execute_tool":
            arguments = arguments.get("arguments")
        if not isinstance(arguments, dict) or "session" not in arguments:
            return None
        return _named(SESSION, arguments["session"]) if self._is_python(params) else None

    def here(self, what: str, identity: str, principal: str) -> bool:
        """Tell whether a principal holds something of that id here."""
        match what:
            case "lease":
                return self._toolset.router.carrier.leases.has(identity, principal)
            case "task":
                return self._front.tasks.knows(principal, identity)
            case _:
                return self._sessions.get(identity) == principal

    def note(self, exchange: Exchange, result: dict[str, Any]) -> None:
        """Take note of what an answer hands out."""
        if exchange.method != "tools/call":
            return
        structured = result.get("structuredContent")
        session = structured.get("session") if isinstance(structured, dict) else None
        if not isinstance(session, str) or not self._is_python(exchange.params):
            return
        if len(self._sessions) >= LIMIT:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[session] = exchange.peer.caller.principal

    def _is_python(self, params: dict[str, Any]) -> bool:
        return self._toolset.server_of(params) == EXECUTOR


def _named(what: str, identity: Any) -> tuple[str, str] | None:
    return (what, identity) if isinstance(identity, str) and 0 < len(identity) <= LONGEST else None
