"""Programs under measurement, and lean clients for them: pipes, one WebSocket, or a pool of HTTP connections.

The clients are single-threaded and blocking: nothing between a message and the clock but the kernel. One load loop
drives all of them, so that a ratio compares the servers and not the clients.
"""

from __future__ import annotations

import gc
import json
import math
import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

PROTOCOL = "2025-11-25"
INITIALIZE = {
    "protocolVersion": PROTOCOL,
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
CHUNK = 1 << 20
LARGE = 1 << 16
"""Bytes of an answer from where on it is not parsed on the clock."""

Message = dict[str, Any]


class Failed(RuntimeError):
    """A server cannot do what a scenario asks of it."""


@dataclass
class Load:
    """What a load took.

    Attributes:
        seconds: From the first request to the last answer.
        took: Seconds of each call.
        last: The last answer.
    """

    seconds: float
    took: list[float]
    last: bytes

    def quantile(self, part: float) -> float:
        """Give the smallest time that `part` of the calls did not exceed."""
        return sorted(self.took)[math.ceil(part * len(self.took)) - 1]

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.took)


class Program:
    """A program under measurement.

    Args:
        command: What to run.
        piped: Whether it is spoken to on its standard streams.
        env: Environment variables besides the inherited ones.
    """

    def __init__(self, command: list[str], *, piped: bool = True, env: dict[str, str] | None = None) -> None:
        stream = subprocess.PIPE if piped else subprocess.DEVNULL
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._late = False
        self._piped = piped
        self.process = subprocess.Popen(
            command,
            stdin=stream,
            stdout=stream,
            stderr=self._errors,
            bufsize=0,
            env={**os.environ, **(env or {})},
        )
        self._seen = psutil.Process(self.process.pid)

    def cpu(self) -> float:
        """Give the processor seconds it used so far; what its children used is not in it."""
        times = self._seen.cpu_times()
        return times.user + times.system

    def rss(self) -> int:
        """Give the bytes of its resident set, without its children."""
        return int(self._seen.memory_info().rss)

    def why(self) -> str:
        """Say in one line why it stopped answering."""
        if self._late:
            return "no answer within the time limit"
        if self.process.poll() is None:
            return "it runs on"
        # Not `seek`: the program writes at the same position.
        size = os.fstat(self._errors.fileno()).st_size
        lines = (
            os.pread(self._errors.fileno(), 4096, max(0, size - 4096)).decode("utf-8", "replace").split("\n")
        )
        told = [line.strip() for line in lines if line.strip()]
        if not told:
            return "it ended without a word"
        errors = [line for line in told if "error" in line.lower()]
        return f"it ended: {(errors or told)[-1][:200]}"

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Kill it if the block takes longer: whoever waits for it then sees its end."""

        def late() -> None:
            self._late = True
            self.process.kill()

        timer = threading.Timer(seconds, late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def connect(self, port: int, seconds: float = 60.0) -> socket.socket:
        """Connect to the port it listens on, or is about to."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = socket.create_connection(("127.0.0.1", port))
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return line
            except ConnectionRefusedError:
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.02)
                    raise Failed(self.why()) from None
                if time.monotonic() > deadline:
                    raise Failed(f"it does not listen on port {port}") from None

    def close(self) -> None:
        """End it the way its user would."""
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        if not self._piped:
            self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()


