"""JSON-RPC frames as bytes: strict both ways, so that what one side accepts the other can read.

RFC 8259 has no NaN and no infinity, and text is Unicode scalar values; both are refused instead of replaced.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from .base import Message

PARSE_ERROR = -32700

_ENVELOPE = 1024
"""Bytes at the start and the end of a frame in which its id is looked for where it is too deep to be read."""

_MEMBER = re.compile(
    rb'\s*"(jsonrpc|id|result|error)"\s*:\s*("(?:[^"\\]|\\.){0,200}"|-?\d{1,18}(?=[\s,}]))?\s*,?'
)
_LAST_ID = re.compile(
    rb',\s*"id"\s*:\s*("(?:[^"\\]|\\.){0,200}"|-?\d{1,18})\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z'
)


class FrameError(ValueError):
    """Bytes that are no JSON-RPC message, or a message that cannot be written as JSON."""


class NoObjectError(FrameError):
    """JSON, but no object: a batch, a number, a text."""


def decode(frame: bytes | bytearray | str) -> Message:
    """Read one frame.

    Args:
        frame: UTF-8 JSON text of one object.

    Raises:
        NoObjectError: If it is JSON, but no object.
        FrameError: If it is not JSON, or holds NaN, infinity or lone surrogates.
    """
    try:
        value = from_json(frame, allow_inf_nan=False, cache_strings="keys")
    except ValueError as exc:
        raise FrameError(f"not valid JSON: {exc}") from None
    if not isinstance(value, dict):
        raise NoObjectError(f"a message is one JSON object, not {type(value).__name__}")
    return value


def refused_answer(frame: bytes, reason: str) -> Message | None:
    """Make an error of an answer that `decode` refused, so that its request need not wait for ever.

    The standard library's parser also takes NaN and lone surrogates, which servers made with it write.

    Args:
        frame: The refused frame.
        reason: Why it was refused.

    Returns:
        A JSON-RPC error for the request it answers; `None` if it is no answer at all.
    """
    if not frame[:_ENVELOPE].lstrip().startswith(b"{"):
        return None
    try:
        value = json.loads(frame)
    except ValueError:
        return None
    except RecursionError:
        value = _envelope(frame)
    if not isinstance(value, dict) or "id" not in value or "method" in value:
        return None
    error = {"code": PARSE_ERROR, "message": f"the server's answer is {reason}"}
    return {"jsonrpc": "2.0", "id": value["id"], "error": error}


def _envelope(frame: bytes) -> Message | None:
    """Read no more of an answer than which request it is for: before its result, or else behind it."""
    start = frame[:_ENVELOPE]
    at = start.index(b"{") + 1
    members: dict[bytes, bytes | None] = {}
    while (found := _MEMBER.match(start, at)) is not None and not members.keys() & {b"result", b"error"}:
        members[found[1]] = found[2]
        at = found.end()
    if not members.keys() & {b"result", b"error"}:
        return None  # a request or a notification of the server's
    identity = members.get(b"id")
    if identity is None and (last := _LAST_ID.search(frame[-_ENVELOPE:])) is not None:
        identity = last[1]
    if identity is None:
        return None
    try:
        return {"id": json.loads(identity)}
    except ValueError:
        return None


def encode(message: Any) -> bytes:
    """Write one message as compact UTF-8 JSON, without a line end.

    Raises:
        FrameError: If a string in it holds a lone surrogate, a number is not finite, or a value has no JSON form.
    """
    try:
        frame = to_json(message)
    except PydanticSerializationError as exc:
        raise FrameError(f"not representable as JSON: {exc}") from None
    # A number too large for a float, such as 1e999, is JSON and was read as infinity. Looking for the word costs
    # little, and for its first letter next to nothing; only where it is, it has to be told whether in a text.
    if b"I" in frame and b"Infinity" in frame and not _finite(message):
        raise FrameError("not representable as JSON: a number is not finite, or too large")
    return frame


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_finite(item) for item in value.values())
    return not isinstance(value, list | tuple) or all(_finite(item) for item in value)
