"""`toolscore serve`: own the home and serve clients, or join the ToolScore that owns it already."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from .. import __version__
from .home import JOIN_PATIENCE, Home, HomeBusyError, HomeError, HomeLock, prepare
from .stderr import StderrHandler

if TYPE_CHECKING:
    from .connection import Connection
    from .settings import Settings
    from .toolset import ToolSet

logger = logging.getLogger(__name__)

INTERRUPTED = 130
"""Exit status after SIGINT, as shells have it."""

UNUSABLE = 3
"""Exit status when the home or its store cannot be used."""

CLIENTS_GRACE = 2.0
"""Seconds the last answers may take to leave when ToolScore ends."""

FIRST_ANSWER = 0.25
"""Seconds the store's libraries wait for the first client's `initialize` to be answered before them."""


def serve(settings: Settings, *, standalone: bool = False, background: bool = False) -> int:
    """Serve until the client on standard input is gone, or a signal ends it.

    Args:
        settings: The settings.
        standalone: Never join another ToolScore; one that owns the home already is an error.
        background: Serve the Unix socket only, until a signal.

    Returns:
        The exit status.
    """
    _log_to_stderr(settings.log.level)
    home = Home.at(settings.home)
    try:
        prepare(home)
        lock = _own(home, standalone=standalone, background=background)
    except HomeError as exc:
        print(f"toolscore: {exc}", file=sys.stderr)
        return UNUSABLE
    if isinstance(lock, str):
        from .relay import relay

        return relay(lock)
    with lock:
        from ..tools.errors import StoreError
        from ..tools.preflight import preflight

        try:
            preflight(home.store_file)
            return asyncio.run(_Serving(settings, home, background=background).run())
        except (StoreError, HomeError) as exc:
            print(f"toolscore: {exc}", file=sys.stderr)
            return UNUSABLE


def _own(home: Home, *, standalone: bool, background: bool) -> HomeLock | str:
    """Take the home's lock, or give the path of the socket on which its owner can be joined.

    Raises:
        HomeBusyError: If it is owned, and cannot be joined.
    """
    deadline = time.monotonic() + JOIN_PATIENCE
    while True:
        try:
            return HomeLock.acquire(home, "background" if background else "stdio", __version__)
        except HomeBusyError as exc:
            joinable = exc.owner.mode != "command"
            if joinable and (standalone or background):
                raise
            if joinable and exc.owner.socket and _answers(exc.owner.socket):
                return exc.owner.socket
            if time.monotonic() > deadline:
                raise
        # A command line is at work, or the owner has not opened its socket yet; neither tells when it is over.
        time.sleep(0.05)


def _answers(path: str) -> bool:
    """Tell whether somebody listens there; an owner that is ending leaves only the name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _log_to_stderr(level: str) -> None:
    handler = StderrHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("mcp", "asyncio", "alembic", "sqlalchemy", "httpx2", "httpcore2", "websockets"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))


class _Serving:
    """One run of an owner."""

    def __init__(self, settings: Settings, home: Home, *, background: bool) -> None:
        self._settings = settings
        self._home = home
        self._background = background
        self._stop = asyncio.Event()
        self._signal: signal.Signals | None = None
        self._opened: asyncio.Future[ToolSet] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._numbers = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError):  # Windows has no signal handlers on its loop
                loop.add_signal_handler(number, self._signalled, number)
        self._opened = loop.create_future()
        from .gateway import Gateway

        self._gateway = Gateway(self._toolset)
        async with AsyncExitStack() as closing:
            first: Connection | None = None
            listener: asyncio.Server | None = None
            if not self._background:
                from .stdio import open_stdio

                try:
                    first = await open_stdio()
                except OSError as exc:
                    print(f"toolscore: standard input and output must both be open: {exc}", file=sys.stderr)
                    return UNUSABLE
                self._accept(first, "stdio")
            if hasattr(socket, "AF_UNIX"):
                from .unix import listen

                listener = await listen(self._home.socket_path, lambda peer: self._accept(peer, "unix"))
                closing.callback(self._home.socket_path.unlink, missing_ok=True)
                closing.callback(listener.close)
            if first is not None:
                await _within(first.answered, FIRST_ANSWER)
            library = closing.push_async_exit(_Library(self._settings, self._home))
            try:
                self._opened.set_result(await library.open())
            except Exception as exc:
                self._opened.set_exception(exc)
                self._opened.exception()
                raise
            logger.info("toolscore %s serves %s", __version__, self._home.path)
            await self._stop.wait()
            if listener is not None:
                # The name goes first: a client that starts anew waits for the home instead of joining the dying.
                self._home.socket_path.unlink(missing_ok=True)
                listener.close()
            for client in self._clients:
                client.cancel()
            if self._clients:
                await asyncio.wait(self._clients, timeout=CLIENTS_GRACE)
        return INTERRUPTED if self._signal is signal.SIGINT else 0

    def _signalled(self, number: signal.Signals) -> None:
        self._signal = number
        self._stop.set()

    async def _toolset(self) -> ToolSet:
        assert self._opened is not None
        return await asyncio.shield(self._opened)

    def _accept(self, connection: Connection, listener: str) -> None:
        from ..tools.caller import Caller

        self._numbers += 1
        caller = Caller(principal="owner", listener=listener, connection=self._numbers)
        task = asyncio.get_running_loop().create_task(self._gateway.serve(connection, caller))
        self._clients.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        """End with the last client, unless this is the background ToolScore."""
        self._clients.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("a connection ended with a bug", exc_info=exc)
        if not self._clients and not self._background:
            self._stop.set()


class _Library:
    """Opens the library late, and closes it at its place in the order."""

    def __init__(self, settings: Settings, home: Home) -> None:
        self._settings = settings
        self._home = home
        self._stack = AsyncExitStack()

    async def open(self) -> ToolSet:
        from .app import open_library

        return await self._stack.enter_async_context(open_library(self._settings, self._home, start=True))

    async def __aenter__(self) -> _Library:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()


async def _within(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
