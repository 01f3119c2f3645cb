"""Confined launchers, such as `npx` and `uvx`, that fetch what they start: where they keep it, and if they can."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import pairwise

from .programs import inside

_NPM = {"npm_config_cache": ("npm", "~/.npm")}
_UV = {
    "UV_CACHE_DIR": ("uv/cache", "~/.cache/uv"),
    "UV_TOOL_DIR": ("uv/tools", "~/.local/share/uv/tools"),
    "UV_PYTHON_INSTALL_DIR": ("uv/python", "~/.local/share/uv/python"),
}
_CACHES = {"npx": _NPM, "npm": _NPM, "uv": _UV, "uvx": _UV}
_OFFLINE = {"npx": "npm_config_offline", "npm": "npm_config_offline", "uv": "UV_OFFLINE", "uvx": "UV_OFFLINE"}
_TEMPORARY = ("TMPDIR", "TEMP", "TMP")


def fetching(
    program: str, environment: Mapping[str, str], writable: Iterable[str], *, network: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Say in what the environment of a confined program has to differ.

    The caches of a person's launchers are no place for it: others run what is in them. So a launcher has some of its
    own, among its temporary files; without the network it is told so, or it would try for a minute.

    Args:
        program: The program's name.
        environment: Its environment.
        writable: The folders it can write.
        network: Whether it has the network.

    Returns:
        Variables by their values, and variables by the temporary folders they are to lead to.
    """
    folders = [os.path.realpath(folder) for folder in writable]

    def open_to_it(path: str) -> bool:
        real = os.path.realpath(os.path.expanduser(path))  # noqa: PTH111
        return any(real == folder or inside(real, folder) for folder in folders)

    private = {name: "" for name in _TEMPORARY if environment.get(name) and not open_to_it(environment[name])}
    if not network:
        return ({_OFFLINE[program]: "true"} if program in _OFFLINE else {}), private
    for name, (folder, usual) in _CACHES.get(program, {}).items():
        given = next((key for key in environment if key.lower() == name.lower()), name)
        if not open_to_it(environment.get(given, usual)):
            private[given] = folder
    return {}, private


def fetched(command: str, args: Iterable[str]) -> str | None:
    """Give the source by which ToolScore installs what a launcher fetches and starts; `None` where it is none."""
    kind = {"npx": "npm", "uvx": "pypi"}.get(os.path.basename(command))  # noqa: PTH119
    if kind is None:
        return None
    words = [part for word in args for part in (word.split("=", 1) if word.startswith("--") else [word])]
    named = [after for word, after in pairwise(words) if word in ("-p", "--package", "--from")]
    package = next(iter([*named, *(word for word in words if not word.startswith("-"))]), None)
    return f"{kind}:{package or 'NAME'}"
