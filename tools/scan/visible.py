"""Making text visible that is not: control characters, what has no width, what changes the direction."""

from __future__ import annotations

import unicodedata

_PLAIN = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))

FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
"""Characters that are drawn as nothing and that Unicode does not file under those that are not drawn."""


def is_hidden(one: str) -> bool:
    """Tell whether a character is not seen, or changes how others are."""
    code = ord(one)
    if code < 0x7F:
        return code < 0x20
    if 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:  # variation selectors
        return True
    return one in FILLERS or unicodedata.category(one) in _HIDDEN


def visible(text: str, *, lines: bool = False) -> str:
    """Give a text in which nothing is hidden: what cannot be seen stands there as its number.

    Args:
        text: The text.
        lines: Whether line breaks may stay what they are.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = []
    for one in text:
        if lines and one == "\n":
            shown.append(one)
        elif one in _PLAIN:
            shown.append(_PLAIN[one])
        elif is_hidden(one):
            shown.append(f"<U+{ord(one):04X}>")
        else:
            shown.append(one)
    return "".join(shown)


def excerpt(text: str, start: int, end: int, around: int = 24, longest: int = 160) -> str:
    """Give a place of a text with a little of what is around it, made visible.

    Args:
        text: The text.
        start: Where the place begins.
        end: Where it ends.
        around: Characters before and behind it.
        longest: Characters of the place itself.
    """
    end = min(end, start + longest)
    first, last = max(0, start - around), min(len(text), end + around)
    said = " ".join(visible(text[first:last], lines=True).split())
    return ("…" if first else "") + said + ("…" if last < len(text) else "")
