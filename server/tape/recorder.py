"""Records what clients ask, are answered, are told and are asked themselves, whatever line they are on."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .cover import blank, gives, without_given
from .event import event
from .surface import surface

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..exchange import Exchange
    from ..front import Front
    from ..peer import Peer
    from .cover import Cover
    from .writer import Writer

_WITH_REQUEST = frozenset({"notifications/progress", "notifications/message", "notifications/cancelled"})
"""Notifications that are recorded with the request they belong to, or not at all."""


class Recorder:
    """One recording.

    Args:
        writer: Takes its lines.
        cover: Takes secrets out of them.
        front: Answers the clients.
    """

    def __init__(self, writer: Writer, cover: Cover, front: Front) -> None:
        self.writer = writer
        self._front = front
        self._numbers = itertools.count(1)
        self._sessions = itertools.count(1)
        self._surface: tuple[Any, int] | None = None
        self._opened = False
        self._visitors: dict[str, SessionTape] = {}
        loop = asyncio.get_running_loop()

        def masked(text: str) -> str:
            opened = front.open_now
            return text if opened is None else opened.toolset.masked(text)

        cover.masks = masked

        def stopped(reason: str) -> None:
            with suppress(RuntimeError):  # the loop is over
                loop.call_soon_threadsafe(self._tell_stopped, reason)

        writer.on_stop = stopped

    def session(self, peer: Peer) -> SessionTape:
        """Begin the session of a client."""
        return SessionTape(self, peer)

    def visiting(self, peer: Peer) -> SessionTape:
        """Give the session of a client whose requests are all that is known of it (Streamable HTTP, 2026-07-28)."""
        principal = peer.caller.principal
        if principal not in self._visitors:
            self._visitors[principal] = SessionTape(self, peer)
        return self._visitors[principal]

    def told_streams(self, method: str, params: dict[str, Any] | None) -> None:
        """Record what listen streams of visitors are told."""
        for tape in self._visitors.values():
            tape.note(method, params)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self.writer.close()

    def put(self, kind: str, session: int, request: int | None = None, **payload: Any) -> None:
        """Write a line."""
        self.writer.put(event(kind, self.writer.now, session, request, **payload))

    def number(self) -> int:
        """Give the number of a new request."""
        return next(self._numbers)

    def number_of_session(self) -> int:
        """Give the number of a new session."""
        return next(self._sessions)

    def open(self, session: int, peer: Peer) -> bool:
        """Record what a client would be shown: one who replays it may ask for it. Tell whether it is known yet."""
        opened = self._front.open_now
        if opened is None:
            return False
        if not self._opened:
            self._opened = True
            known = {name: tool.digest for name, tool in sorted(opened.toolset.library.tools.items())}
            self.put("tools", 0, known=known)
        answers = surface(opened.view(peer), self._front.events)
        if self._surface is not None and self._surface[0] == answers:
            self.put("surface", session, same=self._surface[1])
            return True
        self._surface = (answers, session)
        self.put("surface", session, answers=answers)
        return True

    def _tell_stopped(self, reason: str) -> None:
        self._front.events.append("recording_stopped", "toolscore", reason=reason)


class SessionTape:
    """What is recorded of one client.

    Args:
        recorder: The recording.
        peer: The client.
    """

    def __init__(self, recorder: Recorder, peer: Peer) -> None:
        self.recorder = recorder
        self._peer = peer
        self._number = 0
        self._surfaced = False

    @property
    def number(self) -> int:
        """Its number. It begins with the first thing there is to say of it: a probe is no session."""
        if not self._number:
            self._number = self.recorder.number_of_session()
            peer = self._peer
            self.recorder.put(
                "session",
                self._number,
                listener=peer.caller.listener,
                era="2026-07-28" if peer.modern else "handshake",
                client={"name": peer.name} if peer.name else {},
            )
        return self._number

    def introduced(self, method: str, result: dict[str, Any]) -> None:
        """Record what a client was told of this server."""
        self.recorder.put("introduced", self.number, method=method, result=result)

    def asked(self, exchange: Exchange) -> None:
        """Record a request."""
        if exchange.parking.is_own(exchange.params.get("requestState")):
            return  # it brings the answer to a question of a request that is recorded already
        if exchange.meta.get("toolscore/origin") == "cli" and exchange.peer.caller.listener == "unix":
            return  # the operator's command line, who looks after what is recorded
        params = {key: value for key, value in exchange.params.items() if key != "_meta"}
        if meta := exchange.passed_meta():
            params["_meta"] = meta
        params = without_given(exchange.method, params)
        self.surface()
        tape = exchange.tape = RequestTape(self, self.recorder.number())
        tape.gives = gives(exchange.method, params)
        tape.put("request", method=exchange.method, params=params)

    def surface(self) -> None:
        """Record what the client would be shown, the first time that is known."""
        if not self._surfaced:
            self._surfaced = self.recorder.open(self.number, self._peer)

    def note(self, method: str, params: dict[str, Any] | None) -> None:
        """Record a notification that belongs to no request."""
        if self._number and method not in _WITH_REQUEST:
            self.recorder.put("note", self._number, method=method, params=params or {})

    def left(self) -> None:
        """Record that the client is gone."""
        if self._number:
            self.recorder.put("left", self._number)


class RequestTape:
    """What is recorded of one request.

    Args:
        session: Whose it is.
        number: Its number.

    Attributes:
        gives: Whether what its client says in its course may be a secret.
    """

    __slots__ = ("_number", "_questions", "_session", "gives")

    def __init__(self, session: SessionTape, number: int) -> None:
        self._session = session
        self._number = number
        self._questions = 0
        self.gives = False

    def put(self, kind: str, **payload: Any) -> None:
        """Write a line about it."""
        self._session.recorder.put(kind, self._session.number, self._number, **payload)

    def told(self, method: str, params: dict[str, Any]) -> None:
        """Record what was told in its course."""
        self.put("told", method=method, params=params)

    def question(self, method: str, params: dict[str, Any]) -> Callable[[str, dict[str, Any]], None]:
        """Record what the client was asked in its course; what is returned records what it said."""
        self._questions += 1
        number = self._questions
        self.put("question", question=number, method=method, params=params)

        def replied(member: str, value: dict[str, Any]) -> None:
            if self.gives and "content" in value:
                value = {**value, "content": blank(value["content"])}
            self.put("reply", question=number, **{member: value})

        return replied

    def answered(self, member: str, value: dict[str, Any]) -> None:
        """Record its answer, a `result` or an `error`."""
        self._session.surface()
        self.put("answer", **{member: value})

    def cancelled(self) -> None:
        """Record that it was cancelled, by its client or by its end."""
        self.put("cancelled")
