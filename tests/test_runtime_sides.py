"""`toolscore.client.ToolScore` and another side that does what a test says: no ToolScore is needed for it."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from ports import free_port
from toolscore.client import Outcome, Result, ToolScore, WebSocketError, keeper


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


async def test_things_that_break_off_lose_no_result_and_one_that_cannot_be_sent_harms_no_other() -> None:
    def breaking() -> Iterator[dict[str, float]]:
        yield from ({"n": number} for number in (0, math.nan, 2, 3, 4))
        raise ZeroDivisionError

    async def slowly() -> AsyncIterator[dict[str, float]]:
        for thing in breaking():
            await asyncio.sleep(0)
            yield thing

    async with asyncio.timeout(120), answering(answer) as url, ToolScore.connect(url) as ts:
        for things in (breaking(), slowly()):
            seen: list[str] = []
            results = ts.map("x__y", things, in_flight=4)
            while len(seen) < 5:
                seen.append((await anext(results))[1].outcome)
            with pytest.raises(ZeroDivisionError):
                await anext(results)
            assert sorted(seen) == [Outcome.INVALID_ARGUMENTS] + 4 * [Outcome.OK]
        refused, done = await ts.execute_many([("x__y", {"n": math.inf}), ("x__y", {})])
        assert (refused.ok, done.ok) == (False, True)
        assert "Nothing was sent" in refused.text


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
        told = await ts.call("x__y", repeat=True)  # it was heard, and there is no line to say it again on
        assert (told.outcome, told.repeats) == (Outcome.OUTCOME_UNKNOWN, 0)
        assert "there is no line to do so" in told.text
        with pytest.raises(WebSocketError, match="401: no such token"):
            await anext(events)
        assert (await ts.call("x__y")).outcome == Outcome.UNAVAILABLE
    logged = [record.message for record in caplog.records if record.name == "toolscore.client"]
    assert ["401" in text for text in logged] == [True]


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


async def test_the_time_of_a_call_holds_also_while_it_is_found_out_whether_it_may_be_repeated() -> None:
    async def gone(wire: ServerConnection, message: Any) -> None:
        await wire.close(1011)

    async def silent(wire: ServerConnection, message: Any) -> None:
        assert message["params"]["name"] == "describe_tool"

    async with asyncio.timeout(120), answering(gone, silent) as url, ToolScore.connect(url) as ts:
        assert (await ts.call("x__y", timeout=0.5)).outcome == Outcome.TIMED_OUT
        assert "Nothing was sent" in (await ts.call("x__y", timeout=0)).text


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel has no such option")
async def test_a_line_that_takes_nothing_any_more_is_given_up_like_one_that_answers_no_ping() -> None:
    done, stuck = asyncio.Event(), asyncio.Event()

    async def full(wire: ServerConnection, message: Any) -> None:
        wire.transport.pause_reading()
        stuck.set()
        await done.wait()
        wire.transport.abort()

    async with (
        asyncio.timeout(120),
        answering(full, answer) as url,
        ToolScore.connect(url, ping_interval=0.5, ping_timeout=1) as ts,
    ):
        try:
            first = asyncio.ensure_future(ts.call("x__y", repeat=False))
            await stuck.wait()
            second = asyncio.ensure_future(ts.call("x__y", {"much": "x" * (32 << 20)}, repeat=False))
            for _ in range(10):
                await asyncio.sleep(0)  # it is being sent
            assert (await ts.call("x__y")).ok  # this one waited for room
            for result in await asyncio.gather(first, second):
                assert result.outcome == Outcome.OUTCOME_UNKNOWN
        finally:
            done.set()


@asynccontextmanager
async def gateways(heard: dict[str, list[Any]]) -> AsyncIterator[list[str]]:
    """Two that lend instances and run Python, each for itself; they note what they are asked."""

    def named(name: str) -> Any:
        async def hear(wire: ServerConnection, message: Any) -> None:
            tool = message["params"]["name"]
            heard[name].append((tool, message["params"]))
            if tool == "leave":
                await wire.close(1001, "it is ending")
            elif tool == "cut":
                wire.transport.abort()
            else:
                made = {"lease": f"{name}-lease", "instance": name, "ttl": 600, "session": f"{name}-session"}
                await answer(wire, message, structuredContent=made)

        return hear

    async with answering(*[named("a")] * 9) as first, answering(*[named("b")] * 9) as second:
        yield [first, second]


async def test_leases_and_sessions_of_python_are_used_at_the_gateway_that_gave_them() -> None:
    heard: dict[str, list[Any]] = {"a": [], "b": []}
    async with (
        asyncio.timeout(120),
        gateways(heard) as urls,
        ToolScore.connect(urls, lines=2) as ts,
        ts.leases("s", 4) as instances,
        ts.python() as python,
    ):
        assert {one.name for one in instances} == {"a", "b"}
        await asyncio.gather(*(one.call("t") for one in instances), *(python.run("1") for _ in range(4)))
    for name, asked in heard.items():
        leases = [params["_meta"]["toolscore/lease"] for tool, params in asked if tool == "s__t"]
        released = [params["arguments"]["lease"] for tool, params in asked if tool == "release_server"]
        assert set(leases) == set(released) == {f"{name}-lease"}
        assert len(leases) == len(released) == 2
    sessions = {
        (name, params["arguments"]["session"])
        for name, asked in heard.items()
        for tool, params in asked
        if tool.endswith(("python_execute", "session_end"))
    }
    assert len(sessions) == 1
    assert sessions <= {("a", "a-session"), ("b", "b-session")}


async def test_a_line_that_was_only_cut_goes_back_to_where_it_was_and_one_that_was_ended_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "LASTING", 0)
    heard: dict[str, list[Any]] = {"a": [], "b": []}
    async with asyncio.timeout(120), gateways(heard) as urls, ToolScore.connect(urls) as ts:
        assert (await ts.call("cut", repeat=False)).outcome == Outcome.OUTCOME_UNKNOWN
        assert (await ts.call("x__y")).structured["instance"] == "a"
        assert (await ts.call("leave", repeat=False)).outcome == Outcome.OUTCOME_UNKNOWN
        assert (await ts.call("x__y")).structured["instance"] == "b"
