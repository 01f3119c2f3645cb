"""What a call was asked and answered, as it is kept: within a bound, and without what must not be seen."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json

from ...runners.secret_look import looks_secret, may_look_secret
from ..written import written

Mask = Callable[[str], str]
"""Gives a text without secrets."""

MASK = "***"

LONGEST_SECRET = 4096
"""Bytes of a secret that is found where it is cut in two by the bound."""

_PROTOCOL = frozenset(
    {"type", "text", "content", "structuredContent", "isError", "name", "uri", "mimeType", "data", "contents"}
    | {"messages", "role", "description", "_meta", "arguments", "tool", "resource", "progressToken"}
)
"""Names of members that belong to MCP, and so are no secrets, whatever values secrets have."""

_NAMES = re.compile(rb'"(?=([^"\\]{1,128})\\?"\s*:)')
"""Names of members in JSON text, also in that of objects that are written out in its strings."""

_ESCAPED_NAMES = re.compile(rb'"(?=((?:[^"\\]|\\[^"]){1,128})\\?"\s*:)')
"""The same with those that are not written as they are read."""

_MEMBER = re.compile(r'("((?:[^"\\]|\\.){1,128})"\s*:\s*")((?:[^"\\]|\\.)+)(")')
_PARAMETERS = re.compile(rb"[?&;]([\w.-]{1,64})=")
_PARAMETER = re.compile(r"([?&;])([\w.-]{1,64})=([^&;#\s\"'<>]+)")
"""Parameters in the query of an address."""

_known: dict[bytes, bool] = {}


def as_text(value: Any) -> str:
    """Do what `written` does, as a text."""
    return written(value).decode()


def members(told: Mapping[str, Any]) -> str:
    """Write what there is of an object's members, without its braces."""
    return as_text({name: value for name, value in told.items() if value is not None})[1:-1]


def is_secret(name: str) -> bool:
    """Tell from the name of a member whether it holds a secret."""
    return name not in _PROTOCOL and looks_secret(name)


def suspicious(lines: bytes) -> bool:
    """Tell whether a text of JSON may have members that look secret by their names."""
    if b"\\" not in lines and not may_look_secret(lines):
        return False
    names = (_ESCAPED_NAMES if b"\\" in lines else _NAMES).findall(lines)
    if b"=" in lines:
        names += _PARAMETERS.findall(lines)
    for name in set(names):
        known = _known.get(name)
        if known is None:
            if len(_known) > 10_000:
                _known.clear()
            known = _known[name] = is_secret(name.decode("utf-8", "replace"))
        if known:
            return True
    return False


def hidden(value: Any, mask: Mask) -> Any:
    """Give a value without secrets: those `mask` knows, and texts that are named like one."""
    return _hidden(value, mask, named=False)


def _hidden(value: Any, mask: Mask, *, named: bool) -> Any:
    if isinstance(value, str):
        return MASK if named and value else without(value, mask)
    if isinstance(value, dict):
        return {
            key if key in _PROTOCOL else mask(key): _hidden(item, mask, named=named or is_secret(key))
            if not isinstance(item, dict)
            else _hidden(item, mask, named=False)
            for key, item in value.items()
        }
    return [_hidden(item, mask, named=named) for item in value] if isinstance(value, list) else value


def without(text: str, mask: Mask) -> str:
    """Give a text without secrets, also where it is JSON itself, or has addresses with secret parameters in it."""
    text = mask(text)
    if "=" in text:
        text = _PARAMETER.sub(
            lambda found: f"{found[1]}{found[2]}={MASK}" if is_secret(found[2]) else found[0], text
        )
    if '"' not in text or ":" not in text:
        return text
    return _MEMBER.sub(lambda found: f"{found[1]}{MASK}{found[4]}" if is_secret(found[2]) else found[0], text)


def cleaned(raw: bytes, mask: Mask) -> bytes:
    """Give a whole JSON text without secrets."""
    try:
        return written(hidden(_read(raw), mask))
    except (ValueError, RecursionError):
        return b'"[too deep to be looked through for secrets, so that it is left out]"'


def cut(raw: bytes, limit: int, mask: Mask) -> tuple[bytes, dict[str, Any]]:
    """Give the beginning of a JSON text that is too long, without secrets, and what is to be said of the whole.

    Returns:
        JSON of the same shape, whose last text and last lists end early; and `bytes` and `sha256` of the whole.
    """
    told = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    text = written(hidden(_begun(raw[: limit + LONGEST_SECRET]), mask))
    # What is left of a secret that was cut in two is in the last bytes, which go.
    text = text[: max(0, min(limit, len(text) - LONGEST_SECRET))]
    return written(_begun(text)), told


def _begun(raw: bytes) -> Any:
    """Read JSON that ends early."""
    for _ in range(4):  # a character of several bytes may be cut in two
        try:
            return from_json(raw, allow_partial="trailing-strings")
        except ValueError:
            raw = raw[:-1]
    return None


def _read(raw: bytes) -> Any:
    try:
        return from_json(raw)
    except ValueError:
        return json.loads(raw)
