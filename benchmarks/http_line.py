"""A lean client for gateways that only serve Streamable HTTP."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

from lines import CHUNK, PROTOCOL, Failed, Line, Program


@dataclass
class _Posted:
    """A request under way on a connection."""

    message: bytes
    answer: bytearray = field(default_factory=bytearray)
    again: bool = False


class HttpLine(Line):
    """Streamable HTTP with JSON answers, on as many kept connections as calls are in flight."""

    def __init__(self, program: Program, port: int, path: str = "/mcp") -> None:
        super().__init__(program)
        self._port, self._path = port, path
        self._session = ""
        self._free = [(0.0, program.connect(port))]
        self._busy = selectors.DefaultSelector()
        self.shake_hands()

    def send(self, message: bytes) -> None:
        self._post(self._connection(), _Posted(message))

    def _post(self, line: socket.socket, posted: _Posted) -> None:
        message = posted.message
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nContent-Length: {len(message)}\r\n{self._session}\r\n"
        )
        self._busy.register(line, selectors.EVENT_READ, posted)
        try:
            line.sendall(head.encode() + message)
        except OSError as exc:
            # A server that does not want all of it says so before it hangs up.
            told = b""
            with suppress(OSError):
                told = line.recv(CHUNK)
            raise Failed(
                told.split(b"\r\n")[0].decode("latin-1") or f"{exc} while the request was sent"
            ) from None

    def _connection(self) -> socket.socket:
        """Take a free connection, or make one; servers close what was idle for some seconds."""
        while self._free:
            since, line = self._free.pop()
            if time.monotonic() - since < 1.0:
                return line
            line.close()
        return self.program.connect(self._port)

    def receive(self) -> list[bytes]:
        answers = []
        for key, _ in self._busy.select():
            line, posted = key.fileobj, key.data
            assert isinstance(line, socket.socket)
            assert isinstance(posted, _Posted)
            data = line.recv(CHUNK)
            if not data:
                self._again(line, posted)
                continue
            posted.answer += data
            body = self._body(posted.answer)
            if body is not None:
                self._busy.unregister(line)
                self._free.append((time.monotonic(), line))
                if body:
                    answers.append(body)
        return answers

    def _again(self, line: socket.socket, posted: _Posted) -> None:
        """Send on a new connection what a kept one was closed over, once, as HTTP clients do; the clock runs on."""
        self._busy.unregister(line)
        line.close()
        if posted.again or posted.answer:
            raise Failed(f"the connection was closed: {self.program.why()}")
        posted.again = True
        self._post(self.program.connect(self._port), posted)

    def _body(self, buffer: bytearray) -> bytes | None:
        """Give the body of a whole answer, or `None` where it is not complete."""
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        status, *rest = bytes(buffer[:end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        length = int(headers.get("content-length", "0"))
        if len(buffer) < end + 4 + length:
            return None
        body = bytes(buffer[end + 4 : end + 4 + length])
        if status.split()[1] not in {"200", "202"}:
            raise Failed(f"{status}: {body[:120].decode('utf-8', 'replace')}")
        if "mcp-session-id" in headers:
            self._session = (
                f"Mcp-Session-Id: {headers['mcp-session-id']}\r\nMCP-Protocol-Version: {PROTOCOL}\r\n"
            )
        return body

    def close(self) -> None:
        busy = [key.fileobj for key in self._busy.get_map().values()]
        for line in (*(line for _, line in self._free), *busy):
            assert isinstance(line, socket.socket)
            line.close()
        self._busy.close()
