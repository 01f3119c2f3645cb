"""What a front has once the library is open: the views of clients, and whom servers were told of."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..runners.session import ChildSession
from ..runners.supervisor import Unit
from ..tools.sight import Sight
from .journal_follow import JOURNAL_URI
from .log_resource import LogWatch
from .overview import INSTALLS_URI
from .peer import LEVELS, Peer
from .subscriptions import Subscriptions
from .toolset import ToolSet
from .views import View, Views

if TYPE_CHECKING:
    from .front import Front


class Opened:
    """It.

    Args:
        front: Answers the clients.
        toolset: The tools.
    """

    def __init__(self, front: Front, toolset: ToolSet) -> None:
        self._front = front
        self.toolset = toolset
        self._views = Views(toolset.library)
        self.subscriptions = Subscriptions(toolset.supervisor)
        self.subscriptions.sight = toolset.router.sight
        toolset.overview.on_installs = lambda: self.subscriptions.updated("", INSTALLS_URI)
        if toolset.journal_follow is not None:
            toolset.journal_follow.on_records = lambda: self.subscriptions.updated("", JOURNAL_URI)
        self.log_watch = LogWatch(toolset.logs, self.subscriptions)
        self.asked_roots: WeakKeyDictionary[ChildSession, set[Peer]] = WeakKeyDictionary()
        """Which clients' roots a server was told."""
        self._level: str | None = None
        """The least important log messages that any client wants to hear."""
        toolset.router.on_result = self._views.saw

    def view(self, peer: Peer | None = None) -> View:
        """Give what a client is shown; without one, what those are who have not said what they want."""
        return self._views.of(self._front.exposure_of(peer), self.sight(peer))

    def sight(self, peer: Peer | None) -> Sight | None:
        """Give what of the library a client may know of; `None` is all there is."""
        return None if peer is None else self.toolset.router.sight(peer.caller)

    def spread_level(self) -> None:
        """Let servers log as much as the client that wants to hear most, where that is another level than before."""
        levels = [LEVELS.index(peer.log_level) for peer in self._front.peers if peer.log_level in LEVELS]
        level = LEVELS[min(levels)] if levels else None
        if level == self._level:
            return
        self._level = level
        for unit in self.toolset.supervisor.all_units():
            self.tell_level(unit)

    def tell_level(self, unit: Unit) -> None:
        """Tell one server, which may have just come up; see `spread_level`."""
        session = unit.session
        if self._level is None or session is None or session.modern or "logging" not in session.capabilities:
            return
        session.ask("logging/setLevel", {"level": self._level})

    def roots_changed(self, peer: Peer) -> None:
        """Tell every server that asked for this client's roots."""
        for session, told in list(self.asked_roots.items()):
            if peer in told and not session.modern:
                session.notify("notifications/roots/list_changed", None)
