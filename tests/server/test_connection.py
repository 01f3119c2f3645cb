"""The wire of one client: what is no message is answered, what is one reaches the SDK, nothing grows without end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from helpers import until
from toolscore.server import connection as module
from toolscore.server import stream
from toolscore.server.connection import BACKLOG, Connection
from toolscore.server.lane import ExpressLane
from toolscore.server.stream import StreamConnection
from toolscore.server.unix import listen

Answer = dict[str, Any]


class Wire:
    """A client's socket, the connection at its other end, and the streams of an SDK that is the test."""

    def __init__(self) -> None:
        self.connection = StreamConnection()
        self.client, self._ours = socket.socketpair()
        self._buffer = b""
        self.to_sdk, self.from_client = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        self.to_client, self.from_sdk = anyio.create_memory_object_stream[SessionMessage](0)

    async def open(self) -> None:
        self.client.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self.connection, sock=self._ours)

    async def send(self, *lines: str | bytes | Answer) -> None:
        frames = (json.dumps(line) if isinstance(line, dict) else line for line in lines)
        data = b"".join((frame.encode() if isinstance(frame, str) else frame) + b"\n" for frame in frames)
        await asyncio.get_running_loop().sock_sendall(self.client, data)

    async def receive(self) -> Answer | None:
        """The next message to the client; `None` at the end."""
        while b"\n" not in self._buffer:
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.client, 1 << 20), 5)
            if not data:
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: Answer = json.loads(line)
        return message

    async def heard(self) -> Answer:
        """The next message for the SDK."""
        with anyio.fail_after(5):
            item = await self.from_client.receive()
        assert isinstance(item, SessionMessage)
        message: Answer = item.message.model_dump(by_alias=True, exclude_unset=True)
        return message

    async def answer(self, message: Answer) -> None:
        with anyio.fail_after(5):
            await self.to_client.send(SessionMessage(jsonrpc_message_adapter.validate_python(message)))


@asynccontextmanager
async def wire() -> AsyncIterator[Wire]:
    made = Wire()
    await made.open()
    async with anyio.create_task_group() as group:
        group.start_soon(made.connection.pump_in, made.to_sdk)
        group.start_soon(made.connection.pump_out, made.from_sdk)
        try:
            yield made
        finally:
            group.cancel_scope.cancel()
            made.connection.close()
            made.client.close()
            for stream in (made.to_sdk, made.from_client, made.to_client, made.from_sdk):
                stream.close()
    await asyncio.sleep(0)


def ping(number: int | str = 1) -> Answer:
    return {"jsonrpc": "2.0", "id": number, "method": "ping"}


def pong(number: int | str = 1, **result: Any) -> Answer:
    return {"jsonrpc": "2.0", "id": number, "result": result}


async def test_requests_reach_the_sdk_in_order_and_answers_the_client() -> None:
    async with wire() as made:
        await made.send(ping(1), "", "  ", ping("two"))
        assert [(await made.heard())["id"] for _ in range(2)] == [1, "two"]
        assert not made.connection.answered.is_set()
        await made.answer(pong("two", kept={"x": 2**70}))
        assert await made.receive() == pong("two", kept={"x": 2**70})
        assert made.connection.answered.is_set()


async def test_a_frame_that_comes_in_single_bytes_is_one_frame() -> None:
    async with wire() as made:
        for byte in json.dumps(ping()).encode() + b"\n":
            await asyncio.get_running_loop().sock_sendall(made.client, bytes([byte]))
        assert await made.heard() == ping()


