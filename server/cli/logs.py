"""`toolscore logs`: what servers wrote and what ToolScore did, read from the files, whether it runs or not."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import asdict

from ...runners.log_follow import Follower
from ...runners.log_line import LogLine
from ...runners.log_read import LogFolder
from ...runners.spec import silent
from ...tools.names import OWN_SERVER
from ..home import Home
from ..settings import Settings
from .output import Output
from .results import structured

LINES = 50
"""Lines that are shown unless it is said how many."""


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Show the last lines of logs, and those that come where that is asked for.

    Returns:
        The exit status.
    """
    folder = LogFolder(Home.at(settings.home).logs_dir)
    names = await _names(options.names, folder, settings, out)
    follower = Follower(folder, names, options.level.upper() if options.level else None)
    lines = follower.begin(options.lines or LINES)
    if out.json_wanted and not options.follow:
        out.document({"servers": follower.names, "lines": [asdict(line) for line in lines]})
        return 0
    alone = names is not None and names == options.names and len(names) == 1
    show = _Show(out, None if alone else follower.names)
    show(lines)
    if options.follow:
        async for lines in follower.follow():
            show(lines)
    elif not lines:
        out.remark("there are no such lines")
    return 0


async def _names(asked: list[str], folder: LogFolder, settings: Settings, out: Output) -> list[str] | None:
    """Find out whose logs are meant; `None` are all, also those that come later."""
    if not asked or "*" in asked:
        return None
    found: list[str] = []
    for name in dict.fromkeys(asked):
        if name == OWN_SERVER or (not name.startswith("@") and folder.has(name)):
            found.append(name)
            continue
        # Only the library knows groups, servers that have not written anything, and what there is instead.
        from .backend import open_backend

        async with open_backend(settings, out.remark) as backend:
            result = await backend.call("server_logs", {"name": name, "lines": 1}, silent)
        found += structured(result)["servers"]
    return list(dict.fromkeys(found))


class _Show:
    """Prints lines, with their servers' names before them where they are of several."""

    def __init__(self, out: Output, names: list[str] | None) -> None:
        self._out = out
        self._named = names is not None
        self._width = max(map(len, names or ()), default=0)

    def __call__(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            if self._out.json_wanted:
                print(json.dumps(asdict(line), ensure_ascii=False))
            elif self._named:
                self._width = max(self._width, len(line.server))
                self._out.line(f"{line.server:<{self._width}} | {line.time} {line.level} {line.text}")
            else:
                self._out.line(str(line))
        sys.stdout.flush()  # a pipe's reader follows too
