"""Programs that are there although they are not on `PATH`: uv and uvx come with ToolScore. And where paths lie."""

from __future__ import annotations

import shutil
from pathlib import Path


def find_program(command: str, path: str | None = None) -> str | None:
    """Find the program of a command line.

    Args:
        command: A path, or a name to be looked up.
        path: Where to look names up; `PATH` of this process when `None`.

    Returns:
        What to start, or `None` if there is none.
    """
    found = shutil.which(command, path=path)
    if found is None and command in ("uv", "uvx"):
        from uv import find_uv_bin

        try:
            beside = Path(find_uv_bin()).with_name(command)
        except FileNotFoundError:
            return None
        return str(beside) if beside.is_file() else None
    return found


def inside(path: str, folder: str) -> bool:
    """Whether something lies in a folder, at any depth, and is not the folder; of paths without links."""
    return path.startswith(f"{folder.rstrip('/')}/")
