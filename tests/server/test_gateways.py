"""Several gateways, one state: a server runs at one of them, and is used at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gatehouse import Visitor, eventually, running, visiting
from helpers import gone
from postgres import Postgres


async def knows(visitor: Visitor, server: str) -> bool:
    """Tell whether a gateway knows a server."""
    listed = await visitor.own("list_servers")
    return server in [one["name"] for one in listed["servers"]]


async def test_a_server_runs_at_one_gateway_and_is_used_at_all(postgres: Postgres, tmp_path: Path) -> None:
    with running(tmp_path, postgres.database(), "one", "two") as gates:
        async with visiting(gates["one"].url) as first, visiting(gates["two"].url) as second:
            await first.register("f")
            await eventually(lambda: knows(second, "f"))
            assert await first.text("f__add", a=1, b=2) == "3"
            assert await second.text("f__add", a=3, b=4) == "7"
            assert await first.text("f__pid") == await second.text("f__pid")


async def test_a_gateway_that_is_killed_loses_its_children_and_others_run_its_servers(
    postgres: Postgres, tmp_path: Path
) -> None:
    with running(tmp_path, postgres.database(), "one", "two") as gates:
        async with visiting(gates["one"].url) as first, visiting(gates["two"].url) as second:
            await first.register("f")
            await eventually(lambda: knows(second, "f"))
            pid = int(await second.text("f__pid"))
            slow = await second.begin("f__sleep", seconds=600)
            safe = await second.begin("f__sleep_safely", seconds=1)
            await first.text("f__add", a=1, b=1)
            gates["one"].kill()
            async with asyncio.timeout(60):
                refused = (await slow)["result"]
                answered = (await safe)["result"]
            assert refused["_meta"]["toolscore/outcome"] == "outcome_unknown"
            assert answered["content"][0]["text"] == "slept"  # which may be asked twice
            assert int(await second.text("f__pid")) != pid
            assert gone(pid)
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
