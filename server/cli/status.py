"""`status`: who owns the home, and how its servers are."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...runners.spec import silent
from ..home import Home, current_owner
from ..settings import Settings
from .backend import open_backend
from .output import Output
from .results import ToolFailedError, structured


async def status(settings: Settings, out: Output) -> int:
    """Show the owner and the servers.

    Returns:
        The exit status: 0, whether one runs or not.
    """
    home = Home.at(settings.home)
    owner = current_owner(home)
    servers: list[dict[str, Any]] | None = []
    if owner is not None and owner.mode == "command":
        servers = None  # the one that could be asked is busy with something else
    elif owner is not None or home.store_file.exists():
        # Only then: looking must not make a home.
        async with open_backend(settings, out.remark) as backend:
            try:
                servers = structured(await backend.call("list_servers", {}, silent))["servers"]
            except ToolFailedError as failure:
                out.error(str(failure))
                return failure.status
    serving = owner is not None and owner.mode != "command"
    if out.json_wanted:
        told = asdict(owner) if owner is not None else None
        out.document({"home": str(home.path), "running": serving, "owner": told, "servers": servers})
        return 0
    if owner is None:
        out.line("not running")
    elif serving:
        out.line(f"running: ToolScore {owner.version}, process {owner.pid}, mode {owner.mode}")
        for address in owner.listening:
            out.line(f"listening: {address}")
    else:
        out.line(f"not running; a command (process {owner.pid}) is at work")
    out.line(f"home: {home.path}")
    if servers:
        show_servers(servers, out)
    elif servers is not None:
        out.line("no servers: `toolscore install SOURCE` adds one")
    return 0


def show_servers(servers: list[dict[str, Any]], out: Output) -> None:
    """Print a line for each server: name, state, tools, version, source, and why it is not ready."""
    rows = []
    for server in servers:
        state = str(server["state"]).lower() if server["enabled"] else "disabled"
        count = server["tools"]
        what = (f"{count} tool{'' if count == 1 else 's'}", server["version"] or "-", server["source"])
        # One line: a reason may carry the tail of a log, which `logs` shows whole.
        reason = str(server["reason"] or "").strip().partition("\n")[0] if state != "ready" else ""
        rows.append((server["name"], state, *what, reason))
    out.table(("server", "state", "tools", "version", "source", "reason"), rows)