class Line(ABC):
    """A client of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._strays: dict[Any, Message] = {}

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Send one message."""

    @abstractmethod
    def receive(self) -> list[bytes]:
        """Wait for messages; there may be none in what arrived."""

    def close(self) -> None:  # noqa: B027 - there is nothing to hang up on standard streams
        """Hang up; the program is not ended by that."""

    def shake_hands(self) -> None:
        """Do the `initialize` handshake."""
        with self.program.limit(60):
            self.request("initialize", INITIALIZE)
            self._send_json(INITIALIZED)

    def _send_json(self, message: Message) -> None:
        self.send(json.dumps(message).encode())

    def begin(self, method: str, params: Message, identity: str) -> None:
        """Send a request without waiting for its answer."""
        self._send_json({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})

    def has(self, identity: str) -> bool:
        """Tell whether an answer was already read."""
        return identity in self._strays

    def end(self, identity: str) -> Message:
        """Wait for the answer to a request and give its result."""
        while identity not in self._strays:
            for raw in self.receive():
                self._keep(json.loads(raw))
        return result_of(self._strays.pop(identity))

    def request(self, method: str, params: Message) -> Message:
        """Send one request and wait for its result."""
        self.begin(method, params, "one")
        return self.end("one")

    def exchange(self, method: str, params: Message) -> tuple[float, Message]:
        """Send one request; give the seconds to the last byte of its answer, and its result, read off the clock."""
        begun = time.perf_counter()
        self.begin(method, params, "one")
        while True:
            for raw in self.receive():
                seconds = time.perf_counter() - begun
                message = json.loads(raw)
                if message.get("id") == "one":
                    return seconds, result_of(message)
                self._keep(message)

    def _keep(self, message: Message) -> None:
        if "method" not in message:
            self._strays[message.get("id")] = message
        elif message["method"] == "ping":
            self._send_json({"jsonrpc": "2.0", "id": message["id"], "result": {}})

    def load(self, params: Message, calls: int, in_flight: int = 1, limit: float = 120.0) -> Load:
        """Keep `in_flight` calls of one tool under way.

        Raises:
            Failed: If a call is refused, or the program ends or takes too long.
        """
        template = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": params})
        head, tail = (part.encode() for part in template.split('"id": 0', 1))
        begun: list[float] = [0.0] * calls
        took: list[float] = []
        raw = b""
        gc.disable()
        try:
            with self.program.limit(limit):
                start = time.perf_counter()
                for sent in range(min(in_flight, calls)):
                    message = b'%b"id": %d%b' % (head, sent, tail)
                    begun[sent] = time.perf_counter()
                    self.send(message)
                sent = min(in_flight, calls)
                while len(took) < calls:
                    for raw in self.receive():
                        arrived = time.perf_counter()
                        identity = self._identity(raw, sent)
                        if identity is None:
                            continue
                        took.append(arrived - begun[identity])
                        if sent < calls:
                            message = b'%b"id": %d%b' % (head, sent, tail)
                            begun[sent] = time.perf_counter()
                            self.send(message)
                            sent += 1
                return Load(time.perf_counter() - start, took, raw)
        except OSError as exc:
            raise Failed(f"{exc}; {self.program.why()}") from None
        finally:
            gc.enable()

    def _identity(self, raw: bytes, sent: int) -> int | None:
        """Give the number of the call that was answered, if it was one."""
        if len(raw) > LARGE:
            return sent - 1  # calls that large are made one at a time
        message = json.loads(raw)
        identity = message.get("id")
        if "method" in message or not isinstance(identity, int):
            self._keep(message)
            return None
        if "error" in message or message["result"].get("isError"):
            result_of(message)
        return identity


def result_of(message: Message) -> Message:
    """Give the result of an answer.

    Raises:
        Failed: If it is an error.
    """
    if "error" in message:
        raise Failed(f"refused: {message['error'].get('message')}")
    result: Message = message["result"]
    if result.get("isError"):
        raise Failed(f"refused: {result['content'][0].get('text')}")
    return result


class StdioLine(Line):
    """One message a line on the standard streams."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        assert program.process.stdin is not None
        assert program.process.stdout is not None
        self._to, self._from = program.process.stdin.fileno(), program.process.stdout.fileno()
        self._parts: list[bytes] = []
        self.shake_hands()

    def send(self, message: bytes) -> None:
        rest = memoryview(message + b"\n")
        while rest:
            rest = rest[os.write(self._to, rest) :]

    def receive(self) -> list[bytes]:
        data = os.read(self._from, CHUNK)
        if not data:
            self.program.process.wait()
            raise Failed(self.program.why())
        if b"\n" not in data:
            self._parts.append(data)
            return []
        lines = b"".join((*self._parts, data)).split(b"\n")
        last = lines.pop()
        self._parts = [last] if last else []
        return [line for line in lines if line]


class WebSocketLine(Line):
    """One message a text frame, without compression and without a limit."""

    def __init__(self, program: Program, port: int, path: str = "/mcp") -> None:
        super().__init__(program)
        self._socket = program.connect(port)
        uri = parse_uri(f"ws://127.0.0.1:{port}{path}")
        self._protocol = ClientProtocol(uri, subprotocols=[Subprotocol("mcp")], max_size=None)
        self._protocol.send_request(self._protocol.connect())
        self._parts: list[bytes] = []
        with program.limit(60):
            self._flush()
            while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
                self._fill()
        if self._protocol.handshake_exc is not None:
            raise Failed(f"no WebSocket: {self._protocol.handshake_exc}")
        self.shake_hands()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self._socket.sendall(data)

    def _fill(self) -> None:
        data = self._socket.recv(CHUNK)
        if not data:
            raise Failed(f"the connection was closed: {self._protocol.close_reason or self.program.why()}")
        self._protocol.receive_data(data)
        self._flush()

    def send(self, message: bytes) -> None:
        self._protocol.send_text(message)
        self._flush()

    def receive(self) -> list[bytes]:
        self._fill()
        messages = []
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in {Opcode.TEXT, Opcode.CONT}:
                continue
            self._parts.append(bytes(event.data))
            if event.fin:
                messages.append(b"".join(self._parts) if len(self._parts) > 1 else self._parts[0])
                self._parts.clear()
        return messages

    def close(self) -> None:
        self._socket.close()
