"""Text that is there and is not seen: characters without width, changed directions, letters of two scripts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from .finding import Severity
from .visible import FILLERS

_ZERO = frozenset("\u200b\u2060\u2061\u2062\u2063\u2064\ufeff\u00ad\u180e")
_JOINERS = frozenset("\u200c\u200d")
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARKS = frozenset("\u200e\u200f\u061c")
_FLAG = "\U0001f3f4"
_MANY = 3
"""So many characters without width are no slip of a text editor."""
_FEW_PRIVATE = 3
_BLANKS, _LINES = 80, 25
"""So many blanks or empty lines in a row push what follows out of sight."""
_WORD = re.compile(r"[^\W\d_]{3,}")
_GAP = re.compile(r"\s{25,}")
_SUSPECT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ue000-\uf8ff\ufff0-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)

Place = tuple[str, Severity, int, int, str]
"""Kind, severity, beginning, end, and what it is."""


def hidden(text: str, *, name: bool) -> Iterator[Place]:
    """Find what is hidden in a text.

    Args:
        text: The text.
        name: Whether it is a name, in which letters of two scripts have no place.
    """
    if text.isascii() and text.isprintable():
        yield from _gaps(text)
        return
    places: dict[str, list[int]] = {}
    for match in _SUSPECT.finditer(text):
        if (what := _what(text, match.start())) is not None:
            places.setdefault(what, []).append(match.start())
    for what, found in places.items():
        severity, said = _judged(what, found)
        yield "hidden", severity, found[0], found[-1] + 1, said
    yield from _gaps(text)
    yield from _mixed(text, name=name)


def _what(text: str, at: int) -> str | None:
    """Name what a character is that is not seen; `None` where it is in its place."""
    one, code = text[at], ord(text[at])
    before = text[at - 1] if at else ""
    after = text[at + 1] if at + 1 < len(text) else ""
    if 0xE0000 <= code <= 0xE007F:
        # The flags of England, Scotland and Wales are written so.
        start = at
        while start and 0xE0000 <= ord(text[start]) <= 0xE007F and at - start < 8:
            start -= 1
        return None if text[start] == _FLAG else "tags"
    if 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF or 0xE0080 <= code <= 0xE0FFF:
        plain = before.isascii() and before not in set("0123456789#*©®")
        return "selectors" if not before or plain or _is_selector(before) or _is_selector(after) else None
    if one in _BIDI:
        return "direction"
    if one in _MARKS:
        return "marks"
    if one in _JOINERS:
        joins = bool(before and after) and not (before.isascii() and after.isascii())
        return None if joins and before not in _JOINERS and after not in _JOINERS else "width"
    if one in _ZERO or one in FILLERS:
        return "width"
    if unicodedata.category(one) == "Co":
        return "private"
    if unicodedata.category(one) == "Cs":
        return "surrogate"
    return "control" if unicodedata.category(one) == "Cc" else "width"


def _is_selector(one: str) -> bool:
    return bool(one) and (0xFE00 <= ord(one) <= 0xFE0F or 0xE0100 <= ord(one) <= 0xE01EF)


def _judged(what: str, found: list[int]) -> tuple[Severity, str]:
    count = len(found)
    many = f"{count} " if count > 1 else ""
    match what:
        case "tags":
            return "high", f"{many}tag characters, which models read and people do not see"
        case "selectors":
            return ("high" if count > 1 else "low"), f"{many}variation selectors where they select nothing"
        case "direction":
            return "high", f"{many}characters that turn the direction of writing"
        case "marks":
            return "low", f"{many}marks of direction"
        case "width":
            return ("high" if count >= _MANY else "medium"), f"{many}characters that are not seen"
        case "private":
            severity: Severity = "high" if count > _FEW_PRIVATE else "medium"
            return severity, f"{many}characters that mean nothing to others (private use)"
        case "control":
            return "high", f"{many}control characters"
        case _:
            return "medium", f"{many}halves of characters"


def _gaps(text: str) -> Iterator[Place]:
    for match in _GAP.finditer(text):
        gap = match.group()
        if match.end() < len(text) and (len(gap) >= _BLANKS or gap.count("\n") >= _LINES):
            end = min(len(text), match.end() + 80)
            yield "hidden", "medium", match.start(), end, "text pushed out of sight by blanks"
            return


def _mixed(text: str, *, name: bool) -> Iterator[Place]:
    if text.isascii():
        return
    for match in _WORD.finditer(text):
        word = match.group()
        if not word.isascii() and _LATIN.search(word) and _LOOKALIKE.search(word):
            severity: Severity = "high" if name else "medium"
            yield "homoglyph", severity, match.start(), match.end(), "letters of two alphabets in one word"
            return


_LATIN = re.compile("[A-Za-z]")
_LOOKALIKE = re.compile(
    "[\u0370-\u03ff\u0400-\u052f\u0530-\u058f\u13a0-\u13ff\uff21-\uff5a\U0001d400-\U0001d7ff]"
)
