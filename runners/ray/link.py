"""ToolScore's side of the line to one agent."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from .. import errors
from ..errors import RunnerError, StartError
from .frames import MAX_CONTROL, PIECE, Frames, Kind, LineError, at_once, control, read_control
from .options import BEATS
from .proof import challenge, holds, proof

Message = dict[str, Any]

Route = Callable[[str, int], Awaitable[tuple[str, int]]]
"""Gives the address to connect to for an agent's own."""


class Streams(Protocol):
    """A child, as the line sees it."""

    def took_input(self, count: int) -> None:
        """Note that the server's side took so many bytes of its input."""
        ...

    def output(self, data: bytes) -> None:
        """Take what it wrote on standard output; nothing is its end."""
        ...

    def complaint(self, data: bytes) -> None:
        """Take the same of standard error."""
        ...

    def ended(self, code: int, reason: str | None) -> None:
        """Take the news of its end."""
        ...

    def lost(self, why: str) -> None:
        """Take the news that the line is over, and with it all that is known of it."""
        ...


class Link(asyncio.Protocol):
    """The line to one agent. Made by `connect`.

    Args:
        secret: What both sides prove to know.
        life: Number of ToolScore's life.
        visit: Number of this line in it.
        beat: Seconds between two signs of life.
        lost: Told when it is over, and why.
    """

    def __init__(
        self, secret: str, life: int, visit: int, beat: float, lost: Callable[[Link, str], None]
    ) -> None:
        self._secret, self._life, self._visit = secret, life, visit
        self._beat = beat
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._challenge = challenge()
        self._theirs = ""
        self._transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.closed = False
        self.last_word = self._loop.time()
        """When the agent was last told to keep its servers."""
        self._silent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._numbers = itertools.count(1)
        self._children: dict[int, Streams] = {}
        self._asked: dict[int, tuple[asyncio.Future[Message], Callable[[Message], None]]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait to be asked who this is."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=PIECE)
        at_once(self._transport)
        self._tick()

    def _tick(self) -> None:
        """Count signs of life by turns, not by the clock: a loop that was busy is not a silent agent."""
        self._silent += 1
        if self._silent > BEATS:
            self.lose(f"nothing was heard of it for {BEATS * self._beat:.1f} s")
            return
        self._timer = self._loop.call_later(self._beat, self._tick)

    def write(self, data: bytes | memoryview) -> None:
        """Put bytes on the line."""
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    def say(self, message: Message) -> None:
        """Put a control frame on the line."""
        self.write(control(message))

    def data_received(self, data: bytes) -> None:
        """Take what the agent says."""
        self._silent = 0
        try:
            for kind, number, content in self._frames.feed(data):
                if kind is Kind.CONTROL:
                    self._told(read_control(content))
                elif (child := self._children.get(number)) is not None:
                    match kind:
                        case Kind.STDIN_TAKEN:
                            child.took_input(int.from_bytes(content, "big"))
                        case Kind.STDOUT:
                            child.output(content)
                        case Kind.STDERR:
                            child.complaint(content)
                        case _:
                            raise LineError(f"a frame of kind {kind}")
                if self.closed:
                    return
        except (LineError, KeyError, TypeError, ValueError) as exc:
            self.lose(f"it sent {exc}")

    def _told(self, message: Message) -> None:
        match message["op"]:
            case "who":
                self._greet(str(message["challenge"]))
            case "welcome":
                mine = proof(self._secret, "agent", self._theirs, self._challenge, self._life, self._visit)
                if not holds(message["proof"], mine):
                    self.lose("it could not prove that it is the agent")
                    return
                self._frames.limit = MAX_CONTROL
                self.last_word = self._loop.time()
                if not self.ready.done():
                    self.ready.set_result(None)
            case "stale":
                self.lose("a later ToolScore of this home has it")
            case "beat":
                self.last_word = self._loop.time()
                self.say({"op": "beat", "at": message["at"]})
            case "ended":
                child = self._children.pop(int(message["child"]), None)
                if child is not None:
                    child.ended(int(message["code"]), message["reason"])
            case "progress":
                if asked := self._asked.get(int(message["id"])):
                    asked[1](message)
            case "answer":
                if asked := self._asked.pop(int(message["id"]), None):
                    _settle(asked[0], message)
            case other:
                raise LineError(f"an unknown message {other!r}")

    def _greet(self, theirs: str) -> None:
        self._theirs = theirs
        mine = proof(self._secret, "gateway", theirs, self._challenge, self._life, self._visit)
        self.say(
            {
                "op": "hello",
                "life": self._life,
                "visit": self._visit,
                "challenge": self._challenge,
                "proof": mine,
            }
        )

    def number(self) -> int:
        """Give a number for a child."""
        return next(self._numbers)

    async def start(self, number: int, child: Streams, request: Message) -> Message:
        """Have a server started.

        Args:
            number: Its number on this line.
            child: Takes what comes of it, from its first byte on.
            request: What to start; see `starting.start`.

        Returns:
            What the agent told.

        Raises:
            RunnerError: If it cannot be started, or the line was lost.
        """
        self._children[number] = child
        try:
            return await self.ask({**request, "op": "start", "child": number})
        except BaseException:
            self._children.pop(number, None)
            self.say({"op": "end", "child": number})
            raise

    async def ask(
        self, message: Message, progress: Callable[[Message], None] = lambda _message: None
    ) -> Message:
        """Ask the agent something.

        Args:
            message: The question.
            progress: Told how far it is.

        Raises:
            RunnerError: If the answer is an error, or the line was lost.
        """
        if self.closed:
            raise StartError("the line to its agent was lost")
        number = next(self._numbers)
        answer: asyncio.Future[Message] = self._loop.create_future()
        self._asked[number] = answer, progress
        self.say({"op": "ask", **message, "id": number})
        try:
            return await answer
        finally:
            if self._asked.pop(number, None) is not None:
                self.say({"op": "withdraw", "id": number})

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the agent, or what is between, closed the line."""
        self.lose(f"its line broke ({exc})" if exc else "its agent closed the line, or ended")

    def lose(self, why: str) -> None:
        """Give the line up."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        if not self.ready.done():
            self.ready.set_exception(StartError(why))
            self.ready.exception()  # nobody may wait for it
        children, self._children = list(self._children.values()), {}
        for child in children:
            child.lost(why)
        asked, self._asked = list(self._asked.values()), {}
        for answer, _ in asked:
            if not answer.done():
                answer.set_exception(StartError(f"the line to its node was lost: {why}"))
        self._lost(self, why)


def _settle(answer: asyncio.Future[Message], message: Message) -> None:
    if answer.done():
        return
    if (text := message.get("error")) is None:
        answer.set_result(message)
        return
    kind = getattr(errors, str(message.get("kind")), StartError)
    if not (isinstance(kind, type) and issubclass(kind, RunnerError)):
        kind = StartError
    answer.set_exception(_made(kind, str(text), str(message.get("stderr") or "")))


def _made(kind: type[RunnerError], text: str, stderr: str) -> RunnerError:
    try:
        return kind(text, stderr=stderr)
    except TypeError:  # one of a kind with other arguments
        return StartError(text, stderr=stderr)
