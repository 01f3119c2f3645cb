"""Servers in containers while their engine is killed, hangs, restarts, or is not there; and what is left of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from docker_engine import IMAGE, DockerEngine, eventually, needs_engine
from docker_engine import engine as engine
from docker_house import OPTIONS, call, installed, runners_of, running
from toolscore.runners.docker.child import ContainerChild
from toolscore.runners.docker.runner import DockerRunner
from toolscore.runners.errors import ChildGoneError, InstallError
from toolscore.runners.keeping import Keeping
from toolscore.runners.kinds import Runners
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.spec import Candidate
from toolscore.runners.supervisor import Supervisor

pytestmark = needs_engine


@pytest.fixture
async def runners(tmp_path: Path, engine: DockerEngine) -> AsyncIterator[Runners]:
    async with runners_of(tmp_path, engine) as found:
        yield found


def container(runners: Runners, name: str = "one") -> ContainerChild:
    child = runners.child(name)
    assert isinstance(child, ContainerChild)
    return child


async def test_an_engine_that_is_killed_and_comes_back_has_the_same_container_without_a_handshake(
    runners: Runners, engine: DockerEngine
) -> None:
    async with running(runners, await installed(runners)) as unit:
        assert "before" in await call(unit, "echo", text="before")
        pid, session, first = await call(unit, "pid"), unit.session, container(runners).id
        await asyncio.to_thread(engine.kill)
        await asyncio.wait_for(container(runners).line.cut.wait(), 30)
        assert "engine cannot be reached" in (runners.waits("one") or "")
        waiting = asyncio.create_task(call(unit, "echo", text="asked while it was away"))
        await asyncio.to_thread(engine.start)
        assert "asked while it was away" in await waiting
        assert unit.session is session
        assert container(runners).id == first
        assert await call(unit, "pid") == pid
        assert unit.life.restarts == 0
        assert runners.waits("one") is None
        # Calls go on before what was missed of the log is fetched.
        told = partial(runners.log_folder.tail, "one", 100)
        await eventually(lambda: any("is there again" in str(line) for line in told()[0]), "it is in the log")


async def test_an_engine_that_is_stopped_for_an_upgrade_keeps_its_containers_too(
    runners: Runners, engine: DockerEngine
) -> None:
    async with running(runners, await installed(runners)) as unit:
        first = container(runners).id
        await asyncio.to_thread(engine.stop)
        await asyncio.to_thread(engine.start)
        assert "after" in await call(unit, "echo", text="after")
        assert container(runners).id == first
        assert unit.life.restarts == 0


async def test_a_call_under_way_when_the_engine_dies_gets_an_outcome_and_the_server_a_new_start(
    runners: Runners, engine: DockerEngine
) -> None:
    async with running(runners, await installed(runners)) as unit:
        first = container(runners).id
        session = await unit.ready()
        sleeping = asyncio.create_task(call(unit, "sleep", seconds=600))
        await eventually(lambda: session.in_flight, "the call is under way")
        await asyncio.to_thread(engine.kill)
        with pytest.raises(ChildGoneError) as lost:
            await asyncio.wait_for(sleeping, 30)
        assert lost.value.written
        await eventually(lambda: unit.life.state is State.BACKOFF, "it waits for the engine")
        assert "cannot be reached" in (unit.life.reason or "")
        await asyncio.to_thread(engine.start)
        await eventually(lambda: unit.life.state is State.READY, "it is back")
        assert "again" in await call(unit, "echo", text="again")
        [left] = engine.containers()
        assert left["Id"] == container(runners).id != first


async def test_a_line_that_is_cut_while_nothing_is_under_way_is_joined_again(
    runners: Runners, engine: DockerEngine
) -> None:
    async with running(runners, await installed(runners)) as unit:
        await call(unit, "echo", text="so that all was said and heard")
        pid, session = await call(unit, "pid"), unit.session
        child = container(runners)
        for _ in range(2):
            attached = child.line._attached
            assert attached is not None
            assert attached.transport is not None
            attached.transport.abort()
            await asyncio.wait_for(child.line.cut.wait(), 30)
            assert await call(unit, "pid") == pid
        assert unit.session is session


async def test_a_line_that_is_cut_in_the_middle_of_a_call_is_over(
    runners: Runners, engine: DockerEngine
) -> None:
    async with running(runners, await installed(runners)) as unit:
        first, session = container(runners).id, await unit.ready()
        sleeping = asyncio.create_task(call(unit, "sleep", seconds=600))
        await eventually(lambda: session.in_flight, "the call is under way")
        attached = container(runners).line._attached
        assert attached is not None
        assert attached.transport is not None
        attached.transport.abort()
        with pytest.raises(ChildGoneError, match="cut while it was in use") as lost:
            await asyncio.wait_for(sleeping, 30)
        assert lost.value.written
        assert "again" in await call(unit, "echo", text="again")
        assert container(runners).id != first
        await eventually(lambda: len(engine.containers()) == 1, "the old one is removed")


async def test_an_engine_that_is_away_at_the_start_is_a_clear_state_and_waited_for(
    runners: Runners, engine: DockerEngine
) -> None:
    installation = await installed(runners)
    await asyncio.to_thread(engine.kill)
    async with Supervisor(runners, replace(OPTIONS, policy=RestartPolicy(limit=1))) as supervisor:
        unit = supervisor.add(installation)
        unit.start()
        await eventually(lambda: unit.last_exit, "the first try failed")
        assert "cannot be reached" in (unit.life.reason or "")
        # However often it is tried, the server is not given up for that.
        await eventually(lambda: unit.life.restarts > 3, "it is tried again and again")
        assert unit.life.state is not State.FAILED
        with pytest.raises(InstallError, match="cannot be reached"):
            await runners.install_server(Candidate(source=f"docker:{IMAGE}", name="two"))
        await asyncio.to_thread(engine.start)
        await eventually(lambda: unit.life.state is State.READY, "it is up")


async def test_what_a_server_writes_while_its_line_is_cut_is_in_its_log_once(
    runners: Runners, engine: DockerEngine
) -> None:
    installation = await installed(runners, "-c", CHATTING)
    spec = installation.spec.model_copy(update={"command": "/usr/local/bin/python3"})
    async with running(runners, installation.model_copy(update={"spec": spec})) as unit:
        child = container(runners)

        def numbers() -> list[int]:
            found, _place = runners.log_folder.tail("one", 10_000)
            return [int(line.text.split()[1]) for line in found if line.text.startswith("line ")]

        for cut in (3, 40):
            await eventually(lambda: len(numbers()) > cut, "some lines are written")  # noqa: B023
            attached = child.line._attached
            assert attached is not None
            assert attached.transport is not None
            attached.transport.abort()
            await asyncio.wait_for(child.line.cut.wait(), 30)
            await eventually(lambda: not child.line.cut.is_set(), "it is joined again")
        await asyncio.to_thread(engine.kill)
        await asyncio.to_thread(engine.start)
        await eventually(lambda: not child.line.cut.is_set(), "it is joined again")
        last = len(numbers())
        await eventually(lambda: len(numbers()) > last + 5, "it goes on")
        found = numbers()
        assert found == list(range(len(found)))
        assert unit.life.restarts == 0


async def test_an_engine_that_hangs_keeps_nobody_waiting_for_ever(
    runners: Runners, engine: DockerEngine
) -> None:
    async with running(runners, await installed(runners)) as unit:
        session = await unit.ready()
        await call(unit, "echo", text="x")
        engine.freeze()
        try:
            with pytest.raises(Exception, match=r"did not answer|no answer|within"):
                await session.request("tools/call", {"name": "echo", "arguments": {}}, timeout=1)
        finally:
            engine.thaw()
        assert "thawed" in await call(unit, "echo", text="thawed")


async def test_a_server_is_not_given_up_for_an_engine_that_hangs_while_it_starts(
    runners: Runners, engine: DockerEngine
) -> None:
    installation = await installed(runners, keeping=Keeping(start_timeout=6))
    async with Supervisor(runners, OPTIONS) as supervisor:
        unit = supervisor.add(installation)
        engine.freeze()
        try:
            unit.start()
            assert await unit.settled() is State.BACKOFF
            assert "did not answer" in (unit.life.reason or "")
            assert "Docker engine" in (unit.life.reason or "")
        finally:
            engine.thaw()
        await eventually(lambda: unit.life.state is State.READY, "it is up")


async def test_one_that_is_stopped_while_the_engine_is_away_is_removed_once_it_is_back(
    runners: Runners, engine: DockerEngine
) -> None:
    async with running(runners, await installed(runners)) as unit:
        await asyncio.to_thread(engine.kill)
        unit.stop()
        await unit.stopped()
        await asyncio.to_thread(engine.start)
        await eventually(lambda: not engine.containers(), "nothing is left of it")
        assert unit.life.state is State.STOPPED


async def test_a_container_that_somebody_else_removed_is_made_again(
    runners: Runners, engine: DockerEngine
) -> None:
    async with running(runners, await installed(runners)) as unit:
        first = container(runners).id
        waiting = [asyncio.create_task(call(unit, "sleep", seconds=600)) for _ in range(2)]
        await eventually(lambda: unit.session and unit.session.in_flight == 2, "two calls are under way")
        engine.ask("DELETE", f"/containers/{first}?force=1")
        for task in waiting:
            with pytest.raises(ChildGoneError, match=r"removed by somebody else|SIGKILL"):
                await task
        await eventually(lambda: unit.life.restarts == 1 and unit.life.state is State.READY, "it is back")
        assert container(runners).id != first
        assert "again" in await call(unit, "echo", text="again")
        assert len(engine.containers()) == 1


async def test_what_a_killed_toolscore_left_is_removed_and_its_last_lines_are_kept(
    tmp_path: Path, engine: DockerEngine
) -> None:
    async with runners_of(tmp_path, engine) as runners:
        installation = await installed(runners)
        runner = runners.of("docker")
        assert isinstance(runner, DockerRunner)
        mine = {
            "org.toolscore.home": runner.home,
            "org.toolscore.server": "one",
            "org.toolscore.instance": "1",
            "org.toolscore.owner": "another life",
        }
        left = made(
            engine, mine, ["-c", "import sys, time; print('last words', file=sys.stderr); time.sleep(600)"]
        )
        others = made(
            engine, {**mine, "org.toolscore.home": "another home"}, ["-c", "import time; time.sleep(600)"]
        )
        bare = made(engine, {}, ["-c", "import time; time.sleep(600)"])
        await eventually(
            lambda: b"last words" in engine.ask("GET", f"/containers/{left}/logs?stderr=1"), "it has written"
        )
        async with running(runners, installation):
            there = {one["Id"] for one in engine.containers()}
            assert left not in there
            assert {others, bare} <= there
            assert any("last words" in line for line in await runners.logs("one"))


async def test_one_home_keeps_its_id_and_another_has_another(tmp_path: Path, engine: DockerEngine) -> None:
    ids = []
    for folder in ("a", "a", "b"):
        (tmp_path / folder).mkdir(exist_ok=True)
        async with runners_of(tmp_path / folder, engine) as runners:
            runner = runners.of("docker")
            assert isinstance(runner, DockerRunner)
            ids.append(runner.home)
    assert ids[0] == ids[1] != ids[2]
    assert ((tmp_path / "a" / "run" / "docker-home").stat().st_mode & 0o777) == 0o600


def made(engine: DockerEngine, labels: dict[str, str], args: list[str]) -> str:
    """Make and start a container without ToolScore."""
    import json

    body = {"Image": IMAGE, "Entrypoint": ["/usr/local/bin/python3"], "Cmd": args, "Labels": labels}
    body["HostConfig"] = {"NetworkMode": "none", "Init": True}
    found: str = engine.ask("POST", "/containers/create", json.dumps(body).encode())["Id"]
    engine.ask("POST", f"/containers/{found}/start")
    return found


CHATTING = """
import json, sys, threading, time

def chat():
    number = 0
    while True:
        print("line", number, file=sys.stderr, flush=True)
        number += 1
        time.sleep(0.02)

answers = {
    "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                   "serverInfo": {"name": "chatting", "version": "1"}},
    "tools/list": {"tools": []},
}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        answer = {"jsonrpc": "2.0", "id": asked["id"]}
        if asked["method"] in answers:
            answer["result"] = answers[asked["method"]]
        else:
            answer["error"] = {"code": -32601, "message": "no such method"}
        print(json.dumps(answer), flush=True)
    if asked["method"] == "tools/list":
        threading.Thread(target=chat, daemon=True).start()
"""
