"""What a killed ToolScore leaves of an installation it was at, and how it goes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Container
from pathlib import Path

from .secrets import NO_SERVER, Secrets


async def clear(folder: Path, secrets: Secrets, known: Container[str]) -> list[str]:
    """Delete the folders and secrets that belong to no server.

    Args:
        folder: Folder of the servers' own folders.
        secrets: Their secrets, whose keys begin with the server's name.
        known: The names of all servers.

    Returns:
        The names they had.
    """
    left = [path for path in folder.iterdir() if path.is_dir() and path.name not in known]
    for path in left:
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
    prefixes = {key.partition("/")[0] for key in secrets.names()}
    names = {name for name in prefixes if name not in known and not name.startswith(NO_SERVER)}
    for name in names:
        secrets.delete_prefix(f"{name}/")
    return sorted(names.union(path.name for path in left))
