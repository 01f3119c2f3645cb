"""`toolscore.client.ToolScore` when its line is cut, its ToolScore is killed or ended, or another takes over."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from listening import Serving, serving
from several import RICH
from toolscore.client import CallError, ClosedError, Outcome, Result, ToolScore, WebSocketError
from toolscore_client import FAULTY

OPTIONS = ("--no-token", "--set", "network.rights=call,manage")


class Cutter:
    """A TCP proxy whose connections can be reset."""

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Cutter]:
        server = await asyncio.start_server(self._took, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        try:
            yield self
        finally:
            server.close()
            self.cut()

    async def _took(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}
        with suppress(OSError):
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    def cut(self) -> None:
        """Reset every connection there is (RFC 9293, 3.5.2)."""
        for writer in self._writers:
            if not writer.is_closing():
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("lines") / "home", options=OPTIONS) as found:
        asyncio.run(registered(found.url))
        yield found


async def registered(url: str, token: str | None = None) -> None:
    async with ToolScore.connect(url, token=token, check=True) as ts:
        await ts.call("register_tool", {"name": "f", "command": sys.executable, "args": ["-S", FAULTY]})


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def test_calls_on_a_line_that_is_cut_are_repeated_only_where_that_is_safe(one: Serving) -> None:
    lines: list[tuple[bool, str]] = []
    async with (
        asyncio.timeout(180),
        Cutter(one.url).listening() as cutter,
        ToolScore.connect(cutter.url, on_line=lambda *said: lines.append(said)) as ts,
        ToolScore.connect(one.url) as looking,
        aclosing(ts.events(remembered=True)) as events,
    ):
        await anext(events)
        safe = [asyncio.ensure_future(ts.call("f__sleep_safely", {"seconds": 3})) for _ in range(5)]
        unsafe = [asyncio.ensure_future(ts.call("f__sleep", {"seconds": 3})) for _ in range(5)]
        told = asyncio.ensure_future(ts.call("f__sleep", {"seconds": 3}, repeat=True))
        while len((await looking.call("f__cancelled")).structured["begun"]) < 12:  # this one among them
            await asyncio.sleep(0.01)
        cutter.cut()
        for result in await asyncio.gather(*safe, told):
            assert (result.outcome, result.text, result.repeats) == ("ok", "slept", 1)
        for result in await asyncio.gather(*unsafe):
            assert (result.outcome, result.repeats) == (Outcome.OUTCOME_UNKNOWN, 0)
            assert "Look before you repeat it" in result.text
        assert ts.lines_lost == 1
        assert cutter.connections == 2
        # The subscription was made anew, and nothing that happened meanwhile is missed.
        await looking.call("manage_server", {"name": "f", "action": "restart", "force": True}, check=True)
        while (event := await anext(events)).raw.get("state") != "STOPPING":
            assert event.kind != "missed"
    assert [up for up, _text in lines] == [True, False, True]


async def test_a_task_outlives_the_line_it_was_begun_on(one: Serving) -> None:
    async with (
        asyncio.timeout(180),
        Cutter(one.url).listening() as cutter,
        ToolScore.connect(cutter.url) as ts,
        ToolScore.connect(one.url, check=True) as looking,
    ):
        rich = {"name": "rich", "command": sys.executable, "args": ["-S", RICH]}
        await looking.call("register_tool", rich)
        task = await ts.begin_task("rich__echo", {})
        assert (await task.status())["status"] == "working"
        waiting = asyncio.ensure_future(task.result())
        assert (await ts.call("f__add", {"a": 1, "b": 1})).ok  # so that it was heard
        cutter.cut()
        assert (await ts.call("f__sleep_safely", {"seconds": 0})).ok
        await looking.call("rich__finish", {"task": task.id})
        assert (await waiting).text == f"{task.id} is completed"
        await (other := await ts.begin_task("rich__echo")).cancel()
        assert (await other.status())["status"] == "cancelled"
        with pytest.raises(CallError):
            await ts.begin_task("rich__nothing")


async def test_a_line_that_is_cut_again_and_again_gives_each_call_one_definite_answer(one: Serving) -> None:
    async with (
        asyncio.timeout(180),
        Cutter(one.url).listening() as cutter,
        ToolScore.connect(cutter.url) as ts,
    ):
        seen: list[int] = []

        async def add(view: ToolScore, number: int) -> Result:
            return await view.call("f__add", {"a": number, "b": 0})

        outcomes: Counter[str] = Counter()
        async for number, result in ts.map(add, range(600), in_flight=50):
            seen.append(number)
            outcomes[result.outcome] += 1
            if result.ok:
                assert result.text == str(number)
            if len(seen) % 100 == 0:
                cutter.cut()
        assert sorted(seen) == list(range(600))
        assert set(outcomes) <= {"ok", Outcome.OUTCOME_UNKNOWN}
        assert outcomes["ok"] > 250
        assert ts.lines_lost > 3


async def test_a_toolscore_that_is_killed_is_gone_on_with_when_it_is_back_and_then_at_another_one(
    one: Serving, tmp_path: Path
) -> None:
    url = f"ws://127.0.0.1:{free_port()}/mcp"
    with pytest.raises(WebSocketError, match="Check that `toolscore serve --listen` runs there"):
        async with ToolScore.connect(url):
            pass
    with ExitStack() as ends, anyio.fail_after(300):
        first = ends.enter_context(serving(tmp_path / "home", url, options=OPTIONS[1:]))
        await registered(url, first.token)
        with pytest.raises(WebSocketError, match="toolscore token show"):
            async with ToolScore.connect(url, token="wrong"):
                pass
        async with ToolScore.connect(url, token=first.token, patience=150) as ts:
            async with aclosing(ts.events(remembered=True)) as events:
                assert (await ts.call("f__pid")).ok
                assert (await anext(events)).kind == "server_state"
                safe = [asyncio.ensure_future(ts.call("f__sleep_safely", {"seconds": 1})) for _ in range(20)]
                unsafe = asyncio.ensure_future(ts.call("f__sleep", {"seconds": 600}))
                while len((await ts.call("f__cancelled")).structured["begun"]) < 22:
                    await asyncio.sleep(0.01)
                first.process.kill()
                await asyncio.to_thread(first.process.wait)
                waiting = asyncio.ensure_future(ts.call("f__add", {"a": 1, "b": 1}))
                again = serving(tmp_path / "home", url, options=())
                second = await asyncio.to_thread(ends.enter_context, again)
                assert {result.text for result in await asyncio.gather(*safe)} == {"slept"}
                assert (await unsafe).outcome == Outcome.OUTCOME_UNKNOWN
                assert (await waiting).text == "2"  # nothing was sent before there was a line
                while (await anext(events)).kind != "missed":
                    continue
                seen: list[Any] = []
                while not seen or seen[-1] != "READY":  # of the new one, from its beginning
                    seen.append((await anext(events)).raw.get("state"))
                assert seen[0] == "STARTING"

            # For good: another one is used by who knows one, and who does not is told.
            async with ToolScore.connect([url, one.url], token=first.token, lines=2) as more:
                calls = [
                    asyncio.ensure_future(more.call("f__sleep_safely", {"seconds": 1})) for _ in range(20)
                ]
                while len((await ts.call("f__cancelled")).structured["begun"]) < 10:
                    await asyncio.sleep(0.01)
                second.process.kill()
                await asyncio.to_thread(second.process.wait)
                assert {result.text for result in await asyncio.gather(*calls)} == {"slept"}
                results = await more.execute_many([("f__add", {"a": n, "b": 0}) for n in range(100)])
                assert [result.text for result in results] == [str(n) for n in range(100)]
            late = await ts.call("list_servers", timeout=0.1)
            assert late.outcome == Outcome.TIMED_OUT
        async with ToolScore.connect(one.url, patience=0.2) as ts:
            pass
        with pytest.raises(ClosedError):
            await ts.call("list_servers")


@asynccontextmanager
async def answering(*conversations: Any, **more: Any) -> AsyncIterator[str]:
    """A server of nothing but WebSocket: each connection is the next conversation, past the handshake."""
    left = list(conversations)

    async def handler(wire: ServerConnection) -> None:
        conversation = left.pop(0)
        async for frame in wire:
            message = json.loads(frame)
            if message["method"] == "initialize":
                result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s"}}
                await wire.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}))
            elif "id" in message:
                await conversation(wire, message)

    options: Any = {"select_subprotocol": lambda _wire, _offered: "mcp", "compression": None, **more}
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


async def answer(wire: ServerConnection, message: Any, **result: Any) -> None:
    await wire.send(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"content": [], **result}}))


async def test_what_a_line_that_is_closed_in_order_did_not_hear_is_sent_again() -> None:
    told: list[str] = []

    async def leaving(wire: ServerConnection, message: Any) -> None:
        told.append("first")
        await wire.close(
            1001, "unheard: ToolScore is ending this connection; what has no answer was not heard"
        )

    async def staying(wire: ServerConnection, message: Any) -> None:
        told.append("second")
        await answer(wire, message, structuredContent={"done": True})

    async with asyncio.timeout(120), answering(leaving, staying) as url, ToolScore.connect(url) as ts:
        result = await ts.call("anything__that_writes")
        assert (result.structured, result.repeats) == ({"done": True}, 1)
    assert told == ["first", "second"]


async def test_a_closing_that_the_other_side_does_not_end_is_ended_by_the_client() -> None:
    done = asyncio.Event()

    async def stuck(wire: ServerConnection, message: Any) -> None:
        wire.transport.pause_reading()
        wire.protocol.send_close(1001, "unheard: but nothing more is done")
        wire.send_data()
        await done.wait()
        wire.transport.abort()

    async with (
        asyncio.timeout(120),
        answering(stuck, answer) as url,
        ToolScore.connect(url, ping_interval=None) as ts,  # so that no ping ends it either
    ):
        assert (await ts.call("x__y")).repeats == 1
        done.set()


async def test_a_question_that_is_taken_back_is_asked_no_more() -> None:
    asking, over = asyncio.Event(), asyncio.Event()

    async def ask(_params: Any) -> dict[str, Any]:
        asking.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
        return {}

    async def curious(wire: ServerConnection, message: Any) -> None:
        await wire.send(json.dumps({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create"}))
        await asking.wait()
        nobodys: list[Any] = [[], "other", 7]
        for wrong in nobodys:
            back = {"method": "notifications/cancelled", "params": {"requestId": wrong}}
            await wire.send(json.dumps({"jsonrpc": "2.0", **back}))
        assert not over.is_set()
        back = {"method": "notifications/cancelled", "params": {"requestId": "q"}}
        await wire.send(json.dumps({"jsonrpc": "2.0", **back}))
        await over.wait()
        await answer(wire, message)

    async with (
        asyncio.timeout(120),
        answering(curious) as url,
        ToolScore.connect(url, on_elicitation=ask) as ts,
    ):
        assert (await ts.call("x__y")).ok


async def test_a_call_from_another_event_loop_is_refused_before_anything_is_sent() -> None:
    heard: list[str] = []

    async def note(wire: ServerConnection, message: Any) -> None:
        heard.append(message["params"]["name"])
        await answer(wire, message)

    async with asyncio.timeout(120), answering(note) as url, ToolScore.connect(url) as ts:
        elsewhere = asyncio.to_thread(asyncio.run, ts.call("wrong__loop"))
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await elsewhere
        assert (await ts.call("x__y")).ok
    assert heard == ["x__y"]


async def test_no_more_is_taken_than_twice_what_is_in_flight_and_a_cancelled_call_ends_the_rest() -> None:
    taken = given = 0

    async def slowly() -> AsyncIterator[dict[str, int]]:
        nonlocal taken
        for number in range(100):
            await asyncio.sleep(0)  # so that those who want one queue up
            taken += 1
            yield {"n": number}

    async def cancelled(view: ToolScore, number: int) -> Result:
        if number == 3:
            raise asyncio.CancelledError
        return await view.call("x__y")

    async with asyncio.timeout(120), answering(answer) as url, ToolScore.connect(url) as ts:
        async for _item, _result in ts.map("x__y", slowly(), in_flight=8):
            given += 1
            for _ in range(50):
                await asyncio.sleep(0)
            assert taken - given <= 16
        assert given == 100
        with pytest.raises(asyncio.CancelledError):
            [_ async for _ in ts.map(cancelled, range(10), in_flight=2, ordered=True)]


async def test_who_is_not_taken_in_any_more_is_told_also_where_events_are_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def leaving(wire: ServerConnection, message: Any) -> None:
        await wire.close(1008, "the token is not valid any more")

    left = iter([None])

    def refuse(wire: ServerConnection, _request: Request) -> Response | None:
        return next(left, wire.respond(HTTPStatus.UNAUTHORIZED, "no such token"))

    async with (
        asyncio.timeout(120),
        answering(leaving, process_request=refuse) as url,
        ToolScore.connect(url, token="t0ken") as ts,
        aclosing(ts.events()) as events,
    ):
        with pytest.raises(WebSocketError, match="401: no such token"):
            await anext(events)
        assert (await ts.call("x__y")).outcome == Outcome.UNAVAILABLE
    told = [record.message for record in caplog.records if record.name == "toolscore.client"]
    assert ["401" in text for text in told] == [True]


async def test_an_address_that_does_not_do_says_why_for_each_of_several() -> None:
    async with asyncio.timeout(120), answering(answer) as url:
        closed = f"ws://127.0.0.1:{free_port()}/mcp"
        with pytest.raises(WebSocketError, match="none of 2 addresses") as raised:
            async with ToolScore.connect([closed, url.replace("ws:", "wss:")]):
                pass
        assert "toolscore serve --listen" in str(raised.value)
        assert "no TLS is spoken there" in str(raised.value)


async def test_nonsense_from_the_other_side_ends_nothing_and_its_end_ends_the_waiting() -> None:
    async def odd(wire: ServerConnection, message: Any) -> None:
        for frame in (
            "{",
            "[]",
            "7",
            '{"method": [], "id": 1}',
            '{"method": "a", "params": [1]}',
            '{"id": 99, "result": {}}',
            '{"method": 5}',
            b"\xff",
        ):
            await wire.send(frame)
        await wire.send(json.dumps({"jsonrpc": "2.0", "id": 5, "method": "no/such", "params": {}}))
        if message["params"].get("name") == "end":
            await wire.close(1011)
        else:
            await answer(wire, message)

    async def gone(wire: ServerConnection, message: Any) -> None:
        await wire.close(1011)

    async with asyncio.timeout(120), answering(odd, *[gone] * 20) as url, ToolScore.connect(url) as ts:
        assert (await ts.call("x__y")).ok
        result = await ts.call("end", repeat=True)  # every line ends over it
        assert result.outcome == Outcome.OUTCOME_UNKNOWN


async def test_without_a_line_a_call_is_refused_after_a_while() -> None:
    async def leaving(wire: ServerConnection, message: Any) -> None:
        await wire.close(1012)

    token = "s3cr3t"
    async with asyncio.timeout(120):
        async with answering(leaving) as url:
            connecting = ToolScore.connect(url, token=token, patience=0.2)
            ts = await connecting.__aenter__()
        try:
            refused = await ts.call("x__y")
            while refused.outcome == Outcome.OUTCOME_UNKNOWN:  # it was just ending
                refused = await ts.call("x__y")
            late = await ts.call("x__y", timeout=0.01)
            assert (late.outcome, "Nothing was sent" in late.text) == (Outcome.TIMED_OUT, True)
            assert refused.outcome == Outcome.UNAVAILABLE
            assert "Nothing was sent" in refused.text
            assert token not in refused.text
        finally:
            await connecting.__aexit__(None, None, None)
