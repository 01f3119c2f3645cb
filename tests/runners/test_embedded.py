"""A server inside this process: supervised, called, stopped and started anew like any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers import PATIENT, runner_at, supervising, until
from toolscore.runners.base import Message
from toolscore.runners.embedded import EmbeddedChild, Handle
from toolscore.runners.errors import ChildGoneError, StartError
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.options import NotReadyError
from toolscore.runners.process import ProcessRunner
from toolscore.runners.spec import Installation, ServerSpec, SourceKind

QUICK = RestartPolicy(first_delay=0.01, factor=1, jitter=0)


class Inside:
    """A small server of function calls."""

    def __init__(self) -> None:
        self.lives = 0
        self.ended = 0
        self.cancelled = 0
        self.refuses: Exception | None = None

    @asynccontextmanager
    async def opened(self, send: Callable[[Message], None]) -> AsyncIterator[Handle]:
        if self.refuses is not None:
            raise self.refuses
        self.lives += 1

        async def handle(message: Message) -> None:
            method, number = message["method"], message.get("id")
            if number is None:
                return
            result: Message = {}
            if method == "initialize":
                result = {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "inside", "version": "1"},
                }
            elif method == "tools/list":
                result = {"tools": [{"name": "same", "inputSchema": {"type": "object"}}]}
            elif message["params"]["name"] == "bug":
                raise ZeroDivisionError("a bug")
            elif message["params"]["name"] == "hang":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            else:
                result = {"content": [], "same": message["params"]["arguments"]["value"]}
            send({"jsonrpc": "2.0", "id": number, "result": result})

        try:
            yield handle
        finally:
            self.ended += 1


def installed(kind: SourceKind = SourceKind.BUILTIN) -> Installation:
    return Installation(server_id="inside", kind=kind, source="test", spec=ServerSpec(url="embedded:inside"))


@asynccontextmanager
async def house(folder: Path, **options: Any) -> AsyncIterator[tuple[Inside, ProcessRunner, Any]]:
    runner = runner_at(folder)
    inside = Inside()
    runner.embedded["inside"] = inside.opened
    async with supervising(folder, runner, **options) as supervisor:
        yield inside, runner, supervisor
    assert inside.ended == inside.lives


async def called(unit: Any, name: str, **arguments: Any) -> Any:
    session = await unit.ready()
    return await session.request("tools/call", {"name": name, "arguments": arguments}, timeout=10)


async def test_it_is_called_without_a_process_and_values_are_handed_over_as_they_are(tmp_path: Path) -> None:
    async with house(tmp_path) as (_inside, runner, supervisor):
        unit = supervisor.add(installed())
        value = {"deep": [1, 2]}
        assert (await called(unit, "same", value=value))["same"] is value
        assert [tool["name"] for tool in unit.tools] == ["same"]
        child = runner.child("inside")
        assert child is not None
        assert child.pid is None
        assert child.returncode is None
        assert (child.stderr_tail(), child.noise()) == ("", "")
        assert (await runner.health_check("inside")).alive


async def test_it_stops_and_starts_anew(tmp_path: Path) -> None:
    async with house(tmp_path) as (inside, _runner, supervisor):
        unit = supervisor.add(installed())
        await unit.ready()
        unit.stop()
        await unit.stopped()
        assert (unit.life.state, inside.lives, inside.ended) == (State.STOPPED, 1, 1)
        await called(unit, "same", value=1)
        assert (inside.lives, inside.ended) == (2, 1)


async def test_it_is_stopped_when_it_is_idle_and_comes_back(tmp_path: Path) -> None:
    async with house(tmp_path, idle_timeout=0.05) as (inside, _runner, supervisor):
        unit = supervisor.add(installed())
        await unit.ready()
        await until(lambda: unit.life.state is State.STOPPED)
        unit.reserve(True)  # or it may be idle again before the call, which no router counts here
        await called(unit, "same", value=1)
        assert inside.lives == 2


async def test_calls_under_way_end_with_it(tmp_path: Path) -> None:
    async with house(tmp_path) as (inside, _runner, supervisor):
        unit = supervisor.add(installed())
        await unit.ready()
        hanging = asyncio.create_task(called(unit, "hang"))
        await until(lambda: unit.session.in_flight == 1)
        unit.stop()
        with pytest.raises(ChildGoneError):
            await asyncio.wait_for(hanging, 10)
        await unit.stopped()
        assert inside.cancelled == 1


async def test_a_bug_in_it_ends_it_and_it_is_started_anew(tmp_path: Path) -> None:
    async with house(tmp_path, policy=QUICK) as (inside, _runner, supervisor):
        unit = supervisor.add(installed())
        with pytest.raises(ChildGoneError, match="internal error"):
            await called(unit, "bug")
        await until(lambda: inside.lives == 2)
        assert (await called(unit, "same", value=1))["same"] == 1


async def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    async with house(tmp_path, policy=PATIENT) as (inside, _runner, supervisor):
        inside.refuses = OSError("nothing protects here")
        unit = supervisor.add(installed())
        with pytest.raises(NotReadyError, match="nothing protects here"):
            await unit.ready()


async def test_only_what_is_part_of_toolscore_can_be_embedded(tmp_path: Path) -> None:
    async with house(tmp_path) as (inside, _runner, supervisor):
        unit = supervisor.add(installed(SourceKind.REGISTERED))
        with pytest.raises(NotReadyError, match="no embedded:inside"):
            await unit.ready()
        assert inside.lives == 0


async def test_it_can_be_killed_and_says_so() -> None:
    inside = Inside()
    child = EmbeddedChild("inside", inside.opened)
    await child.start()
    assert not await child.ended_within(0)
    child.kill("it used too much")
    assert await child.ended_within(5)
    assert child.epitaph() == "server 'inside' was ended: it used too much"
    with pytest.raises(ChildGoneError):
        child.channel.send({"jsonrpc": "2.0", "method": "x"})
    await child.stop(0)
    assert inside.ended == 1


async def test_a_start_that_is_given_up_leaves_nothing() -> None:
    gone = asyncio.Event()

    @asynccontextmanager
    async def slow(_send: Callable[[Message], None]) -> AsyncIterator[Handle]:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        yield _unused

    async def _unused(_message: Message) -> None:
        raise AssertionError

    child = EmbeddedChild("slow", slow)
    starting = asyncio.create_task(child.start())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await asyncio.wait_for(gone.wait(), 5)
    assert await child.ended_within(5)


async def test_a_start_error_is_one_of_the_runners() -> None:
    inside = Inside()
    inside.refuses = ValueError("no")
    with pytest.raises(StartError, match="cannot start: no"):
        await EmbeddedChild("inside", inside.opened).start()
