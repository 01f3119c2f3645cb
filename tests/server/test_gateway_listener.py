"""Where gateways come in to each other: by a ticket, once, for what they asked for, and nobody else."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from postgres import Postgres
from toolscore.runners.errors import StartError
from toolscore.server.doctor import Check, examine
from toolscore.server.gateways.home import Gateways, joined
from toolscore.server.gateways.listener import Visit
from toolscore.server.home import Home, prepare
from toolscore.server.settings import Settings, load
from toolscore.tools.store import Store
from toolscore_client import BARE, TOOLSCORE


@asynccontextmanager
async def gateway(url: str, folder: Path, **settings: str) -> AsyncIterator[Gateways]:
    given = {f"gateway.{key}": value for key, value in settings.items()}
    loaded = load(given, home=str(folder), environ={})
    home = Home.at(folder)
    prepare(home)
    store = await Store.open(url)
    try:
        async with joined(loaded.settings, home, store, "1", passing=False) as gateways:
            assert gateways is not None
            yield gateways
    finally:
        await store.close()


async def echo(visit: Visit) -> None:
    async for frame in visit.wire:
        await visit.wire.send(f"{visit.sender} {visit.query.get('what')} {frame!s}")


@pytest.fixture
async def two(postgres: Postgres, tmp_path: Path) -> AsyncIterator[tuple[Gateways, Gateways]]:
    url = postgres.database()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(gateway(url, tmp_path / "first"))
        second = await stack.enter_async_context(gateway(url, tmp_path / "second", name="other"))
        second.listener.routes["/echo"] = echo
        yield first, second


async def test_a_gateway_comes_in_to_another_and_is_known_there(two: tuple[Gateways, Gateways]) -> None:
    first, second = two
    async with await first.dialer.dial(second.registry.me, "/echo", {"what": "a b"}) as wire:
        await wire.send("hello")
        assert await wire.recv() == f"{first.registry.me.id} a b hello"
    assert second.registry.me.name == "other"
    assert first.registry.me.name.endswith(":first")


def _looked(settings: Settings) -> Check | None:
    """What the doctor says of gateways, before it comes to what takes long."""
    before = itertools.takewhile(lambda one: one.name != "secrets", examine(settings))
    return next((one for one in before if one.name == "gateways"), None)


async def test_the_doctor_and_the_command_line_tell_who_shares_the_store(
    two: tuple[Gateways, Gateways], tmp_path: Path
) -> None:
    first, _second = two
    where = first.registry.store.where
    assert isinstance(where, str)
    loaded = load({"database.url": where}, home=str(tmp_path / "third"), environ={})
    check = await asyncio.to_thread(_looked, loaded.settings)
    assert check is not None
    assert check.status == "ok", check
    assert "other (serving, runs 0)" in check.found
    words = [TOOLSCORE, "--home", str(tmp_path / "third"), "gateways", "--json"]
    shell = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, env={**os.environ, **BARE, "TOOLSCORE_DATABASE_URL": where}
    )
    said, _ = await shell.communicate()
    told = {one["name"]: one for one in json.loads(said)["gateways"]}
    assert told["other"]["url"] == two[1].listener.url
    assert len(told) == 2  # the command is none of them


async def test_without_a_shared_store_the_doctor_does_not_speak_of_gateways(tmp_path: Path) -> None:
    loaded = load({}, home=str(tmp_path), environ={})
    assert await asyncio.to_thread(_looked, loaded.settings) is None


async def test_who_has_no_ticket_does_not_come_in(two: tuple[Gateways, Gateways]) -> None:
    _first, second = two
    for headers in ({}, {"Authorization": "Bearer made-up"}, {"Authorization": "Basic eA=="}):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{second.listener.url}/echo", additional_headers=headers, proxy=None)
        assert refused.value.response.status_code == 401


async def test_nothing_else_is_there(two: tuple[Gateways, Gateways]) -> None:
    first, second = two
    with pytest.raises(StartError, match="gateway 'other' cannot be reached"):
        await first.dialer.dial(second.registry.me, "/other", {})


async def test_lines_end_with_their_gateway(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.database()
    async with gateway(url, tmp_path / "first") as first:
        async with gateway(url, tmp_path / "second") as second:
            second.listener.routes["/echo"] = echo
            wire = await first.dialer.dial(second.registry.me, "/echo", {})
        with pytest.raises(ConnectionClosed):
            await wire.recv()
