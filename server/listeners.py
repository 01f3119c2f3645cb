"""The listeners of one ToolScore: opened together, described on their pages, closed together."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .given_token import given
from .metrics import Metrics
from .network import ListenError, Network, Visitor
from .pages import Component, Pages, Status, journal_component, server_component
from .revoking import REVOKED

if TYPE_CHECKING:
    from ..tools.caller import Caller
    from ..tools.journal.standing import Standing
    from ..tools.scores.figures import Figures
    from .connection import Connection
    from .endpoint import Endpoint
    from .front import Front
    from .gateway import Gateway
    from .home import Home
    from .settings_model import NetworkSettings
    from .tokens import Identity
    from .toolset import ToolSet

logger = logging.getLogger(__name__)

FLUSH = 1.0
"""Seconds the last answers have to leave a line."""

_TURN = 0.02
"""Seconds between two looks whether all is answered."""


class Holder(Protocol):
    """Who runs all of this."""

    def caller(self, listener: str, identity: Identity | None = None) -> Caller:
        """Give the caller of a new connection."""
        ...

    def hold(self, task: asyncio.Task[None]) -> None:
        """End a client's task when all is ended."""
        ...


class Reception(Protocol):
    """What serves those who come in: a `Desk`, or what replays a recording."""

    @property
    def front(self) -> Front:
        """Answers clients."""
        ...

    @property
    def gateway(self) -> Gateway:
        """Serves them."""
        ...


class Listener(Protocol):
    """One listener, whatever it speaks."""

    endpoint: Endpoint
    url: str

    async def open(self) -> None:
        """Begin to listen."""
        ...

    def stop_accepting(self) -> None:
        """Take nobody new."""
        ...

    async def close(self) -> None:
        """Close what is left."""
        ...


