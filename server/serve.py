"""`toolscore serve`: own the home and serve clients, or join the ToolScore that owns it already."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from .. import __version__
from .endpoint import Endpoint, EndpointError, parse_endpoint
from .home import JOIN_PATIENCE, Home, HomeBusyError, HomeError, HomeLock, prepare
from .stderr import StderrHandler

if TYPE_CHECKING:
    from ..tools.caller import Caller
    from .connection import Connection
    from .desk import Desk
    from .listeners import Listeners
    from .settings import Settings
    from .tokens import Identity
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


def serve(
    settings: Settings,
    *,
    standalone: bool = False,
    background: bool = False,
    listen: Sequence[str] = (),
    no_token: bool = False,
) -> int:
    """Serve until the client on standard input is gone, or a signal ends it.

    Args:
        settings: The settings.
        standalone: Never join another ToolScore; one that owns the home already is an error.
        background: Serve the Unix socket and the listeners only, until a signal.
        listen: Addresses to serve on; those of the settings when there are none.
        no_token: Let whoever reaches a listener come in; on loopback only.

    Returns:
        The exit status.
    """
    _log_to_stderr(settings.log.level)
    home = Home.at(settings.home)
    addresses = list(listen) or list(settings.network.listen)
    try:
        endpoints = [parse_endpoint(address) for address in addresses]
        prepare(home)
        # Whoever wants listeners wants them to be of this process, so another owner is an error.
        lock = _own(home, standalone=standalone or bool(listen), background=background)
    except EndpointError as exc:
        print(f"toolscore: {exc}", file=sys.stderr)
        return UNUSABLE
    except HomeError as exc:
        print(f"toolscore: {exc}", file=sys.stderr)
        return UNUSABLE
    if isinstance(lock, str):
        from .relay import relay

        return relay(lock)
    with lock:
        from ..runners.open_files import raise_limit
        from ..tools.errors import StoreError
        from ..tools.preflight import preflight
        from .allocator import keep_some

        raise_limit()
        keep_some()
        try:
            preflight(home.store_file)
            serving = _Serving(
                settings, home, lock, background=background, endpoints=endpoints, no_token=no_token
            )
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                return runner.run(serving.run())
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
    for noisy in ("mcp", "asyncio", "alembic", "sqlalchemy", "httpx2", "httpcore2", "websockets", "uvicorn"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    # It warns of each request it could not answer any more because the client is gone or all is ending.
    logging.getLogger("mcp.shared.jsonrpc_dispatcher").setLevel(logging.ERROR)


class _Serving:
    """One run of an owner."""

    def __init__(
        self,
        settings: Settings,
        home: Home,
        lock: HomeLock,
        *,
        background: bool,
        endpoints: list[Endpoint],
        no_token: bool,
    ) -> None:
        self._settings = settings
        self._home = home
        self._lock = lock
        self._background = background
        self._endpoints = endpoints
        self._no_token = no_token
        self._stays = background or bool(endpoints)
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
        from .desk import Desk

        max_frame = self._settings.network.max_message << 20
        self._desk = desk = Desk(self._settings, self._toolset)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._end_clients)  # those who came before something went wrong
            first: Connection | None = None
            unix: asyncio.Server | None = None
            if not self._background and _stdio_is_meant(self._endpoints):
                from .stdio import open_stdio

                try:
                    first = await open_stdio(max_frame)
                except OSError as exc:
                    print(f"toolscore: standard input and output must both be open: {exc}", file=sys.stderr)
                    return UNUSABLE
                self._accept(first, "stdio").add_done_callback(partial(self._first_gone, first))
            listeners: Listeners | None = None
            if self._endpoints:
                from .listeners import Listeners

                listeners = Listeners(desk, self._settings.network, self._home, self, no_token=self._no_token)
                await listeners.open(self._endpoints, announce=not self._background)
                closing.push_async_callback(listeners.close)
                self._lock.note(listeners.urls)
            # After the listeners: whoever waits for an answer here may count on them.
            if hasattr(socket, "AF_UNIX"):
                from .unix import listen

                def accept(peer: Connection) -> None:
                    self._accept(peer, "unix")

                unix = await listen(self._home.socket_path, accept, max_frame)
                closing.callback(self._home.socket_path.unlink, missing_ok=True)
                closing.callback(unix.close)
            if first is not None:
                await _within(first.answered, FIRST_ANSWER)
            library = closing.push_async_exit(_Library(self._settings, self._home, desk))
            try:
                toolset = await library.open()
                self._opened.set_result(toolset)
                await desk.attach()
            except Exception as exc:
                if not self._opened.done():
                    self._opened.set_exception(exc)
                    self._opened.exception()
                raise
            if listeners is not None:
                listeners.ready(toolset)
            logger.info("toolscore %s serves %s", __version__, self._home.path)
            await self._stop.wait()
            if unix is not None:
                # The name goes first: a client that starts anew waits for the home instead of joining the dying.
                self._home.socket_path.unlink(missing_ok=True)
                unix.close()
            if listeners is not None:
                listeners.stop_accepting()
            await self._end_clients()
            desk.close()
        return INTERRUPTED if self._signal is signal.SIGINT else 0

    async def _end_clients(self) -> None:
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=CLIENTS_GRACE)

    def _signalled(self, number: signal.Signals) -> None:
        self._signal = number
        self._stop.set()

    async def _toolset(self) -> ToolSet:
        assert self._opened is not None
        return await asyncio.shield(self._opened)

    def _accept(self, connection: Connection, listener: str) -> asyncio.Task[None]:
        caller = self.caller(listener)
        task = asyncio.get_running_loop().create_task(self._desk.gateway.serve(connection, caller))
        self.hold(task)
        return task

    def caller(self, listener: str, identity: Identity | None = None) -> Caller:
        """Give the caller of a new connection: the owner, unless a network listener has told who it is."""
        from ..tools.caller import Caller

        self._numbers += 1
        if identity is None:
            return Caller(principal="owner", listener=listener, connection=self._numbers)
        return Caller(identity.principal, listener, self._numbers, identity.rights)

    def hold(self, task: asyncio.Task[None]) -> None:
        """Count a task that serves a client: it is ended with ToolScore, and ToolScore may end with the last one."""
        self._clients.add(task)
        task.add_done_callback(self._gone)

    def _first_gone(self, first: Connection, _task: asyncio.Task[None]) -> None:
        """End with the client that started this, however many listeners there are; nobody else might.

        Whoever never said a word was no client: a service that was started with its input closed, or at nothing.
        """
        if first.answered.is_set() and not self._background:
            self._stays = False
            if not self._clients:
                self._stop.set()

    def _gone(self, task: asyncio.Task[None]) -> None:
        """End with the last client, unless this is the background ToolScore, or serves on listeners."""
        self._clients.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("a connection ended with a bug", exc_info=exc)
        if not self._clients and not self._stays:
            self._stop.set()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give uvloop's event loop where it is installed (`toolscore[fast]`)."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _stdio_is_meant(endpoints: list[Endpoint]) -> bool:
    """Tell whether there is a client on standard input: beside listeners, a terminal is none."""
    try:
        return not endpoints or not os.isatty(0)
    except OSError:
        return False


class _Library:
    """Opens the library late, and closes it at its place in the order."""

    def __init__(self, settings: Settings, home: Home, desk: Desk) -> None:
        self._settings = settings
        self._home = home
        self._desk = desk
        self._stack = AsyncExitStack()

    async def open(self) -> ToolSet:
        from .app import open_library

        return await self._stack.enter_async_context(
            open_library(
                self._settings,
                self._home,
                start=True,
                patron=self._desk.patronage,
                on_state=self._desk.announcer.state,
            )
        )

    async def __aenter__(self) -> _Library:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()


async def _within(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
