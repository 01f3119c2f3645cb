"""What a source may be at all, before it is looked at."""

from __future__ import annotations

from .errors import FunctionError

LONGEST = 256 << 10
"""Bytes of a source."""


def bounded(text: str) -> str:
    """Refuse what the parser should not even see.

    Raises:
        FunctionError: With the reason.
    """
    if len(text) > LONGEST:
        raise _too_long(len(text), "characters")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise FunctionError(
            f"line {line}: the source has half of a surrogate pair; write the character"
        ) from None
    if size > LONGEST:
        raise _too_long(size, "bytes")
    if (place := text.find("\0")) >= 0:
        raise FunctionError(f"line {text.count(chr(10), 0, place) + 1}: the source has a null character")
    return text


def _too_long(size: int, unit: str) -> FunctionError:
    return FunctionError(
        f"the source has {size} {unit}, more than {LONGEST}: keep data in files or packages, not in the source"
    )
