"""When two requests are the same, and how they differ where they are not.

What does not matter: ids and progress tokens, all of `_meta` (traces, sessions, the envelope of 2026-07-28), the
order of members, `1` or `1.0`, missing or empty arguments, the `timeout` and `lease` of a call, and whether a tool
was called by its own name or through `execute_tool`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from pydantic_core import to_json

from ...tools.written_out import written_out
from .cover import HIDDEN

Difference = dict[str, Any]

_MANNER = frozenset({"_meta", "inputResponses"})
_OWN = "toolscore__"
_WHOLE = 2**53
"""From here on a float does not tell one whole number from the next."""

DIFFERENCES = 20
"""Differences that are told of one pair of requests at the most."""


def likeness(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Give what of a request tells it from others.

    Args:
        method: Its method.
        params: Its parameters, as they came.
    """
    kept = {key: value for key, value in params.items() if key not in _MANNER and value is not None}
    if method != "tools/call":
        return kept
    name, arguments = kept.get("name"), kept.get("arguments")
    arguments = arguments if isinstance(arguments, dict) else {}
    name = name.removeprefix(_OWN) if isinstance(name, str) else name
    if name == "execute_tool" and isinstance(arguments.get("tool"), str):
        name = arguments["tool"].removeprefix(_OWN)
        inner = written_out(arguments.get("arguments"))
        if arguments.get("max_tokens") is not None:  # which makes another answer
            kept["max_tokens"] = arguments["max_tokens"]
        arguments = {} if inner in (None, "") else inner
    if "task" in kept:
        kept["task"] = True  # how long it is kept does not matter
    return {**kept, "name": name, "arguments": arguments}


def subject_of(method: str, alike: dict[str, Any]) -> str:
    """Say what a request is about.

    Args:
        method: Its method.
        alike: What `likeness` gave.
    """
    about = alike.get("name") or alike.get("uri") or alike.get("taskId")
    return f"{method} {about}" if isinstance(about, str) else method


def key_of(method: str, alike: dict[str, Any]) -> bytes:
    """Give a short key, equal for requests that are the same.

    Args:
        method: Their method.
        alike: What `likeness` gave.
    """
    return hashlib.sha256(to_json([method, _ordered(alike)])).digest()[:16]


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        return int(value)
    return value


def differences(recorded: Any, asked: Any) -> list[Difference]:
    """Tell how two values differ.

    Args:
        recorded: One of the recording; where it holds a hidden value, anything fits.
        asked: The other one.

    Returns:
        One for each place, with its `path`, and `recorded` and `asked` as far as there is something. At most
        `DIFFERENCES`.
    """
    found: list[Difference] = []
    _compare(recorded, asked, "", found)
    return found[:DIFFERENCES]


def _compare(recorded: Any, asked: Any, path: str, found: list[Difference]) -> None:
    if len(found) > DIFFERENCES:
        return
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for key in [*recorded, *(key for key in asked if key not in recorded)]:
            place = f"{path}.{key}" if path else key
            if key not in asked:
                found.append({"path": place, "recorded": recorded[key]})
            elif key not in recorded:
                found.append({"path": place, "asked": asked[key]})
            else:
                _compare(recorded[key], asked[key], place, found)
    elif isinstance(recorded, list) and isinstance(asked, list) and len(recorded) == len(asked):
        for index, (one, other) in enumerate(zip(recorded, asked, strict=True)):
            _compare(one, other, f"{path}[{index}]", found)
    elif not _same(recorded, asked):
        found.append({"path": path, "recorded": recorded, "asked": asked})


def _same(recorded: Any, asked: Any) -> bool:
    if isinstance(recorded, bool) or isinstance(asked, bool):
        return recorded is asked
    if isinstance(recorded, str) and HIDDEN in recorded:
        if recorded == HIDDEN:
            return True
        pattern = ".*".join(re.escape(part) for part in recorded.split(HIDDEN))
        return isinstance(asked, str) and re.fullmatch(pattern, asked, re.DOTALL) is not None
    equal: bool = recorded == asked
    return equal
