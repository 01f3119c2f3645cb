"""What a command shows: rich on a terminal, plain lines elsewhere, one JSON document where asked."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from ...runners.spec import Report, silent

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

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

        console = Console()
        table = Table(box=None, pad_edge=False, header_style="bold")
        for place, header in enumerate(headers):
            # A name or a path is typed again: it is broken where there is no room, and nothing of it is left out.
            whole = place == 0 and max((_cells(row[0]) for row in rows), default=0) <= console.width // 2
            table.add_column(header, overflow="fold", no_wrap=whole)
        for row in rows:
            table.add_row(*(Text(self._safe(cell), style=_STYLES.get(cell, "")) for cell in row))
        console.print(table)

    @asynccontextmanager
    async def progress(self) -> AsyncIterator[Report]:
        """Show progress while the body runs.

        Yields:
            What to report to.
        """
        if self.quiet or self.json_wanted:
            yield silent
        elif not sys.stderr.isatty():
            yield self._told()
        else:
            with _bar() as report:
                yield report

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show that something goes on of which nothing is told while the body runs, which may block.

        Args:
            what: What is done.
        """
        if self.quiet or self.json_wanted:
            yield
        elif not sys.stderr.isatty():
            self.remark(f"{what} ...")
            yield
        else:
            with _drawn(what):
                yield

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


@contextmanager
def _drawn(text: str = "") -> Iterator[tuple[Progress, TaskID]]:
    """Draw a bar on standard error, which goes again; one without a total says that work goes on."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.table import Column

    columns = (
        SpinnerColumn(),
        # As much as there is room for: a bar that is broken into two lines leaves them on the screen.
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        BarColumn(24),
        TaskProgressColumn(text_format_no_percentage=""),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, expand=False) as bar:
        yield bar, bar.add_task(text, total=None, visible=bool(text))


@contextmanager
def _bar() -> Iterator[Report]:
    """Draw what is reported; a person sees steps as they come, and no bar where nothing is reported."""
    with _drawn() as (bar, task):

        async def shown(progress: float, total: float | None, message: str) -> None:
            text = safe(message).replace("\n", " ")
            bar.update(task, completed=progress, total=total, description=text, visible=True)

        yield shown


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
