"""Servers under supervision: one start for many callers, restarts, refusals, and nothing left at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from helpers import PATIENT, call, faulty, gone, installation, runner_at, supervising, until
from toolscore.runners.errors import ChildGoneError
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.spec import ServerSpec
from toolscore.runners.supervisor import NotReadyError, Supervisor, Unit

QUICK = RestartPolicy(limit=2, first_delay=0.01, factor=1, jitter=0)


def pid(unit: Unit) -> int:
    child = unit._shared.runner.child(unit.key)
    assert child is not None
    return child.pid or 0


async def test_a_server_is_started_by_the_first_call_and_kept_for_the_next(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty())
        assert unit.life.state is State.STOPPED
        session = await unit.ready()
        assert await call(session, "add", a=1, b=1) == "2"
        assert await unit.ready() is session
        assert {tool["name"] for tool in unit.tools} >= {"echo", "add"}


async def test_many_first_callers_cause_one_start(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty("slow-start=0.1"))
        sessions = await asyncio.gather(*(unit.ready() for _ in range(50)))
        assert len({id(session) for session in sessions}) == 1
        assert len((tmp_path / "processes.jsonl").read_text().splitlines()) == 1


async def test_a_caller_who_gives_up_does_not_stop_the_start_for_the_others(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty("slow-start=0.1"))
        first, second = asyncio.ensure_future(unit.ready()), asyncio.ensure_future(unit.ready())
        await until(lambda: unit.life.state is State.STARTING)
        first.cancel()
        assert await call(await second, "add", a=1, b=1) == "2"


async def test_a_server_that_crashed_comes_back_by_itself(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=QUICK) as supervisor:
        unit = supervisor.add(faulty())
        await unit.ready()
        before = pid(unit)
        os.kill(before, signal.SIGKILL)
        await until(lambda: unit.life.state is not State.READY)
        await until(lambda: unit.life.state is State.READY)
        assert pid(unit) != before
        assert unit.life.restarts == 1


async def test_a_server_that_cannot_be_told_anything_is_started_again(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=QUICK) as supervisor:
        unit = supervisor.add(faulty())
        session = await unit.ready()
        before = pid(unit)
        await call(session, "close_input")
        await until(lambda: unit.life.restarts == 1 and unit.life.state is State.READY)
        assert gone(before)


async def test_a_server_that_fails_again_and_again_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=QUICK) as supervisor:
        unit = supervisor.add(faulty("exit-on-start=7"))
        unit.start()
        await until(lambda: unit.life.state is State.FAILED)
        with pytest.raises(NotReadyError, match="exited with status 7 before the MCP handshake") as refused:
            await unit.ready()
        assert "the moon is full" in refused.value.message
        assert "manage_server(name='faulty', action='start')" in refused.value.message
        assert refused.value.retry_after is None
        assert len((tmp_path / "processes.jsonl").read_text().splitlines()) == QUICK.limit + 1


async def test_a_start_that_is_only_tried_out_is_not_tried_again(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty("exit-on-start"))
        unit.retries = False
        unit.start()
        assert await unit.settled() is State.FAILED


async def test_a_caller_is_refused_at_once_while_the_next_try_is_far_off(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=PATIENT) as supervisor:
        unit = supervisor.add(faulty("exit-on-start"))
        unit.start()
        assert await unit.settled() is State.BACKOFF
        began = time.monotonic()
        with pytest.raises(NotReadyError, match="It is started again in") as refused:
            await unit.ready()
        assert time.monotonic() - began < 10  # and not the 30 s until it is started again
        assert 10 < (refused.value.retry_after or 0) <= 30


async def test_a_start_by_hand_does_not_wait_for_the_back_off(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=PATIENT) as supervisor:
        unit = supervisor.add(faulty())
        await unit.ready()
        os.kill(pid(unit), signal.SIGKILL)
        await until(lambda: unit.life.state is State.BACKOFF)
        unit.start()
        await unit.ready()


@pytest.mark.parametrize("fault", ["hang-handshake", "garbage", "slow-start=60"])
async def test_a_server_that_does_not_answer_the_handshake_fails_within_the_deadline(
    tmp_path: Path, fault: str
) -> None:
    # Its process has to be there by then, also on a machine that is busy.
    async with supervising(tmp_path, start_timeout=1.5) as supervisor:
        unit = supervisor.add(faulty(fault))
        unit.retries = False
        began = time.monotonic()
        unit.start()
        await until((tmp_path / "processes.jsonl").exists)
        process = pid(unit)
        assert await unit.settled() is State.FAILED
        assert time.monotonic() - began < 20
        assert "did not answer the MCP handshake within 1.5 s" in (unit.life.reason or "")
        assert gone(process)


async def test_a_missing_program_or_variable_is_the_reason(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=PATIENT) as supervisor:
        missing = supervisor.add(installation(ServerSpec(command="no-such-program"), "missing"))
        unset = supervisor.add(faulty(name="unset", env={"KEY": "${NOT_SET_ANYWHERE}"}))
        for unit in (missing, unset):
            unit.start()
            await unit.settled()
        assert missing.life.state is State.BACKOFF
        assert "'no-such-program' does not exist" in (missing.life.reason or "")
        assert unset.life.state is State.FAILED
        assert "NOT_SET_ANYWHERE" in (unset.life.reason or "")


async def test_servers_that_fail_do_not_hold_up_one_that_works(tmp_path: Path) -> None:
    async with supervising(tmp_path, start_concurrency=4, start_timeout=60.0) as supervisor:
        for number in range(3):
            supervisor.add(faulty("hang-handshake", name=f"hanging{number}")).start()
        assert await asyncio.wait_for(supervisor.add(faulty()).ready(), 30)


async def test_a_stop_while_starting_stops(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty("hang-handshake"))
        unit.start()
        await until((tmp_path / "processes.jsonl").exists)
        process = pid(unit)
        unit.stop()
        await asyncio.wait_for(unit.stopped(), 20)
        assert unit.life.state is State.STOPPED
        assert gone(process)
        unit.installation = faulty()
        await unit.ready()


async def test_a_stop_during_the_back_off_stops(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=PATIENT) as supervisor:
        unit = supervisor.add(faulty("exit-on-start"))
        unit.start()
        await until(lambda: unit.life.state is State.BACKOFF)
        unit.stop()
        await asyncio.wait_for(unit.stopped(), 20)
        assert unit.life.state is State.STOPPED


@pytest.mark.parametrize("state", [State.STOPPED, State.BACKOFF, State.READY, State.FAILED])
async def test_a_start_and_a_stop_in_one_breath_end_in_stopped_and_the_other_way_round_in_ready(
    tmp_path: Path, state: State
) -> None:
    async with supervising(tmp_path, policy=PATIENT) as supervisor:
        unit = supervisor.add(faulty("exit-on-start" if state in (State.BACKOFF, State.FAILED) else "old"))
        unit.retries = state is not State.FAILED
        if state is not State.STOPPED:
            unit.start()
            await until(lambda: unit.life.state is state)
        unit.start()
        unit.stop()
        await until(lambda: unit.life.state is State.STOPPED)
        unit.installation = faulty()
        unit.stop()
        unit.start()
        await until(lambda: unit.life.state is State.READY)


async def test_who_waits_for_a_stop_is_not_held_up_by_who_starts_it_again(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty("ignore-eof"))
        await unit.ready()
        before = pid(unit)
        unit.stop()
        await until(lambda: unit.life.state is State.STOPPING)
        stopped = asyncio.ensure_future(unit.stopped())
        session = await asyncio.wait_for(unit.ready(), 20)
        await asyncio.wait_for(stopped, 1)
        assert await call(session, "add", a=1, b=1) == "2"
        assert pid(unit) != before
        assert gone(before)


async def test_who_waits_for_a_stop_that_is_taken_back_does_not_wait_for_ever(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty())
        unit.start()
        for _ in range(2):  # in the middle of its start, and after it
            await asyncio.sleep(0.01)
            unit.stop()
            stopped = asyncio.ensure_future(unit.stopped())
            unit.start()
            await asyncio.wait_for(stopped, 20)
            await asyncio.wait_for(unit.ready(), 20)


async def test_a_restart_while_busy_ends_the_calls_and_brings_it_back(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty())
        session = await unit.ready()
        busy = [asyncio.ensure_future(call(session, "sleep", seconds=60)) for _ in range(5)]
        await until(lambda: session.in_flight == 5)
        unit.stop()
        await unit.stopped()
        answers = await asyncio.gather(*busy, return_exceptions=True)
        assert [getattr(answer, "written", None) for answer in answers] == [True] * 5
        unit.start()
        assert await call(await unit.ready(), "add", a=1, b=1) == "2"


async def test_a_server_over_its_memory_limit_is_ended_with_that_reason(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=PATIENT, max_memory=150) as supervisor:
        unit = supervisor.add(faulty())
        session = await unit.ready()
        with pytest.raises(Exception, match=r"it used \d+ MiB of memory, over its limit of 150 MiB"):
            await call(session, "eat", mib=200)
        await until(lambda: unit.life.state is State.BACKOFF)
        assert "over its limit of 150 MiB (max_memory)" in (unit.life.reason or "")


async def test_the_memory_limit_holds_from_the_first_moment(tmp_path: Path) -> None:
    greedy = ("-c", "import time; eaten = b'x' * (200 << 20); time.sleep(60)")
    async with supervising(tmp_path, policy=PATIENT, max_memory=100, start_timeout=30.0) as supervisor:
        unit = supervisor.add(installation(ServerSpec(command=sys.executable, args=greedy)))
        with pytest.raises(NotReadyError, match=r"over its limit of 100 MiB \(max_memory\)"):
            await asyncio.wait_for(unit.ready(), 20)


async def test_a_changed_tool_list_is_fetched_and_told(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty())
        session = await unit.ready()
        told: list[set[str]] = []
        supervisor.on_change = lambda unit: told.append({tool["name"] for tool in unit.tools})
        for name in ("one", "two", "three"):
            await call(session, "change_tools", name=name)
        await until(lambda: told and {"one", "two", "three"} <= told[-1])


async def test_a_remembered_modern_server_is_asked_in_its_era_first(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty("modern-only"), era="2026-07-28")
        assert (await unit.ready()).modern
        other = supervisor.add(faulty(name="older"), era="2026-07-28")
        assert not (await other.ready()).modern
        assert other.era == "2025-11-25"


async def test_leaving_ends_every_server_and_all_it_started_within_bounded_time(tmp_path: Path) -> None:
    processes: list[int] = []
    async with supervising(tmp_path) as supervisor:
        for number in range(4):
            unit = supervisor.add(faulty("ignore-eof", "ignore-sigterm", name=f"stubborn{number}"))
            session = await unit.ready()
            processes.append(pid(unit))
            if sys.platform == "linux":
                processes.append(int(await call(session, "spawn")))
        supervisor.add(faulty("hang-handshake", name="hanging")).start()
        failing = supervisor.add(faulty("exit-on-start", name="failing"))
        failing.start()
        began = time.monotonic()
    assert time.monotonic() - began < 20
    await until(
        lambda: all(map(gone, processes))
    )  # killed they are, but what they started may be dying still


async def test_a_removed_server_is_gone_and_its_name_free(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty())
        await unit.ready()
        process = pid(unit)
        assert await supervisor.remove("faulty")
        assert gone(process)
        assert not await supervisor.remove("faulty")
        with pytest.raises(NotReadyError):
            await unit.ready()
        await supervisor.add(faulty()).ready()


@pytest.mark.parametrize("seed", range(3))
async def test_starts_stops_crashes_and_calls_in_any_order_never_wedge_a_server(
    tmp_path: Path, seed: int
) -> None:
    import random

    dice = random.Random(seed)
    policy = RestartPolicy(limit=1000, first_delay=0.001, factor=1)

    async def caller(unit: Unit) -> None:
        while True:
            with suppress(NotReadyError, ChildGoneError):  # the only two ways in which it may fail
                await call(await unit.ready(), "add", a=1, b=1)
            await asyncio.sleep(dice.random() / 50)

    async with supervising(tmp_path, policy=policy) as supervisor:
        unit = supervisor.add(faulty())
        callers = [asyncio.ensure_future(caller(unit)) for _ in range(3)]
        for _ in range(40):
            match dice.choice(["start", "stop", "crash", "wait"]):
                case "start":
                    unit.start()
                case "stop":
                    unit.stop()
                case "crash" if (child := runner_child(supervisor, unit)) and child:
                    try:
                        os.kill(child, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
            await asyncio.sleep(dice.random() / 20)
        assert not [task.exception() for task in callers if task.done()]
        for task in callers:
            task.cancel()
        await asyncio.wait(callers)
        unit.start()
        try:
            answer = await call(await asyncio.wait_for(unit.ready(), 20), "add", a=1, b=1)
        except ChildGoneError:  # of the last crash it was not known yet
            answer = await call(await asyncio.wait_for(unit.ready(), 20), "add", a=1, b=1)
        assert answer == "2"


def runner_child(supervisor: Supervisor, unit: Unit) -> int | None:
    child = supervisor._shared.runner.child(unit.key)
    return child.pid if child is not None and child.returncode is None else None


async def test_a_ledger_that_cannot_be_written_keeps_no_server_from_running(tmp_path: Path) -> None:
    runner = runner_at(tmp_path)
    (tmp_path / "processes.jsonl").mkdir()
    async with supervising(tmp_path, runner) as supervisor:
        assert await supervisor.add(faulty()).ready()
