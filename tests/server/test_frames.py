"""Frames of any bytes: never an exception, each request answered or handed on once, all else refused by its code."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import string
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Opcode

from toolscore.runners.codec import FrameError
from toolscore.runners.errors import FaultError
from toolscore.runners.pipes import LineSplitter
from toolscore.server.announcer import Bus
from toolscore.server.connection import Connection
from toolscore.server.endpoint import parse_endpoint
from toolscore.server.exchange import Exchange
from toolscore.server.front import Front
from toolscore.server.gateway import Gateway
from toolscore.server.home import Home
from toolscore.server.lane import EXPRESS, LinePeer
from toolscore.server.metrics import Metrics
from toolscore.server.network import Network, Visitor
from toolscore.server.pages import Pages, Status
from toolscore.server.parking import Parking
from toolscore.server.settings_model import NetworkSettings
from toolscore.server.stream import StreamConnection
from toolscore.server.toolset import ToolSet
from toolscore.server.websocket import WebSocketConnection, WebSocketListener, Wire
from toolscore.tools.caller import OWNER
from toolscore.tools.exposure import Exposure

Message = dict[str, Any]
PARSE_ERROR, INVALID_REQUEST = -32700, -32600
SOME = settings(max_examples=200, deadline=None)

# --- lines out of bytes

CUTS = st.lists(st.integers(min_value=0, max_value=400), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The same bytes, cut where it is said; some pieces are empty."""
    edges = sorted([0, *(min(cut, len(data)) for cut in cuts), len(data)])
    return [data[start:end] for start, end in pairwise(edges)]


@SOME
@given(st.binary(max_size=300) | st.text("\n\r a\x00é").map(str.encode), CUTS)
def test_any_cutting_of_any_bytes_gives_the_same_lines(data: bytes, cuts: list[int]) -> None:
    splitter = LineSplitter(limit=1000)
    lines = [line for piece in pieces(data, cuts) for line in splitter.feed(piece)]
    assert b"\n".join([*lines, splitter.rest()]) == data
    assert not any(b"\n" in line for line in [*lines, splitter.rest()])


@SOME
@given(st.lists(st.integers(min_value=0, max_value=30), max_size=20), CUTS, st.integers(1, 20))
def test_no_line_within_the_limit_is_refused_and_no_more_than_the_limit_and_one_piece_is_kept(
    lengths: list[int], cuts: list[int], limit: int
) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    splitter = LineSplitter(limit)
    lines: list[bytes] = []
    largest = max(map(len, pieces(data, cuts)))
    try:
        for piece in pieces(data, cuts):
            lines += splitter.feed(piece)
            assert len(splitter.rest()) <= max(limit, largest)
    except FrameError:
        assert lengths[len(lines)] > limit
    else:
        assert [len(line) for line in lines] == lengths
        assert splitter.rest() == b""


def test_a_line_that_comes_byte_by_byte_is_refused_at_the_first_byte_over_the_limit() -> None:
    splitter = LineSplitter(limit=5)
    for _ in range(5):
        assert splitter.feed(b"x") == []
    with pytest.raises(FrameError, match="more than 5 bytes"):
        splitter.feed(b"x")


# --- frames, and what is to become of each


class Frame:
    """A frame with what is to become of it: handed on as it is read, or refused.

    Attributes:
        data: Its bytes, without a line end.
        code: The code it is refused with; `None` where it is handed on.
        identity: The id it is refused under.
        message: What is handed on.
    """

    def __init__(self, data: bytes, code: int | None, identity: Any = None, message: Any = None) -> None:
        self.data = data
        self.code = code
        self.identity = identity
        self.message = message

    def __repr__(self) -> str:
        return f"Frame({self.data[:200]!r}, {self.code}, {self.identity!r})"


def is_usable(identity: Any) -> bool:
    return isinstance(identity, str | int) and not isinstance(identity, bool)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=3)
USABLE = st.one_of(st.integers(), TEXTS, st.sampled_from(["7", 7, 0, "", -1, 2**63, 10**300, "ts-1"]))
UNUSABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(VALUES, max_size=2),
    OBJECTS,
)
METHODS = st.one_of(TEXTS, st.sampled_from(["ping", "tools/call", "initialize", "notifications/cancelled"]))
NO_METHODS = st.one_of(st.none(), st.booleans(), st.integers(), st.lists(TEXTS, max_size=2), OBJECTS)
NO_PARAMS = st.one_of(st.booleans(), st.integers(), TEXTS, st.lists(VALUES, max_size=2))


