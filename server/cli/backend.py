"""Where a command's work is done: in the ToolScore that runs for this home, otherwise in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from ...runners.spec import Report
from ..home import Home
from ..owner import JOIN_PATIENCE, HomeBusyError, Owner, current_owner
from ..settings import Settings

_LISTEN_PATIENCE = 10.0
"""Seconds an owner may take from its lock to its socket; it is importing libraries meanwhile."""

_TURN = 0.05
"""Seconds between two looks at another process, of which nothing else tells."""


class BackendError(Exception):
    """The library could not be asked. The text says why and what to do next."""


class Backend(Protocol):
    """One way to ToolScore's own tools."""

    async def call(self, name: str, arguments: dict[str, Any], report: Report) -> dict[str, Any]:
        """Call one of ToolScore's own MCP tools.

        Args:
            name: The tool, such as `install_server`.
            arguments: Its arguments.
            report: Told of progress.

        Returns:
            A `CallToolResult` as it is on the wire.

        Raises:
            BackendError: If there is no result.
        """
        ...

    async def clients(self) -> list[dict[str, Any]]:
        """Tell who is connected besides this command: `name`, `listener`, `principal`, `cwd`, `seconds` and more."""
        ...


@asynccontextmanager
async def open_backend(settings: Settings, remark: Callable[[str], None]) -> AsyncIterator[Backend]:
    """Reach the library: through the socket of the owner that serves, or as the owner for one command.

    Waits for another command that is at work on the same home.

    Raises:
        BackendError: If the owner does not answer, or another command takes too long.
        HomeError: If the home cannot be used.
    """
    home = Home.at(settings.home)
    async with AsyncExitStack() as stack:
        yield await _opened(home, settings, stack, remark)


async def _opened(
    home: Home, settings: Settings, stack: AsyncExitStack, remark: Callable[[str], None]
) -> Backend:
    begun = time.monotonic()
    told = False
    while True:
        owner = current_owner(home)
        if owner is None:
            try:
                return await stack.enter_async_context(_local(settings))
            except HomeBusyError as busy:  # somebody was faster
                owner = busy.owner
        if owner.mode != "command":
            return await _joined(home, owner, stack)
        waited = time.monotonic() - begun
        if waited > JOIN_PATIENCE:
            raise BackendError(
                f"another toolscore command (process {owner.pid}) has been using {home.path} for {waited:.0f} s. "
                "Wait for it or end it, and try again."
            )
        if not told:
            remark(f"waiting for another toolscore command (process {owner.pid}) on {home.path} ...")
            told = True
        await asyncio.sleep(_TURN)


@asynccontextmanager
async def _local(settings: Settings) -> AsyncIterator[Backend]:
    from ..app import open_toolset

    async with open_toolset(settings) as toolset:
        yield toolset


async def _joined(home: Home, owner: Owner, stack: AsyncExitStack) -> Backend:
    """Connect to the owner's socket, which it may not have opened yet."""
    from .socket_backend import SocketBackend

    deadline = time.monotonic() + _LISTEN_PATIENCE
    path = owner.socket or str(home.socket_path)
    while True:
        try:
            return await stack.enter_async_context(SocketBackend.connected(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            present = current_owner(home)
            if present is None or present.pid != owner.pid:
                raise BackendError("the running ToolScore ended just now. Try again.") from error
            if time.monotonic() > deadline:
                raise BackendError(
                    f"the running ToolScore (process {owner.pid}) does not answer at {path}. "
                    "Stop it with `toolscore stop`, and try again."
                ) from error
        except OSError as error:
            raise BackendError(f"the socket {path} cannot be used: {error.strerror or error}.") from error
        await asyncio.sleep(_TURN)
