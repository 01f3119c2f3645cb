"""Servers as processes: how they start, what they get, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from helpers import CLIENT_INFO, call, faulty, gone, installation, runner_at, speaking, started, until
from toolscore.runners.errors import MissingVariableError, StartError
from toolscore.runners.session import ChildSession
from toolscore.runners.spec import ServerSpec

linux = pytest.mark.skipif(sys.platform != "linux", reason="finds what left its session by /proc")


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    spec = ServerSpec(command="no-such-program-anywhere")
    with pytest.raises(StartError, match=r"program 'no-such-program-anywhere' does not exist"):
        await runner_at(tmp_path).start_server(installation(spec))


async def test_a_missing_working_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=f"folder {tmp_path}/nowhere does not exist"):
        await runner_at(tmp_path).start_server(faulty(cwd=str(tmp_path / "nowhere")))


async def test_a_program_that_may_not_be_run_is_a_start_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot start"):
        await runner_at(tmp_path).start_server(installation(ServerSpec(command=str(tmp_path))))


async def test_an_unset_variable_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    runner = runner_at(tmp_path)
    with pytest.raises(MissingVariableError, match=r"\$\{NOT_SET_ANYWHERE\} is not set, and env\.KEY"):
        await runner.start_server(faulty(env={"KEY": "${NOT_SET_ANYWHERE}"}))
    assert runner.child("faulty") is None


async def test_a_secret_of_the_parent_never_reaches_a_child_that_does_not_name_it(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "TOOLSCORE_TOKEN": "s3cret",
        "LC_ALL": "C.UTF-8",
    }
    runner = runner_at(tmp_path, environ=environ, secret={"faulty/KEY": "kept"}.get)
    child = await runner.start_server(
        faulty(env={"NAMED": "${AWS_SECRET_ACCESS_KEY}", "KEY": "${secret:faulty/KEY}"})
    )
    session = ChildSession(child.channel, client_info=CLIENT_INFO, epitaph=child.epitaph)
    session.open()
    await session.handshake()
    environment = await call(session, "env")
    assert environment.pop("NAMED") == "s3cret"
    assert environment.pop("KEY") == "kept"
    assert "s3cret" not in environment.values()
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["PATH"] == os.environ["PATH"]
    await runner.stop_server("faulty", 0)
    await session.aclose()


async def test_the_working_directory_is_the_one_of_the_spec(tmp_path: Path) -> None:
    runner = runner_at(tmp_path)
    child = await runner.start_server(faulty(cwd=str(tmp_path / "servers")))
    assert psutil.Process(child.pid).cwd() == str(tmp_path / "servers")
    await runner.stop_server("faulty", 0)


async def test_a_stopped_server_ends_by_itself_and_is_forgotten(tmp_path: Path) -> None:
    runner = runner_at(tmp_path)
    child = await runner.start_server(faulty())
    assert (await runner.health_check("faulty")).alive
    assert await runner.stop_server("faulty", 30)
    assert child.returncode == 0
    assert runner.child("faulty") is None
    assert not await runner.stop_server("faulty")
    assert not (await runner.health_check("faulty")).alive


@pytest.mark.parametrize(
    ("faults", "grace", "status"),
    [
        (("ignore-eof",), 0.3, -signal.SIGTERM),
        (("ignore-eof", "ignore-sigterm"), 0.3, -signal.SIGKILL),
        (("ignore-sigterm", "hang-handshake"), 20, 0),
    ],
    ids=str,
)
async def test_stopping_escalates_within_bounded_time(
    tmp_path: Path, faults: tuple[str, ...], grace: float, status: int
) -> None:
    async with started(tmp_path, *faults) as (session, child):
        await session.request("ping", {}, timeout=20)  # it has come so far as to read, and to ignore
        began = time.monotonic()
        await child.stop(grace)
        assert time.monotonic() - began < 15
        assert child.returncode == status
        assert gone(child.pid or 0)


async def test_stopping_a_server_whose_input_is_full_is_bounded_too(tmp_path: Path) -> None:
    async with started(tmp_path) as (session, child):
        await session.handshake()
        await call(session, "deaf")
        session.notify("notifications/message", {"data": "x" * 5_000_000})
        began = time.monotonic()
        await child.stop(0.2)
        assert time.monotonic() - began < 15
        assert gone(child.pid or 0)


async def test_two_who_stop_the_same_server_both_see_it_gone(tmp_path: Path) -> None:
    runner = runner_at(tmp_path)
    child = await runner.start_server(faulty("ignore-eof"))
    await asyncio.gather(child.stop(0.1), child.stop(0.1), runner.stop_server("faulty", 0.1))
    assert child.returncode is not None


@linux
async def test_a_grandchild_in_its_own_session_is_dead_after_a_stop(tmp_path: Path) -> None:
    async with started(tmp_path) as (session, child):
        await session.handshake()
        grandchild = int(await call(session, "spawn"))
        assert not gone(grandchild)
        await child.stop(2)
        await until(lambda: gone(grandchild), 30)


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_grandchild_in_its_own_session_is_dead_after_a_crash(tmp_path: Path, number: int) -> None:
    async with started(tmp_path) as (session, child):
        await session.handshake()
        grandchild = int(await call(session, "spawn"))
        os.kill(child.pid or 0, number)
        assert await child.ended_within(30)
        await until(lambda: gone(grandchild), 30)
        assert child.epitaph() == f"server 'faulty' was ended by {signal.Signals(number).name}"


async def test_an_end_tells_its_status_and_its_last_words(tmp_path: Path) -> None:
    async with started(tmp_path, "exit-on-start=7") as (_, child):
        assert await child.ended_within(30)
        assert child.epitaph() == "server 'faulty' exited with status 7"
        assert "the moon is full" in child.stderr_tail()


async def test_health_names_memory_and_processor_time(tmp_path: Path) -> None:
    runner = runner_at(tmp_path)
    child = await runner.start_server(faulty("flood=1"))
    await until(child.stderr_tail)  # it is up: at first it is hardly anything
    health = await runner.health_check("faulty")
    assert (health.alive, health.pid) == (True, child.pid)
    assert health.memory is not None
    assert health.memory > 1_000_000
    await runner.stop_server("faulty", 0)


async def test_logs_are_there_after_the_end_and_go_with_the_server(tmp_path: Path) -> None:
    runner, server = runner_at(tmp_path), faulty("exit-on-start")
    child = await runner.start_server(server)
    await child.ended_within(30)
    lines = await runner.logs("faulty")
    assert lines[-1].endswith("Z INFO cannot go on: the moon is full")
    await runner.stop_server("faulty")
    await runner.remove_server(server)
    assert await runner.logs("faulty") == []


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        ("usage", r'try again with args \["stdio"\]'),
        ("exit-on-start", "may need arguments|may be no MCP server, or need"),
        ("garbage", "printed text that is no MCP message, beginning with '\\*\\*\\* Welcome"),
    ],
)
async def test_a_failed_start_is_explained_from_what_it_left(tmp_path: Path, fault: str, hint: str) -> None:
    runner, server = runner_at(tmp_path), faulty(fault)
    child = await runner.start_server(server)
    if fault == "garbage":
        await until(child.noise)
    else:
        await child.ended_within(30)
    diagnosis = runner.explain(server, child.epitaph())
    assert diagnosis.constraint is None
    assert re.search(hint, diagnosis.message)
    assert await runner.diagnose("faulty") == diagnosis.message
    await runner.stop_server("faulty", 0)


async def test_a_server_for_the_first_sdk_is_told_by_its_traceback(tmp_path: Path) -> None:
    runner, server = runner_at(tmp_path), faulty("mcp-v1").model_copy(update={"runtime": "python"})
    child = await runner.start_server(server)
    await child.ended_within(30)
    assert runner.explain(server, child.epitaph()).constraint == "mcp<2"
    repaired = server.model_copy(update={"constraints": ("mcp<2",)})
    assert runner.explain(repaired, child.epitaph()).constraint is None
    await runner.stop_server("faulty", 0)


async def test_a_line_that_never_ends_is_told_as_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.runners.pipes.LineSplitter.__init__.__defaults__", (1 << 20,))
    async with started(tmp_path, "huge-line=3") as (session, child):
        await asyncio.wait_for(session.closed.wait(), 30)
        assert "a line of more than 1048576 bytes" in child.epitaph()


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    runner = runner_at(tmp_path)
    server = faulty("hang-handshake", url="ws://127.0.0.1:${PORT}/")
    starting = asyncio.ensure_future(runner.start_server(server))
    await until(lambda: (child := runner.child("faulty")) is not None and child.pid)
    child = runner.child("faulty")
    assert child is not None
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await runner.stop_server("faulty", 0)
    assert gone(child.pid or 0)


async def test_calls_go_on_while_the_log_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "faulty.log").mkdir()
    async with speaking(tmp_path) as session:
        assert await call(session, "stderr", kib=100) == "written"