def written(message: Any, ascii_only: bool = False) -> bytes:
    return json.dumps(message, ensure_ascii=ascii_only).encode()


@st.composite
def good(draw: st.DrawFn) -> Frame:
    """Requests, notifications and answers that are in order."""
    message: Message = {"jsonrpc": "2.0"}
    kind = draw(st.sampled_from(["request", "request", "notification", "result", "error"]))
    if kind != "notification":
        message["id"] = draw(USABLE)
    if kind in ("request", "notification"):
        message["method"] = draw(METHODS)
        if draw(st.booleans()):
            message["params"] = draw(OBJECTS)
    elif kind == "result":
        message["result"] = draw(OBJECTS)
    else:
        message["error"] = {"code": draw(st.integers()), "message": draw(TEXTS)}
    members = draw(st.permutations(list(message)))
    return Frame(written({key: message[key] for key in members}, draw(st.booleans())), None, message=message)


@st.composite
def malformed(draw: st.DrawFn) -> Frame:
    """Objects that are no message, each wrong in one way at least."""
    identity = draw(st.one_of(USABLE, UNUSABLE))
    message: Message = {"jsonrpc": "2.0", "id": identity, "method": draw(METHODS), "params": draw(OBJECTS)}
    match draw(st.sampled_from(["id", "method", "params", "version", "none", "empty", "answer", "tell"])):
        case "id":
            identity = message["id"] = draw(UNUSABLE)
        case "method":
            message["method"] = draw(NO_METHODS)
        case "params":
            message["params"] = draw(NO_PARAMS)
        case "version":
            message["jsonrpc"] = draw(st.sampled_from(["1.0", "2", 2.0, 2, None, ["2.0"], ""]))
        case "none":
            del message["jsonrpc"]
        case "empty":
            del message["method"]
        case "answer":
            del message["method"]
            message["result"] = draw(st.one_of(NO_PARAMS, st.none()))
        case "tell":
            del message["id"]
            identity = None
            message["params"] = draw(NO_PARAMS)
    return Frame(written(message), INVALID_REQUEST, identity if is_usable(identity) else None)


