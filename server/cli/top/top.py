"""`toolscore top`: live on a terminal, one frame elsewhere."""

from __future__ import annotations

import asyncio
import shutil
from argparse import Namespace
from typing import Any

from ...home import Home
from ...settings import Settings
from ..output import Output
from .figures import Line, Picture, arranged
from .keyboard import can_be_live
from .watching import Watch


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Show what is going on.

    Returns:
        The exit status: 0, whether a ToolScore runs or not.
    """
    watch = Watch(Home.at(settings.home))
    if not (options.once or out.json_wanted) and can_be_live():
        from .live import Live
        from .screen import View

        await Live(watch, View(sort=options.sort, wanted=options.filter or ""), options.interval).run()
        return 0
    try:
        picture = await _twice(watch, options.interval)
    finally:
        await watch.close()
    home = str(watch.home.path)
    if out.json_wanted:
        if picture is None:
            out.document({"home": home, "running": False, "reason": watch.trouble})
            return 0
        found = picture.to_json()
        chosen = {line.name for line in arranged(picture.lines, "name", wanted=options.filter or "")}
        found["servers"] = [server for server in found["servers"] if server["name"] in chosen]
        out.document({"home": home, "running": True, **found})
        return 0
    if picture is None:
        out.line(watch.trouble or "not running")
        return 0
    _show(picture, arranged(picture.lines, options.sort, wanted=options.filter or ""), options.sort, out)
    return 0


async def _twice(watch: Watch, interval: float) -> Picture | None:
    """Look twice, as rates are between two looks."""
    if await watch.look() is None:
        return None
    await asyncio.sleep(interval)
    return await watch.look()


def _show(picture: Picture, servers: list[Line], sort: str, out: Output) -> None:
    from .screen import event_line, heading

    for line in filter(None, heading(picture)):
        out.line(line)
    if picture.trouble:
        out.error(picture.trouble)
    if servers and out.terminal:
        from rich.console import Console

        from .screen import View, table

        console = Console(highlight=False)  # whose width is always 80 where the terminal is a dumb one
        width = shutil.get_terminal_size().columns
        for text in table(servers, View(sort=sort), width, len(servers)):
            console.print(text, soft_wrap=True)
    elif servers:
        from .columns import columns

        shown = columns(500, 0)
        rows: list[Any] = [[column.text(line) for column in shown] for line in servers]
        titles = [column.title for column in shown]
        out.table(titles, [titles, *rows])
    for event in picture.events[-5:]:
        out.line(event_line(event))
