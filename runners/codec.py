"""JSON-RPC frames as bytes: strict both ways, so that what one side accepts the other can read.

RFC 8259 has no NaN and no infinity, and text is Unicode scalar values; both are refused instead of replaced.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from .base import Message


class FrameError(ValueError):
    """Bytes that are no JSON-RPC message, or a message that cannot be written as JSON."""


def decode(frame: bytes | bytearray | str) -> Message:
    """Read one frame.

    Args:
        frame: UTF-8 JSON text of one object.

    Raises:
        FrameError: If it is not JSON, holds NaN, infinity or lone surrogates, or is no object.
    """
    try:
        value = from_json(frame, allow_inf_nan=False, cache_strings="keys")
    except ValueError as exc:
        raise FrameError(f"not valid JSON: {exc}") from None
    if not isinstance(value, dict):
        raise FrameError(f"a message is one JSON object, not {type(value).__name__}")
    return value


def encode(message: Any) -> bytes:
    """Write one message as compact UTF-8 JSON, without a line end.

    Raises:
        FrameError: If a string in it holds a lone surrogate, or a value has no JSON form.
    """
    try:
        return to_json(message)
    except PydanticSerializationError as exc:
        raise FrameError(f"not representable as JSON: {exc}") from None
