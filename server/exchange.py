"""One request of a client on its way through ToolScore: who asked, and where answers, progress and questions go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ..runners.errors import FaultError
from ..runners.patron import ProgressSink
from ..tools.caller import LONGEST_SESSION, SESSION_KEY, Caller
from .peer import Peer, not_offered, offers, wanted

if TYPE_CHECKING:
    from .parking import Parking
    from .tape.recorder import RequestTape

OWN_META = ("io.modelcontextprotocol/", "toolscore/")
"""Beginnings of the members of a request's `_meta` that are for this hop only."""

RELATED_TASK = "io.modelcontextprotocol/related-task"
"""The one of those that is for the server: the task a request belongs to (MCP 2025-11-25)."""

ASKABLE = ("sampling", "elicitation", "roots")
"""Client capabilities that ToolScore can hand on questions for."""

_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
_LOG_LEVEL = "io.modelcontextprotocol/logLevel"


class Reply(Protocol):
    """Where the answer to a request goes."""

    def put(self, member: str, value: dict[str, Any]) -> None:
        """Answer it.

        Args:
            member: `result` or `error`.
            value: The result, or the error.
        """
        ...


class Stream(Protocol):
    """What goes with the answer to one request, on transports that keep requests apart (Streamable HTTP)."""

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification before the answer."""
        ...

    async def ask(
        self, method: str, params: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        """Send a request before the answer, and wait for its result.

        Raises:
            FaultError: If the client answers with an error, or is gone.
        """
        ...


class Exchange:
    """A request that is being served.

    Args:
        peer: Whose it is.
        method: Its method.
        params: Its parameters, as they came.
        reply: Where its answer goes.
        parking: Keeps it while a modern client is asked for input.
        stream: Where what is said in its course goes, if not simply to the peer.

    Attributes:
        reply: `None` while nobody waits for an answer: the client was asked for input and has not come back.
        work: The task that serves it.
        tape: What is recorded of it; `None` where nothing is.
        carried: Whether another gateway has looked for who is to answer it, and found that this one is.
    """

    __slots__ = (
        *("_last", "carried", "meta", "method", "params", "parking", "peer", "reply"),
        *("stream", "tape", "token", "work"),
    )

    def __init__(
        self,
        peer: Peer,
        method: str,
        params: dict[str, Any],
        reply: Reply | None,
        parking: Parking,
        stream: Stream | None = None,
    ) -> None:
        self.peer = peer
        self.method = method
        self.params = params
        self.reply = reply
        self.parking = parking
        self.stream = stream
        meta = params.get("_meta")
        self.meta: dict[str, Any] = meta if isinstance(meta, dict) else {}
        self.token = self.meta.get("progressToken")
        self.work: asyncio.Task[Any] | None = None
        self.tape: RequestTape | None = None
        self.carried = False
        self._last = -1.0

    @property
    def caller(self) -> Caller:
        """In whose name it is, and in which episode, where the request names one."""
        session = self.meta.get(SESSION_KEY)
        if not session or not isinstance(session, str):
            return self.peer.caller
        return replace(self.peer.caller, session=session[:LONGEST_SESSION])

    @property
    def modern(self) -> bool:
        """Whether the client speaks the 2026-07-28 era."""
        return self.peer.modern

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the client can be asked for: said once in the handshake, or in each request."""
        declared = self.meta.get(_CAPABILITIES) if self.peer.modern else self.peer.capabilities
        return declared if isinstance(declared, dict) else {}

    @property
    def envelope(self) -> dict[str, Any]:
        """What a modern server is told of the client: what it can be asked for, and what it wants to hear."""
        told: dict[str, Any] = {
            _CAPABILITIES: {kind: value for kind, value in self.capabilities.items() if kind in ASKABLE}
        }
        if self.log_level is not None:
            told[_LOG_LEVEL] = self.log_level
        return told

    @property
    def log_level(self) -> str | None:
        """The least important log messages the client wants to hear; in the modern era, none unless it says so."""
        level = self.meta.get(_LOG_LEVEL) if self.peer.modern else self.peer.log_level
        return level if isinstance(level, str) else None

    @property
    def on_progress(self) -> ProgressSink | None:
        """Takes a server's progress; `None` if nobody can want it. A modern client may once it comes back."""
        return None if self.token is None and not self.peer.modern else self.progress

    def passed_meta(self) -> dict[str, Any] | None:
        """Give what of the request's `_meta` is for the server: not the envelope or the token of this hop."""
        if not self.meta:
            return None
        kept = {
            key: value
            for key, value in self.meta.items()
            if key == RELATED_TASK or (key != "progressToken" and not key.startswith(OWN_META))
        }
        return kept or None

    def progress(self, done: float, total: float | None, text: str) -> None:
        """Tell the client of progress, under its own token."""
        if self.token is None or self.reply is None:
            return
        params: dict[str, Any] = {"progressToken": self.token, "progress": done}
        if total is not None:
            params["total"] = total
        if text:
            params["message"] = text
        if self.tape is not None:
            self.tape.told("notifications/progress", params)
        self.peer.notify_within(self, "notifications/progress", params)

    async def report(self, done: float, total: float | None, text: str) -> None:
        """Tell the client of progress of ToolScore's own, which must grow from one to the next (MCP progress)."""
        self._last = done if done > self._last else self._last + 0.001
        self.progress(self._last, total, text)

    def log(self, params: dict[str, Any]) -> None:
        """Hand on a log message of a server, if the client wants to hear it."""
        if (self.peer.modern and self.log_level is None) or not wanted(params.get("level"), self.log_level):
            return
        if self.tape is not None:
            self.tape.told("notifications/message", params)
        self.peer.notify_within(self, "notifications/message", params)

    async def ask(
        self, method: str, params: dict[str, Any], on_progress: ProgressSink | None = None
    ) -> dict[str, Any]:
        """Ask the client for something in the course of this request, as its era has it.

        Raises:
            FaultError: If it does not offer that, refuses, or is gone.
        """
        if not offers(self.capabilities, method, params):
            raise not_offered(method)
        if self.tape is None:
            return await self._asked(method, params, on_progress)
        replied = self.tape.question(method, params)
        try:
            answer = await self._asked(method, params, on_progress)
        except FaultError as exc:
            replied("error", exc.as_error())
            raise
        replied("result", answer)
        return answer

    async def _asked(
        self, method: str, params: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        if self.peer.modern:
            return await self.parking.ask(self, method, params)
        return await self.peer.ask(self, method, params, on_progress)
