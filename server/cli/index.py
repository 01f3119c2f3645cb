"""`index`: builds the index of tools now, instead of at the first search."""

from __future__ import annotations

from typing import Any

from ..database_home import has_store
from ..settings import Settings
from .backend import open_backend
from .output import Output
from .results import structured

EMPTY = "There are no tools yet: `toolscore install SOURCE` adds a server."


async def run(settings: Settings, out: Output) -> int:
    """Build the index, with a bar while meanings are encoded. What was encoded is kept, also where this breaks off.

    Returns:
        The exit status.
    """
    if not has_store(settings):
        # Looking must not make a home.
        told: dict[str, Any] = {"by_meaning": False, "tools": 0, "seconds": 0.0, "note": EMPTY}
    else:
        asked = {"tool": "toolscore__index_tools", "arguments": {}}
        async with open_backend(settings, out.remark) as backend, out.progress() as report:
            told = structured(await backend.call("execute_tool", asked, report))
    if out.json_wanted:
        out.document(told)
        return 0
    if told["tools"]:
        how = "words and meaning" if told["by_meaning"] else "words"
        out.line(f"{told['tools']} tools are found by their {how}; it took {told['seconds']:.1f} s")
    if told.get("note"):
        out.remark(told["note"])
    return 0
