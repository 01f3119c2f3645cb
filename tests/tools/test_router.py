"""From a tool's name to its live server, and a definite word on what became of the call."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import PATIENT, faulty, supervising, until
from routed import house, unlisted
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.tools.caller import OWNER, Caller
from toolscore.tools.library import Library
from toolscore.tools.outcome import OUTCOME_KEY, Outcome, RefusalError
from toolscore.tools.router import Router
from toolscore.tools.store import Store


async def test_a_call_is_answered_with_the_whole_result_of_the_server(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        result = await made.router.call(
            "faulty__echo", {"n": 2**70}, OWNER, meta={"mine": [1]}, on_progress=lambda *_: None
        )
        assert result["structuredContent"]["arguments"] == {"n": 2**70}
        assert result["structuredContent"]["meta"]["mine"] == [1]
        assert result["_meta"] == {"faulty/kept": True}
        assert result["x-unknown"] == {"kept": [1, 2.5, None]}


async def test_a_call_for_a_server_that_never_came_up_starts_it_and_waits_until_its_tools_are_known(
    tmp_path: Path,
) -> None:
    async with unlisted(tmp_path) as made:
        result = await asyncio.wait_for(made.call("echo", n=1), 30)
        assert result["structuredContent"]["arguments"] == {"n": 1}
        refusal = await made.refused("nothing_of_this_name")
        assert refusal.outcome is Outcome.UNKNOWN_TOOL


async def test_a_call_for_a_server_that_cannot_come_up_says_why_not_that_the_tool_is_unknown(
    tmp_path: Path,
) -> None:
    async with unlisted(tmp_path, "exit-on-start") as made:
        made.supervisor.units["faulty"].retries = False
        refusal = await made.refused("echo")
        assert refusal.outcome is Outcome.FAILED_TO_START


async def test_a_server_that_never_came_up_is_not_started_by_who_may_not_call(tmp_path: Path) -> None:
    async with unlisted(tmp_path) as made:
        with pytest.raises(RefusalError):
            await made.router.call("faulty__echo", {}, replace(OWNER, rights=frozenset()))
        assert made.supervisor.units["faulty"].life.state is State.STOPPED


async def test_a_failure_the_tool_reports_is_passed_on_as_it_is(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        assert await made.call("failed") == {
            "content": [{"type": "text", "text": "it did not work"}],
            "isError": True,
        }


async def test_a_server_error_becomes_a_result_with_the_error_whole(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        result = await made.call("error")
        assert result["isError"] is True
        assert result["_meta"] == {
            OUTCOME_KEY: "server_error",
            "toolscore/error": {"code": -32050, "message": "out of order", "data": {"since": "Tuesday"}},
        }
        assert "out of order" in result["content"][0]["text"]


async def test_wrong_arguments_point_to_the_description(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        result = await made.call("invalid")
        assert result["_meta"][OUTCOME_KEY] == "invalid_arguments"
        assert "describe_tool(tool='faulty__invalid')" in result["content"][0]["text"]


async def test_an_unknown_tool_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        refusal = await made.refused("ecko")
        assert refusal.outcome is Outcome.UNKNOWN_TOOL
        assert refusal.details["nearest"][0] == "faulty__echo"
        assert "'faulty__echo'" in refusal.message
        # Its own name alone is nobody's full name, even where only one server has such a tool.
        with pytest.raises(RefusalError) as bare:
            await made.router.call("echo", {}, OWNER)
        assert bare.value.message == "There is no tool named 'echo'. Did you mean 'faulty__echo'?"


async def test_an_empty_library_says_how_to_fill_it(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "store.db")
    async with supervising(tmp_path) as supervisor:
        with pytest.raises(RefusalError, match="install_server adds one"):
            Router(Library(store), supervisor).lookup.find("x")
    await store.close()


async def test_a_caller_without_the_right_to_call_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        with pytest.raises(RefusalError) as refusal:
            await made.router.call("faulty__echo", {}, replace(OWNER, rights=frozenset()))
        assert refusal.value.outcome is Outcome.REFUSED


async def test_a_disabled_server_is_not_started_for_a_call(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await made.library.set_enabled("faulty", False)
        unit = made.supervisor.units["faulty"]
        unit.stop()
        await unit.stopped()
        refusal = await made.refused("echo")
        assert refusal.outcome is Outcome.UNAVAILABLE
        assert "action='enable'" in refusal.message
        assert unit.life.state is State.STOPPED


async def test_arguments_without_a_json_form_are_invalid(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        assert (await made.refused("echo", text="\ud800")).outcome is Outcome.INVALID_ARGUMENTS


async def test_a_tool_that_asks_its_caller_back_is_refused_for_now(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        assert (await made.refused("ask_back")).outcome is Outcome.REFUSED


async def test_a_call_in_which_the_server_died_is_not_made_twice(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        counter = tmp_path / "lives"
        refusal = await made.refused("die_once", file=str(counter))
        assert refusal.outcome is Outcome.OUTCOME_UNKNOWN
        assert "exited with status 9" in refusal.message
        assert counter.read_text() == "x"
        # And the server is back for the next call.
        assert (await made.call("add", a=1, b=1))["content"][0]["text"] == "2"


@pytest.mark.parametrize("tool", ["die_once_safely", "die_once_again"])
async def test_a_read_only_or_idempotent_call_is_made_again_after_the_restart(
    tmp_path: Path, tool: str
) -> None:
    async with house(tmp_path) as made:
        result = await made.call(tool, file=str(tmp_path / "lives"))
        assert result["content"][0]["text"] == "1"


async def test_it_is_made_again_once_only(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        refusal = await made.refused("die_once_safely", file=str(tmp_path / "lives"), times=9)
        assert refusal.outcome is Outcome.UNAVAILABLE
        assert "failed twice" in refusal.message
        assert (tmp_path / "lives").read_text() == "xx"


async def test_a_call_that_was_never_written_is_made_again_whatever_the_tool(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        unit = made.supervisor.units["faulty"]
        assert unit.session is not None
        child = unit._shared.runner.child("faulty")
        assert child is not None
        await child.channel.aclose()
        assert (await made.call("add", a=1, b=1))["content"][0]["text"] == "2"


async def test_exactly_the_calls_in_flight_at_a_crash_are_unknown(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        before = [made.call("add", a=n, b=n) for n in range(5)]
        assert len(await asyncio.gather(*before)) == 5
        unit = made.supervisor.units["faulty"]
        session = unit.session
        assert session is not None
        calls = [made.call("sleep", seconds=60) for _ in range(3)]
        calls += [made.call("sleep_safely", seconds=0.3) for _ in range(2)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        running = asyncio.gather(*tasks, return_exceptions=True)
        # The short ones may be over already.
        await until(lambda: session.in_flight + sum(task.done() for task in tasks) == 5)
        child = unit._shared.runner.child("faulty")
        assert child is not None
        os.kill(child.pid or 0, signal.SIGKILL)
        after = [made.call("add", a=n, b=n) for n in range(5)]
        answers = await asyncio.wait_for(running, 60)
        unknown = [answer for answer in answers if isinstance(answer, RefusalError)]
        assert [refusal.outcome for refusal in unknown] == [Outcome.OUTCOME_UNKNOWN] * 3
        replayed = [answer for answer in answers if isinstance(answer, dict)]
        assert [answer["content"][0]["text"] for answer in replayed] == ["slept"] * 2
        for answer in await asyncio.gather(*after, return_exceptions=True):
            # A call that raced with the signal was written, or went to the new process.
            assert isinstance(answer, dict) or (
                isinstance(answer, RefusalError) and answer.outcome is Outcome.OUTCOME_UNKNOWN
            )


async def test_a_server_that_was_given_up_is_refused_with_its_reason(tmp_path: Path) -> None:
    async with house(tmp_path, policy=RestartPolicy(limit=0)) as made:
        unit = made.supervisor.units["faulty"]
        unit.installation = faulty("exit-on-start=7")
        unit.stop()
        await unit.stopped()
        refusal = await made.refused("echo")
        assert refusal.outcome is Outcome.FAILED_TO_START
        assert "exited with status 7" in refusal.message


async def test_a_server_in_back_off_is_unavailable_with_the_time_of_the_next_try(tmp_path: Path) -> None:
    async with house(tmp_path, policy=PATIENT) as made:
        assert (await made.refused("exit")).outcome is Outcome.OUTCOME_UNKNOWN
        await until(lambda: made.supervisor.units["faulty"].life.state is State.BACKOFF)
        refusal = await made.refused("echo")
        assert refusal.outcome is Outcome.UNAVAILABLE
        assert 25 < refusal.details["retryAfter"] <= 30


async def test_a_server_that_is_just_being_removed_is_unavailable(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        await made.supervisor.remove("faulty")
        assert (await made.refused("echo")).outcome is Outcome.UNAVAILABLE


async def test_a_stop_by_hand_is_not_undone_by_a_call_that_was_in_flight(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        unit = made.supervisor.units["faulty"]
        session = unit.session
        assert session is not None
        running = asyncio.ensure_future(made.call("sleep_safely", seconds=60))
        await until(lambda: session.in_flight == 1)
        unit.stop()
        await unit.stopped()
        with pytest.raises(RefusalError) as refusal:
            await asyncio.wait_for(running, 30)
        assert refusal.value.outcome is Outcome.UNAVAILABLE
        assert unit.life.state is State.STOPPED


async def test_each_client_of_a_server_that_is_not_shared_has_a_process_of_its_own(tmp_path: Path) -> None:
    callers = [Caller("owner", "unix", number) for number in (1, 2)]
    async with house(tmp_path, isolation="per-client", max_instances=1) as here:
        first = await here.router.call("faulty__pid", {}, callers[0])
        assert first == await here.router.call("faulty__pid", {}, callers[0])
        with pytest.raises(RefusalError, match="Each client has one of its own") as refusal:
            await here.router.call("faulty__pid", {}, callers[1])
        assert refusal.value.outcome is Outcome.LIMIT
