"""Tables in TOML, put at the end of a file and taken out of it again, with all else left as it is (TOML 1.0)."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from .commented import with_ends_of

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"^[ \t]*\[")


def read(text: str) -> dict[str, Any]:
    """Read a file.

    Raises:
        tomllib.TOMLDecodeError: If it is no TOML.
    """
    return tomllib.loads(text)


def table(path: Sequence[str], values: Mapping[str, Any]) -> str:
    """Write a table with its header.

    Args:
        path: Its name's parts.
        values: Texts, numbers, truth values, lists and mappings of them; `None` is left out.
    """
    lines = [f"[{'.'.join(map(_key, path))}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def put(text: str, path: Sequence[str], values: Mapping[str, Any]) -> str:
    """Put a table at the end of a file, in place of the one there was.

    Raises:
        tomllib.TOMLDecodeError: If the file is no TOML, or holds the tables in a form to which none can be added.
    """
    rest = take(text, path)
    if rest and not rest.endswith("\n"):
        rest += "\n"
    rest += ("\n" if rest.strip() else "") + table(path, values)
    tomllib.loads(rest)
    return with_ends_of(text, rest)


def take(text: str, path: Sequence[str]) -> str:
    """Remove a table and those below it; a file without it stays as it is.

    Raises:
        tomllib.TOMLDecodeError: If the file is no TOML.
    """
    tomllib.loads(text)
    kept: list[str] = []
    beside: list[str] = []  # what is said behind the table is of the next one, most likely
    ours = False
    pending = ""
    for line in text.splitlines(keepends=True):
        # A line is judged by itself only where no text or list of several lines is open.
        if not pending and _HEADER.match(line) and (name := _header(line)) is not None:
            ours = name[: len(path)] == tuple(path)
            if ours:
                while kept and not kept[-1].strip():
                    kept.pop()
            kept += beside
            beside = []
        elif not _whole(pending + line):
            pending += line
            continue
        else:
            pending += line
        if not ours:
            kept.append(pending or line)
        elif not line.strip() or line.lstrip().startswith("#"):
            beside.append(line)
        else:
            beside = []
        pending = ""
    if any(line.strip() for line in beside):
        kept += beside
    return "".join(kept) + ("" if ours else pending)


def _whole(piece: str) -> bool:
    try:
        tomllib.loads(piece)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _header(line: str) -> tuple[str, ...] | None:
    """Read a line as the header of a table; `None` if it is none."""
    try:
        found: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    name: list[str] = []
    while found:
        if isinstance(found, list):
            found = found[0]
            continue
        ((key, found),) = found.items()
        name.append(key)
    return tuple(name)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(value)


def _text(text: str) -> str:
    # What JSON writes is TOML, too, but for the one control character it leaves.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
