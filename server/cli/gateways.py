"""`gateways`: which ToolScores share the store, and what each of them runs."""

from __future__ import annotations

from typing import Any

from ...runners.spec import silent
from ..settings import Settings
from .backend import open_backend
from .output import Output
from .results import ToolFailedError, structured


async def run(settings: Settings, out: Output) -> int:
    """Show them.

    Returns:
        The exit status: 0; 1 where this home shares its store with nobody.
    """
    if not settings.database.url:
        out.error(
            "This home has a store of its own. Set database.url to a PostgreSQL database, and others that do the "
            "same share it; see docs/gateways.md."
        )
        return 1
    async with open_backend(settings, out.remark) as backend:
        try:
            listed = structured(await backend.call("list_servers", {}, silent))
        except ToolFailedError as failure:
            out.error(str(failure))
            return failure.status
    gateways: list[dict[str, Any]] = listed.get("gateways", [])
    problem = listed.get("database")
    if out.json_wanted:
        out.document({"gateways": gateways, "database": problem})
        return 0
    if problem:
        out.error(f"{problem.rstrip('.')}. What follows is as it was before that.")
    show(gateways, out)
    return 0


def show(gateways: list[dict[str, Any]], out: Output) -> None:
    """Print a line for each gateway, and one for each server that it cannot run."""
    if not gateways:
        out.line("no gateway serves: `toolscore start` or `toolscore serve --listen ADDRESS` begins one")
        return
    rows = []
    for one in gateways:
        servers = one["servers"]
        name = f"{one['name']} (this one)" if one["here"] else one["name"]
        rows.append(
            (
                name,
                one["state"],
                f"{one['seconds']:.0f} s",
                one["version"],
                one["url"],
                ", ".join(servers) or "-",
            )
        )
    out.table(("gateway", "state", "for", "version", "address", "runs"), rows)
    for one in gateways:
        for server, why in sorted(one.get("unable", {}).items()):
            out.line(f"{one['name']} cannot run {server}: {why.strip().partition(chr(10))[0]}")
