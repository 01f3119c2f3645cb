"""The screen of `toolscore top` as lines of text: its head, the table, what is below, and the foot."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from ..output import safe as without_control
from .columns import STYLES, Column, age, columns, percent, size
from .figures import Line, Picture, arranged

if TYPE_CHECKING:
    from rich.style import StyleType

KEYS = (
    ("↑ ↓ j k", "select a server; PgUp, PgDn, Home and End go further"),
    ("Enter", "show the end of its log, or close that"),
    ("R", "restart it; asks first"),
    ("s", "sort by the next column"),
    ("o", "the other way round"),
    ("/", "show only servers with this in name or state, or of @GROUP; Esc shows all"),
    ("space", "hold still, or go on"),
    ("?", "these keys"),
    ("q", "quit"),
)
"""What a person can press, and what it does."""

_EVENTS = 6
"""Lines of the last events, where there is room."""


@dataclass
class View:
    """What a person has chosen to see.

    Attributes:
        sort: What servers are sorted by.
        backwards: Whether the other way round.
        wanted: What they must have in name, state or groups.
        typing: Whether `wanted` is being typed.
        selected: Name of the selected server.
        top: Number of the first server that is shown.
        log: Lines of the selected server's log; `None` where it is not to be seen.
        asked: A question that waits for y or n.
        said: What is to be told at the foot.
        failed: Whether that is a failure.
        help: Whether the keys are to be seen.
        held: Whether it stands still.
    """

    sort: str = "state"
    backwards: bool = False
    wanted: str = ""
    typing: bool = False
    selected: str = ""
    top: int = 0
    log: list[str] | None = None
    asked: str = ""
    said: str = ""
    failed: bool = False
    help: bool = False
    held: bool = False
    order: list[str] = field(default_factory=list)
    """Names of the servers in the order in which they were shown last."""

    def arrange(self, picture: Picture) -> list[Line]:
        """Give the servers to be seen, and note their order; a selected one that is gone is let go of."""
        lines = arranged(picture.lines, self.sort, backwards=self.backwards, wanted=self.wanted)
        self.order = [line.name for line in lines]
        if self.selected not in self.order:
            self.selected = self.order[min(self.top, len(self.order) - 1)] if self.order else ""
        return lines

    def move(self, steps: int) -> None:
        """Select another server, so many further down."""
        if self.order:
            at = self.order.index(self.selected) if self.selected in self.order else 0
            self.selected = self.order[min(max(at + steps, 0), len(self.order) - 1)]


def safe(text: str) -> str:
    """Make one line of a text, without what a terminal would obey."""
    return without_control(text).replace("\n", " ").expandtabs(4)


def frame(
    picture: Picture | None,
    trouble: str | None,
    home: str,
    view: View,
    width: int,
    height: int,
    like: Console,
) -> str:
    """Draw the whole screen.

    Args:
        picture: What there is; `None` before anything was seen.
        trouble: Why there is nothing newer.
        home: The home.
        view: What is to be seen of it.
        width: Cells of the terminal.
        height: Its lines.
        like: The console whose colours are used.

    Returns:
        Exactly `height` lines, each followed by the rest of a line that is cleared.
    """
    lines = [_cut(line, width) for line in _lines(picture, trouble, home, view, width, height)]
    pen = Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system=cast("Any", like.color_system),  # which has the names that it takes
        no_color=like.no_color,
        width=width + 1,
        height=height + 1,
        legacy_windows=False,
        highlight=False,
    )
    drawn = []
    for line in lines[:height]:
        with pen.capture() as capture:
            pen.print(line, end="", soft_wrap=True)
        drawn.append(capture.get())
    return "\x1b[K\r\n".join(drawn) + "\x1b[K\x1b[J"


def _lines(
    picture: Picture | None, trouble: str | None, home: str, view: View, width: int, height: int
) -> list[Text]:
    foot = _foot(view, width)
    if view.help:
        keys = [Text.assemble((f"{key:<8}", "bold"), f"  {text}") for key, text in KEYS]
        return _filled([Text("toolscore top", "bold"), Text(), *keys], [foot], height)
    head = _head(picture, trouble, home, width, height, held=view.held)
    if picture is None:
        return _filled(head, [foot], height)
    servers = view.arrange(picture)
    room = max(height - len(head) - 1, 1)
    below: list[Text] = []
    if room >= 12:
        most = room // 2 if view.log is not None else max(min(_EVENTS + 1, room - len(servers) - 2), 4)
        below = _below(picture, view, most)
    rows = max(room - len(below) - 1, 0)
    if view.selected in view.order:
        at = view.order.index(view.selected)
        view.top = min(max(view.top, at - rows + 1), at)
    view.top = max(0, min(view.top, len(servers) - rows))
    return _filled([*head, *table(servers, view, width, rows)], [*below, foot], height)


def _filled(above: list[Text], below: list[Text], height: int) -> list[Text]:
    if height <= 1:
        return below[-1:]
    above = above[: max(height - len(below), 0)]
    blank = [Text() for _ in range(height - len(above) - len(below))]
    return [*above, *blank, *below]


def heading(picture: Picture) -> list[str]:
    """Say in a few lines how all of it is: ToolScore, its servers, journal and sandbox."""
    servers = picture.lines
    states: dict[str, int] = {}
    for line in servers:
        states[line.state] = states.get(line.state, 0) + 1
    told = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    clients = f"{picture.clients} client{'' if picture.clients == 1 else 's'}"
    cpu = f", cpu {percent(picture.cpu)}" if picture.cpu is not None else ""
    rates = [line.rate for line in servers if line.rate is not None]
    figures = [
        f"{sum(rates):.1f} calls/s" if rates else "",
        f"{sum(line.errors for line in servers)} errors",
        f"{sum(line.in_flight for line in servers)} under way",
        f"memory {size(sum(line.memory or 0 for line in servers))}",
        f"cpu {percent(sum(line.cpu or 0.0 for line in servers))}",
    ]
    return [
        f"ToolScore {picture.version}, process {picture.pid}, up {age(picture.uptime)}, {clients}, "
        f"memory {size(picture.memory)}{cpu}",
        f"{len(servers)} server{'' if len(servers) == 1 else 's'}{f': {told}' if told else ''}; "
        + ", ".join(filter(None, figures)),
        "; ".join(
            filter(None, (_encoding(picture.encoding), _journal(picture.journal), _sandbox(picture.sandbox)))
        ),
    ]


def _encoding(encoding: tuple[int, int] | None) -> str:
    return f"meanings encoded of {encoding[0]} of {encoding[1]} tools" if encoding else ""


def _journal(journal: dict[str, Any] | None) -> str:
    if journal is None:
        return "no journal"
    if journal["trouble"]:
        return f"journal NOT WRITTEN: {journal['trouble']}"
    dropped = f", {journal['dropped']} dropped" if journal["dropped"] else ""
    waiting = f", {journal['waiting']} waiting" if journal["waiting"] else ""
    return f"journal {size(journal['bytes'])}, {journal['written']} records written{dropped}{waiting}"


def _sandbox(sandbox: dict[str, Any] | None) -> str:
    if sandbox is None:
        return ""
    if not sandbox["ready"]:
        return f"sandbox NOT READY: {sandbox['problem']}"
    restarts = f", {sandbox['restarts']} restarts" if sandbox["restarts"] else ""
    return (
        f"sandbox {sandbox['tier']}, {sandbox['executions']} executions, {sandbox['boxes']} boxes of which "
        f"{sandbox['warm']} wait{restarts}"
    )


def _head(
    picture: Picture | None, trouble: str | None, home: str, width: int, height: int, *, held: bool
) -> list[Text]:
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    title = Text.assemble(("toolscore top", "bold"), f"  {safe(home)}")
    mark = "held still" if held else now
    room = width - cell_len(mark) - 1
    if room > 20:
        title.truncate(room, overflow="ellipsis", pad=True)
        title.append(f" {mark}", "reverse" if held else "dim")
    lines = [title]
    if trouble is not None:
        lines.append(Text(safe(trouble), "bold yellow"))
    if picture is not None and picture.trouble:
        lines.append(Text(safe(picture.trouble), "bold red"))
    if picture is not None and height >= 8:
        first, second, third = heading(picture)
        stale = "dim" if trouble is not None else ""
        lines += [Text(first, stale), Text(second, stale)]
        if third:
            lines.append(Text(safe(third), "bold red" if "NOT " in third else stale))
    if height >= 12:
        lines.append(Text())
    return lines


def table(servers: Sequence[Line], view: View, width: int, rows: int) -> list[Text]:
    """Make the titles and the lines of servers, as many as there is room for, no wider than the terminal."""
    longest = max((cell_len(safe(line.name)) for line in servers), default=0)
    shown = columns(width, longest)
    arrow = "▲" if view.backwards else "▼"
    titles = Text(style="bold")
    for place, column in enumerate(shown):
        title = column.title
        if column.sort == view.sort and cell_len(title) < column.width:
            title += arrow
        titles.append(_cell(title, column) + (" " if place < len(shown) - 1 else ""))
    if not servers:
        none = (
            f"no server fits `{view.wanted}`"
            if view.wanted
            else "no servers: `toolscore install SOURCE` adds one"
        )
        return [titles, Text(none, "dim")][: rows + 1]
    found = [titles]
    for line in servers[view.top : view.top + rows]:
        text = Text(style="reverse" if line.name == view.selected else "")
        for place, column in enumerate(shown):
            style: StyleType = ""
            if column.sort == "state":
                style = STYLES.get(line.state, "")
            elif column.sort == "errors" and line.errors:
                style = "red"
            text.append(_cell(safe(column.text(line)), column), style)
            text.append(" " if place < len(shown) - 1 else "")
        found.append(text)
    return found


def _cell(text: str, column: Column) -> str:
    """Fit a text into a column by cells, as Chinese characters have two."""
    length = cell_len(text)
    if length > column.width:
        return set_cell_size(text, max(column.width - 1, 0)) + "…"
    blank = " " * (column.width - length)
    return text + blank if column.side == "left" else blank + text


def _below(picture: Picture, view: View, most: int) -> list[Text]:
    chosen = next((line for line in picture.lines if line.name == view.selected), None)
    why = [Text(f"{chosen.name}: {chosen.reason}", "yellow")] if chosen is not None and chosen.reason else []
    if view.log is not None:
        shown = view.log[-(most - 1 - len(why)) :] if most > 1 + len(why) else []
        title = Text(f"─── log of {view.selected} ", "bold")
        return [title, *_clean(why), *(Text(safe(line)) for line in shown or ["nothing was written yet"])]
    told = [event_line(event) for event in picture.events[-max(most - 1 - len(why), 1) :]]
    return [Text("─── last events", "bold"), *_clean(why), *(Text(safe(line), "dim") for line in told)]


def _clean(texts: list[Text]) -> list[Text]:
    return [Text(safe(text.plain), text.style) for text in texts]


def event_line(event: dict[str, Any]) -> str:
    """Say an event in a line: when, what, of which server."""
    try:
        at = datetime.fromisoformat(str(event["at"])).astimezone().strftime("%H:%M:%S")
    except ValueError:
        at = str(event["at"])
    words = [at, str(event["server"] or "toolscore"), str(event["event"]).replace("_", " ")]
    if event["event"] == "server_state":
        words[2] = str(event.get("state", "")).lower()
        if "instance" in event:
            words[1] += f"#{event['instance']}"
    tools = event.get("tools")
    if isinstance(tools, list):
        words.append(
            ", ".join(map(str, tools[:3])) + (f" and {len(tools) - 3} more" if len(tools) > 3 else "")
        )
    if reason := event.get("reason"):
        words[-1] += f": {str(reason).strip().partition(chr(10))[0]}"
    return "  ".join(filter(None, words))


def _foot(view: View, width: int) -> Text:
    if view.asked:
        return Text(safe(f"{view.asked} [y/n] "), "bold yellow")
    if view.typing:
        return Text(safe(f"/{view.wanted}█"), "bold")
    if view.said:
        return Text(safe(view.said), "bold red" if view.failed else "bold green")
    words = "q quit  ? keys  Enter log  R restart  / filter  s sort"
    if width < cell_len(words):
        words = "q quit  ? keys"
    told = f"  by {view.sort}{' (other way round)' * view.backwards}"
    if view.wanted:
        told += f"  only `{view.wanted}`, Esc for all"
    return Text(safe(words + told), "dim")


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line
