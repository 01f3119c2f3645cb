"""The live view: looks, keys and the screen, until it is left."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from contextlib import suppress
from typing import Any

from rich.console import Console

from ....runners.log_read import LogFolder
from ..backend import BackendError
from ..results import content_lines
from .figures import SORTS, Picture
from .keyboard import Terminal
from .screen import View, frame
from .watching import Watch

LOG = 200
"""Lines of a log that are read; a screen has fewer."""

SAID = 8.0
"""Seconds that what was done stands at the foot."""


class Live:
    """It.

    Args:
        watch: Looks.
        view: What is to be seen at first.
        interval: Seconds between two looks.
    """

    def __init__(self, watch: Watch, view: View, interval: float) -> None:
        self._watch = watch
        self._view = view
        self._interval = interval
        self._picture: Picture | None = None
        self._console = Console()
        self._logs = LogFolder(watch.home.logs_dir)
        self._woken = asyncio.Event()
        self._left = False
        self._restart: str | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._said_until = 0.0

    async def run(self) -> None:
        """Show it until a person leaves."""
        terminal = Terminal(self._key, self._woken.set)
        with terminal.taken():
            looking: asyncio.Task[Picture | None] | None = None
            try:
                due = 0.0
                while not self._left:
                    now = time.monotonic()
                    if looking is None and now >= due and not self._view.held:
                        looking = asyncio.create_task(self._watch.look())
                        looking.add_done_callback(lambda _task: self._woken.set())
                    if looking is not None and looking.done():
                        found = looking.result()
                        looking, due = None, time.monotonic() + self._interval
                        self._picture = found or self._picture
                    await self._read_log()
                    if self._view.said and now > self._said_until:
                        self._view.said = ""
                    self._draw(terminal)
                    self._woken.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(
                            max(due - time.monotonic(), 0.02) if looking is None else None
                        ):
                            await self._woken.wait()
            finally:
                for task in (looking, *self._work):
                    if task is not None:
                        task.cancel()
                await self._watch.close()

    def _draw(self, terminal: Terminal) -> None:
        size = _size()
        drawn = frame(
            self._picture, self._watch.trouble, str(self._watch.home.path), self._view, *size, self._console
        )
        terminal.write(f"\x1b[?2026h\x1b[H{drawn}\x1b[?2026l")  # shown at once, where that is known

    async def _read_log(self) -> None:
        if self._view.log is None:
            return
        name = self._view.selected
        if name:
            lines = await asyncio.to_thread(self._logs.lines, [name], LOG, None)
            if self._view.log is not None:
                self._view.log = [str(line) for line in lines]

    # --- keys

    def _key(self, key: str) -> None:
        self._woken.set()
        view = self._view
        if view.asked:
            view.asked = ""
            if key in ("y", "Y") and self._restart:
                self._begin(self._restart)
        elif view.typing:
            self._typed(key)
        elif view.help:
            view.help = False
            self._left = key == "q"
        else:
            self._pressed(key)

    def _typed(self, key: str) -> None:
        view = self._view
        match key:
            case "enter":
                view.typing = False
            case "escape":
                view.typing, view.wanted = False, ""
            case "backspace":
                view.wanted = view.wanted[:-1]
            case _ if len(key) == 1 and key.isprintable():
                view.wanted += key

    def _pressed(self, key: str) -> None:
        view, page = self._view, max(_size()[1] - 10, 5)
        match key:
            case "q":
                self._left = True
            case "?" | "h":
                view.help = True
            case "up" | "k":
                view.move(-1)
            case "down" | "j":
                view.move(1)
            case "page-up":
                view.move(-page)
            case "page-down":
                view.move(page)
            case "home" | "g":
                view.move(-len(view.order))
            case "end" | "G":
                view.move(len(view.order))
            case "enter" | "l":
                view.log = [] if view.log is None else None
            case "escape":
                view.log, view.wanted, view.said = None, "", ""
            case "s":
                view.sort = SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)]
            case "o":
                view.backwards = not view.backwards
            case "/":
                view.typing, view.wanted = True, ""
            case " ":
                view.held = not view.held
            case "R" if view.selected:
                self._restart = view.selected
                view.asked = f"restart {view.selected}? Its calls under way fail."

    def _begin(self, name: str) -> None:
        task = asyncio.get_running_loop().create_task(self._restarted(name))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _restarted(self, name: str) -> None:
        self._say(f"restarting {name} ...", patience=3600.0)
        try:
            result: dict[str, Any] = await self._watch.ask("manage_server", name=name, action="restart")
        except BackendError as error:
            self._say(str(error), failed=True)
        else:
            if result.get("isError"):
                self._say(" ".join(" ".join(content_lines(result)).split()), failed=True)
            else:
                state = (result.get("structuredContent") or {}).get("state", "done")
                self._say(f"restarted {name}: {str(state).lower()}")
        self._woken.set()

    def _say(self, text: str, *, failed: bool = False, patience: float = SAID) -> None:
        self._view.said, self._view.failed = text, failed
        self._said_until = time.monotonic() + patience
        self._woken.set()


def _size() -> tuple[int, int]:
    """Give the terminal's size, cells and lines, as it is now; COLUMNS and LINES would be those of the start."""
    try:
        size = os.get_terminal_size(1)
    except OSError:
        size = shutil.get_terminal_size()
    return max(size.columns, 1), max(size.lines, 1)
