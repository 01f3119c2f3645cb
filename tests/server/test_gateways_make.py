"""Servers that one gateway installed are made at the others from their locks, or it is said why they cannot be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp_types import TextResourceContents

from cli_shell import SERVER
from fleet import gateways, servers, until
from packed import index as index_of
from packed import wheel
from postgres import Postgres
from toolscore_client import call, execute, outcome, text


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a server that needs nothing."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "server.py").write_text(SERVER)
    return folder


async def state(client: Client, name: str) -> dict[str, Any]:
    return (await servers(client)).get(name, {})


async def made(folder: Path, name: str, version: str = "") -> bool:
    """Tell whether a server was made in a home."""
    note = folder / "home" / "made" / f"{name}.json"
    return note.exists() and f'"version":"{version}' in note.read_text().replace("null", '""')


async def unable_at(client: Client) -> dict[str, str]:
    """Give the servers that a gateway cannot run, and why."""
    listed = await call(client, "list_servers")
    me = next(one for one in listed["gateways"] if one["here"])
    found: dict[str, str] = me.get("unable", {})
    return found


async def test_a_server_that_one_gateway_installed_is_made_at_the_other_from_its_lock(
    tmp_path: Path, postgres: Postgres
) -> None:
    index = tmp_path / "index"
    wheel(index, "1.0")
    url = postgres.database()
    async with gateways(tmp_path, url, "a", "b", env=index_of(index)) as (a, b):
        await call(a, "install_server", source="pypi:toolscored-packed", name="it")
        folder = tmp_path / "b" / "home" / "servers" / "it"
        await until(partial(made, tmp_path / "b", "it"))
        assert folder.is_dir()
        said = text(await execute(b, "it__say"))
        assert text(await execute(a, "it__say")) == said
        stored = postgres.execute("SELECT installation::text FROM server WHERE name = 'it'", url)[0][0]
        assert str(tmp_path) not in stored.replace(str(index), "")

        wheel(index, "2.0")
        await call(a, "upgrade_server", name="it")
        await until(
            partial(state, b, "it"), lambda seen: (seen["version"], seen["state"]) == ("2.0", "READY")
        )
        await until(partial(made, tmp_path / "b", "it", "2.0"))
        newer = await until(lambda: execute(b, "it__say"), lambda done: text(done).startswith("2.0"))
        assert text(await execute(a, "it__say")) == text(newer)

        # Also where one of them upgrades it that does not run it: the other lets go of the version before.
        wheel(index, "3.0")
        await call(b, "upgrade_server", name="it")
        assert text(await execute(b, "it__say")).startswith("3.0")
        await until(lambda: execute(a, "it__say"), lambda done: text(done).startswith("3.0"))

        # What one that did not install it sets, and what it uninstalls, is so where it was installed.
        await call(b, "configure_server", name="it", settings={"groups": ["x"]})
        await until(partial(state, a, "it"), lambda seen: seen["groups"] == ["x"])
        await call(b, "uninstall_server", name="it")
        await until(partial(servers, a), lambda seen: "it" not in seen)
        assert not folder.exists()
        await until(
            lambda: asyncio.to_thread((tmp_path / "a" / "home" / "servers" / "it").exists),
            lambda there: not there,
        )
    assert postgres.execute("SELECT kind FROM common WHERE name LIKE 'it%'", url) == []


async def test_one_that_cannot_be_made_here_says_why_and_is_made_once_it_can(
    tmp_path: Path, project: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    async with gateways(tmp_path, url, "a") as (a,):
        await call(a, "install_server", source=str(project), name="small")
        elsewhere = project.rename(tmp_path / "elsewhere")
        async with gateways(tmp_path, url, "b") as (b,):
            unable = await until(partial(unable_at, b), lambda seen: str(project) in seen.get("small", ""))
            assert text(await execute(a, "small__echo")) == "{}"
            assert text(await execute(b, "small__echo")) == "{}"  # by way of the other
            await call(b, "configure_server", name="small", settings={"isolation": "per-client"})
            refused = await until(lambda: execute(b, "small__echo"), lambda done: str(project) in text(done))
            assert outcome(refused) == "failed_to_start"
            assert "cannot run at this gateway" in text(refused)
            await call(b, "configure_server", name="small", settings={"isolation": None})
            elsewhere.rename(project)
            await until(partial(made, tmp_path / "b", "small"))
            unable = await until(partial(unable_at, b), lambda seen: not seen)
            assert unable == {}
            assert text(await execute(b, "small__echo")) == "{}"


BACKEND = """
import pathlib, shutil, time
def build_wheel(folder, settings=None, metadata=None):
    while not pathlib.Path({mark!r}).exists():
        time.sleep(0.02)
    return pathlib.Path(shutil.copy({wheel!r}, folder)).name
