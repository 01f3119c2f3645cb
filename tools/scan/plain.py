"""A text as its reader takes it: without what is not seen, with look-alike letters as those they look like."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from .visible import is_hidden

PIECE = 4_000
"""Characters that are searched at once; an expression holds the interpreter while it is."""

OVERLAP = 500
"""Characters that a piece has in common with the next; no expression reaches further."""

_LIKE = str.maketrans(
    "аеорсухіјѕԁԛԝһАВЕКМНОРСТУХІЈЅαοερτυιΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxijsdqwhABEKMHOPCTYXIJSaoeptuiABEZHIKMNOPTYX",
)
_BLANKS = re.compile(r"[ \t\r\f\v\u00a0\u2000-\u200a\u3000]+")


def plain(text: str) -> str:
    """Give a text in lower case, with single blanks and without anything hidden; line breaks stay."""
    if not text.isascii():
        whole = unicodedata.normalize("NFKC", text)
        # A few characters stand for whole sentences; a text of nothing else would become many times as long.
        text = whole if len(whole) <= 4 * len(text) + 100 else text
        if not text.isascii():
            text = "".join(one for one in text if one == "\n" or not is_hidden(one)).translate(_LIKE)
    return _BLANKS.sub(" ", text.replace("\u2019", "'").replace("\u2018", "'")).lower()


def pieces(text: str) -> Iterator[str]:
    """Give a text as its reader takes it, a piece at a time: others wait while one of them is searched."""
    if len(text) <= PIECE:
        yield plain(text)
        return
    text = _BLANKS.sub(" ", text)
    for start in range(0, len(text), PIECE):
        yield plain(text[start : start + PIECE + OVERLAP])


def skeleton(name: str) -> str:
    """Give what a name looks like: two that look alike have the same."""
    name = unicodedata.normalize("NFKC", name).translate(_LIKE)
    name = name.replace("I", "l").replace("1", "l").replace("|", "l").replace("0", "o").replace("5", "s")
    name = name.lower().replace("rn", "m").replace("vv", "w").replace("cl", "d")
    return "".join(one for one in name if one.isalnum())


def folded(name: str) -> str:
    """Give a name without what ways of writing differ in: case, `-`, `_` and `.`."""
    return "".join(one for one in name.lower() if one not in "-_.")
