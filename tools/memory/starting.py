"""The server put together and run, for its own command and for `toolscore memory`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from ..database import DatabaseUrlError, Where, checked
from ..errors import StoreError
from .limits import Limits

DATABASE = "TOOLSCORE_MEMORY_DATABASE"
"""Environment variable with the URL of a shared database: ToolScore's own is never handed to a server."""


@dataclass(frozen=True)
class Start:
    """How it is started.

    Attributes:
        where: The SQLite file, or the URL of a shared database.
        limits: What one user may keep.
        meaning: Whether to search by meaning where that is installed.
        user: Whose all is; `None` where ToolScore says it with each request.
    """

    where: Where
    limits: Limits
    meaning: bool = True
    user: str | None = "owner"


def run(start: Start) -> None:
    """Serve until the client closes its end.

    Raises:
        StoreError: If the database cannot be opened.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    if sys.stdin is not None and sys.stdin.isatty():
        print(
            "This is an MCP server: it waits for messages of a client. End it with Ctrl-D.", file=sys.stderr
        )
    # Whatever is under way is a transaction; waiting for a client that does not read would take for ever.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    where = start.where
    if not isinstance(where, Path):
        try:
            where = checked(where)
        except DatabaseUrlError as error:
            raise StoreError(f"{DATABASE} {error}.") from None
    from ... import __version__
    from ..search.encoder import available, encoder
    from .memory import Memory
    from .serving import serve
    from .shelf import Shelf

    shelf = Shelf(where, start.limits)
    meant, why = None, "switched off (memory.semantic)"
    try:
        shelf.delete_aged()
        if start.meaning and (why := available() or "") == "":
            from .meaning import Meant

            meant = Meant(shelf, encoder())
        memory = Memory(shelf, meant, why)
        asyncio.run(serve(memory, __version__, start.user))
    finally:
        if meant is not None:
            meant.close()
        shelf.close()
