"""What real calls of a real server do to its tools' scores, whichever way they end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routed import House, house
from toolscore.tools.caller import CALL, OWNER
from toolscore.tools.outcome import Outcome, RefusalError
from toolscore.tools.scores.score import ToolScore
from toolscore.tools.scores.scores import Scores


class Scored(House):
    """A house that keeps scores."""

    def __init__(self, made: House) -> None:
        super().__init__(made.library, made.supervisor)
        self.scores = Scores(made.library)
        self.router.score = self.scores.observe

    def of(self, name: str) -> ToolScore:
        told = self.scores.of(f"faulty__{name}")
        assert told is not None
        return told

    async def under_way(self, name: str, **arguments: Any) -> asyncio.Task[dict[str, Any]]:
        """Begin a call, and wait until it was sent."""
        task = asyncio.create_task(self.call(name, **arguments))
        unit = self.supervisor.units["faulty"]
        async with asyncio.timeout(10):
            while unit.session is None or not unit.session.in_flight:
                await asyncio.sleep(0.01)
        return task


@asynccontextmanager
async def scored(folder: Path, *faults: str, **kept: Any) -> AsyncIterator[Scored]:
    async with house(folder, *faults, **kept) as made:
        yield Scored(made)


async def test_answers_errors_and_mistakes_are_told_apart(tmp_path: Path) -> None:
    async with scored(tmp_path) as made:
        await made.call("echo")
        await made.call("failed")
        await made.call("error")
        await made.call("invalid")
        assert (made.of("echo").all.successes, made.of("echo").all.failures) == (1, {})
        failed = made.of("failed")
        assert failed.all.failures == {"error": 1}
        assert failed.last is not None
        assert failed.last.text == "it did not work"
        broken = made.of("error")
        assert broken.all.failures == {"server_error": 1}
        assert broken.last is not None
        assert broken.last.text == "out of order"
        invalid = made.of("invalid")  # which says so of arguments that fit
        assert (invalid.all.failures, invalid.all.excused) == ({"server_error": 1}, {})


async def test_a_server_that_is_killed_in_a_call_is_to_blame(tmp_path: Path) -> None:
    async with scored(tmp_path) as made:
        refusal = await made.refused("exit")
        assert refusal.outcome is Outcome.OUTCOME_UNKNOWN
        told = made.of("exit")
        assert told.all.failures == {"outcome_unknown": 1}
        assert told.last is not None
        assert "was sent" in told.last.text

        pid = int((await made.call("pid"))["content"][0]["text"])
        sleeping = await made.under_way("sleep", seconds=60)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RefusalError):
            await sleeping
        assert made.of("sleep").all.failures == {"outcome_unknown": 1}


async def test_a_server_that_is_stopped_in_a_call_is_not_to_blame(tmp_path: Path) -> None:
    async with scored(tmp_path) as made:
        sleeping = await made.under_way("sleep", seconds=60)
        made.supervisor.units["faulty"].stop()
        with pytest.raises(RefusalError):
            await sleeping
        assert made.of("sleep").all.failures == {}
        assert sum(made.of("sleep").all.excused.values()) == 1


async def test_a_time_out_counts_where_it_was_long_enough_and_is_excused_where_it_was_not(
    tmp_path: Path,
) -> None:
    async with scored(tmp_path, timeout=0.3) as made:
        assert (await made.refused("sleep", seconds=60)).outcome is Outcome.TIMED_OUT
        assert made.of("sleep").all.failures == {"timed_out": 1}
        with pytest.raises(RefusalError):
            await made.router.call("faulty__sleep_safely", {"seconds": 60}, OWNER, timeout=0.05)
        assert made.of("sleep_safely").all.failures == {}
        assert made.of("sleep_safely").all.excused == {"timed_out": 1}


async def test_a_cancelled_call_and_one_without_the_right_are_not_the_tools_fault(tmp_path: Path) -> None:
    async with scored(tmp_path) as made:
        sleeping = await made.under_way("sleep", seconds=60)
        sleeping.cancel()
        await asyncio.wait([sleeping])
        with pytest.raises(RefusalError):
            await made.router.call("faulty__sleep", {}, replace(OWNER, rights=frozenset()))
        told = made.of("sleep").all
        assert (told.failures, told.excused) == ({}, {"cancelled": 1, "refused": 1})


async def test_an_unknown_tool_leaves_no_record(tmp_path: Path) -> None:
    async with scored(tmp_path) as made:
        assert (await made.refused("nonsense")).outcome is Outcome.UNKNOWN_TOOL
        assert made.scores.of("faulty__nonsense") is None


async def test_a_disabled_server_is_not_to_blame(tmp_path: Path) -> None:
    async with scored(tmp_path) as made:
        await made.library.set_enabled("faulty", False)
        assert (await made.refused("echo")).outcome is Outcome.UNAVAILABLE
        assert made.of("echo").all.failures == {}


async def test_a_task_that_was_only_begun_is_no_success_yet(tmp_path: Path) -> None:
    async with scored(tmp_path) as made:
        answer = '{"jsonrpc":"2.0","id":$ID,"result":{"task":{"taskId":"1","status":"working"}}}'
        await made.router.call("faulty__raw", {"line": answer}, OWNER, extra={"task": {"ttl": 1000}})
        told = made.of("raw").all
        assert (told.successes, told.excused) == (0, {"unfinished": 1})
        await made.router.call("faulty__echo", {}, OWNER, extra={"task": {"ttl": 1000}})
        assert made.of("echo").all.successes == 1  # it answered at once


async def test_calls_at_the_same_time_are_all_counted(tmp_path: Path) -> None:
    async with scored(tmp_path) as made:
        await asyncio.gather(*(made.call("echo", number=number) for number in range(200)))
        told = made.of("echo")
        assert told.all.successes == 200
        assert told.all.weight == pytest.approx(200, rel=1e-3)
        assert all(value is not None and value > 0 for value in told.all.seconds)


async def test_a_client_with_a_process_of_its_own_counts_for_the_same_tool(tmp_path: Path) -> None:
    async with scored(tmp_path, isolation="per-client") as made:
        for number in (1, 2):
            caller = replace(OWNER, connection=number, listener="ws", rights=frozenset({CALL}))
            await made.router.call("faulty__echo", {}, caller)
        assert made.of("echo").all.successes == 2
