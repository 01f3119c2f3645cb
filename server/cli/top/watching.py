"""Looking at the ToolScore of a home again and again, also while there is none, or another one comes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from ...folders import HomeError
from ...home import Home
from ...owner import Owner, current_owner
from ..backend import BackendError
from ..socket_backend import SocketBackend
from .figures import Figures, Picture

PATIENCE = 10.0
"""Seconds a running ToolScore has to tell how it is; one that is busy may need some."""


class Watch:
    """Looks at it. It never becomes the owner of the home, and makes nothing.

    Args:
        home: Whose ToolScore is looked at.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.owner: Owner | None = None
        """Who ran at the last look."""
        self.trouble: str | None = None
        """Why there was nothing to see at the last look."""
        self._figures = Figures()
        self._stack = AsyncExitStack()
        self._backend: SocketBackend | None = None

    async def look(self) -> Picture | None:
        """Look once; `None` if there is nothing to see, and `trouble` says why.

        Raises:
            HomeError: If the home cannot be read.
        """
        try:
            owner = await asyncio.to_thread(current_owner, self.home)
            if owner is None or owner.mode == "command":
                await self._gone(owner)
                return None
            if self._backend is None or self.owner is None or owner.pid != self.owner.pid:
                await self.close()
                self._figures.forget()
                path = owner.socket or str(self.home.socket_path)
                self._backend = await self._stack.enter_async_context(SocketBackend.connected(path))
            self.owner = owner
            async with asyncio.timeout(PATIENCE):
                told = await self._backend.overview(self._figures.cursor)
            picture = self._figures.take(told)
        except TimeoutError:
            await self.close()
            self.trouble = f"it has not answered for {PATIENCE:g} s; `toolscore restart` may help"
        except BackendError as error:
            await self.close()
            self.trouble = str(error)
        except HomeError:
            raise
        except OSError as error:
            await self.close()
            self.trouble = f"its socket cannot be reached yet: {error.strerror or error}"
        else:
            self.trouble = None
            return picture
        return None

    async def _gone(self, owner: Owner | None) -> None:
        await self.close()
        self.owner = owner
        if owner is None:
            self.trouble = "not running: `toolscore start` starts it, and so does a client"
        else:
            self.trouble = f"not running; a command (process {owner.pid}) is at work"

    async def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call one of ToolScore's own tools, on a line of its own, as it may take long.

        Raises:
            BackendError: If there is no result.
        """
        owner = await asyncio.to_thread(current_owner, self.home)
        if owner is None or owner.mode == "command":
            raise BackendError("ToolScore does not run.")
        from ....runners.spec import silent

        try:
            async with SocketBackend.connected(owner.socket or str(self.home.socket_path)) as backend:
                return await backend.call(tool, arguments, silent)
        except OSError as error:
            raise BackendError(f"its socket cannot be reached: {error.strerror or error}.") from error

    async def close(self) -> None:
        """End the connection, if there is one."""
        self._backend = None
        await self._stack.aclose()
