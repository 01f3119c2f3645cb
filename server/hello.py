"""What a relay and the shared ToolScore say to each other besides the client's own messages.

    relay                                    shared ToolScore
      hello (notification, first of all)  ->
                                         <-  welcome (notification)
      drain (request, right after hello)  ->                          a newer version asks for the place
                                         <-  environment (request)    `${NAME}` of a server that is being started
                                         <-  draining (notification)  it is about to end: no new requests, please
      held (notification)                 ->                          none will follow
                                         <-  goodbye (notification)   it ends in order; without it, it crashed

None of these reaches the client, and a client's own of these names mean nothing. Standard library only, and little of
that: it is part of the thin relay.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .. import __version__

OWN = "toolscore/"
"""How the methods of these requests begin, and those of the notifications after `notifications/`."""

HELLO = "notifications/toolscore/hello"
WELCOME = "notifications/toolscore/welcome"
DRAINING = "notifications/toolscore/draining"
HELD = "notifications/toolscore/held"
GOODBYE = "notifications/toolscore/goodbye"
ENVIRONMENT = "toolscore/environment"
DRAIN = "toolscore/drain"
CLIENTS = "toolscore/clients"
"""Asked by `toolscore status`, on a connection without a hello."""
OVERVIEW = "toolscore/overview"
"""Asked by `toolscore top`, likewise: all that `Glance.look` tells, since the `cursor` in its parameters."""

EXPOSE, ROOTS = "tools.expose", "process.roots"
PER_CLIENT = {EXPOSE: "TOOLSCORE_TOOLS_EXPOSE", ROOTS: "TOOLSCORE_PROCESS_ROOTS"}
"""The settings that each client of a shared ToolScore has for itself, and their variables."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ROOT = re.compile(r"/|~|file://")


class HelloError(Exception):
    """What a client set for itself cannot be used. The text names it, and the fix."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What holds for one connection alone.

    Attributes:
        version: Version of the relay's ToolScore.
        cwd: Its working directory, against which relative folders are resolved.
        roots: Folders servers are told of where the client has no roots of its own.
        expose: Which tools the client is shown; the shared ToolScore's own setting when empty.
        names: Names of the environment variables that may be asked of it.
        record: File that the client's traffic is recorded to, if it is; the relay has made it.
    """

    version: str
    cwd: str = ""
    roots: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    record: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str], environ: Mapping[str, str]) -> Hello:
        """Make the hello of this process.

        Args:
            given: Settings of the command line, by dotted key; those that are not a client's own do not matter.
            environ: The environment.

        Raises:
            HelloError: If one of them cannot be used.
        """
        values: dict[str, tuple[str, ...]] = {}
        for key, variable in PER_CLIENT.items():
            text = given.get(key) or environ.get(variable) or ""
            values[key] = tuple(part.strip() for part in text.split(",") if part.strip())
        expose, roots = values[EXPOSE], values[ROOTS]
        if any(" " in entry or entry == "server:" for entry in expose) or (
            len(expose) > 1 and any(entry.startswith("server:") for entry in expose)
        ):
            raise HelloError(
                f"{EXPOSE} = {','.join(expose)} must be a list of own, all or patterns such as time__*, or "
                "server:NAME and nothing else."
            )
        if wrong := [root for root in roots if not _ROOT.match(root)]:
            raise HelloError(f"{ROOTS} = {wrong[0]} must be an absolute folder or a file:// address.")
        names = (name for name in environ if _NAME.match(name) and not name.startswith("TOOLSCORE_"))
        try:
            cwd = os.getcwd()  # noqa: PTH109 - one import less in the relay
        except OSError:  # it was deleted
            cwd = ""
        for key, text in ((EXPOSE, ",".join(expose)), (ROOTS, ",".join(roots)), ("", cwd)):
            if not is_text(text):
                if key:
                    raise HelloError(f"{key} = {text!r} is no text in UTF-8.")
                cwd = ""  # relative folders are refused then
        return cls(version(environ), cwd, roots, expose, tuple(sorted(names)))

    def frame(self) -> bytes:
        """Write it as the first frame of a connection."""
        return notification(HELLO, asdict(self))

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> Hello | None:
        """Read a message that may be one; `None` if it is anything else."""
        params = message.get("params")
        if message.get("method") != HELLO or "id" in message or not isinstance(params, dict):
            return None
        version, cwd = params.get("version"), params.get("cwd")
        lists = [params.get(name) for name in ("roots", "expose", "names")]
        if not isinstance(version, str) or not isinstance(cwd, str):
            return None
        if not all(isinstance(each, list) and all(isinstance(one, str) for one in each) for each in lists):
            return None
        roots, expose, names = (tuple(each or ()) for each in lists)
        record = params.get("record")
        return cls(version, cwd, roots, expose, names, record if isinstance(record, str) else "")


def notification(method: str, params: Mapping[str, Any] | None = None) -> bytes:
    """Write a notification."""
    message = {"jsonrpc": "2.0", "method": method}
    return encoded(message if params is None else {**message, "params": params})


def encoded(message: Mapping[str, Any]) -> bytes:
    """Write a message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def is_text(value: str) -> bool:
    """Tell whether a text of the environment or command line can be written as JSON (RFC 8259: Unicode)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def version(environ: Mapping[str, str] | None = None) -> str:
    """Give the version of this ToolScore. Tests of an upgrade name another one."""
    environ = os.environ if environ is None else environ
    return environ.get("TOOLSCORE_TEST_VERSION") or __version__


def is_newer(one: str, other: str) -> bool:
    """Tell whether a version is newer than another; not, where either is none."""
    if one == other:
        return False
    from packaging.version import InvalidVersion, Version  # only where two versions have met

    try:
        return Version(one) > Version(other)
    except InvalidVersion:
        return False