@pytest.mark.parametrize(
    ("line", "code", "identity"),
    [
        (b"nonsense", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":NaN}}', -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":"\\ud800"}}', -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700, None),
        (b"[]", -32600, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
        (b"7", -32600, None),
        (b"[nonsense", -32700, None),
        (b'{"jsonrpc":"2.0","id":6,"method":"m","error":{"code":1,"message":"x"}}', -32600, 6),
        (b'{"id":5}', -32600, 5),
        (b'{"jsonrpc":"1.0","id":"five","method":"ping"}', -32600, "five"),
        (b'{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
    ],
)
async def test_what_is_no_message_is_answered_and_the_next_one_served(
    line: bytes, code: int, identity: object
) -> None:
    async with wire() as made:
        await made.send(line, ping())
        refusal = await made.receive()
        assert refusal is not None
        assert (refusal["error"]["code"], refusal["id"]) == (code, identity)
        assert await made.heard() == ping()


async def test_a_frame_over_the_limit_closes_the_connection_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "MAX_FRAME", 1000)
    async with wire() as made:
        await asyncio.get_running_loop().sock_sendall(made.client, b"x" * 2000)
        refusal = await made.receive()
        assert refusal is not None
        assert "more than 1000 bytes" in refusal["error"]["message"]
        assert await made.receive() is None
        assert made.connection.closed.is_set()


async def test_an_answer_without_a_json_form_becomes_an_error() -> None:
    async with wire() as made:
        await made.answer(pong(1, text="\ud800"))
        refusal = await made.receive()
        assert refusal is not None
        assert (refusal["id"], refusal["error"]["code"]) == (1, -32603)


async def test_a_client_that_floods_is_not_read_further_than_the_backlog() -> None:
    async with wire() as made:
        flood = asyncio.ensure_future(
            made.send(*(ping(number) | {"params": {"x": "y" * 5000}} for number in range(2000)))
        )
        await until(lambda: len(made.connection._backlog) > BACKLOG)
        await asyncio.sleep(0.05)
        assert not flood.done()
        # One read of the loop may complete a few more.
        assert len(made.connection._backlog) <= BACKLOG + 256 * 1024 // 5000 + 2
        assert [(await made.heard())["id"] for _ in range(2000)] == list(range(2000))
        await flood


async def test_answers_wait_for_a_client_that_does_not_read() -> None:
    async with wire() as made:
        sent = 0

        async def answer() -> None:
            nonlocal sent
            while True:
                await made.to_client.send(
                    SessionMessage(jsonrpc_message_adapter.validate_python(pong(sent, text="z" * 500_000)))
                )
                sent += 1

        answering = asyncio.ensure_future(answer())
        await until(lambda: not made.connection._writable.is_set())
        await asyncio.sleep(0.05)
        assert sent < 10
        for number in range(10):
            message = await made.receive()
            assert message is not None
            assert message["id"] == number
        answering.cancel()
        await asyncio.wait([answering])


async def test_a_client_that_closed_its_side_still_gets_the_answers_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LAST_ANSWERS", 60.0)
    async with wire() as made:
        await made.send(ping(1), ping(2))
        made.client.shutdown(socket.SHUT_WR)
        for number in (1, 2):
            await made.heard()
            await made.answer(pong(number))
            assert await made.receive() == pong(number)
        with anyio.fail_after(module.LAST_ANSWERS / 2), pytest.raises(anyio.EndOfStream):
            await made.from_client.receive()


async def test_what_was_asked_before_the_end_of_input_waits_for_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LAST_ANSWERS", 0.1)
    started = anyio.Event()
    async with wire() as made:
        made.connection.opened = started.wait
        await made.send(ping(1))
        made.client.shutdown(socket.SHUT_WR)
        assert (await made.heard())["method"] == "ping"
        with anyio.move_on_after(0.5) as waited:
            await made.from_client.receive()
        assert waited.cancelled_caught
        started.set()
        with anyio.fail_after(20), pytest.raises(anyio.EndOfStream):
            await made.from_client.receive()


async def test_nobody_waits_for_the_answer_to_a_call_that_was_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LAST_ANSWERS", 60.0)
    async with wire() as made:
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        await made.send(ping(1), cancelled)
        made.client.shutdown(socket.SHUT_WR)
        assert [(await made.heard())["method"] for _ in range(2)] == ["ping", "notifications/cancelled"]
        with anyio.fail_after(module.LAST_ANSWERS / 2), pytest.raises(anyio.EndOfStream):
            await made.from_client.receive()
        assert not made.connection._outstanding


@pytest.mark.parametrize("params", [None, {}, {"requestId": [1]}, {"requestId": "unknown"}])
async def test_a_cancellation_of_nothing_does_no_harm(params: Any) -> None:
    async with wire() as made:
        await made.send(
            {"jsonrpc": "2.0", "method": "notifications/cancelled"} | ({"params": params} if params else {})
        )
        await made.send(ping())
        await made.heard()
        assert await made.heard() == ping()


