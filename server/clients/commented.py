"""JSON with comments and surplus commas, as editors keep their settings: read, and edited, all else left as it is.

Comments and surplus commas are blanked, character by character, so that every place in what is left is the same place
in the text itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_PIECE = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_SURPLUS = re.compile(r'"(?:[^"\\\n]|\\.)*"|(,)(?=\s*[}\]])', re.DOTALL)
_LINE_END = re.compile(r"[ \t]*(?:\r?\n[ \t]*)?")
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


class CommentedError(ValueError):
    """The text is no JSON, or not of the shape that is needed; its text says where."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of an object: its key, where that begins, and where its value begins and ends."""

    key: str
    start: int
    value: int
    end: int


def read(text: str) -> Any:
    """Read a text; an empty one is an empty object.

    Raises:
        CommentedError: If it is not JSON, comments and surplus commas aside.
    """
    bare = _bare(text)
    if not bare.strip():
        return {}
    try:
        return json.loads(bare)
    except (json.JSONDecodeError, RecursionError) as error:
        raise CommentedError(f"is not valid JSON: {error}") from None


def put(text: str, path: Sequence[str], value: Any) -> str:
    """Set a member, in place of the one there was or behind the last one.

    Args:
        text: What `read` takes.
        path: The keys that lead to it; objects on the way that are missing are made.
        value: The value.

    Raises:
        CommentedError: If the text is not JSON, or something on the way is no object.
    """
    if not isinstance(read(text), dict):
        raise CommentedError("holds no object")
    if not _bare(text).strip():
        text = text + "{}\n"
    bare = _bare(text)
    at, step = bare.index("{"), _step(text)
    for depth, key in enumerate(path):
        members, end = _members(bare, at)
        found = next((one for one in reversed(members) if one.key == key), None)
        if found is None:
            inner = value
            for outer in reversed(path[depth + 1 :]):
                inner = {outer: inner}
            return with_ends_of(text, _added(text, bare, at, members, end, (key, inner), step))
        if depth + 1 == len(path):
            shown = _written(value, step, _indent(text, found.start))
            return with_ends_of(text, text[: found.value] + shown + text[found.end :])
        if bare[found.value] != "{":
            raise CommentedError(f"{'.'.join(path[: depth + 1])} is no object")
        at = found.value
    raise CommentedError("no key was named")


def take(text: str, path: Sequence[str]) -> str:
    """Remove a member; a text without it stays as it is.

    Raises:
        CommentedError: If the text is not JSON.
    """
    if not isinstance(read(text), dict):
        return text
    bare = _bare(text)
    at = bare.find("{")
    for depth, key in enumerate(path):
        if at < 0 or bare[at] != "{":
            return text
        members, _end = _members(bare, at)
        index = next((n for n in reversed(range(len(members))) if members[n].key == key), None)
        if index is None:
            return text
        if depth + 1 < len(path):
            at = members[index].value
            continue
        return _without(text, bare, members, index, at)
    return text


def _without(text: str, bare: str, members: Sequence[_Member], index: int, at: int) -> str:
    """Cut a member out with its comma; what is said beside it may be of its neighbours, and stays."""
    one = members[index]
    if index + 1 < len(members):
        behind = _LINE_END.match(text, bare.index(",", one.end) + 1)
        assert behind is not None  # it matches nothing at all, too
        return text[: one.start] + text[behind.end() :]
    surplus = re.compile(r"\s*,").match(text, one.end)
    rest = text[surplus.end() if surplus else one.end :]
    if index:
        comma = bare.index(",", members[index - 1].end)
        head, said = text[:comma] + ("," if surplus else ""), text[comma + 1 : one.start]
    else:
        head, said = text[: at + 1], text[at + 1 : one.start]
    said = said.rstrip()
    # A comment must not swallow what comes behind.
    return head + said + ("\n" if "//" in said and rest.splitlines()[0].strip() else "") + rest


def _bare(text: str) -> str:
    def blank(match: re.Match[str]) -> str:
        piece = match[0]
        return piece if piece.startswith('"') else re.sub(r"[^\n]", " ", piece)

    text = _PIECE.sub(blank, text)
    return _SURPLUS.sub(lambda match: " " if match[1] else match[0], text)


def _members(bare: str, at: int) -> tuple[list[_Member], int]:
    """Give the members of the object that begins there, and where its closing brace is."""
    found: list[_Member] = []
    at = _skip(bare, at + 1)
    while bare[at] != "}":
        start = at
        key, at = _DECODER.raw_decode(bare, at)
        value = _skip(bare, _skip(bare, at) + 1)
        _value, end = _DECODER.raw_decode(bare, value)
        found.append(_Member(key, start, value, end))
        at = _skip(bare, end)
        if bare[at] == ",":
            at = _skip(bare, at + 1)
    return found, at


def _skip(bare: str, at: int) -> int:
    match = _SPACE.match(bare, at)
    return at if match is None else match.end()


def _added(
    text: str, bare: str, at: int, members: list[_Member], end: int, member: tuple[str, Any], step: str
) -> str:
    key, value = member
    inner = _indent(text, members[-1].start) if members else _indent(text, at) + step
    line = f"\n{inner}{json.dumps(key, ensure_ascii=False)}: {_written(value, step, inner)}"
    if not members:
        # What is between the braces is nothing but space and comments, which stay.
        kept = text[at + 1 : end].rstrip()
        return f"{text[: at + 1]}{kept}{line}\n{_indent(text, at)}{text[end:]}"
    last = members[-1].end
    surplus = re.compile(r"\s*,").match(text, last)
    comma = "" if surplus and bare[surplus.end() - 1] == " " else ","
    after = surplus.end() if surplus and not comma else last
    line += "" if comma else ","  # a comma behind the last one is how this file is written
    # What is said behind the last member, on its line, is said of it.
    newline = bare.find("\n", after, end)
    point = newline if newline >= 0 and not bare[after:newline].strip() else after
    return f"{text[:last]}{comma}{text[last:point]}{line}{text[point:]}"


def with_ends_of(old: str, new: str) -> str:
    """Let all lines of a text end as those of another do, if all of these end as on Windows."""
    if old.count("\r\n") == old.count("\n") > 0:
        return re.sub(r"\r?\n", "\r\n", new)
    return new


def _written(value: Any, step: str, indent: str) -> str:
    return json.dumps(value, indent=step, ensure_ascii=False).replace("\n", f"\n{indent}")


def _indent(text: str, at: int) -> str:
    """Give the space at the beginning of the line a place is on."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _step(text: str) -> str:
    """Give what one level is indented by."""
    found = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return found[1] if found else "  "
