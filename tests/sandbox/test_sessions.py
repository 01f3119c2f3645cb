"""Sessions: state that stays for its principal, and ends when it should."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from helpers import gone, until
from plain_boxes import PlainBoxes
from toolscore.sandbox.executor import Executor
from toolscore.sandbox.limits import Limits
from toolscore.sandbox.settings import SandboxSettings


class Desk:
    def __init__(self, **settings: Any) -> None:
        self.boxes = PlainBoxes()
        self.executor = Executor(
            SandboxSettings(limits=Limits(wall=10), **settings), lambda _environment: self.boxes
        )

    async def start(self, principal: str = "ann", **arguments: Any) -> str:
        made = await self.executor.call("session_start", arguments, principal=principal)
        assert not made["isError"], made
        return str(made["structuredContent"]["session"])

    async def run(self, code: str, session: str, principal: str = "ann", **more: Any) -> dict[str, Any]:
        return await self.executor.call(
            "python_execute", {"code": code, "session": session, **more}, principal=principal
        )

    async def refused(self, code: str, session: str, principal: str = "ann") -> str:
        made = await self.run(code, session, principal)
        assert made["isError"]
        assert "structuredContent" not in made
        return str(made["content"][0]["text"])


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk(sessions=2, sessions_in_all=3)
    async with made.executor:
        yield made
    assert not made.boxes.open_boxes


async def test_state_stays_between_executions(desk: Desk) -> None:
    session = await desk.start()
    await desk.run("x = 41", session)
    made = await desk.run("x + 1", session)
    assert made["structuredContent"]["value"] == 42
    assert made["structuredContent"]["session"] == session


async def test_a_session_is_its_principals_alone(desk: Desk) -> None:
    session = await desk.start()
    never = await desk.refused("1", "never-was", "bob")
    assert (await desk.refused("1", session, "bob")).replace(session, "never-was") == never
    assert (await desk.executor.call("session_end", {"session": session}, principal="bob"))["isError"]
    assert not (await desk.run("1", session))["isError"]


async def test_there_are_only_so_many_sessions(desk: Desk) -> None:
    first = await desk.start()
    await desk.start()
    more = await desk.executor.call("session_start", {}, principal="ann")
    assert more["isError"]
    assert first in more["content"][0]["text"]
    await desk.start("bob")
    assert (await desk.executor.call("session_start", {}, principal="cy"))["isError"]
    await desk.executor.call("session_end", {"session": first}, principal="ann")
    await desk.start("cy")


async def test_many_starts_at_once_are_no_more_than_allowed(desk: Desk) -> None:
    made = await asyncio.gather(*(desk.executor.call("session_start", {}, principal="ann") for _ in range(6)))
    assert sum(not item["isError"] for item in made) == 2


async def test_executions_in_one_session_wait_for_each_other(desk: Desk) -> None:
    session = await desk.start()
    made = await asyncio.gather(
        desk.run("import time; n = 0; time.sleep(0.2); n += 1", session),
        desk.run("n += 1", session),
        desk.run("n", session),
    )
    assert made[2]["structuredContent"]["value"] == 2


async def test_an_ended_session_frees_its_box_at_once_and_what_runs_in_it(desk: Desk) -> None:
    session = await desk.start()
    await desk.run("1", session)
    [box] = desk.boxes.open_boxes
    pid = box.pid
    running = asyncio.ensure_future(desk.run("import time; time.sleep(30)", session))
    await until(lambda: len(desk.boxes.jobs) == 2)
    ended = await desk.executor.call("session_end", {"session": session}, principal="ann")
    assert not ended["isError"]
    assert gone(pid)
    answer = await asyncio.wait_for(running, 20)
    assert "The code was ended with its session" in answer["content"][0]["text"]
    assert answer["isError"]
    assert "was ended with session_end" in await desk.refused("1", session)


async def test_a_session_whose_box_dies_says_so(desk: Desk) -> None:
    session = await desk.start()
    made = await desk.run("import os; os._exit(1)", session)
    assert made["isError"]
    assert "session" not in made["structuredContent"]
    assert f"session {session} is over" in made["content"][0]["text"]
    assert "session_start" in await desk.refused("1", session)
    assert not desk.boxes.open_boxes


async def test_cancelling_an_execution_ends_its_session(desk: Desk) -> None:
    session = await desk.start()
    running = asyncio.ensure_future(desk.run("import time; time.sleep(30)", session))
    await until(lambda: desk.boxes.jobs)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not desk.boxes.open_boxes)
    assert "is over" in await desk.refused("1", session)


async def test_sessions_end_by_themselves_when_not_used_or_too_old(desk: Desk) -> None:
    idle = await desk.start(idle=0.2)
    old = await desk.start(ttl=0.3)
    await until(lambda: not desk.boxes.open_boxes, within=20)
    assert "not used for 0.2 seconds" in await desk.refused("1", idle)
    assert "time to live" in await desk.refused("1", old)


async def test_an_execution_is_not_ended_by_the_idle_limit(desk: Desk) -> None:
    session = await desk.start(idle=2.5)
    made = await desk.run("import time; time.sleep(3); 5", session)
    assert made["structuredContent"]["value"] == 5
    assert made["structuredContent"]["session"] == session


async def test_a_longer_life_than_the_operators_is_noted_not_given(desk: Desk) -> None:
    made = await desk.executor.call("session_start", {"ttl": 1e9, "idle": 1e9}, principal="ann")
    assert made["structuredContent"]["ends_in"] <= 3600
    assert [note.partition(":")[0] for note in made["structuredContent"]["notes"]] == ["ttl", "idle"]


async def test_status_lists_ones_own_sessions_only(desk: Desk) -> None:
    session = await desk.start()
    mine = await desk.executor.call("sandbox_status", {}, principal="ann")
    other = await desk.executor.call("sandbox_status", {}, principal="bob")
    assert [item["session"] for item in mine["structuredContent"]["sessions"]] == [session]
    assert session not in json.dumps(other)
