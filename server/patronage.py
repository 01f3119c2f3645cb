"""What servers ask and tell by themselves, taken to the client it concerns, and to no other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..runners.errors import FaultError
from ..runners.patron import Ask
from ..runners.session import ChildSession
from .exchange import Exchange
from .front import Front
from .peer import METHOD_NOT_FOUND, Peer, offers

logger = logging.getLogger(__name__)

SEVERAL = -32010
"""JSON-RPC code of a question that cannot be taken to anybody, as several clients are being served."""

WARN_AGAIN = 60.0
"""Seconds between two warnings of one server."""

ELICITATIONS = 1000
"""Elicitations by url whose completion may still be told."""


class Patronage:
    """Stands behind ToolScore as the client of its servers.

    A question is taken to the client in whose name the server is at work. With nobody's request in flight ToolScore
    answers itself, as far as it can; with those of several clients it cannot be known whom the question is for, and
    it is refused.

    Args:
        front: Knows the clients.
        roots: What `roots/list` is answered when it concerns no client (MCP `Root`).
    """

    def __init__(self, front: Front, roots: Sequence[dict[str, Any]] = ()) -> None:
        self._front = front
        self.roots = list(roots)
        """What `roots/list` is answered when it concerns no client."""
        self._warned: dict[str, float] = {}
        self._elicitations: dict[tuple[str, str], Peer] = {}
        self.on_several: Callable[[str], None] = lambda _server: None
        """Called with a server that asked something while it served several clients."""

    @property
    def capabilities(self) -> dict[str, Any]:
        """What servers are told they may ask for: what can be taken to a client, whichever is there."""
        return {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {"form": {}, "url": {}}}

    async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
        """Answer a request of a server."""
        exchanges = [owner for owner in ask.owners if isinstance(owner, Exchange)]
        peers = {exchange.peer for exchange in exchanges}
        if len(peers) > 1:
            raise self.several(session, ask.method, len(peers))
        if not exchanges:
            return self._own_answer(ask, None)
        exchange = self._asked_through(exchanges)
        if ask.method == "roots/list":
            if not offers(exchange.capabilities, ask.method, ask.params):
                return self._own_answer(ask, exchange.peer)
            opened = self._front.open_now
            if opened is not None and not exchange.peer.modern:  # which tells nothing outside of requests
                opened.asked_roots.setdefault(session, set()).add(exchange.peer)
        identity = ask.params.get("elicitationId")
        if ask.method == "elicitation/create" and isinstance(identity, str):
            if len(self._elicitations) >= ELICITATIONS:
                del self._elicitations[next(iter(self._elicitations))]
            self._elicitations[session.name, identity] = exchange.peer
        return await exchange.ask(ask.method, ask.params, ask.on_progress)

    def several(self, session: ChildSession, method: str, clients: int) -> FaultError:
        """Say that a question cannot be taken to anybody, as several clients are being served."""
        self._warn(session.name, method, clients)
        self.on_several(session.name)
        return FaultError(
            SEVERAL,
            f"{method} cannot be passed on: this server is serving several clients at once, and it cannot "
            "be known which of them is meant",
        )

    def _asked_through(self, exchanges: list[Exchange]) -> Exchange:
        """Choose in which of one client's requests it is asked; whichever it is, the server gets its answer.

        A modern client repeats a request for each round of questions, a few times at the most, so they are spread:
        over the requests that can be answered now, then those that had the fewest, the newest of them.
        """
        parking = self._front.parking
        return min(reversed(exchanges), key=lambda one: (one.reply is None, parking.questions(one)))

    def _warn(self, server: str, method: str, clients: int) -> None:
        """Tell the operator, but not each time: the server may ask in every call."""
        now = time.monotonic()
        if now - self._warned.get(server, -WARN_AGAIN) < WARN_AGAIN:
            return
        self._warned[server] = now
        logger.warning(
            "server %s asked for %s while it served %d clients; that was refused, because it cannot be known for "
            "whom it asked",
            server,
            method,
            clients,
        )

    def _own_answer(self, ask: Ask, peer: Peer | None) -> dict[str, Any]:
        if ask.method == "roots/list":
            return {"roots": self.roots if peer is None or peer.roots is None else peer.roots}
        raise FaultError(
            METHOD_NOT_FOUND, f"no client is being served for whom {ask.method} could be answered"
        )

    def told(self, session: ChildSession, method: str, params: dict[str, Any]) -> None:
        """Take a notification of a server to whom it concerns."""
        match method:
            case "notifications/message":
                self._log(session, params)
            case "notifications/resources/updated":
                uri, opened = params.get("uri"), self._front.open_now
                if isinstance(uri, str) and opened is not None:
                    opened.subscriptions.updated(session.key, uri)
            case "notifications/elicitation/complete":
                peer = self._elicitations.pop((session.name, str(params.get("elicitationId"))), None)
                if peer is not None and not peer.modern:
                    peer.notify(method, params)
            case "notifications/tasks/status":
                if (opened := self._front.open_now) is not None:
                    unit = opened.toolset.supervisor.find(session.key)
                    if unit is not None and unit.session is session:
                        unit.undone.take(params)
                for principal, shown in self._front.tasks.owners(session.name, str(params.get("taskId"))):
                    for peer in list(self._front.peers):
                        if peer.caller.principal == principal and not peer.modern:
                            peer.notify(method, {**params, "taskId": shown}, droppable=True)
            case "notifications/subscriptions/acknowledged":
                pass  # of ToolScore's own listen stream
            case _:
                if (exchange := _only(session)) is not None and not exchange.peer.modern:
                    exchange.peer.notify_within(exchange, method, params)

    def _log(self, session: ChildSession, params: dict[str, Any]) -> None:
        """Hand on a log message: to the client being served, or if none is, to all that asked for logs."""
        if session.owners:
            if (exchange := _only(session)) is not None:
                exchange.log(self._named(session, params, exchange.peer))
            return
        for peer in self._front.peers:
            opened = self._front.open_now
            sight = opened.sight(peer) if opened is not None else None
            if sight is not None and not sight.server(session.name):
                continue
            if peer.log_level is not None and peer.ready and not peer.modern:
                named = self._named(session, params, peer)
                Exchange(peer, "", {}, None, self._front.parking).log(named)

    def _named(self, session: ChildSession, params: dict[str, Any], peer: Peer) -> dict[str, Any]:
        """Say in a log message which server it is of, where several log to one client."""
        if self._front.exposure_of(peer).server is not None:
            return params
        own = params.get("logger")
        return {**params, "logger": f"{session.name}/{own}" if isinstance(own, str) else session.name}


def _only(session: ChildSession) -> Exchange | None:
    """Give the newest request a server is at work on, if all of them are one client's."""
    exchanges = [owner for owner in session.owners if isinstance(owner, Exchange)]
    return exchanges[-1] if len({exchange.peer for exchange in exchanges}) == 1 else None
