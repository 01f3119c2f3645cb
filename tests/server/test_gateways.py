"""Several gateways, one state: a server runs at one of them, and is used at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from faulty_server import FaultyServer
from helpers import gone, until
from postgres import Postgres
from several_gateways import PATIENCE, Gates, Visitor, eventually, running, visiting

SAMPLING: dict[str, Any] = {
    "messages": [{"role": "user", "content": {"type": "text", "text": "?"}}],
    "maxTokens": 9,
}


async def knows(visitor: Visitor, server: str) -> bool:
    """Tell whether a gateway knows a server."""
    listed = await visitor.own("list_servers")
    return any(one["name"] == server for one in listed["servers"])


@pytest.fixture(scope="module")
def pair(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gates]:
    """Two gateways that no test ends."""
    with running(tmp_path_factory.mktemp("pair"), postgres.database(), "one", "two") as gates:
        yield gates


@pytest.fixture
async def both(pair: Gates) -> AsyncIterator[tuple[Visitor, Visitor]]:
    """Clients of either."""
    async with visiting(pair["one"].url) as first, visiting(pair["two"].url) as second:
        yield first, second


async def test_a_server_runs_at_one_gateway_and_is_used_at_all(both: tuple[Visitor, Visitor]) -> None:
    first, second = both
    await first.register("f")
    await eventually(lambda: knows(second, "f"))
    assert await first.text("f__add", a=1, b=2) == "3"
    assert await second.text("f__add", a=3, b=4) == "7"
    assert await first.text("f__pid") == await second.text("f__pid")


async def test_what_a_tool_answers_is_the_same_through_another_gateway(both: tuple[Visitor, Visitor]) -> None:
    first, second = both
    await first.register("same")
    await eventually(lambda: knows(second, "same"))
    for tool, arguments in (("echo", {"a": [1, 2.5, "x"]}), ("big", {"bytes": 3_000_000}), ("nothing", {})):
        here, there = (
            await first.call(f"same__{tool}", **arguments),
            await second.call(f"same__{tool}", **arguments),
        )
        for one in (here, there):
            meta = one.get("structuredContent", {}).get("meta", {})
            meta.pop("progressToken", None)
        assert here == there


async def test_progress_and_cancellation_reach_a_server_of_another_gateway(
    both: tuple[Visitor, Visitor],
) -> None:
    first, second = both
    await first.register("steps")
    await eventually(lambda: knows(second, "steps"))
    arguments = {"tool": "steps__progress", "arguments": {"count": 3}}
    answer = await second.ask(
        "tools/call", name="execute_tool", arguments=arguments, _meta={"progressToken": "p"}
    )
    async with asyncio.timeout(60):
        await answer
    told = [one["params"]["message"] for one in second.told if one["method"] == "notifications/progress"]
    assert told == ["step 1", "step 2", "step 3"]
    await second.begin("steps__sleep", seconds=600)
    await second.notify("notifications/cancelled", requestId=second.last)
    assert await second.text("steps__add", a=1, b=1) == "2"

    async def idle() -> bool:
        state = await first.own("server_state", name="steps")
        return not state["in_flight"]

    await eventually(idle)


async def test_a_server_asks_the_client_whose_call_it_serves_at_another_gateway(pair: Gates) -> None:
    async with visiting(pair["one"].url) as first, visiting(pair["two"].url, sampling={}) as second:
        await first.register_rich("asks")
        await eventually(lambda: knows(second, "asks"))
        second.answers["sampling/createMessage"] = {
            "role": "assistant",
            "model": "m",
            "content": {"type": "text", "text": "forty-two"},
        }
        said = await second.call("asks__question", method="sampling/createMessage", params=SAMPLING)
        assert "forty-two" in str(said), said


async def test_any_gateway_tells_of_a_server_and_ends_it_whoever_runs_it(
    both: tuple[Visitor, Visitor],
) -> None:
    first, second = both
    await first.register("told")
    await eventually(lambda: knows(second, "told"))
    pid = await first.text("told__pid")
    state = await second.own("server_state", name="told")
    assert (state["gateway"], state["state"], state["pids"]) == ("one", "READY", [int(pid)])
    await first.call("told__stderr", kib=1)

    async def logged() -> bool:
        logs = await second.own("server_logs", name="told")
        return len(logs["lines"]) > 0

    await eventually(logged)

    async def listed() -> bool:
        found = await second.own("list_servers")
        servers = {one["name"]: one for one in found["servers"]}
        gateways = {one["name"]: one for one in found["gateways"]}
        told = servers["told"]
        return bool(
            (told["gateway"], told["state"]) == ("one", "READY")
            and gateways["two"]["here"]
            and "told" in gateways["one"]["servers"]
        )

    await eventually(listed)
    await second.own("manage_server", name="told", action="stop")
    assert gone(int(pid))

    async def stopped() -> bool:
        found = await first.own("server_state", name="told")
        return bool(found["state"] == "STOPPED" and "gateway" not in found)

    await eventually(stopped)
    await second.own("manage_server", name="told", action="restart")
    assert await first.text("told__pid") == await second.text("told__pid") != pid


async def test_what_each_client_has_for_itself_runs_at_its_own_gateway(both: tuple[Visitor, Visitor]) -> None:
    first, second = both
    await first.register("own")
    await first.own("configure_server", name="own", settings={"isolation": "per-client"})

    async def apart() -> bool:
        state = await second.own("server_state", name="own")
        return bool(state["keeping"]["isolation"] == "per-client")

    await eventually(lambda: knows(second, "own"))
    await eventually(apart)
    assert await first.text("own__pid") != await second.text("own__pid")


async def test_a_server_that_dialed_in_to_one_gateway_is_called_at_another(
    both: tuple[Visitor, Visitor], pair: Gates
) -> None:
    _first, second = both
    address = pair["one"].url.removesuffix("/mcp") + "/register?name=dials"
    loop, replies = asyncio.get_running_loop(), asyncio.Queue[str]()

    def reply(text: str) -> None:
        loop.call_soon_threadsafe(replies.put_nowait, text)

    server = FaultyServer({}, reply)
    async with connect(address, subprotocols=[Subprotocol("mcp")], proxy=None) as line:

        async def read() -> None:
            async for frame in line:
                server.take(frame)

        async def write() -> None:
            while True:
                await line.send(await replies.get())

        tasks = [asyncio.create_task(read()), asyncio.create_task(write())]
        await eventually(lambda: knows(second, "dials"))
        assert await second.text("dials__add", a=20, b=22) == "42"
        for task in tasks:
            task.cancel()


async def test_a_gateway_that_is_killed_loses_its_children_and_others_run_its_servers(
    postgres: Postgres, tmp_path: Path
) -> None:
    with running(tmp_path, postgres.database(), "one", "two") as gates:
        async with visiting(gates["one"].url) as first, visiting(gates["two"].url) as second:
            await first.register("f")
            await eventually(lambda: knows(second, "f"))
            pid = int(await second.text("f__pid"))
            slow = await second.begin("f__sleep", seconds=600)

            async def reached() -> bool:
                """Tell whether it came to where the server runs: what was not heard there is called again."""
                state = await first.own("server_state", name="f")
                return bool(state["in_flight"])

            await eventually(reached)
            safe = await second.begin("f__sleep_safely", seconds=1)
            await first.text("f__add", a=1, b=1)
            gates["one"].kill()
            async with asyncio.timeout(60):
                refused = (await slow)["result"]
                answered = (await safe)["result"]
            assert refused["_meta"]["toolscore/outcome"] == "outcome_unknown"
            assert answered["content"][0]["text"] == "slept"  # which may be asked twice
            assert int(await second.text("f__pid")) != pid
            await until(lambda: gone(pid), PATIENCE)  # its guardian gives it a moment
            listed = await second.own("list_tools", server="f")
            names = [tool["name"] for tool in listed["tools"]]
            assert len(names) == len(set(names)) > 5


async def test_a_gateway_that_ends_hands_its_servers_over_and_no_call_is_lost(
    postgres: Postgres, tmp_path: Path
) -> None:
    with running(tmp_path, postgres.database(), "one", "two") as gates:
        async with visiting(gates["one"].url) as first, visiting(gates["two"].url) as second:
            await first.register("f")
            await eventually(lambda: knows(second, "f"))
            before = await second.text("f__pid")
            slow = await second.begin("f__sleep", seconds=1)
            mine = await first.begin("f__sleep", seconds=1)
            await first.text("f__add", a=1, b=1)  # both are under way
            gates["one"].end()
            calls: list[str] = []
            while not gates["two"].log().count("server f: READY") > 1:
                calls.append(await second.text("f__add", a=len(calls), b=1))
            async with asyncio.timeout(60):
                assert (await slow)["result"]["content"][0]["text"] == "slept"
                assert (await mine)["result"]["content"][0]["text"] == "slept"
            assert calls == [str(number + 1) for number in range(len(calls))]
            assert await second.text("f__pid") != before
