"""What a person is asked before a server is upgraded or installed as a lock says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...runners.template import references
from ..errors import echoed

if TYPE_CHECKING:
    from ..servers import Servers


_ADDRESS = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]+://[^\s\"'#;\\\\]+")
"""It begins where nothing of it stands before: looking anew at each letter of a long word takes for ever."""


def addresses(locked: Mapping[str, Any]) -> list[str]:
    """Give the addresses that the locks of packages name: of these it may fetch anything.

    Args:
        locked: What a lock says of a server, as it came.
    """
    locks = locked.get("locks")
    texts = (
        [one.get("lines") for one in locks.values() if isinstance(one, dict)]
        if isinstance(locks, dict)
        else []
    )
    lines = [str(line) for text in texts if isinstance(text, list | tuple) for line in text]
    return list(dict.fromkeys(found for line in lines for found in _ADDRESS.findall(line)))


def question(servers: Servers, tool: str, arguments: Mapping[str, Any]) -> str:
    """Say what is about to be done, with the versions.

    Args:
        servers: All servers.
        tool: `upgrade_server` or `sync_server`.
        arguments: Its arguments.
    """
    name = str(arguments.get("name"))
    row = servers.library.servers.get(name)
    here = (
        f"now {row.installation.version or 'of no known version'}" if row is not None else "not installed now"
    )
    if tool == "upgrade_server":
        source = row.installation.source if row is not None else "nowhere"
        if arguments.get("rollback"):
            return f"return the server '{name}' ({source}, {here}) to the version before its last upgrade"
        to = f"version {arguments['to']}" if arguments.get("to") else "the newest version"
        done = "only show what that changes" if arguments.get("only_show") else "put it in the place of that"
        return f"fetch {to} of the server '{name}' ({source}, {here}), run it on this machine, and {done}"
    locked = arguments.get("locked")
    locked = locked if isinstance(locked, dict) else {}
    if arguments.get("dry_run"):
        return f"look whether the server '{name}' is what a lock says"
    words = [locked.get("command"), *(locked.get("args") or ()), locked.get("url")]
    how = shlex.join(str(word) for word in words if word)
    origin = arguments.get("source") or locked.get("fetched") or locked.get("source")
    what = f"fetch {origin} in version {locked.get('version')} by the hashes of a lock"
    if not locked.get("fetched") or locked.get("command") or locked.get("url"):
        what = "run or reach what a lock says"
    where = f", in the folder {locked['cwd']}" if locked.get("cwd") else ""
    if locked.get("confine") is not None:
        where += f", with the confinement {json.dumps(locked['confine'], ensure_ascii=False)}"
    if locked.get("cluster") is not None:
        where += f", on a node of a cluster: {json.dumps(locked['cluster'], ensure_ascii=False)}"
    if locked.get("constraints"):
        where += f", with {json.dumps(locked['constraints'], ensure_ascii=False)}"
    if found := addresses(locked):
        where += f", with packages from {', '.join(found)}"
    values = [locked.get(key) for key in ("env", "headers", "settings")]
    more = [name for one in values if isinstance(one, dict) for name in one]
    found = references(text for one in values if isinstance(one, dict) for text in one.values())
    own = [one for one in found if not one.startswith(f"${{secret:{name}/")]
    return (
        f"{what}, as the server '{name}' ({here}) of this machine"
        + (f", with {how}" if how else "")
        + where
        + (f", with values for {', '.join(echoed(one) for one in more)}" if more else "")
        + (f", among them {', '.join(own)}" if own else "")
    )


async def fetches(servers: Servers, arguments: Mapping[str, Any]) -> str:
    """Say what an upgrade fetches where the source does not: an entry of the catalog may name another package.

    Args:
        servers: All servers.
        arguments: Those of `upgrade_server`.

    Raises:
        RefusalError: If there is no such entry.
    """
    from ..catalog.installing import PREFIX
    from .upgrading import next_version

    row = servers.library.servers.get(str(arguments.get("name")))
    if row is None or arguments.get("rollback") or not row.installation.source.startswith(PREFIX):
        return ""
    candidate = await next_version(servers, row, arguments.get("to"))
    return f"; that is {candidate.source} by now ({candidate.label})"
