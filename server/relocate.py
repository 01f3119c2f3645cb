"""Giving a home another path: what names the old one in its store, environments and links then names the new one."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

_LONGEST_SHEBANG = 127
"""Bytes of a script's first line that every kernel reads (`BINPRM_BUF_SIZE` was 128 for long)."""

_LARGEST = 1 << 20
"""Bytes of a script or a list of paths; nothing larger is one."""

_NAMES = frozenset({"pyvenv.cfg", "direct_url.json"})
_SHELL_SHEBANG = re.compile(
    rb"\A#!/bin/sh\n'''exec' (?:'([^'\n]+)'|\"([^\"\n]+)\"|(\S+)) \"\$0\" \"\$@\"\n' '''\n"
)


def relocate(folder: Path, old: str, new: str, links: Iterable[str]) -> None:
    """Rewrite what names a home's old path.

    Rewritten are the servers in the store, and in their folders the scripts of environments, the files that describe
    these, and links. What a server itself has written is its own and stays as it is.

    Args:
        folder: Where the home is now.
        old: Its path when those names were written.
        new: The path it is going to have.
        links: Its links.
    """
    if old == new:
        return
    _store(folder / "toolscore.db", old, new)
    for name in links:
        place = folder / name
        target = str(place.readlink())
        if target.startswith(f"{old}/"):
            place.unlink()
            place.symlink_to(new + target[len(old) :])
    for here, _folders, files in os.walk(folder / "servers"):
        for name in files:
            path = Path(here) / name
            if path.is_symlink() or path.stat().st_size > _LARGEST:
                continue
            if path.parent.name == "bin" or name in _NAMES or name.endswith((".pth", ".egg-link")):
                _file(path, os.fsencode(old), os.fsencode(new))


def _store(path: Path, old: str, new: str) -> None:
    named = _named(old)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, installation FROM server").fetchall()
        for name, text in rows:
            installation = json.loads(text)
            spec = installation.get("spec") or {}
            for held, keys in ((installation, ("directory",)), (spec, ("command", "args", "cwd", "env"))):
                for key in keys:
                    held[key] = _moved(held.get(key), named, new)
            connection.execute(
                "UPDATE server SET installation = ? WHERE name = ?",
                (json.dumps(installation, ensure_ascii=False), name),
            )
        connection.commit()


def _named(old: str) -> re.Pattern[str]:
    """Match the old path where it stands as a whole path or the beginning of one."""
    return re.compile(rf"(?<![\w./-]){re.escape(old)}(?=/|$)")


def _moved(value: Any, named: re.Pattern[str], new: str) -> Any:
    if isinstance(value, str):
        return named.sub(lambda _match: new, value)
    if isinstance(value, list):
        return [_moved(item, named, new) for item in value]
    if isinstance(value, Mapping):
        return {key: _moved(item, named, new) for key, item in value.items()}
    return value


def _file(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    if b"\0" in content or old + b"/" not in content:
        return
    status = path.stat()
    changed = _with_shebang(
        re.sub(rb"(?<![\w./-])" + re.escape(old) + rb"(?=/)", lambda _match: new, content)
    )
    path.write_bytes(changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _with_shebang(content: bytes) -> bytes:
    """Write the first line as kernels understand it: through a shell where the path is long or has blanks."""
    if shell := _SHELL_SHEBANG.match(content):
        program, rest = next(group for group in shell.groups() if group), content[shell.end() :]
    elif content.startswith(b"#!/") and b"python" in content.partition(b"\n")[0]:
        line, _, rest = content.partition(b"\n")
        program = line[2:].rstrip(b"\r")
        if len(line) <= _LONGEST_SHEBANG and b" " not in program:
            return content
        if not Path(os.fsdecode(program)).name.startswith("python"):
            return content  # with an option, as `python -E`: it is somebody's own script
    else:
        return content
    return b"#!/bin/sh\n'''exec' '" + program + b"' \"$0\" \"$@\"\n' '''\n" + rest
