"""Relative paths of a caller, who may be in another folder than ToolScore."""

from __future__ import annotations

import os
from pathlib import PurePath

from .caller import Caller

_RELATIVE = ("./", "../", ".\\", "..\\")


def from_there(text: str, caller: Caller) -> str:
    """Make a path that begins with `./` or `../` absolute, from the caller's working directory if that is known.

    Args:
        text: A source or a program, as it was given; anything but such a path stays as it is.
        caller: Who gave it.
    """
    path = text.strip()
    if path.startswith("docker:"):  # an image, or a folder to build one from
        return f"docker:{from_there(path.removeprefix('docker:').strip(), caller)}"
    if caller.cwd is None or not (path in (".", "..") or path.startswith(_RELATIVE)):
        return text
    return os.path.normpath(PurePath(caller.cwd) / path)  # in which `#ENTRY` stays what it is
