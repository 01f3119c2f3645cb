"""One server on a node, as ToolScore has it: its line, its log and its end are those of a process of this machine."""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Callable
from typing import Any

from ..base import LOST, UNHEARD, Message
from ..logs import ServerLog
from ..pipes import PipeChannel, StderrReader
from ..process_child import ProcessChild
from ..sampler import Limits
from .frames import Kind
from .link import Link
from .streams import ReadSide, Sender, WriteSide


class RayChannel(PipeChannel):
    """The line to a server on a node. What was not sent when it is lost, the server surely has not heard."""

    def __init__(self, describe: Callable[[], str]) -> None:
        super().__init__(describe)
        self.sender: Sender | None = None
        self._waiting: deque[tuple[int, Any]] = deque()

    def send(self, message: Message) -> None:
        """Write one message; see `PipeChannel.send`."""
        super().send(message)
        sender = self.sender
        if sender is None:
            return
        while self._waiting and self._waiting[0][0] <= sender.sent:
            self._waiting.popleft()
        if sender.queued and "method" in message and "id" in message:
            self._waiting.append((sender.sent + sender.queued, message["id"]))

    def lost(self, why: str) -> None:
        """Answer what never left, before the line is closed."""
        sent = 0 if self.sender is None else self.sender.sent
        for end, identity in self._waiting:
            if end > sent:
                self._inbox.put({"id": identity, LOST: why, UNHEARD: True})
        self._waiting.clear()


class RayChild(ProcessChild):
    """A server on a node of the cluster.

    Args:
        server_id: Name of the server.
        log: Takes what it writes on standard error.
        node: How its node is called in messages.
    """

    def __init__(self, server_id: str, log: ServerLog, node: str) -> None:
        super().__init__(server_id, log)
        self.node = node
        self._line = RayChannel(self.epitaph)
        self.pipes = self._line
        self.remote: _Remote | None = None
        """Its process, once there is one."""

    @property
    def pid(self) -> int | None:
        """Give none: its process is not on this machine."""
        return None

    async def place(self, link: Link, request: dict[str, Any]) -> None:
        """Have it started over a link.

        Raises:
            RunnerError: If it cannot be started.
        """
        self._log.mark()
        self._report_due = request.get("confine") is not None
        remote = _Remote(link, self._line, self._stderr, self.node)
        told = await link.start(remote.number, remote, request)
        remote.pid = int(told["pid"])
        self._process = self.remote = remote
        self._watch = asyncio.get_running_loop().create_task(self._wait(remote))

    def limit(self, limits: Limits) -> None:
        """Have its node end it when it uses more than it may."""
        if self.remote is not None and self.returncode is None:
            amounts = {"memory": limits.memory, "cpu": limits.cpu, "files": limits.files}
            self.remote.link.say(
                {
                    "op": "limit",
                    "child": self.remote.number,
                    "limits": amounts | {"processes": limits.processes},
                }
            )


class _Remote:
    """A process on a node: `Running`, and the streams of it.

    Args:
        link: The line to its agent.
        pipes: Its input and output.
        stderr: Reads its standard error.
        node: How its node is called.
    """

    def __init__(self, link: Link, pipes: RayChannel, stderr: StderrReader, node: str) -> None:
        self._node = node
        self.link = link
        self.pid = 0
        self.marker = ""
        self.returncode: int | None = None
        self.reason: str | None = None
        self.exited = asyncio.Event()
        self.number = link.number()
        self._pipes = pipes
        self.sender = pipes.sender = Sender(link.write, Kind.STDIN, self.number)
        self._stdout = ReadSide(link.write, Kind.STDOUT_TAKEN, self.number, pipes)
        self._stderr = ReadSide(link.write, Kind.STDERR_TAKEN, self.number, stderr)
        self._stdin: WriteSide | None = None
        pipes.take_over(self._stdout, self._writer)
        stderr.connection_made(self._stderr)

    def _writer(self, protocol: asyncio.BaseProtocol) -> WriteSide:
        self._stdin = WriteSide(self.sender, protocol)
        return self._stdin

    def signal(self, number: int) -> None:
        self.link.say({"op": "signal", "child": self.number, "number": int(number)})

    def note(self) -> None:
        self.link.say({"op": "note", "child": self.number})

    def end(self) -> None:
        self.link.say({"op": "end", "child": self.number})

    def took_input(self, count: int) -> None:
        self.sender.took(count)

    def output(self, data: bytes) -> None:
        self._stdout.receiver.feed(data)

    def complaint(self, data: bytes) -> None:
        self._stderr.receiver.feed(data)

    def ended(self, code: int, reason: str | None) -> None:
        self.returncode, self.reason = code, reason
        self.exited.set()

    def lost(self, why: str) -> None:
        if self.exited.is_set():
            return
        why = f"its node {self._node} was lost: {why}"
        self.returncode, self.reason = -int(signal.SIGKILL), why
        self._pipes.lost(why)
        self.exited.set()
        self._stderr.receiver.cut()
        self._stdout.receiver.cut()
        if self._stdin is not None:
            self._stdin.lose(ConnectionResetError(why))