def within_params(value: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":5,"method":"m","params":{"x":%b}}' % value.encode("utf-8", "surrogatepass")


def handed_on(value: str, read: Any) -> Frame:
    message = {"jsonrpc": "2.0", "id": 5, "method": "m", "params": {"x": read}}
    return Frame(within_params(value), None, message=message)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


ODD = [
    *(
        Frame(within_params(value), PARSE_ERROR)
        for value in (
            *(
                "NaN",
                "Infinity",
                "-Infinity",
                "nan",
                "None",
                "True",
                "'x'",
                "01",
                "+1",
                "1.",
                ".5",
                "0x1",
                "1_0",
            ),
            *(
                '"\\ud800"',
                '"\\udc00\\ud800"',
                '"\ud800"',
                '"\\x41"',
                '"\t"',
                '"\\u12"',
                "[1,]",
                "{1:2}",
                "{,}",
            ),
            *(
                "[" * 50_000,
                "[" * 5000 + "]" * 5000,
                '{"a":' * 5000 + "1" + "}" * 5000,
                "9" * 5000,
                "/**/1",
                "",
            ),
        )
    ),
    *(
        handed_on(value, read)
        for value, read in (
            ("1e999", float("inf")),
            ("-1e999", float("-inf")),
            ("9" * 400, int("9" * 400)),
            ("-0.0", -0.0),
            ("1e2", 100.0),
            ("[" * 100 + "]" * 100, nested(100)),
            ('"\\ud83d\\ude00"', "😀"),
            ('"\\u0000"', "\0"),
            ('{"a":1,"a":2}', {"a": 2}),
        )
    ),
    Frame(b"[]", INVALID_REQUEST),
    Frame(b"[" + within_params("1") + b"]", INVALID_REQUEST),
    Frame(b"[" + within_params("1") + b"," + within_params("2") + b"]", INVALID_REQUEST),
    Frame(b"[" + within_params("1"), PARSE_ERROR),
    *(
        Frame(data, INVALID_REQUEST)
        for data in (b"7", b'"text"', b"null", b"true", b"1.5", b"{}", b'{"":{}}')
    ),
    Frame(b"\xef\xbb\xbf" + within_params("1"), PARSE_ERROR),
    Frame(within_params("1").decode().encode("utf-16-le").replace(b"\n", b" "), PARSE_ERROR),
    Frame(within_params("1") + b" " + within_params("2"), PARSE_ERROR),
    Frame(within_params("1") + b"\0", PARSE_ERROR),
    Frame(
        b'{"jsonrpc":"2.0","id":1,"id":"two","method":7,"method":"m"}',
        None,
        message={"jsonrpc": "2.0", "id": "two", "method": "m"},
    ),
    Frame(b'{"jsonrpc":"2.0","id":1,"method":"m","id":null}', INVALID_REQUEST),
    Frame(b'{"jsonrpc":"2.0","id":1e999,"method":"m"}', INVALID_REQUEST),
]
"""Frames that readers of JSON do not agree about."""


def is_json(data: bytes) -> bool:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        text = data.decode()
        json.loads(text, parse_constant=refuse)
        json.dumps(json.loads(text), ensure_ascii=False).encode()  # no lone surrogates
    except (ValueError, RecursionError):
        return False
    return True


def noise(data: bytes) -> Frame:
    """Bytes that are not JSON: no line end, not empty, and not JSON by chance."""
    data = data.replace(b"\n", b"?")
    return Frame(b"?" + data if is_json(data) or not data.strip() else data, PARSE_ERROR)


TORN = st.tuples(good(), st.floats(min_value=0, max_value=1)).map(
    lambda drawn: noise(drawn[0].data[: int(len(drawn[0].data) * drawn[1])])
)
NOISE = st.one_of(
    st.binary(max_size=40), st.text(string.punctuation + "0eE truefalsn", max_size=20).map(str.encode)
)
FRAMES = st.one_of(good(), malformed(), st.sampled_from(ODD), NOISE.map(noise), TORN)


# --- the connection without a socket


class Pipe(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.output = b""
        self.closed = False
        self.is_read = True
        self.heard = asyncio.Event()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.output += bytes(data)
        self.heard.set()

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    @property
    def messages(self) -> list[Message]:
        return [json.loads(line) for line in self.output.splitlines()]


def stream() -> tuple[StreamConnection, Pipe]:
    connection, pipe = StreamConnection(), Pipe()
    connection.connection_made(pipe)
    return connection, pipe


def handed(connection: Connection) -> list[Message]:
    """What waits for the SDK, taken out."""
    dumped = []
    while connection._backlog:
        message = connection._backlog.popleft().message
        dumped.append(message.model_dump(by_alias=True, exclude_unset=True))
    return dumped


def refusals(pipe: Pipe) -> list[tuple[Any, int]]:
    return [(message["id"], message["error"]["code"]) for message in pipe.messages]


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, type by type: `1`, `1.0` and `true` are three."""
    return repr(one) == repr(other) if not isinstance(one, dict) else _same_members(one, other)


def _same_members(one: Message, other: Any) -> bool:
    return (
        isinstance(other, dict)
        and one.keys() == other.keys()
        and all(same(value, other[key]) for key, value in one.items())
    )


def check(frames: list[Frame], connection: Connection, pipe: Pipe) -> None:
    assert refusals(pipe) == [(frame.identity, frame.code) for frame in frames if frame.code is not None]
    expected = [frame.message for frame in frames if frame.code is None]
    got = handed(connection)
    assert len(got) == len(expected)
    for one, other in zip(expected, got, strict=True):
        assert same(one, other)


@pytest.mark.parametrize("frame", ODD, ids=lambda frame: repr(frame.data[:40]))
def test_what_readers_of_json_do_not_agree_about_is_read_strictly(frame: Frame) -> None:
    connection, pipe = stream()
    connection.data_received(frame.data + b"\n")
    check([frame], connection, pipe)


@SOME
@given(st.lists(FRAMES, max_size=8), CUTS, st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n \t\r\n"]))
def test_each_frame_is_handed_on_or_refused_once_in_any_cutting(
    frames: list[Frame], cuts: list[int], end: bytes
) -> None:
    connection, pipe = stream()
    good_end = Frame(b'{"jsonrpc":"2.0","id":"end","method":"ping"}', None)
    good_end.message = json.loads(good_end.data)
    frames = [*frames, good_end]
    for piece in pieces(b"".join(frame.data + end for frame in frames), cuts):
        connection.data_received(piece)
    check(frames, connection, pipe)
    assert not pipe.closed


@SOME
@given(st.lists(FRAMES, min_size=1, max_size=4), CUTS)
def test_the_last_frame_needs_no_end_and_is_taken_once(frames: list[Frame], cuts: list[int]) -> None:
    connection, pipe = stream()
    for piece in pieces(b"\n".join(frame.data for frame in frames), cuts):
        connection.data_received(piece)
    connection.eof_received()
    connection.eof_received()
    connection.connection_lost(None)
    check(frames, connection, pipe)
    assert connection.closed.is_set()


@SOME
@given(st.lists(st.binary(max_size=60), max_size=10))
def test_no_bytes_at_all_make_it_fail(chunks: list[bytes]) -> None:
    connection, pipe = stream()
    for chunk in chunks:
        connection.data_received(chunk)
    connection.data_received(b"\n" + within_params("1") + b"\n")
    assert [message["id"] for message in handed(connection)] == [5]
    assert all(code in (PARSE_ERROR, INVALID_REQUEST) for _, code in refusals(pipe))
    connection.connection_lost(None)


MEMBERS = st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "more"]),
    st.one_of(VALUES, st.sampled_from(["2.0", {"code": 1, "message": "x"}, {}, "m", 1])),
)


@SOME
@given(MEMBERS)
@example({"jsonrpc": "2.0", "id": 1, "method": "m", "error": {"code": 1, "message": "x"}})
@example({"jsonrpc": "2.0", "id": 1, "method": "m", "result": {}, "error": {"code": 1, "message": "x"}})
@example({"jsonrpc": "2.0", "id": 1, "method": 7, "result": {}})
@example({"jsonrpc": "2.0", "id": 1, "method": None, "result": {}})
def test_whatever_an_object_holds_it_is_handed_on_or_refused_and_a_request_is_never_taken_for_an_answer(
    message: Message,
) -> None:
    connection, pipe = stream()
    connection.data_received(written(message) + b"\n")
    taken = handed(connection)
    assert len(taken) + len(pipe.messages) == 1
    if pipe.messages:
        identity = message.get("id")
        assert same(pipe.messages[0]["id"], identity if is_usable(identity) else None)
    elif "method" in message:
        assert taken[0]["method"] == message["method"]
        assert ("id" in taken[0]) is ("id" in message)


def test_a_cancellation_of_true_is_none_of_request_one() -> None:
    connection, _ = stream()
    for message in (
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": True}},
    ):
        connection.data_received(written(message) + b"\n")
    assert connection._outstanding == {1}


def test_a_number_that_is_too_large_is_never_written_as_something_that_is_not_json() -> None:
    connection, pipe = stream()
    connection.send({"jsonrpc": "2.0", "id": 1, "result": {"x": [float("inf")]}})
    connection.send({"jsonrpc": "2.0", "method": "notifications/m", "params": {"x": float("inf")}})
    connection.send({"jsonrpc": "2.0", "id": 2, "result": {"x": "Infinity", "NaN": 1.5}})
    with pytest.raises(FrameError, match="not finite"):
        connection.send({"jsonrpc": "2.0", "id": 3, "method": "m", "params": {"x": float("-inf")}})
    refused, fine = pipe.messages
    assert (refused["id"], refused["error"]["code"]) == (1, -32603)
    assert fine["result"] == {"x": "Infinity", "NaN": 1.5}


async def test_a_question_that_cannot_be_written_is_refused_to_the_server_that_asks_it() -> None:
    connection, pipe = stream()
    peer = LinePeer(OWNER, connection)
    exchange = Exchange(peer, "tools/call", {}, None, Parking())
    async with asyncio.timeout(5):
        with pytest.raises(FaultError, match="the question is not representable"):
            await peer.ask(exchange, "sampling/createMessage", {"x": float("inf")}, None)
    assert peer.board.outgoing == []
    assert pipe.output == b""


# --- the whole gateway, but for a library


async def _no_library() -> ToolSet:
    raise FaultError(-32000, "there is no library in this test")


INITIALIZE: Message = {
    "jsonrpc": "2.0",
    "id": "hello",
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "frames", "version": "1"},
    },
}


class Served:
    """The gateway serving a client that has no socket."""

    def __init__(self) -> None:
        self.gateway = Gateway(Front(_no_library, Exposure.parse(["own"]), Parking()), Bus())
        self.connection, self.pipe = stream()
        self._serving = asyncio.get_running_loop().create_task(self.gateway.serve(self.connection, OWNER))

    async def hear(self, *data: bytes) -> None:
        for piece in data:
            while not self.pipe.is_read:
                await asyncio.sleep(0)
            self.connection.data_received(piece)

    async def answers(self, count: int) -> list[Message]:
        async with asyncio.timeout(10):
            while self.pipe.output.count(b"\n") < count:
                self.pipe.heard.clear()
                await self.pipe.heard.wait()
        return self.pipe.messages

    async def end(self) -> list[Message]:
        self.connection.eof_received()
        async with asyncio.timeout(10):
            await self._serving
        return self.pipe.messages


ASKED = st.sampled_from([*EXPRESS, "ping", "initialize", "no/such/method", "", "notifications/cancelled"])
PARAMS = st.one_of(
    st.none(),
    OBJECTS,
    NO_PARAMS,
    st.sampled_from(
        [
            {"name": "f__x", "arguments": {}},
            {"name": 5},
            {"uri": "x://y", "_meta": {"progressToken": "t"}},
            {"level": "info", "_meta": 1},
            {"cursor": "c", "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}},
            {"taskId": "t", "name": "p", "ref": {}, "argument": {}},
        ]
    ),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(ASKED, PARAMS), max_size=12),
    st.lists(st.one_of(malformed(), NOISE.map(noise), TORN), max_size=6),
    st.randoms(use_true_random=False),
    CUTS,
    st.booleans(),
)
def test_each_request_is_answered_once_by_whichever_lane(
    asked: list[tuple[str, Any]], wrong: list[Frame], random: Any, cuts: list[int], introduced: bool
) -> None:
    identities: list[Any] = [f"r{number}" if number % 2 else number for number in range(len(asked))]
    frames = [
        written({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})
        for identity, (method, params) in zip(identities, asked, strict=True)
    ]
    nameless = [frame.data for frame in wrong if frame.identity is None]
    frames += nameless
    random.shuffle(frames)

    async def run() -> None:
        served = Served()
        if introduced:
            await served.hear(written(INITIALIZE) + b"\n")
            await served.answers(1)
        await served.hear(*pieces(b"".join(frame + b"\n" for frame in frames), cuts))
        await served.answers(introduced + len(frames))
        messages = await served.end()
        expected = Counter(map(repr, [*identities, *(["hello"] * introduced), *([None] * len(nameless))]))
        assert Counter(repr(message["id"]) for message in messages) == expected
        assert all(("result" in message) is not ("error" in message) for message in messages)

    asyncio.run(run())


# --- WebSocket


class Net:
    """A listener whose clients' requests are answered with their parameters."""

    def __init__(self, folder: Path) -> None:
        pages = Pages(lambda: Status("ok"), Metrics().render)
        network = Network(NetworkSettings(), Home.at(folder), pages, no_token=True)
        endpoint = parse_endpoint("ws://127.0.0.1:0/mcp")
        self.connections: list[WebSocketConnection] = []
        self.listener = WebSocketListener(endpoint, network, self._serve, self._register)

    async def _serve(self, connection: Connection, visitor: Visitor) -> None:
        assert isinstance(connection, WebSocketConnection)
        self.connections.append(connection)
        to_sdk, from_client = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        connection.begin()
        pumping = asyncio.get_running_loop().create_task(connection.pump_in(to_sdk))
        with suppress(anyio.EndOfStream):
            while True:
                item = await from_client.receive()
                assert isinstance(item, SessionMessage)
                if isinstance(item.message, JSONRPCRequest):
                    result = {"params": item.message.params}
                    connection.send({"jsonrpc": "2.0", "id": item.message.id, "result": result})
        await pumping
        from_client.close()
        connection.close()

    async def _register(self, wire: Wire, name: str, visitor: Visitor) -> None:
        raise AssertionError("nobody registers in these tests")


@asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[Net]:
    net = Net(folder)
    await net.listener.open()
    try:
        yield net
    finally:
        await net.listener.close()


async def received(client: ClientConnection, count: int) -> list[Message]:
    async with asyncio.timeout(10):
        return [json.loads(await client.recv()) for _ in range(count)]


def send_cut(client: ClientConnection, data: bytes, cuts: list[int], *, text: bool, ping: bool) -> None:
    """Send one message in frames cut anywhere, in the middle of a character too."""
    parts = pieces(data, cuts)
    for number, part in enumerate(parts):
        fin = number == len(parts) - 1
        if number:
            client.protocol.send_continuation(part, fin)
        else:
            (client.protocol.send_text if text else client.protocol.send_binary)(part, fin)
        if ping and not fin:
            client.protocol.send_ping(os.urandom(4))
    client.send_data()


def test_websocket_messages_in_any_cut_are_answered_or_refused_once(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        net = listening(tmp_path)
        listener = runner.run(net.__aenter__()).listener

        async def dial() -> ClientConnection:
            return await connect(listener.url, proxy=None, compression=None, ping_interval=None)

        client = runner.run(dial())

        async def exchange(sent: list[tuple[Frame, list[int]]], text: bool, ping: bool) -> None:
            expected: list[Any] = []
            for frame, cuts in sent:
                send_cut(client, frame.data, cuts, text=text, ping=ping)
                if frame.code is not None:
                    expected.append((repr(frame.identity), frame.code))
                elif frame.message.keys() >= {"id", "method"}:
                    expected.append((repr(frame.message["id"]), None))
            send_cut(client, within_params("1"), [], text=True, ping=False)
            expected.append(("5", None))
            got = [
                (repr(message["id"]), message.get("error", {}).get("code"))
                for message in await received(client, len(expected))
            ]
            assert Counter(got) == Counter(expected)

        # A number too large is handed on, but cannot be written back.
        frames = FRAMES.filter(lambda frame: b"1e999" not in frame.data)

        @settings(max_examples=150, deadline=None)
        @given(st.lists(st.tuples(frames, CUTS), max_size=5), st.booleans(), st.booleans())
        @example([(Frame(b"", PARSE_ERROR), []), (Frame(b"", PARSE_ERROR), [0, 0, 0])], True, True)
        def check_all(sent: list[tuple[Frame, list[int]]], text: bool, ping: bool) -> None:
            runner.run(exchange(sent, text, ping))

        check_all()
        runner.run(client.close())
        runner.run(net.__aexit__(None, None, None))


async def test_frames_without_content_take_no_memory(tmp_path: Path) -> None:
    async with listening(tmp_path) as net, connect(net.listener.url, proxy=None, compression=None) as client:
        data = within_params("1")
        client.protocol.send_text(data[:9], fin=False)
        for _ in range(20_000):
            client.protocol.send_continuation(b"", fin=False)
        client.send_data()
        pong = await client.ping()
        async with asyncio.timeout(10):
            await pong
        assert bytes(net.connections[0]._begun or b"") == data[:9]
        client.protocol.send_continuation(data[9:], fin=True)
        client.send_data()
        assert [message["id"] for message in await received(client, 1)] == [5]
        assert net.connections[0]._begun is None


def masked(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    head = struct.pack("!BB", opcode | 0x80 * fin, 0x80 | (len(data) if len(data) < 126 else 126))
    return head + (struct.pack("!H", len(data)) if len(data) >= 126 else b"") + bytes(4) + data


def unmasked(data: bytes) -> list[Message]:
    """The messages in what a server wrote after its opening handshake; all of them are short texts."""
    messages = []
    while len(data) >= 2:
        size, start = data[1], 2
        if size == 126:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        if len(data) < start + size:
            break
        messages.append(json.loads(data[start : start + size]))
        data = data[start + size :]
    return messages


def whole(data: bytes) -> bytes:
    return masked(Opcode.TEXT, data)


def in_parts(data: bytes) -> bytes:
    first, last = masked(Opcode.BINARY, data[:10], fin=False), masked(Opcode.CONT, data[10:])
    return first + masked(Opcode.CONT, b"", fin=False) + last


@pytest.mark.parametrize("pack", [whole, in_parts])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 40, 200])
async def test_what_comes_in_one_packet_with_the_opening_handshake_is_taken_in_order(
    tmp_path: Path, count: int, pack: Callable[[bytes], bytes]
) -> None:
    async with listening(tmp_path) as net:
        address = urlsplit(net.listener.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        key = base64.b64encode(os.urandom(16)).decode()
        hello = (
            f"GET /mcp HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mcp\r\n\r\n"
        )
        asked = [{"jsonrpc": "2.0", "id": number, "method": "m"} for number in range(count)]
        writer.write(hello.encode() + b"".join(pack(written(message)) for message in asked))
        async with asyncio.timeout(10):
            await reader.readuntil(b"\r\n\r\n")
            data = b""
            while len(messages := unmasked(data)) < count:
                data += await reader.read(1 << 16)
            writer.write(pack(written({"jsonrpc": "2.0", "id": "later", "method": "m"})))
            while len(messages := unmasked(data)) < count + 1:
                data += await reader.read(1 << 16)
        assert [message["id"] for message in messages] == [*range(count), "later"]
        writer.close()
        await writer.wait_closed()
