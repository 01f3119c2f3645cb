"""What a command shows: rich on a terminal, plain lines elsewhere, one JSON document where asked."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ...runners.spec import Report, silent

# Tools are described, and results written, by servers nobody vouches for: on a terminal their escape
# sequences could move the cursor, change the title or forge lines.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """Take out of a text what a terminal would obey."""
    return _CONTROL.sub("�", text)


class Output:
    """Standard output for results, standard error for everything else.

    Args:
        json_wanted: Whether the result is one JSON document.
        quiet: Whether progress and remarks are left out.
    """

    def __init__(self, *, json_wanted: bool = False, quiet: bool = False) -> None:
        self.json_wanted = json_wanted
        self.quiet = quiet
        self.terminal = sys.stdout.isatty()
        for stream in (sys.stdout, sys.stderr):
            # A character the terminal's encoding lacks must not end a listing.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")

    def line(self, text: str = "") -> None:
        """Print one or several lines of a result."""
        print(self._safe(text))

    def document(self, value: Any) -> None:
        """Print the one JSON document."""
        print(json.dumps(value, indent=2, ensure_ascii=False))

    def remark(self, text: str) -> None:
        """Tell something by the way, unless it is to be quiet."""
        if not self.quiet:
            self.error(text, name=False)

    def error(self, text: str, *, name: bool = True) -> None:
        """Tell what went wrong."""
        safe = _CONTROL.sub("�", text) if sys.stderr.isatty() else text
        print(f"toolscore: {safe}" if name else safe, file=sys.stderr, flush=True)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows: a table on a terminal, otherwise aligned columns without a header."""
        if not self.terminal:
            widths = [max(map(_cells, column)) for column in zip(*rows, strict=True)]
            for row in rows:
                cells = (cell + " " * (width - _cells(cell)) for cell, width in zip(row, widths, strict=True))
                print("  ".join(cells).rstrip())
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*headers, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*(Text(self._safe(cell), style=_STYLES.get(cell, "")) for cell in row))
        Console().print(table)

    @asynccontextmanager
    async def progress(self) -> AsyncIterator[Report]:
        """Show progress while the body runs.

        Yields:
            What to report to.
        """
        if self.quiet:
            yield silent
        elif not (self.terminal and sys.stderr.isatty()):
            yield self._told()
        else:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(24))
            console = Console(stderr=True)
            with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
                task = bar.add_task("", total=None, visible=False)

                async def shown(progress: float, total: float | None, message: str) -> None:
                    text = _CONTROL.sub("�", message)
                    bar.update(task, completed=progress, total=total, description=text, visible=True)

                yield shown

    def _told(self) -> Report:
        last = ""

        async def told(_progress: float, _total: float | None, message: str) -> None:
            nonlocal last
            if message and message != last:
                last = message
                self.remark(message)

        return told

    def _safe(self, text: str) -> str:
        return _CONTROL.sub("�", text) if self.terminal else text


def _cells(text: str) -> int:
    """Give how wide a text is; Chinese characters have two cells."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


_STYLES = {
    "ok": "green",
    "ready": "green",
    "warn": "yellow",
    "missing": "red",
    "failed": "red",
    "backoff": "yellow",
}
