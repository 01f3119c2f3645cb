"""What differs between two definitions of a tool, for a person to read: nothing in it is hidden."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..digest import FIELDS
from ..scan.visible import visible

LONGEST = 2_000
"""Characters of one text that are shown; of what differs, after what is the same."""

MOST = 200
"""Differences that are shown."""

DEEPEST = 40
"""Levels of a schema that are told apart; what lies deeper is compared as one."""

_KEPT = 60
"""Characters that are the same and are shown before and behind what differs."""

_PLAIN = re.compile(r"[\w$@*/-]+")
"""Names of members that stand in a path as they are."""

Leaves = dict[str, str]


def diff(before: Mapping[str, Any] | None, after: Mapping[str, Any], *, whole: bool = False) -> list[str]:
    """Tell what is different, a line for each text, number or list.

    Args:
        before: What was approved; `None` where nothing was, so that all of the other is shown.
        after: What the server lists now.
        whole: Whether nothing is cut, however long it is.

    Returns:
        Lines that begin with `+` (new), `-` (gone) or `~` (changed; the old and the new text follow, indented).
    """
    old, new = leaves(before or {}), leaves(after)
    lines: list[str] = []
    longest = None if whole else LONGEST
    differing = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    for path in differing if whole else differing[:MOST]:
        shown = visible(path)[:longest]
        if path not in old:
            lines.append(f"+ {shown}: {_cut(new[path], longest)}")
        elif path not in new:
            lines.append(f"- {shown}: {_cut(old[path], longest)}")
        else:
            was, now = _apart(old[path], new[path])
            lines += [f"~ {shown}:", f"    - {_cut(was, longest)}", f"    + {_cut(now, longest)}"]
    if not whole and len(differing) > MOST:
        lines.append(f"{len(differing) - MOST} more differences; --json has both definitions whole")
    return lines


def leaves(definition: Mapping[str, Any]) -> Leaves:
    """Give every text, number and empty list of what counts in a definition, by its path, made visible."""
    found: Leaves = {}
    todo: list[tuple[str, Any, int]] = [
        (name, definition[name], 0) for name in reversed(FIELDS) if definition.get(name) is not None
    ]
    while todo:
        path, value, depth = todo.pop()
        if isinstance(value, dict) and value and depth < DEEPEST:
            # By their names: in which order a server lists them is no difference.
            todo += [(f"{path}{_step(key)}", value[key], depth + 1) for key in sorted(value, reverse=True)]
        elif (
            isinstance(value, list) and depth < DEEPEST and any(isinstance(one, dict | list) for one in value)
        ):
            todo += [(f"{path}[{at}]", value[at], depth + 1) for at in reversed(range(len(value)))]
        else:
            found[path] = visible(value) if isinstance(value, str) else _written(value)
    return found


def _step(key: str) -> str:
    """Give a name as a part of a path that no other names give: one would hide what the other has."""
    return f".{key}" if _PLAIN.fullmatch(key) else f"[{json.dumps(key)}]"


def _written(value: Any) -> str:
    try:
        return visible(json.dumps(value, ensure_ascii=False, sort_keys=True))
    except (ValueError, RecursionError):
        return "(too deep to be shown)"


def _apart(was: str, now: str) -> tuple[str, str]:
    """Leave out most of what two long texts have in common, so that what differs is seen."""
    first = 0
    for one, other in zip(was, now, strict=False):
        if one != other:
            break
        first += 1
    last = 0
    most = min(len(was), len(now)) - first
    while last < most and was[-1 - last] == now[-1 - last]:
        last += 1
    start, end = max(0, first - _KEPT), max(0, last - _KEPT)

    def shown(text: str) -> str:
        return ("…" if start else "") + text[start : len(text) - end] + ("…" if end else "")

    return shown(was), shown(now)


def _cut(text: str, longest: int | None) -> str:
    if longest is None or len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text) - longest} more characters; --json has all)"
