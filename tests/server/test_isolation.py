"""Servers that clients do not share, as clients of a real ToolScore see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from helpers import FAULTY, until
from several import Line, Message, Serving, ask_owner, serving
from toolscore.tools.leases import LEASE_KEY
from toolscore.tools.outcome import OUTCOME_KEY


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("isolation")
    faulty = ["-S", str(FAULTY)]
    with serving(folder, "--no-token", "--set", "tools.expose=all", apart=faulty, leased=faulty) as one:
        ask_owner(one.process, "configure_server", name="apart", settings={"isolation": "per-client"})
        ask_owner(one.process, "configure_server", name="leased", settings={"isolation": "per-lease"})
        yield one


def said(result: Message) -> str:
    text: str = result["content"][0]["text"]
    return text


async def own(line: Line, tool: str, **arguments: Any) -> Message:
    result: Message = await line.call("execute_tool", tool=f"toolscore__{tool}", arguments=arguments)
    return result


async def test_each_client_has_its_own_process_which_goes_with_it(toolscore: Serving) -> None:
    async with toolscore.line() as first:
        mine = int(said(await first.call("apart__pid")))
        async with toolscore.line() as other:
            others = int(said(await other.call("apart__pid")))
            assert mine != others
            assert int(said(await first.call("apart__pid"))) == mine
        await until(lambda: not psutil.pid_exists(others), 60)
        assert psutil.pid_exists(mine)
    await until(lambda: not psutil.pid_exists(mine), 60)


async def test_an_episode_is_acquired_used_and_released(toolscore: Serving) -> None:
    async with toolscore.line() as line:
        refused = await line.call("leased__pid")
        assert refused["isError"]
        assert refused["_meta"][OUTCOME_KEY] == "refused"
        assert "acquire_server(name='leased')" in said(refused)
        one, two = [(await own(line, "acquire_server", name="leased"))["structuredContent"] for _ in range(2)]
        assert one["instance"] != two["instance"]
        by_argument = await line.call("execute_tool", tool="leased__pid", lease=one["lease"])
        identity = await line.ask("tools/call", {LEASE_KEY: two["lease"]}, name="leased__pid", arguments={})
        by_meta = (await line.answer(identity))["result"]
        assert said(by_argument) != said(by_meta)
        for lease in (one, two):
            released = await own(line, "release_server", lease=lease["lease"])
            assert released["structuredContent"]["lease"] == lease["lease"]
        await until(
            lambda: not any(psutil.pid_exists(int(said(answer))) for answer in (by_argument, by_meta)), 60
        )
        again = await line.call("execute_tool", tool="leased__pid", lease=one["lease"])
        assert "it was released, its time is over" in said(again)


async def test_the_state_of_a_server_shows_its_instances(toolscore: Serving) -> None:
    async with toolscore.line() as line:
        await line.call("apart__pid")
        state = (await own(line, "server_state", name="apart"))["structuredContent"]
        assert [one["state"] for one in state["instances"]] == ["READY"]
        assert state["keeping"]["isolation"] == "per-client"
