"""Use of the machine over time, groups and installations are resources that any client can read."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from several import RICH, Line, Message, Serving, serving
from toolscore.runners.lifecycle import State
from toolscore.runners.sampler import Usage
from toolscore.server.usage_history import KEPT, UsageHistory

MANAGE = ("--no-token", "--set", "tools.expose=all", "--set", "network.rights=call,manage")


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("overview"), *MANAGE, rich=["-S", RICH]) as one:
        yield one


@pytest.fixture
async def line(toolscore: Serving) -> AsyncIterator[Line]:
    async with toolscore.line() as one:
        yield one


async def read(line: Line, what: str) -> Message:
    [content] = (await line.request("resources/read", uri=f"toolscore://{what}"))["result"]["contents"]
    assert (content["uri"], content["mimeType"]) == (f"toolscore://{what}", "application/json")
    body: Message = json.loads(content["text"])
    return body


async def until(line: Line, what: str, wanted: Callable[[Message], Any]) -> Message:
    async with asyncio.timeout(60):
        while True:
            body = await read(line, what)
            if wanted(body):
                return body
            await asyncio.sleep(0.02)


async def test_memory_and_processors_are_sampled_before_anybody_asks(line: Line) -> None:
    body = await until(line, "usage", lambda body: "rich" in body["servers"])
    used = body["servers"]["rich"]
    assert len(used["memory"]) == len(used["cpu"]) == len(body["at"])
    assert next(one for one in used["memory"] if one is not None) > 1 << 20
    assert all(0 <= one < 64 for one in used["cpu"] if one is not None)
    assert body["interval"] >= 5


async def test_only_what_came_since_and_of_one_server_is_given(line: Line) -> None:
    body = await until(line, "usage", lambda body: body["at"])
    since = await read(line, f"usage?after={body['at'][0]}")
    assert since["at"] == [at for at in since["at"] if at > body["at"][0]]
    assert (await read(line, "usage?server=nobody"))["servers"] == {}
    assert (await read(line, "usage?after=soon"))["at"][: len(body["at"])] == body["at"]


async def test_groups_tell_state_and_needs(line: Line) -> None:
    await line.call("register_tool", name="store", command=sys.executable, args=["-S", RICH])
    settings = {"depends_on": ["store"], "groups": ["shop"]}
    assert "isError" not in await line.call("configure_server", name="rich", settings=settings)
    body = await read(line, "groups")
    assert body["groups"] == ["shop"]
    found = {one["name"]: one for one in body["servers"]}
    assert found["rich"]["depends_on"] == ["store"]
    assert found["rich"]["groups"] == ["shop"]
    assert (found["store"]["state"], found["store"]["enabled"]) == ("READY", True)
    assert found["store"]["since"] > 1.7e9


async def test_a_second_client_sees_an_installation_and_how_it_ends(toolscore: Serving, line: Line) -> None:
    async with toolscore.line() as other:
        assert "result" in await other.request("resources/subscribe", uri="toolscore://installs")
        good = await line.call("install_server", source=f"command: {sys.executable} -S {RICH}", name="good")
        assert "isError" not in good
        assert await other.told("notifications/resources/updated") == {"uri": "toolscore://installs"}
        missing = Path(RICH).with_name("nowhere.py")
        bad = await line.call("install_server", source=f"command: {sys.executable} {missing}", name="bad")
        assert bad["isError"]
        body = await read(other, "installs")
    installs = {one["name"]: one for one in body["installs"]}
    assert (installs["good"]["state"], installs["good"]["progress"], installs["good"]["steps"]) == (
        "done",
        4,
        4,
    )
    assert installs["good"]["lines"][0].startswith("fetching command:")
    assert installs["good"]["lines"][-1] == "good is ready"
    assert installs["bad"]["state"] == "failed"
    assert "nothing of it was kept" in installs["bad"]["reason"]
    assert installs["bad"]["ended"] >= installs["bad"]["began"]


async def test_a_secret_of_a_source_is_not_told(toolscore: Serving, line: Line) -> None:
    source = f"command: {sys.executable} -S {RICH} --api-key=s3cr3t-w0rd-of-mine-0123456789"
    await line.call("install_server", source=source, name="keeper")
    body = await read(line, "installs")
    assert any(one["name"] == "keeper" for one in body["installs"])
    assert "s3cr3t" not in json.dumps(body)


class Life:
    state = State.READY


class Machine:
    """A supervisor's face to the history, whose servers use what a test says."""

    def __init__(self) -> None:
        self.used: dict[str, Usage] = {}

    @property
    def units(self) -> dict[str, object]:
        return {key.partition("#")[0]: None for key in self.used}

    def all_units(self) -> list[Any]:
        return [SimpleNamespace(key=key, name=key.partition("#")[0], life=Life()) for key in self.used]

    async def usage(self, keys: list[str]) -> dict[str, Usage]:
        return {key: self.used[key] for key in keys if self.used[key].processes}


async def test_a_history_is_bounded_adds_instances_up_and_has_gaps_where_nothing_ran() -> None:
    machine = Machine()
    history = UsageHistory(machine)  # type: ignore[arg-type]
    machine.used = {"one": Usage(100, 0.5, 1, 1), "one#1": Usage(20, 0.25, 1, 1), "two": Usage(7, 0, 1, 1)}
    for _ in range(KEPT):
        await history.sample()
    machine.used["two"] = Usage(0, 0, 0, 0)
    for number in range(3):
        machine.used["one"] = Usage(1000 + number, 0.5, 1, 1)
        await history.sample()
    body = history.read(None)
    assert len(body["at"]) == KEPT
    assert body["at"] == sorted(body["at"])
    assert body["servers"]["one"]["memory"] == [120] * (KEPT - 3) + [1020, 1021, 1022]
    assert body["servers"]["one"]["cpu"][-1] == 0.75
    assert body["servers"]["two"]["memory"] == [7] * (KEPT - 3) + [None] * 3
    del machine.used["two"]
    await history.sample()
    assert list(history.read(None)["servers"]) == ["one"], "what was removed is forgotten"
    assert history.read(["two"])["servers"] == {}
