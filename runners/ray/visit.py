"""A line of ToolScore, as the agent has it: who it is, and what is asked over it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from ... import __version__
from ..errors import RunnerError
from ..sampler import Limits
from .frames import MAX_CONTROL, PIECE, Frames, Kind, LineError, at_once, control, read_control
from .fuse import now
from .hosted import Hosted
from .proof import challenge, holds, proof

if TYPE_CHECKING:
    from .host import Host

GREETED_WITHIN = 5.0
"""Seconds somebody has to prove who he is."""

Message = dict[str, Any]


class Visit(asyncio.Protocol):
    """One line, from when it was accepted to when the last server that was started over it has ended.

    Args:
        host: Whose line it is.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._frames = Frames()
        self._challenge = challenge()
        self._transport: asyncio.Transport | None = None
        self._known = False
        self._closed = False
        self._children: dict[int, Hosted] = {}
        self._jobs: dict[int, asyncio.Task[Any]] = {}
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask who it is."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=PIECE)
        at_once(self._transport)
        self.say({"op": "who", "challenge": self._challenge, "version": __version__})
        self._deadline = asyncio.get_running_loop().call_later(GREETED_WITHIN, self.close)

    def write(self, data: bytes | memoryview) -> None:
        """Put bytes on the line."""
        if self._transport is not None and not self._closed:
            self._transport.write(data)

    def say(self, message: Message) -> None:
        """Put a control frame on the line."""
        self.write(control(message))

    def beat(self) -> None:
        """Ask for a sign of life."""
        self.say({"op": "beat", "at": now()})

    def data_received(self, data: bytes) -> None:
        """Do what was asked."""
        try:
            for kind, number, content in self._frames.feed(data):
                if kind is Kind.CONTROL:
                    self._told(read_control(content))
                elif self._known:
                    self._stream(kind, number, content)
                else:
                    raise LineError("a stream before a greeting")
                if self._closed:
                    return
        except (LineError, KeyError, TypeError, ValueError) as exc:
            self.close(f"it sent {exc}")

    def _stream(self, kind: Kind, number: int, content: bytes) -> None:
        child = self._children.get(number)
        if child is None:
            return  # it has just ended
        match kind:
            case Kind.STDIN:
                child.stdin.feed(content)
            case Kind.STDOUT_TAKEN:
                child.stdout.sender.took(int.from_bytes(content, "big"))
            case Kind.STDERR_TAKEN:
                child.stderr.sender.took(int.from_bytes(content, "big"))
            case _:
                raise LineError(f"a frame of kind {kind}")

    def _told(self, message: Message) -> None:
        match message["op"]:
            case "hello" if not self._known:
                self._greeted(message)
            case _ if not self._known:
                raise LineError("a request before a greeting")
            case "beat":
                self._host.extend(float(message["at"]))
            case "start":
                self._answer(message, self._start)
            case "ask":
                self._answer(message, self._ask)
            case "withdraw":
                if (job := self._jobs.get(int(message["id"]))) is not None:
                    job.cancel()
            case "limit":
                child = self._children.get(int(message["child"]))
                if child is not None and child.process is not None:
                    self._host.sampler.watch(child, child.process.pid, Limits(**message["limits"]), child.end)
            case "signal" | "note" | "end" as what:
                child = self._children.get(int(message["child"]))
                if child is None or child.process is None:
                    return
                if what == "signal":
                    child.process.signal(int(message["number"]))
                elif what == "note":
                    child.process.note()
                else:
                    child.end()
            case other:
                raise LineError(f"an unknown request {other!r}")

    def _greeted(self, message: Message) -> None:
        life, number = int(message["life"]), int(message["visit"])
        theirs, secret = str(message["challenge"]), self._host.charter.secret
        if not holds(message["proof"], proof(secret, "gateway", self._challenge, theirs, life, number)):
            self.close()
            return
        self._known = True
        self._frames.limit = MAX_CONTROL
        if self._deadline is not None:
            self._deadline.cancel()
        mine = proof(secret, "agent", self._challenge, theirs, life, number)
        self._host.spawn(self._enter((life, number), mine))

    async def _enter(self, rank: tuple[int, int], mine: str) -> None:
        if await self._host.enter(self, rank):
            self.say({"op": "welcome", "proof": mine})
            self.beat()
        else:
            self.say({"op": "stale", "life": self._host.rank[0]})
            self.close()

    def _answer(self, message: Message, work: Callable[[Message], Awaitable[Message]]) -> None:
        number = int(message["id"])
        self._jobs[number] = self._host.spawn(self._done(number, message, work))

    async def _done(
        self, number: int, message: Message, work: Callable[[Message], Awaitable[Message]]
    ) -> None:
        try:
            answer = await work(message)
        except asyncio.CancelledError:
            answer = {"error": "it was withdrawn"}
        except RunnerError as exc:
            answer = {"error": exc.message, "kind": type(exc).__name__, "stderr": exc.stderr}
        except Exception as exc:  # a bug must not leave the one who asked without an answer
            answer = {"error": f"the agent failed: {exc!r}"}
        finally:
            self._jobs.pop(number, None)
        self.say({"op": "answer", "id": number, **answer})

    async def _start(self, message: Message) -> Message:
        number = int(message["child"])
        child = self._children[number] = Hosted(number, str(message["server"]), self.write)
        try:
            answer = await self._host.start(child, message)
        except BaseException:
            if child.process is None:
                self._children.pop(number, None)
            else:
                child.end()
                self._host.spawn(self._until_end(child))
            raise
        assert child.process is not None
        self._host.sampler.watch(child, child.process.pid, Limits(), child.end)
        self._host.spawn(self._until_end(child))
        if self._closed:
            child.end()
        return answer

    async def _until_end(self, child: Hosted) -> None:
        await child.wait()
        self._host.sampler.unwatch(child)
        process = child.process
        assert process is not None
        self.say(
            {
                "op": "ended",
                "child": child.number,
                "code": process.returncode,
                "reason": child.reason or process.reason,
            }
        )
        self._children.pop(child.number, None)

    async def _ask(self, message: Message) -> Message:
        from .asked import asked

        return await asked(self._host, self._children, message, self.say)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was started over this line: nobody can speak to it any more."""
        self.close()

    def close(self, _why: str = "") -> None:
        """Close the line, and end what was started over it."""
        if self._closed:
            return
        self._closed = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._transport is not None:
            self._transport.close()  # after the last word, such as why it is refused
            asyncio.get_running_loop().call_later(1.0, self._transport.abort)
        for job in self._jobs.values():
            job.cancel()
        for child in self._children.values():
            child.end("its line to ToolScore was lost")
        self._host.left(self)

    async def ended(self) -> None:
        """Wait until all that was started over it has ended."""
        if self._jobs:
            await asyncio.wait(list(self._jobs.values()))
        await asyncio.gather(*(child.ended() for child in list(self._children.values())))
