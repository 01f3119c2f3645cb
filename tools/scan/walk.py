"""Every text in a definition, with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST = 50_000
"""Texts, names and numbers of one definition that are looked at."""

LONGEST = 300_000
"""Characters of one definition that are looked at."""

_SEGMENTS = 12
"""Steps of a path that are named: the first and the last ones."""

_LEFT_OUT = frozenset({"icons"})

Path = tuple[Any, ...] | None
"""The path to a text: the path to what holds it, and the last step."""


class TooLargeError(Exception):
    """A definition has more in it than is looked at."""


def texts(definition: Mapping[str, Any]) -> Iterator[tuple[str, Path, bool]]:
    """Give every text of a definition.

    Args:
        definition: The tool as its server listed it.

    Yields:
        The text, the path to it, and whether it is the name of a member.

    Raises:
        TooLargeError: Once there is more than is looked at.
    """
    todo: list[tuple[Any, Path]] = [
        (value, (None, key)) for key, value in reversed(list(definition.items())) if key not in _LEFT_OUT
    ]
    count = characters = 0
    while todo:
        value, path = todo.pop()
        count += 1
        if isinstance(value, str):
            characters += len(value)
            if characters <= LONGEST:
                yield value, path, False
        elif isinstance(value, dict):
            for key, member in reversed(value.items()):
                todo.append((member, (path, key)))
            for key in value:
                characters += len(key)
                count += 1
                if characters <= LONGEST:
                    yield key, (path, key), True
        elif isinstance(value, list):
            todo += [(member, (path, at)) for at, member in reversed(list(enumerate(value)))]
        if count > MOST or characters > LONGEST:
            raise TooLargeError


def written(path: Path) -> str:
    """Write a path as `inputSchema.properties.path.description`."""
    steps: list[Any] = []
    while path is not None:
        path, step = path
        steps.append(step)
    steps.reverse()
    if len(steps) > _SEGMENTS:
        steps = [*steps[: _SEGMENTS // 2], "…", *steps[-(_SEGMENTS // 2) :]]
    said = ""
    for step in steps:
        said += f"[{step}]" if isinstance(step, int) else f".{step[:80]}"
    return said.removeprefix(".")