async def test_a_client_that_vanishes_ends_the_line_and_later_answers_are_dropped() -> None:
    async with wire() as made:
        await made.send(ping())
        await made.heard()
        made.client.close()
        with anyio.fail_after(5), pytest.raises(anyio.EndOfStream):
            await made.from_client.receive()
        for number in range(20):
            await made.answer(pong(number, text="z" * 100_000))


async def test_what_was_written_is_flushed_before_the_end() -> None:
    async with wire() as made:
        await made.answer(pong(1, text="z" * 800_000))
        receiving = asyncio.ensure_future(made.receive())
        await made.connection.flushed(5)
        made.connection.close()
        message = await receiving
        assert message is not None
        assert len(message["result"]["text"]) == 800_000


async def test_a_unix_socket_is_its_owners_alone_and_replaces_what_a_dead_owner_left(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch()
    accepted: list[Connection] = []
    server = await listen(path, accepted.append)
    assert path.stat().st_mode & 0o777 == 0o600
    reader, writer = await asyncio.open_unix_connection(str(path))
    await until(lambda: accepted)
    accepted[0].close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
async def test_another_user_on_the_unix_socket_is_turned_away(tmp_path: Path) -> None:
    folder = Path("/tmp") / f"toolscore-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    accepted: list[Connection] = []
    server = await listen(folder / "s", accepted.append)
    (folder / "s").chmod(0o666)
    try:
        program = (
            "import os,socket,sys; os.setuid(65534); s=socket.socket(socket.AF_UNIX); "
            "s.connect(sys.argv[1]); print(s.recv(1))"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", program, str(folder / "s"), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(process.communicate(), 10)
        assert output == b"b''\n"
        assert not accepted
    finally:
        server.close()
        await server.wait_closed()
        (folder / "s").unlink(missing_ok=True)
        folder.rmdir()


PROGRAM = """
import asyncio
from toolscore.server.stdio import open_stdio

async def main():
    connection = await open_stdio()
    print("a stray print")
    await asyncio.wait_for(connection._arrived.wait(), 5)
    while not connection._eof:
        await asyncio.sleep(0.01)
    while connection._backlog:
        message = connection._backlog.popleft().message
        connection._write({"jsonrpc": "2.0", "id": message.id, "result": {}})
    await connection.flushed(5)
    connection.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["pipe", "file", "null", "socket"])
async def test_standard_streams_of_any_kind_carry_the_frames_and_nothing_else(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "in").write_text(json.dumps(ping(7)) + "\n")
    source: Any
    match kind:
        case "file":
            source = os.fdopen(os.open(tmp_path / "in", os.O_RDONLY), "rb")
        case "null":
            source = os.fdopen(os.open(os.devnull, os.O_RDONLY), "rb")
        case "pipe":
            reading, writing = os.pipe()
            os.write(writing, (tmp_path / "in").read_bytes())
            os.close(writing)
            source = os.fdopen(reading, "rb")
        case "socket":
            source, far = socket.socketpair()
            far.sendall((tmp_path / "in").read_bytes())
            far.close()
    with source, (tmp_path / "out").open("wb") as target:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, stdin=source, stdout=target, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert errors.decode() == "a stray print\n"
    assert process.returncode == 0
    output = (tmp_path / "out").read_text()
    assert output == ("" if kind == "null" else json.dumps(pong(7), separators=(",", ":")) + "\n")


async def test_a_first_request_that_comes_before_its_lane_is_told_to_it() -> None:
    """As on standard input, where a client has sent `initialize` long before there is anybody."""
    connection = StreamConnection()
    told: list[tuple[str, Any]] = []

    class Lane:
        def opening(self, method: str, params: Any) -> None:
            told.append((method, params))

    params = {"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}}, "clientInfo": {}}
    frame = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    connection.data_received(json.dumps(frame).encode() + b"\n")
    assert told == []
    connection.express = cast(ExpressLane, Lane())
    connection.begin()
    assert told == [("initialize", params)]
