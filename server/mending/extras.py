"""Parts of ToolScore that are packages of their own, put into the environment it runs in."""

from __future__ import annotations

import importlib
import importlib.metadata
import shlex
import subprocess
import sys
from pathlib import Path

from ...runners.installers.python import find_uv
from .finding import Fix, MendError

PATIENCE = 600.0
"""Seconds an installation may take."""


def fix(extra: str) -> Fix | None:
    """Give what installs an extra; `None` where the environment is not ToolScore's to change.

    Args:
        extra: Its name, such as `node`.
    """
    if sys.prefix == sys.base_prefix:
        return None  # the system's own Python, whose packages are somebody else's
    if any((folder / "CACHEDIR.TAG").is_file() for folder in Path(sys.prefix).parents):
        return None  # of uvx, in a cache: the next start may be in another one
    wanted = _wanted(extra)
    if not wanted:
        return None
    shown = shlex.join(wanted)  # as `>` is more to a shell than to uv
    command = f"uv pip install --python {sys.executable} {shown}"
    return Fix(f"install {shown} into the environment of ToolScore ({command})", lambda: _installed(wanted))


def _wanted(extra: str) -> list[str]:
    """Give the packages of an extra, as ToolScore's own metadata has them."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("toolscore") or []
    except importlib.metadata.PackageNotFoundError:
        return []  # it was not installed, but lies there
    wanted = []
    for one in map(Requirement, lines):
        marker, one.marker = one.marker, None  # so that the rest of it is its text
        if marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            wanted.append(str(one))
    return wanted


def _installed(wanted: list[str]) -> str:
    from packaging.requirements import Requirement

    command = [find_uv(), "pip", "install", "--quiet", "--python", sys.executable, *wanted]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise MendError(
            f"uv was not done after {PATIENCE:g} s. Try `{shlex.join(command)}` by hand."
        ) from error
    if done.returncode:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise MendError(f"uv could not install it: {last}. Try `{shlex.join(command)}` by hand.")
    importlib.invalidate_caches()
    names = " ".join(Requirement(one).name for one in wanted)
    return f"installed (undo: uv pip uninstall --python {sys.executable} {names})"
