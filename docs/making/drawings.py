"""Draws docs/images: boxes on a grid and what goes between them, readable on light and dark pages alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from toolscore.runners import lifecycle

FOLDER = Path(__file__).resolve().parents[1] / "images"
_STYLE = """\
text{font:14px system-ui,sans-serif;fill:#1f2430}.s{font-size:12px;fill:#566075}.c{fill:#fff;stroke:#c9cfdb}
.b{fill:#eef1fb;stroke:#5566b3}.o{fill:#dfe6ff;stroke:#3f51b5;stroke-width:2}.e{fill:none;stroke:#566075;stroke-width:1.5}
.m{fill:#566075}.g{fill:#fff;fill-opacity:.92}
@media(prefers-color-scheme:dark){text{fill:#e6e8ef}.s{fill:#aab2c5}.c{fill:#1d2029;stroke:#3a4050}
.b{fill:#272c3b;stroke:#8c9eff}.o{fill:#2f3a66;stroke:#9fa8ff}.e{stroke:#aab2c5}.m{fill:#aab2c5}.g{fill:#1d2029}}"""
_MARKER = (
    '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="m" d="M0 0 8 4 0 8z"/></marker></defs>'
)


@dataclass(frozen=True, slots=True)
class Box:
    """A box: its middle, its size, its name, and what is said below the name."""

    x: float
    y: float
    name: str
    said: tuple[str, ...] = ()
    width: float = 150
    height: float = 56
    own: bool = False

    def drawn(self) -> str:
        """Give its SVG."""
        left, top = self.x - self.width / 2, self.y - self.height / 2
        first = self.y + 5 - 8 * len(self.said)
        lines = [f'<text x="{self.x:g}" y="{first:g}" text-anchor="middle">{escape(self.name)}</text>']
        for at, line in enumerate(self.said, 1):
            lines.append(
                f'<text class="s" x="{self.x:g}" y="{first + 17 * at:g}" text-anchor="middle">{escape(line)}</text>'
            )
        rect = (
            f'<rect class="{"o" if self.own else "b"}" x="{left:g}" y="{top:g}" width="{self.width:g}" '
            f'height="{self.height:g}" rx="8"/>'
        )
        return rect + "".join(lines)

    def edge(self, x: float, y: float) -> tuple[float, float]:
        """Give where a line from its middle towards a point leaves it."""
        dx, dy = x - self.x, y - self.y
        by = min(
            self.width / 2 / abs(dx) if dx else 9e9,
            self.height / 2 / abs(dy) if dy else 9e9,
        )
        return self.x + dx * by, self.y + dy * by


def arrow(
    one: Box, other: Box, said: tuple[str, ...] = (), *, bend: float = 0, at: float = 0.5, both: bool = False
) -> str:
    """Draw an arrow between two boxes.

    Args:
        one: Where it begins.
        other: Where it ends.
        said: What stands beside it, a line each.
        bend: How far its middle lies to the left of the straight line, in pixels.
        at: Where on it the text stands, from 0 to 1.
        both: Whether it has a head at its beginning, too.
    """
    dx, dy = other.x - one.x, other.y - one.y
    length = (dx * dx + dy * dy) ** 0.5
    middle_x, middle_y = (
        (one.x + other.x) / 2 + dy / length * bend,
        (one.y + other.y) / 2 - dx / length * bend,
    )
    x1, y1 = one.edge(middle_x, middle_y)
    x2, y2 = other.edge(middle_x, middle_y)
    head = ' marker-start="url(#b)"' if both else ""
    line = (
        f'<path class="e" d="M{x1:.0f} {y1:.0f}Q{middle_x:.0f} {middle_y:.0f} {x2:.0f} {y2:.0f}" '
        f'marker-end="url(#a)"{head}/>'
    )
    if not said:
        return line
    rest = 1 - at
    x = rest * rest * x1 + 2 * rest * at * middle_x + at * at * x2
    y = rest * rest * y1 + 2 * rest * at * middle_y + at * at * y2
    width, height = max(map(len, said)) * 6.3 + 8, 15 * len(said) + 3
    left, top = x - width / 2, y - height / 2
    texts = "".join(
        f'<text class="s" x="{x:.0f}" y="{top + 13 + 15 * row:.0f}" text-anchor="middle">{escape(text)}</text>'
        for row, text in enumerate(said)
    )
    ground = f'<rect class="g" x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height}"/>'
    return line + ground + texts


def sheet(width: int, height: int, title: str, *parts: str) -> str:
    """Put parts on a card of their own."""
    back = _MARKER.replace('id="a"', 'id="b"').replace('orient="auto"', 'orient="auto-start-reverse"')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>{_MARKER}{back}\n"
        f'<rect class="c" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def overview() -> str:
    """Draw what ToolScore is."""
    clients = [
        Box(100, 50 + 64 * at, name, (), 150, 44)
        for at, name in enumerate(("Claude, VS Code, ...", "your agents", "a team"))
    ]
    own = Box(
        400, 114, "ToolScore", ("finds · installs · starts", "confines · calls · scores"), 210, 96, own=True
    )
    servers = [
        Box(690, 42 + 48 * at, name, (), 190, 38)
        for at, name in enumerate(
            ("pypi:, npm:, git+ servers", "containers", "remote servers", "Python in a sandbox")
        )
    ]
    links = ("stdio", "WebSocket", "HTTP")
    parts = [
        arrow(client, own, (link,), at=0.45, both=True) for client, link in zip(clients, links, strict=True)
    ]
    parts += [arrow(own, server, both=True) for server in servers]
    return sheet(
        800,
        228,
        "Clients speak to one ToolScore, and that to all servers",
        *parts,
        *(box.drawn() for box in (*clients, own, *servers)),
    )


def _walk(title: str, steps: list[tuple[str, tuple[str, ...]]], own: int) -> str:
    """Draw steps one after the other, in two rows of four; the second goes on below the end of the first."""
    boxes = []
    for at, (name, said) in enumerate(steps):
        row, column = divmod(at, 4)
        place = 110 + 195 * (3 - column if row % 2 else column)
        boxes.append(Box(place, 66 + 124 * row, name, said, 160, 76, own=at == own))
    parts = [arrow(one, other) for one, other in pairwise(boxes)]
    return sheet(805, int(boxes[-1].y) + 66, title, *parts, *(box.drawn() for box in boxes))


def call() -> str:
    """Draw the way of one call."""
    return _walk(
        "The way of one call",
        [
            ("Client", ("tools/call",)),
            ("Listener", ("stdio, WebSocket,", "HTTP: who is it?")),
            ("Express lane", ("only passed on:", "no model is built")),
            ("Router", ("name → tool → server;", "policy, pin, limits")),
            ("Supervisor", ("READY, or start it,", "or refuse clearly")),
            ("Session", ("queue, time-out,", "progress, cancelling")),
            ("Server", ("its own environment,", "confined if asked")),
            ("Journal, scores", ("what came of it,", "for the next choice")),
        ],
        own=3,
    )


def install() -> str:
    """Draw the way of one install."""
    return _walk(
        "The way of one install",
        [
            ("Search", ("a need, in words,", "in the catalog")),
            ("Plan", ("what is fetched and run;", "which values it needs")),
            ("Environment", ("of its own; pinned", "with hashes")),
            ("Start", ("handshake under", "a deadline")),
            ("Lists", ("tools looked through", "for poison")),
            ("Store", ("one transaction", "makes it visible")),
            ("Events", ("to every client,", "in its own era")),
            ("Call", ("in the same turn,", "by execute_tool")),
        ],
        own=5,
    )


_PLACES = {
    "STOPPED": (100, 190),
    "STARTING": (400, 190),
    "READY": (700, 190),
    "STOPPING": (400, 46),
    "BACKOFF": (640, 400),
    "FAILED": (160, 400),
}
"""Where each state stands. INSTALLING is drawn with STARTING: what leads away from it is the same."""
_BENDS = {("READY", "STOPPING"): 20.0, ("STOPPING", "STOPPED"): 20.0, ("BACKOFF", "STOPPED"): -20.0}
_TEXTS = {
    ("STARTING", "FAILED"): 0.5,
    ("FAILED", "STARTING"): 0.22,
    ("STARTING", "BACKOFF"): 0.55,
    ("BACKOFF", "STARTING"): 0.55,
    ("BACKOFF", "STOPPED"): 0.15,
    ("READY", "FAILED"): 0.25,
}
"""Where on its way a text stands, so that it covers no other."""


def life() -> str:
    """Draw the states of a server and the ways between them, from the table that is the code's."""
    boxes = {name: Box(x, y, name, (), 120, 44, own=name == "READY") for name, (x, y) in _PLACES.items()}
    boxes["STARTING"] = Box(400, 190, "STARTING", ("INSTALLING, while a", "launcher downloads"), 160, 76)
    ways: dict[tuple[str, str], dict[str, None]] = {}
    for one, other, said in re.findall(r"^\s*(\w+) --> (\w+): (.+)$", lifecycle.diagram(), re.MULTILINE):
        begin, end = ("STARTING" if name == "INSTALLING" else name for name in (one, other))
        if begin != end:
            ways.setdefault((begin, end), {})[said] = None
    parts = []
    for (one, other), told in ways.items():
        bend = 44 if (other, one) in ways else _BENDS.get((one, other), 0)
        at = _TEXTS.get((one, other), 0.5)
        parts.append(arrow(boxes[one], boxes[other], tuple(told), bend=bend, at=at))
    return sheet(800, 450, "The states of a server", *parts, *(box.drawn() for box in boxes.values()))


def drawings() -> dict[str, str]:
    """Give every drawing by the name of its file."""
    return {
        "toolscore.svg": overview(),
        "call.svg": call(),
        "install.svg": install(),
        "lifecycle.svg": life(),
    }
