"""The payload's end of its line to init: calls of tools by any thread, and the next job.

There is one pipe to read and there may be many threads that wait for something from it. The first to wait reads,
for itself and for the others; when it has what it wants, the next one goes on.
"""

from __future__ import annotations

import os
from _thread import RLock, allocate_lock
from json import dumps

from .calls import LONGEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable
    from typing import Any


class ToolError(Exception):
    """A tool, or the way to it, failed.

    Attributes:
        result: The MCP `CallToolResult`, where the tool itself said so.
        type: What kind of failure, where it was another one.
    """

    def __init__(
        self, message: str, *, result: dict[str, Any] | None = None, type: str | None = None
    ) -> None:
        super().__init__(message)
        self.result = result
        self.type = type


# Code knows it by the module it imports it from; tracebacks and pickle go by this.
ToolError.__module__ = "toolscore_tools"


class _Condition:
    """What `threading.Condition` is. That module, once loaded, has every fork copy a hundred pages."""

    def __init__(self) -> None:
        self._lock: Any = RLock()  # the handler of a signal may call a tool as well
        self._waiting: list[LockType] = []
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self) -> None:
        mine = allocate_lock()
        mine.acquire()
        self._waiting.append(mine)
        held = self._lock._release_save()
        try:
            mine.acquire()
        finally:
            self._lock._acquire_restore(held)
            if mine in self._waiting:  # a signal's handler raised
                self._waiting.remove(mine)

    def notify_all(self) -> None:
        while self._waiting:
            self._waiting.pop().release()


class Channel:
    """Messages to and from init.

    Args:
        send: Writes a line, whole.
        receive: Waits for the next message; `None` when there will be none.
    """

    def __init__(self, send: Callable[[bytes], None], receive: Callable[[], dict[str, Any] | None]) -> None:
        self._write = send
        self._receive = receive
        self._sending = allocate_lock()
        self._changed = _Condition()
        self._reading = False
        self._ended = False
        self._allowed = False
        self._count = 0
        self._waiting: set[int] = set()
        self._replies: dict[int, dict[str, Any]] = {}
        self._jobs: list[dict[str, Any]] = []
        self._process = os.getpid()

    def adopt(self) -> None:
        """Say that the calling process is the one that may call tools."""
        self._process = os.getpid()

    def allow(self, tools: bool) -> None:
        """Say whether tools may be called from now on: while a job runs that may."""
        self._allowed = tools

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, in one piece whatever other threads send.

        Raises:
            ValueError, TypeError, RecursionError: If it cannot be JSON; then nothing was sent.
            OSError: If nobody reads any more.
        """
        self._put(_line(message))

    def next_job(self) -> dict[str, Any] | None:
        """Wait for the next job; `None` when there will be none."""
        self._wait(lambda: bool(self._jobs))
        return self._jobs.pop(0) if self._jobs else None

    def call(self, method: str, params: dict[str, Any]) -> Any:
        """Ask for something and wait for the answer; safe to be called by several threads at once.

        Args:
            method: `servers`, `tools` or `call`.
            params: As the contract of the method has them.

        Raises:
            ToolError: If it is not possible now, or too large, or was answered with an error.
            TypeError: If `params` cannot be JSON.
        """
        if os.getpid() != self._process:
            raise ToolError("tools can be called by the process that runs the code only, not by its children")
        if not self._allowed:
            raise ToolError("tools can be called only while code runs that was given them")
        with self._changed:
            self._count += 1
            number = self._count
            self._waiting.add(number)
        try:
            try:
                line = _line({"type": "call", "call": number, "method": method, "params": params})
                if len(line) > LONGEST + 1:
                    raise ToolError(f"the arguments are too large: {LONGEST >> 20} MiB at the most")
                self._put(line)
            except (TypeError, ValueError, RecursionError) as error:
                raise TypeError(f"these arguments cannot be sent as JSON: {error}") from None
            except OSError as error:
                raise ToolError("the way to the tools is closed") from error
            self._wait(lambda: number in self._replies)
            reply = self._replies.pop(number, None)
        finally:
            with self._changed:
                self._waiting.discard(number)
                self._replies.pop(number, None)
        if reply is None:
            raise ToolError("the way to the tools is closed")
        if "error" in reply:
            told = reply["error"]
            raise ToolError(str(told["message"]), type=str(told["type"]))
        return reply["result"]

    def _put(self, line: bytes) -> None:
        with self._sending:
            self._write(line)

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Wait until something is there, or the line has ended; read it if nobody else does."""
        with self._changed:
            while not ready() and not self._ended:
                if self._reading:
                    self._changed.wait()
                    continue
                self._reading = True
                self._changed.release()
                message: dict[str, Any] | None = {}
                try:
                    message = self._receive()
                finally:
                    # Also where a signal's handler raised: then nothing was read, and another one has to go on.
                    self._changed.acquire()
                    self._reading = False
                    self._changed.notify_all()
                self._take(message)

    def _take(self, message: dict[str, Any] | None) -> None:
        if message is None:
            self._ended = True
        elif message.get("type") == "job":
            self._jobs.append(message)
        elif message.get("type") == "reply" and message.get("call") in self._waiting:
            self._replies[message["call"]] = message


def _line(message: dict[str, Any]) -> bytes:
    return dumps(message, allow_nan=False).encode() + b"\n"
