"""What is set for one server: when it is started and stopped, what it needs, how many instances of it run."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import psutil
import pytest

from helpers import FAULTY, PATIENT, call, faulty, installation, runner_at, supervising, until
from toolscore.runners import slot
from toolscore.runners.instances import AllTakenError
from toolscore.runners.keeping import Keeping, Kept
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.spec import Installation, ServerSpec
from toolscore.runners.supervisor import NotReadyError, Unit


def kept(*faults: str, name: str = "faulty", **keeping: object) -> Installation:
    return faulty(*faults, name=name).model_copy(update={"keeping": Keeping.model_validate(keeping)})


async def pid_of(unit: Unit) -> int:
    return int(await call(await unit.ready(), "pid"))


async def pid_in_a_call(unit: Unit) -> int:
    """Ask in a call: from before the start until the answer the server is not idle, however soon it would be."""
    assert unit.gate.try_enter("somebody else")
    try:
        return await pid_of(unit)
    finally:
        unit.gate.leave("somebody else")


def test_what_is_set_for_one_server_lies_over_what_is_set_for_all() -> None:
    everyone = Kept(max_parallel=7, idle_timeout=3)
    one = everyone.under(Keeping(max_parallel=2, groups=("web",)))
    assert (one.max_parallel, one.idle_timeout, one.groups) == (2, 3, ("web",))


async def test_a_server_is_stopped_after_its_idle_time_and_comes_back_for_the_next_call(
    tmp_path: Path,
) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(kept(idle_timeout=0.2))
        first = await pid_in_a_call(unit)
        await until(lambda: unit.life.state is State.STOPPED)
        assert not psutil.pid_exists(first)
        assert unit.life.reason is None
        assert await pid_in_a_call(unit) != first


async def test_a_server_at_work_is_not_idle(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(kept(idle_timeout=0.1))
        assert unit.gate.try_enter("somebody")
        await unit.ready()
        unit.last_used = time.monotonic() - 60
        unit.configure(unit.installation)  # wakes its owner, which looks again
        first = await pid_of(unit)
        assert unit.life.state is State.READY
        unit.gate.leave("somebody")
        await until(lambda: unit.life.state is State.STOPPED)
        assert await pid_in_a_call(unit) != first


async def test_a_server_starts_those_it_needs_first(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        base = supervisor.add(faulty("slow-start=0.2", name="base"))
        middle = supervisor.add(kept(name="middle", depends_on=("base",)))
        top = supervisor.add(kept(name="top", depends_on=("middle",)))
        await top.ready()
        assert {base.life.state, middle.life.state} == {State.READY}
        assert base.life.since < middle.life.since < top.life.since


async def test_one_whose_need_fails_says_so_and_starts_once_that_is_mended(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=PATIENT) as supervisor:
        flag = tmp_path / "mended"
        script = f"import os, sys; os.path.exists({str(flag)!r}) or sys.exit('no database'); "
        script += f"os.execv(sys.executable, [sys.executable, '-S', {str(FAULTY)!r}])"
        base = supervisor.add(installation(ServerSpec(command=sys.executable, args=("-c", script)), "base"))
        unit = supervisor.add(kept(depends_on=("base",)))
        with pytest.raises(
            NotReadyError, match=r"(?s)it needs another server, and server 'base' is BACKOFF.*no database"
        ):
            await unit.ready()
        flag.touch()
        base.start()
        await until(lambda: unit.life.state is State.READY)


@pytest.mark.parametrize(
    ("enabled", "reason"), [(None, "there is none of that name"), (False, "is disabled")]
)
async def test_a_need_that_is_not_there_is_refused_at_once(
    tmp_path: Path, enabled: bool | None, reason: str
) -> None:
    async with supervising(tmp_path) as supervisor:
        if enabled is not None:
            supervisor.add(faulty(name="base")).enabled = enabled
        unit = supervisor.add(kept(depends_on=("base",)))
        with pytest.raises(NotReadyError, match=reason):
            await unit.ready()
        assert unit.life.state is State.FAILED


async def test_each_holder_has_an_instance_of_its_own_that_goes_with_it(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        main = supervisor.add(kept(isolation="per-client"))
        instances = supervisor.instances("faulty")
        one, two = instances.take(1), instances.take(2)
        pids = await asyncio.gather(pid_of(one), pid_of(two))
        assert pids[0] != pids[1]
        assert instances.take(1) is one
        assert main.life.state is State.STOPPED
        assert (one.name, one.key, two.key) == ("faulty", "faulty#1", "faulty#2")
        supervisor.left(1)
        await until(lambda: not psutil.pid_exists(pids[0]))
        assert psutil.pid_exists(pids[1])
        await until(lambda: list(instances.units) == [2])


async def test_no_more_instances_run_than_may(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(kept(isolation="per-client", max_instances=2))
        instances = supervisor.instances("faulty")
        await asyncio.gather(instances.take(1).ready(), instances.take(2).ready())
        with pytest.raises(AllTakenError, match="all 2 instances of server 'faulty'"):
            instances.take(3)
        waiting = asyncio.ensure_future(instances.take_within(3, 10))
        late = asyncio.ensure_future(instances.take_within(4, 0.05))
        with pytest.raises(AllTakenError):
            await late
        supervisor.left(1)
        third = await waiting
        await third.ready()
        assert len(instances.units) == 2


async def test_an_idle_instance_makes_room_for_another_client(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(kept(isolation="per-client", max_instances=1, idle_timeout=0.1))
        instances = supervisor.instances("faulty")
        first = instances.take(1)
        await first.ready()
        await until(lambda: first.life.state is State.STOPPED)
        await (await instances.take_within(2, 5)).ready()


async def test_spares_are_started_ahead_and_refilled(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(kept(isolation="per-client", spares=1))
        instances = supervisor.instances("faulty")
        instances.refill()
        await until(lambda: [unit.life.state for unit in instances.units.values()] == [State.READY])
        spare = instances.units[1]
        assert instances.take(1) is spare
        await until(lambda: [unit.life.state for unit in instances.units.values()] == [State.READY] * 2)


async def test_what_is_set_anew_holds_without_a_restart(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty())
        first = await pid_of(unit)
        changed = Keeping(max_parallel=1, max_queue=0, timeout=3)
        unit.configure(unit.installation.model_copy(update={"keeping": changed}))
        assert unit.kept.timeout == 3
        assert unit.gate.try_enter("a")
        assert not unit.gate.try_enter("b")
        assert await pid_of(unit) == first


async def test_a_hung_start_does_not_keep_others_from_starting(tmp_path: Path) -> None:
    async with supervising(tmp_path, start_concurrency=1, start_timeout=30.0) as supervisor:
        hung = supervisor.add(faulty("hang-handshake", name="hung"))
        hung.start()
        await until(hung._shared.slots.locked)
        began = time.monotonic()
        await supervisor.add(faulty()).ready()
        await supervisor.add(faulty(name="other")).ready()
        assert hung.life.state is State.STARTING
        # Nobody waited until the slot of the one that hangs would have been taken from it in any case.
        assert time.monotonic() - began < 0.8 * slot.LONGEST


async def test_calls_that_go_unanswered_get_a_mute_server_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.runners.health.PROBE_TIMEOUT", 0.2)
    monkeypatch.setattr("toolscore.runners.health.LOOK", 0.05)
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty())
        session = await unit.ready()
        first = await pid_of(unit)
        await call(session, "deaf")
        for _ in range(unit.breaker.policy.limit):
            ticket = unit.breaker.admit(0.0)
            assert isinstance(ticket, int)
            unit.unanswered(time.monotonic(), ticket)
        await until(lambda: unit.life.restarts == 1 and unit.life.state is State.READY)
        assert unit.last_exit is not None
        assert "it gave no answer to its last calls, nor to a ping" in unit.last_exit[1]
        assert await pid_of(unit) != first


async def test_a_probe_leaves_a_server_alone_that_answers_or_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.runners.health.LOOK", 0.01)
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(faulty())
        session = await unit.ready()
        first = await pid_of(unit)
        unit._health.suspected.set()
        await until(lambda: not unit._health.suspected.is_set(), 30)  # it answered the ping
        await call(session, "deaf")
        monkeypatch.setattr("toolscore.runners.health.PROBE_TIMEOUT", 0.1)
        assert unit.gate.try_enter("a caller it works for")
        unit._health.suspected.set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await session.closed.wait()
        assert psutil.pid_exists(first)
        unit.gate.leave("a caller it works for")
        await until(lambda: not psutil.pid_exists(first))


def launcher(folder: Path, seconds: float) -> Installation:
    """A program named `uvx` that takes its time, as if it downloaded, and then starts the server as its child."""
    script = folder / "uvx"
    script.write_text(
        f"#!{sys.executable} -S\nimport subprocess, sys, time\ntime.sleep({seconds})\n"
        f"sys.exit(subprocess.run([sys.executable, '-S', {str(FAULTY)!r}]).returncode)\n"
    )
    script.chmod(0o755)
    return installation(ServerSpec(command=str(script), args=("a-server",)))


async def test_a_download_is_not_charged_to_the_start_and_is_seen(tmp_path: Path) -> None:
    async with supervising(tmp_path, start_timeout=2.5) as supervisor:
        unit = supervisor.add(launcher(tmp_path, 3.5))
        seen: list[State] = []
        supervisor.on_change = lambda unit: seen.append(unit.life.state)
        await unit.ready()
        assert seen[:2] == [State.STARTING, State.INSTALLING]
        assert seen[-1] is State.READY
        assert unit.life.restarts == 0


async def test_a_caller_who_cannot_wait_for_a_download_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.runners.unit.START_PATIENCE", 3.0)
    monkeypatch.setattr("toolscore.runners.attempt.FETCH_TOLD", 0.1)
    async with supervising(tmp_path, start_timeout=0.1) as supervisor:
        unit = supervisor.add(launcher(tmp_path, 60))
        with pytest.raises(NotReadyError, match="is being downloaded") as refusal:
            await unit.ready()
        assert refusal.value.state is State.INSTALLING
        assert refusal.value.retry_after


async def test_a_download_that_never_ends_is_given_up_with_that_reason(tmp_path: Path) -> None:
    async with supervising(tmp_path, policy=PATIENT, start_timeout=0.2, fetch_timeout=0.5) as supervisor:
        unit = supervisor.add(launcher(tmp_path, 60))
        with pytest.raises(NotReadyError, match=r"its download did not end within 0\.5 s"):
            await unit.ready()


async def test_an_instance_that_was_given_up_for_want_of_another_server_is_started_when_that_is_ready(
    tmp_path: Path,
) -> None:
    missing = installation(ServerSpec(command=str(tmp_path / "program")), "db")
    async with supervising(tmp_path, policy=RestartPolicy(limit=0)) as supervisor:
        database = supervisor.add(missing)
        supervisor.add(kept(isolation="per-client", depends_on=("db",)))
        unit = supervisor.instances("faulty").take(1)
        with pytest.raises(NotReadyError, match="it needs another server"):
            await unit.ready()
        assert unit.life.state is State.FAILED
        database.installation = faulty(name="db")
        database.start()
        await until(lambda: unit.life.state is State.READY)


async def test_a_server_that_gives_up_in_the_moment_in_which_what_it_needs_is_ready_is_started_again(
    tmp_path: Path,
) -> None:
    missing = installation(ServerSpec(command=str(tmp_path / "program")), "db")
    runner = runner_at(tmp_path)
    async with supervising(tmp_path, runner, policy=RestartPolicy(limit=0)) as supervisor:
        database = supervisor.add(missing)
        unit = supervisor.add(kept(depends_on=("db",)))
        stop, giving_up, go_on = runner.stop_server, asyncio.Event(), asyncio.Event()

        async def slow(server_id: str, grace: float | None = None) -> bool:
            if server_id == "faulty":
                giving_up.set()
                await go_on.wait()
            return await stop(server_id, grace)

        runner.stop_server = slow  # type: ignore[method-assign]
        unit.start()
        await asyncio.wait_for(giving_up.wait(), 30)
        database.installation = faulty(name="db")
        database.start()
        await until(lambda: database.life.state is State.READY)
        assert unit.life.state is State.STARTING
        go_on.set()
        await until(lambda: unit.life.state is State.READY)
        assert unit.last_exit is not None
        assert "it needs another server" in unit.last_exit[1]


async def test_a_server_at_work_on_a_task_is_not_idle(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(kept(idle_timeout=0.1))
        assert unit.gate.try_enter("somebody")
        await unit.ready()
        unit.undone.take({"task": {"taskId": "1", "status": "working", "ttl": None}})
        unit.gate.leave("somebody")
        unit.last_used = time.monotonic() - 60
        unit.configure(unit.installation)  # wakes its owner, which looks again
        await pid_of(unit)
        assert unit.life.state is State.READY
        unit.undone.take({"taskId": "1", "status": "completed"})
        await until(lambda: unit.life.state is State.STOPPED)


async def test_a_failure_in_the_middle_of_a_stop_leaves_a_server_that_can_be_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = runner_at(tmp_path)
    async with supervising(tmp_path, runner) as supervisor:
        unit = supervisor.add(faulty())
        await unit.ready()
        stop, failures = runner.stop_server, iter([OSError("no more descriptors")])

        async def failing(server_id: str, grace: float | None = None) -> bool:
            if (failure := next(failures, None)) is not None:
                raise failure
            return await stop(server_id, grace)

        runner.stop_server = failing  # type: ignore[method-assign]
        unit.stop()
        await asyncio.wait_for(unit.stopped(), 10)
        await asyncio.wait_for(unit.ready(), 10)
        assert "no more descriptors" in caplog.text
