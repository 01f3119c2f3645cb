"""One run of an owner of a home: opened from the lock to the library, and closed in reverse."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .endpoint import Endpoint
from .hello import Hello, version
from .home import Home
from .leaving import Leaving, within
from .notifier import Notifier
from .owner import HomeLock, Mode
from .settling import settle_later
from .stderr import log_from

if TYPE_CHECKING:
    from ..tools.caller import Caller
    from .connection import Connection
    from .desk import Desk
    from .glance import Glance
    from .home_socket import HomeSocket
    from .listeners import Listeners
    from .models import ReloadResult
    from .reload import Reloader
    from .settings import Loaded, Settings
    from .settings_hot import Setter
    from .tape.recorder import Recorder
    from .tape.recording import Record
    from .tokens import Identity
    from .toolset import ToolSet

logger = logging.getLogger(__name__)

INTERRUPTED = 130
"""Exit status after SIGINT, as shells have it."""

UNUSABLE = 3
"""Exit status when the home or its store cannot be used."""

CLIENTS_GRACE = 2.0
"""Seconds the last answers may take to leave when ToolScore ends."""

UPGRADE_GRACE = 30.0
"""Seconds that calls have when a newer version takes its place."""

FIRST_ANSWER = 0.25
"""Seconds the store's libraries wait for the first client's `initialize` to be answered before them."""

FIRST_CLIENT = 30.0
"""Seconds that one which was started for its clients waits for the first of them, whatever the setting says of those
that have gone: it is on its way."""


class Run:
    """It.

    Args:
        settings: The settings.
        home: The home.
        lock: What makes it this one's.
        mode: Whom it serves; see `serve.serve`.
        endpoints: Addresses to serve on.
        no_token: Let whoever reaches a listener come in.

    Attributes:
        loaded: Where the settings come from, so that they can be read again.
        record: Where the traffic of its clients is recorded, if it is.
    """

    def __init__(
        self,
        settings: Settings,
        home: Home,
        lock: HomeLock,
        mode: Mode,
        endpoints: list[Endpoint],
        *,
        no_token: bool,
    ) -> None:
        self._settings = settings
        self._home = home
        self._lock = lock
        self._mode = mode
        self._endpoints = endpoints
        self._no_token = no_token
        self._stays = mode in ("background", "service") or (mode == "stdio" and bool(endpoints))
        self.loaded: Loaded | None = None
        self.record: Record | None = None
        self._reloader: Reloader | None = None
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._signal: signal.Signals | None = None
        self._upgrade = False
        self._lingering: asyncio.TimerHandle | None = None
        self._opened: asyncio.Future[ToolSet] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._numbers = 0
        self._overview: Glance | None = None

    async def run(self) -> int:
        """Serve to the end.

        Returns:
            The exit status.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError):  # Windows has no signal handlers on its loop
                loop.add_signal_handler(number, self._signalled, number)
        if hasattr(signal, "SIGHUP") and not _on_terminal():
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        self._opened = loop.create_future()
        from .desk import Desk

        max_frame = self._settings.network.max_message << 20
        self._desk = desk = Desk(self._settings, self._toolset)
        desk.gateway.on_record = partial(_recorder, desk, self._home)
        if self._settings.database.url:
            desk.front.balance = loop.create_future()
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._end_clients)  # those who came before something went wrong
            if self.record is not None:
                from .tape.recording import recording

                closing.callback(recording(self.record, desk.front, self._home).close)
                closing.push_async_callback(self._end_clients)  # before the recording is closed
            first: Connection | None = None
            socket_of_home: HomeSocket | None = None
            if self._mode == "stdio" and _stdio_is_meant(self._endpoints):
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
                await listeners.open(self._endpoints, announce=self._mode == "stdio")
                closing.push_async_callback(listeners.close)
                self._lock.note(listeners.urls)
            # After the listeners: whoever waits for an answer here may count on them.
            if hasattr(socket, "AF_UNIX"):
                from .home_socket import HomeSocket

                socket_of_home = HomeSocket(self)
                await socket_of_home.open(self._home.socket_path, max_frame)
                closing.callback(socket_of_home.stop_accepting)
            self._linger(FIRST_CLIENT)
            if first is not None:
                await within(first.answered, FIRST_ANSWER)
            library = closing.push_async_exit(_Library(self._settings, self._home, desk, self.loaded))
            try:
                toolset = await library.open()
                self._overview = self._overviewing(toolset, desk)
                closing.callback(self._overview.close)
                self._opened.set_result(toolset)
                await desk.attach()
            except Exception as exc:
                if not self._opened.done():
                    self._opened.set_exception(exc)
                    self._opened.exception()
                raise
            if toolset.gateways is not None and desk.front.balance is not None:
                from .balanced.balance import balanced

                several = balanced(toolset.gateways, desk.front, toolset, desk.announcer)
                desk.front.balance.set_result(await closing.enter_async_context(several))
            if self.loaded is not None:
                self._reloader = self._configured(self.loaded, toolset, desk)
                closing.push_async_callback(self._reloader.close)
            if listeners is not None:
                listeners.ready(toolset)
            closing.callback(settle_later())
            logger.info("toolscore %s serves %s", version(), self._home.path)
            notifier = Notifier.of_service() if self._mode == "service" else None
            if notifier is not None:
                notifier.ready(listeners.urls if listeners is not None else ())
            await self._stop.wait()
            if notifier is not None:
                notifier.stopping()
            leaving = Leaving(desk.front, self._settings, self._hurry, self._drain_patience())
            await leaving.leave(toolset.gateways, listeners, socket_of_home)
            if socket_of_home is not None:
                socket_of_home.goodbye()
            await self._end_clients()
            desk.close()
        return INTERRUPTED if self._signal is signal.SIGINT else 0

    async def _end_clients(self) -> None:
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=CLIENTS_GRACE)

    def _signalled(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._signal = number
        self._stop.set()

    def _drain_patience(self) -> float:
        if self._upgrade:
            return UPGRADE_GRACE
        # Whoever started it for itself and ends it now does not wait, and kills after a few seconds.
        return self._settings.shared.drain if self._mode != "stdio" else 0.0

    def _hung_up(self) -> None:
        if self._reloader is not None:
            self._reloader.hang_up()

    def _configured(self, loaded: Loaded, toolset: ToolSet, desk: Desk) -> Reloader:
        """Bring the servers in line with the configuration file, and follow it from now on."""
        from ..tools.reconcile import Reconciler
        from .journal_home import note_reload
        from .reload import Reloader

        setters: dict[str, Setter] = {
            **toolset.setters,
            "roots": desk.configure,
            "log": lambda settings: log_from(settings.log.level),
        }

        def configured(result: ReloadResult) -> None:
            desk.announcer.configured(result)
            note_reload(toolset, result)

        reloader = Reloader(loaded, Reconciler(toolset.servers), setters, configured)
        if (policy := toolset.policy) is not None:
            reloader.also = lambda check: policy.file.check() if check else policy.file.again()
        toolset.reload = reloader.reload
        reloader.begin()
        return reloader

    def _overviewing(self, toolset: ToolSet, desk: Desk) -> Glance:
        from .glance import Glance

        return Glance(toolset, desk.front.events, lambda: len(desk.front.peers))

    async def _toolset(self) -> ToolSet:
        assert self._opened is not None
        return await asyncio.shield(self._opened)

    def accept(self, connection: Connection, hello: Hello | None) -> None:
        """Take in a client of the home's socket; see `home_socket.Host`."""
        self._accept(connection, "unix", hello)

    def clients(self, but: Connection) -> list[dict[str, Any]]:
        """Tell who is there; see `home_socket.Host`."""
        return [peer.described() for peer in self._desk.front.peers if not peer.is_on(but)]

    async def overview(self, after: str | None) -> dict[str, Any]:
        """Tell all that is going on; see `home_socket.Host`."""
        await self._toolset()
        assert self._overview is not None
        return await self._overview.look(after)

    def make_room(self, version: str) -> bool:
        """End for a newer version; see `home_socket.Host`."""
        if self._mode in ("stdio", "service"):
            return False
        logger.info("makes room for toolscore %s", version)
        self._upgrade = True
        self._stop.set()
        return True

    def _accept(
        self, connection: Connection, listener: str, hello: Hello | None = None
    ) -> asyncio.Task[None]:
        caller = self.caller(listener)
        if hello is not None:
            caller = replace(caller, cwd=hello.cwd or None)
        task = asyncio.get_running_loop().create_task(self._desk.gateway.serve(connection, caller, hello))
        self.hold(task)
        return task

    def caller(self, listener: str, identity: Identity | None = None) -> Caller:
        """Give the caller of a new connection: the owner, unless a network listener has told who it is."""
        from ..tools.caller import Caller

        self._numbers += 1
        if identity is None:
            return Caller(principal="owner", listener=listener, connection=self._numbers)
        return Caller(identity.principal, listener, self._numbers, identity.rights, token=identity.digest)

    def hold(self, task: asyncio.Task[None]) -> None:
        """Count a task that serves a client: it is ended with ToolScore, and ToolScore may end with the last one."""
        self._clients.add(task)
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        task.add_done_callback(self._gone)

    def _first_gone(self, first: Connection, _task: asyncio.Task[None]) -> None:
        """End with the client that started this, however many listeners there are; nobody else might.

        Whoever never said a word was no client: a service that was started with its input closed, or at nothing.
        """
        if first.answered.is_set() and self._mode == "stdio":
            self._stays = False
            if not self._clients:
                self._stop.set()

    def _gone(self, task: asyncio.Task[None]) -> None:
        """End with the last client, or a while after it; not if this was started to stay, or serves on listeners."""
        self._clients.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("a connection ended with a bug", exc_info=exc)
        if self._clients:
            return
        if self._mode == "shared":
            self._linger()
        elif not self._stays:
            self._stop.set()

    def _linger(self, least: float = 0.0) -> None:
        """End after a while without any client, where this was started for its clients.

        Args:
            least: Seconds that it is at the least.
        """
        if self._mode == "shared" and not self._clients and self._lingering is None:
            loop = asyncio.get_running_loop()
            seconds = max(self._settings.shared.linger, least)
            self._lingering = loop.call_later(seconds, self._stop.set)


def _stdio_is_meant(endpoints: list[Endpoint]) -> bool:
    """Tell whether there is a client on standard input: beside listeners, a terminal is none."""
    try:
        return not endpoints or not os.isatty(0)
    except OSError:
        return False


def _on_terminal() -> bool:
    """Tell whether a person's terminal is behind this, whose end SIGHUP tells."""
    try:
        return os.isatty(0)
    except OSError:
        return False


class _Library:
    """Opens the library late, and closes it at its place in the order."""

    def __init__(self, settings: Settings, home: Home, desk: Desk, loaded: Loaded | None) -> None:
        self._settings = settings
        self._home = home
        self._desk = desk
        self._declared = loaded.declared if loaded is not None else None
        self._stack = AsyncExitStack()

    async def open(self) -> ToolSet:
        from .app import open_library

        return await self._stack.enter_async_context(
            open_library(
                self._settings,
                self._home,
                start=True,
                declared=self._declared,
                patron=self._desk.patronage,
                on_state=self._desk.announcer.state,
                lend=self._desk.lender.lend,
            )
        )

    async def __aenter__(self) -> _Library:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()


def _recorder(desk: Desk, home: Home, file: str) -> Recorder | None:
    """Record one client, whose relay asks for it."""
    from .tape.event import TapeError
    from .tape.recording import Record, recorder

    try:
        return recorder(Record(Path(file), append=True), desk.front, home)
    except (TapeError, ValueError) as error:  # which a path with a null byte is
        logger.error("a client is not recorded: %s", error)
        return None
