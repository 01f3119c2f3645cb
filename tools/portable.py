"""Installed servers in a store that several homes share: each home has their folders elsewhere, made from one lock.

What is stored is what the home has that installed it, with a marker for its folder of servers. Another home makes the
same from the lock, and starts it by what came out there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..runners.pin import Pin
from ..runners.spec import Installation
from .errors import OverwrittenError

MARKER = "<toolscore-servers>"
"""Stands for the folder of the servers' folders, at the beginning of a path or of a part of a text."""

_OWN = ("place", "words", "own_env", "files", "python", "previous")
"""What of a pin is as it came out in one home."""


def packed(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Give the JSON of an installation as it is stored, without the path of this home."""
    pattern = re.compile(rf"(?<![\w./-]){re.escape(str(folder))}(?=/|$)")
    return _rewritten(document, lambda text: pattern.sub(MARKER, text))


def unpacked(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Give it as it is in this home."""
    return _rewritten(document, lambda text: text.replace(MARKER, str(folder)))


def _rewritten(document: dict[str, Any], change: Any) -> dict[str, Any]:
    def moved(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, list):
            return [moved(item) for item in value]
        if isinstance(value, Mapping):
            return {key: moved(item) for key, item in value.items()}
        return value

    spec = {**(document.get("spec") or {})}
    for key in ("command", "args", "cwd", "env"):
        if key in spec:
            spec[key] = moved(spec[key])
    return {**document, "directory": moved(document.get("directory")), "spec": spec}


def same(one: Installation, other: Installation) -> bool:
    """Tell whether two installations are of one thing, wherever and with whatever arguments."""
    return _what(one) == _what(other)


def _what(installation: Installation) -> tuple[object, ...]:
    pin = installation.pin or Pin()
    return (
        installation.kind,
        installation.source,
        installation.version,
        installation.constraints,
        pin.source,
        pin.content,
        pin.locks,
        pin.sha256,
    )


def adopted(local: Installation, stored: Installation) -> Installation:
    """Give an installation as another home has stored it, started by what was made of it in this one."""
    mine, theirs = local.pin or Pin(), stored.pin or Pin()
    given = {key: value for key, value in stored.spec.env.items() if key not in theirs.own_env}
    own = {key: local.spec.env[key] for key in mine.own_env if key in local.spec.env}
    spec = stored.spec.model_copy(
        update={
            "command": local.spec.command,
            "args": (*local.spec.args[: mine.words], *stored.spec.args[theirs.words :]),
            "cwd": local.spec.cwd,
            "env": {**given, **own},
        }
    )
    pin = theirs.model_copy(update={key: getattr(mine, key) for key in _OWN})
    return stored.model_copy(update={"spec": spec, "directory": local.directory, "pin": pin})


def merged(stored: Installation, before: Installation, after: Installation) -> Installation:
    """Put what is changed here into what is stored, which another home may have installed.

    Args:
        stored: What is stored now.
        before: What it was here.
        after: What it is to be.

    Raises:
        OverwrittenError: If another gateway has changed the same meanwhile.
    """
    if not same(before, after) or before.spec != after.spec or before.directory != after.directory:
        if not same(stored, before) or stored.keeping != before.keeping:
            raise OverwrittenError(f"Server '{after.name}'")
        return after
    values: dict[str, Any] = {}
    for name in Installation.model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if name == "pin":
            values[name] = _pin(stored.pin or Pin(), old or Pin(), new or Pin())
        elif getattr(stored, name) != old:
            raise OverwrittenError(f"Server '{after.name}'")
        else:
            values[name] = new
    return stored.model_copy(update=values)


def _pin(stored: Pin, before: Pin, after: Pin) -> Pin:
    names = [
        name
        for name in Pin.model_fields
        if name not in _OWN and getattr(before, name) != getattr(after, name)
    ]
    return stored.model_copy(update={name: getattr(after, name) for name in names})
