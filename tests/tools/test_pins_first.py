"""What was stored before it ever ran gets its pin at its first start; what is declared anew gets a new one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers import until
from packed import index as index_of
from packed import server_code, wheel
from pinned_house import PinnedHouse, pinned_house, whats
from toolscore.runners.lifecycle import State
from toolscore.tools.declared import read
from toolscore.tools.reconcile import Reconciler


@asynccontextmanager
async def declaring(house: PinnedHouse) -> AsyncIterator[Any]:
    reconciler = Reconciler(house.servers)

    async def declare(**entry: Any) -> None:
        found = read({"it": entry}, house.folder / "toolscore.toml")
        assert found.problems == []
        done = await reconciler.apply(await reconciler.plan(found.servers))
        assert done.refused == ()
        for _name, task in list(reconciler._tasks.values()):
            await task

    try:
        yield declare
    finally:
        await reconciler.close()


async def up(house: PinnedHouse) -> None:
    await until(lambda: house.servers.supervisor.units["it"].life.state is State.READY)
    await house.servers.library.arrived("it")


async def test_a_declared_server_is_pinned_at_its_first_start(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(server_code("mine"))
    async with pinned_house(tmp_path / "home") as house, declaring(house) as declare:
        await declare(command=sys.executable, args=[str(script)])
        await up(house)
        pin = house.installed().pin
        assert pin is not None
        assert set(pin.tools or {}) == {"say"}
        assert await house.verify() == []
        script.write_text(server_code("mine", tools={"say": "Says it, and more."}))
        house.servers.supervisor.units["it"].stop()
        await until(lambda: house.servers.supervisor.units["it"].life.state is State.STOPPED)
        house.servers.supervisor.units["it"].start()
        await up(house)
        assert whats(await house.verify()) == [f"the program {script} is another one", "tool say changed"]
        # Set otherwise without a restart, the pin stays; declared as another server, it is made anew.
        await declare(command=sys.executable, args=[str(script)], timeout=7)
        assert whats(await house.verify()) == [f"the program {script} is another one", "tool say changed"]
        await declare(command=sys.executable, args=[str(script), "more"])
        await up(house)
        assert await house.verify() == []


async def test_a_declared_package_with_other_arguments_has_its_tools_pinned_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in index_of(tmp_path / "wheels").items():
        monkeypatch.setenv(name, value)
    wheel(tmp_path / "wheels", first="TOOLS.update({word: 'Said.' for word in sys.argv[1:]})")
    async with pinned_house(tmp_path / "home") as house, declaring(house) as declare:
        await declare(source="pypi:toolscored-packed")
        await up(house)
        assert await house.verify() == []
        await declare(source="pypi:toolscored-packed", args=["more"])
        await up(house)
        assert {tool.original for tool in house.servers.library.of("it")} == {"say", "more"}
        assert await house.verify() == []


async def test_a_server_that_could_not_start_when_it_was_synced_is_pinned_once_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in index_of(tmp_path / "wheels").items():
        monkeypatch.setenv(name, value)
    wheel(tmp_path / "wheels")
    async with pinned_house(tmp_path / "home") as house:
        await house.install("pypi:toolscored-packed", env={"KEY": "topsecret"})
        lock = await house.lock()
    async with pinned_house(tmp_path / "other") as other:
        assert (await other.sync(lock["it"])).missing
        pin = other.installed().pin
        assert pin is not None
        assert pin.tools is None
        await other.sync(lock["it"], secrets={"it/env/KEY": "topsecret"})
        pin = other.installed().pin
        assert pin is not None
        assert pin.tools == lock["it"].tools
