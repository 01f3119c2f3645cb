"""Tells every client what changed, in its own era, and notes it among the events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from ..runners.lifecycle import State
from ..runners.supervisor import Unit
from ..tools.library_change import Change
from ..tools.sight import Sight
from .events import EVENTS_URI
from .front import Front
from .models import ReloadResult
from .own_tools import OWN_SERVER

if TYPE_CHECKING:
    from ..tools.journal.journal import Journal

logger = logging.getLogger(__name__)

GATHER = 0.05
"""Seconds in which further changes are gathered, so that a server of many tools is one announcement."""

_CHANGED: dict[str, Callable[[], ServerEvent]] = {
    "tools": ToolsListChanged,
    "resources": ResourcesListChanged,
    "prompts": PromptsListChanged,
}


sight_of_stream: ContextVar[Callable[[], Sight | None]] = ContextVar(
    "toolscore_sight_of_stream", default=lambda: None
)
"""Gives what the client may know of whose listen stream is being opened in this context."""

only_of_stream: ContextVar[str | None] = ContextVar("toolscore_only", default=None)
"""The one server that the client is shown whose listen stream is being opened in this context."""


class Bus:
    """The events of the modern era's listen streams (the SDK's `SubscriptionBus`), told without waiting."""

    def __init__(self) -> None:
        self._listeners: dict[
            object, tuple[Callable[[ServerEvent], None], str | None, Callable[[], Sight | None]]
        ] = {}
        self.on_tell: Callable[[ServerEvent], None] = lambda _event: None
        """Called with every event, whoever listens."""

    def tell(self, event: ServerEvent, servers: set[str] | None = None) -> None:
        """Hand an event to the open listen streams.

        Args:
            event: What happened.
            servers: Whose lists it is about: clients that are shown another one alone are not told.
        """
        self.on_tell(event)
        for listener, only, sight in list(self._listeners.values()):
            if servers is None or ((only is None or only in servers) and _concerned(sight(), servers)):
                listener(event)

    async def publish(self, event: ServerEvent) -> None:
        """Do what `tell` does."""
        self.tell(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Add a listen stream; what is returned takes it out again."""
        token = object()
        self._listeners[token] = (listener, only_of_stream.get(), sight_of_stream.get())

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe


def _concerned(sight: Sight | None, servers: set[str]) -> bool:
    """Tell whether a client may know of any of the servers whose lists changed."""
    return sight is None or any(sight.server(name) for name in servers)


class Announcer:
    """Announces changes of the library and of servers' states.

    Args:
        front: Knows the clients and the events.
        bus: Reaches the listen streams of modern clients.
    """

    def __init__(self, front: Front, bus: Bus) -> None:
        self._front = front
        self._bus = bus
        self._pending: dict[str, set[str]] = {}
        self._events_pending = False
        self._timer: asyncio.TimerHandle | None = None
        self.journal: Journal | None = None
        """What changes are written down in; `None` where nothing is."""

    async def attach(self) -> None:
        """Begin to follow the library and the servers, which must be open."""
        opened = await self._front.opened()
        opened.subscriptions.on_update = lambda uri: self._bus.tell(ResourceUpdated(uri=uri))
        opened.toolset.library.on_change = self.changed
        only = self._front.exposure.server
        if only is not None and only not in opened.toolset.library.servers:
            logger.warning("tools.expose shows server '%s' alone, and there is none of that name yet", only)

    def changed(self, change: Change) -> None:
        """Take note of a change of one server's tools, resources or prompts."""
        events = self._front.events
        for kind, names in change.kinds.items():
            events.append(kind, change.server, tools=list(names))
        if self.journal is not None:
            from .journal_home import note_change  # it is loaded where there is a journal

            note_change(self.journal, change)
        for kind in change.lists:
            self._pending.setdefault(kind, set()).add(change.server)
        self._later(events=bool(change.kinds))

    def state(self, unit: Unit) -> None:
        """Take note of a server's new state."""
        life = unit.life
        details: dict[str, Any] = {"state": str(unit.shown)}
        if life.reason:
            details["reason"] = life.reason
        instance = unit.key.partition("#")[2]
        if instance:
            details["instance"] = int(instance)
        # Instances come and go with clients and episodes: of them only what went wrong is of interest.
        if not instance or life.state in (State.BACKOFF, State.FAILED):
            self._front.events.append("server_state", unit.name, **details)
            self._later(events=True)
        opened = self._front.open_now
        if opened is None:
            return
        if life.state is State.READY:
            opened.subscriptions.came_up(unit)
            opened.tell_level(unit)

    def policy_changed(self, *, valid: bool) -> None:
        """Take note that another policy holds, or that its file cannot be used: every list may be another one."""
        # Not what is wrong with it: every client may read the events.
        self._front.events.append("policy_changed", OWN_SERVER, valid=valid)
        if valid and (opened := self._front.open_now) is not None:
            for kind in _CHANGED:
                self._pending.setdefault(kind, set()).update(opened.toolset.library.servers, [OWN_SERVER])
        self._later(events=True)

    def configured(self, result: ReloadResult) -> None:
        """Take note that the configuration file was read again, and what became of that."""
        # Names only: every client may read the events, and values are the owner's.
        details = {
            "valid": result.valid,
            "added": result.added,
            "changed": [server.name for server in result.changed],
            "removed": result.removed,
            "refused": [server.name for server in result.refused],
            "settings": [setting.name for setting in result.settings],
        }
        self._front.events.append("configuration_changed", OWN_SERVER, **details)
        self._later(events=True)

    def happened(self) -> None:
        """Tell those who follow the events that there is another one."""
        self._later(events=True)

    def _later(self, *, events: bool) -> None:
        self._events_pending |= events
        if self._timer is None and (self._pending or self._events_pending):
            self._timer = asyncio.get_running_loop().call_later(GATHER, self._announce)

    def _announce(self) -> None:
        self._timer = None
        pending, self._pending = self._pending, {}
        opened = self._front.open_now
        for kind, servers in sorted(pending.items()):
            for peer in list(self._front.peers):
                only = self._front.exposure_of(peer).server
                sight = opened.sight(peer) if opened is not None else None
                if not peer.ready or peer.modern or not _concerned(sight, servers):
                    continue
                if only is None or only in servers:
                    peer.notify(f"notifications/{kind}/list_changed", None)
            self._bus.tell(_CHANGED[kind](), servers)
        if self._events_pending:
            self._events_pending = False
            if opened is not None:
                opened.subscriptions.updated("", EVENTS_URI)

    def close(self) -> None:
        """Announce nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if (opened := self._front.open_now) is not None:
            opened.log_watch.close()
