"""Text that is written so that people do not read it: base64, hexadecimal, escapes, rot13."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Iterator

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){16,}")
_ESCAPES = re.compile(r"(?:\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|&#x?[0-9A-Fa-f]{1,6};|%[0-9A-Fa-f]{2}){8,}")
_ESCAPE = re.compile(
    r"\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})|&#x([0-9A-Fa-f]{1,6});|&#([0-9]{1,7});|%([0-9A-Fa-f]{2})"
)
_LONGEST = 20_000
"""Characters of one piece that are decoded."""
_READABLE = 0.9


def encoded(text: str) -> Iterator[tuple[int, int, str, str]]:
    """Find what can be decoded to a text that is read.

    Yields:
        Where it begins and ends, what it is written in, and what it says.
    """
    for match in _HEX.finditer(text):
        digits = match.group()[:_LONGEST]
        if (said := _read(bytes.fromhex(digits[: len(digits) // 2 * 2]))) is not None:
            yield match.start(), match.end(), "hexadecimal", said
    for match in _BASE64.finditer(text):
        if (said := _read(_unbased(match.group()[:_LONGEST]))) is not None:
            yield match.start(), match.end(), "base64", said
    for match in _ESCAPES.finditer(text):
        said = _ESCAPE.sub(_one, match.group()[:_LONGEST])
        if sum(map(str.isalpha, said)) >= 6:
            yield match.start(), match.end(), "escapes", said
    if re.search(r"\brot-?13\b", text, re.IGNORECASE):
        yield 0, len(text), "rot13", codecs.encode(text[:_LONGEST], "rot13")


def _unbased(text: str) -> bytes:
    text = text.rstrip("=")
    text = text[: len(text) - (len(text) % 4 == 1)]
    try:
        return base64.b64decode(text.translate(_URL_SAFE) + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""


_URL_SAFE = str.maketrans("-_", "+/")


def _read(data: bytes) -> str | None:
    """Give bytes as a text, where they are one: with words in it."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if len(text) < 12 or " " not in text:
        return None
    readable = sum(one.isprintable() or one in "\n\t" for one in text)
    return text if readable >= _READABLE * len(text) else None


def _one(match: re.Match[str]) -> str:
    digits = next(group for group in match.groups() if group is not None)
    code = int(digits, 10 if match.group(4) else 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "?"