"""


async def test_a_call_while_it_is_being_made_is_told_to_wait(tmp_path: Path, postgres: Postgres) -> None:
    project, mark, url = tmp_path / "project", tmp_path / "mark", postgres.database()
    project.mkdir()
    built = wheel(tmp_path / "built", "1.0")
    (project / "backend.py").write_text(BACKEND.format(mark=str(mark), wheel=str(built)))
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "toolscored_packed"\nversion = "1.0"\n'
    )
    mark.touch()
    async with gateways(tmp_path, url, "a") as (a,):
        await call(a, "install_server", source=str(project), name="it")
        said = text(await execute(a, "it__say"))
    mark.unlink()
    async with gateways(tmp_path, url, "b") as (b,):
        refused = await execute(b, "it__say")
        assert outcome(refused) == "installing", text(refused)
        assert "Call again in a moment" in text(refused)
        assert (refused.meta or {})["toolscore/retryAfter"] > 0
        assert (await state(b, "it"))["state"] == "INSTALLING"
        groups = (await b.read_resource("toolscore://groups")).contents[0]
        assert isinstance(groups, TextResourceContents)
        assert [one["state"] for one in json.loads(groups.text)["servers"] if one["name"] == "it"] == [
            "INSTALLING"
        ]
        assert "is being installed at this one" in text(await b.call_tool("server_state", {"name": "it"}))
        mark.touch()
        done = await until(lambda: execute(b, "it__say"), lambda done: not done.is_error)
        assert text(done) == said


@contextmanager
def nobody_is_told(url: str) -> Iterator[Callable[[], None]]:
    """Keep everybody from what tells how servers were installed, until what this gives is called."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("LOCK TABLE common")
        yield connection.rollback


LOCKS = "SELECT name FROM common WHERE kind = 'lock'"


async def test_one_that_is_installed_right_before_its_gateway_ends_can_be_made_at_the_others(
    tmp_path: Path, project: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    with ExitStack() as stack:
        async with gateways(tmp_path, url, "a") as (a,):
            go_on = stack.enter_context(nobody_is_told(url))
            await call(a, "install_server", source=str(project), name="small")
            asyncio.get_running_loop().call_later(0.5, go_on)
    assert postgres.execute(LOCKS, url) == [("small",)]


async def test_of_one_that_is_removed_right_after_it_was_installed_nothing_is_told(
    tmp_path: Path, project: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    async with gateways(tmp_path, url, "a") as (a,):
        with nobody_is_told(url) as go_on:
            await call(a, "install_server", source=str(project), name="small")
            removing = asyncio.create_task(call(a, "uninstall_server", name="small"))

            async def waiting() -> int:
                found: int = postgres.execute("SELECT count(*) FROM pg_locks WHERE NOT granted", url)[0][0]
                return found

            await until(waiting, lambda count: count >= 2)
            go_on()
            await removing
    assert postgres.execute(LOCKS, url) == []


async def test_what_was_made_is_there_after_a_restart_without_being_made_again(
    tmp_path: Path, project: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    async with gateways(tmp_path, url, "a", "b") as (a, b):
        await call(a, "install_server", source=str(project), name="small")
        await until(partial(made, tmp_path / "b", "small"))
    marker = tmp_path / "b" / "home" / "servers" / "small" / "marker"
    marker.touch()
    project.rename(tmp_path / "gone")
    async with gateways(tmp_path, url, "b") as (b,):
        await until(partial(state, b, "small"), lambda seen: seen["state"] == "READY")
        assert text(await execute(b, "small__echo")) == "{}"
    assert marker.exists()