class Listeners:
    """All listeners but standard streams and the home's own socket.

    Args:
        desk: Serves the clients.
        settings: The settings `network.*`.
        home: The home.
        holder: Who runs all of this.
        no_token: Whether nobody needs a token.
    """

    def __init__(
        self, desk: Reception, settings: NetworkSettings, home: Home, holder: Holder, *, no_token: bool
    ) -> None:
        self._desk = desk
        self._home = home
        self._holder = holder
        self._began = time.monotonic()
        self._toolset: ToolSet | None = None
        self._stopping = self.without_library = False
        self._listeners: list[Listener] = []
        self._lines: set[Connection] = set()
        self._metrics = Metrics(
            connections=self._connections,
            servers=self._servers,
            in_flight=self._in_flight,
            refused=lambda: self._network.refused,
            quarantined=self._quarantined,
            tools=self._tools,
            journal=self._journal,
        )
        pages = Pages(self._status, self._metrics.render)
        # Where the tokens lie is only asked by commands; here they are handed in when they have changed.
        shared = "shared" if desk.front.balance is not None else ""
        self._network = Network(settings, home, pages, no_token=no_token, shared=shared)
        desk.front.network = self._network

    async def open(self, endpoints: Sequence[Endpoint], *, announce: bool) -> None:
        """Open every listener, or none.

        Args:
            endpoints: The addresses.
            announce: Whether a token that is made now may be shown on standard error, once.

        Raises:
            HomeError: If one cannot be opened, with the reason.
        """
        if any(endpoint.scheme != "unix" for endpoint in endpoints):
            fresh = given() is None and not (self._home.path / "token").exists()
            token = self._network.token()
            if token is not None and fresh and announce:
                where = "`toolscore token show` prints it again"
                print(
                    f"toolscore: clients of the network need this token ({where}): {token}", file=sys.stderr
                )
        try:
            for endpoint in endpoints:
                listener = self._made(endpoint)
                try:
                    await listener.open()
                except OSError as exc:
                    raise ListenError(
                        f"{endpoint.text} cannot be listened on: {exc.strerror or exc}. Is another program there? "
                        "Choose another port, or 0 for any that is free."
                    ) from exc
                self._listeners.append(listener)
                logger.info("listening on %s", listener.url)
        except BaseException:
            await self.close()
            raise

    @property
    def urls(self) -> list[str]:
        """The addresses that are really listened on."""
        return [listener.url for listener in self._listeners]

    def _quarantined(self) -> int:
        approvals = self._toolset.approvals if self._toolset is not None else None
        return len(approvals.held()) if approvals is not None else 0

    def _made(self, endpoint: Endpoint) -> Listener:
        from .admission import OpenDoorError

        try:
            if endpoint.scheme == "unix":
                from .unix import UnixListener

                return UnixListener(endpoint, self._serve, self._network.settings.max_message << 20)
            if endpoint.scheme in ("ws", "wss"):
                from .websocket import WebSocketListener

                return WebSocketListener(endpoint, self._network, self._serve_visitor, self._register)
            from .streamable import HttpListener

            listener = HttpListener(endpoint, self._network, self._desk, self._holder)
            self._desk.front.hosts.append(listener)
            return listener
        except OpenDoorError as exc:
            raise ListenError(str(exc)) from exc

    def _serve(self, connection: Connection) -> None:
        caller = self._holder.caller("unix")
        task = asyncio.get_running_loop().create_task(self._desk.gateway.serve(connection, caller))
        self._holder.hold(task)

    async def _serve_visitor(self, connection: Connection, visitor: Visitor) -> None:
        caller = self._holder.caller("ws", visitor.identity)
        task = asyncio.get_running_loop().create_task(self._desk.gateway.serve(connection, caller))
        self._holder.hold(task)
        self._lines.add(connection)
        with self._network.revoking.inside(visitor.identity, lambda: connection.close(REVOKED)):
            await asyncio.wait([task])
        self._lines.discard(connection)

    async def _register(self, wire: Any, name: str, visitor: Visitor) -> None:
        from ..runners.errors import RunnerError
        from ..runners.remote import WebSocketChannel
        from ..tools.outcome import Outcome, RefusalError

        toolset = (await self._desk.front.opened()).toolset
        channel = WebSocketChannel.accepted(wire, f"/register?name={name}")
        try:
            # Asked again: the library may not have been open at the door, and others may have come meanwhile.
            if (taken := toolset.name_taken(name, visitor.identity.principal)) is not None:
                raise RefusalError(Outcome.NAME_TAKEN, taken)
            await toolset.dialed_in(name, channel, visitor.identity.principal)
        except (RefusalError, RunnerError) as exc:
            logger.warning("server %s, which dialed in, is not taken: %s", name, exc.message)
            await wire.close(1008, exc.message.encode()[:120].decode(errors="ignore"))
            return
        close = 1000, "this server is not used any more"

        def cut_off() -> None:
            nonlocal close
            close = 1008, REVOKED
            channel.over.set()

        with self._network.revoking.inside(visitor.identity, cut_off):
            await channel.over.wait()  # it left, or ToolScore let go of it
        await wire.close(*close)

    def ready(self, toolset: ToolSet) -> None:
        """Say from now on that it is ready: the library is open."""
        self._toolset = toolset
        toolset.router.observed_by(self._metrics.call)
        toolset.overview.usage.begin()  # whoever opens the dashboard wants to see what was before
        self._network.name_taken = toolset.name_taken

    def leave(self) -> None:
        """Say that this ToolScore is not ready any more; who comes all the same is served."""
        self._stopping = True

    def stop_accepting(self) -> None:
        """Take nobody new."""
        self._stopping = True
        for listener in self._listeners:
            listener.stop_accepting()

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Close the WebSocket lines of clients, each as soon as what it asked for is answered; wait for HTTP.

        What comes on them meanwhile is not read: a line that is closed in order has heard what it has answered, and
        nothing else.

        Args:
            seconds: How long at the most.
            hurry: Ends it early.
        """
        for line in self._lines:
            line.hold()
        deadline = time.monotonic() + seconds
        hosts = self._desk.front.hosts
        while not hurry.is_set() and time.monotonic() < deadline:
            if not self._lines and not any(host.busy for host in hosts):
                return
            for line in list(self._lines):
                if not line.unanswered:
                    self._lines.discard(line)
                    await line.flushed(FLUSH)
                    line.leave()
            await asyncio.sleep(_TURN)

    async def close(self) -> None:
        """Close every listener."""
        self._network.revoking.close()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            await listener.close()

    def _status(self) -> Status:
        phase: Literal["starting", "ok", "stopping"] = "ok"
        if self._toolset is None and not self.without_library:
            phase = "starting"
        if self._stopping:
            phase = "stopping"
        connections = self._network.connections()
        parts = [
            *([] if self.without_library else [self._store()]),
            *(
                Component(
                    "listener", one.url, "ok", details={"clients": connections.get(one.endpoint.text, 0)}
                )
                for one in self._listeners
            ),
        ]
        if self._toolset is not None and self._toolset.journal is not None:
            parts.append(journal_component(self._toolset.journal.standing))
        if self._toolset is not None:
            units, now = self._toolset.supervisor.units, time.time()
            for name, row in sorted(self._toolset.library.servers.items()):
                unit = units.get(name)
                if unit is not None:
                    parts.append(
                        server_component(
                            name,
                            unit.shown,
                            enabled=row.enabled,
                            since=now - (time.monotonic() - unit.life.since),
                            restarts=unit.life.restarts,
                            reason=unit.life.reason or "",
                        )
                    )
        return Status(phase, time.monotonic() - self._began, tuple(parts))

    def _store(self) -> Component:
        if self._toolset is None:
            return Component("store", "store", "starting")
        trouble = self._toolset.store_trouble()
        return Component("store", "store", "ok" if trouble is None else "failed", trouble or "")

    def _connections(self) -> dict[str, int]:
        return self._network.connections()

    def _servers(self) -> dict[str, int]:
        if self._toolset is None:
            return {}
        return dict(Counter(str(unit.shown) for unit in self._toolset.supervisor.units.values()))

    async def _tools(self) -> AsyncIterator[Figures]:
        scores = self._toolset.scores if self._toolset is not None else None
        if scores is not None:
            async for one in scores.figures():
                yield one

    def _journal(self) -> Standing | None:
        journal = self._toolset.journal if self._toolset is not None else None
        return journal.standing if journal is not None else None

    def _in_flight(self) -> int:
        if self._toolset is None:
            return 0
        sessions = [unit.session for unit in self._toolset.supervisor.units.values()]
        return sum(len(session.owners) for session in sessions if session is not None)
