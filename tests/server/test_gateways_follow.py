"""What one gateway changes is so at the others, also after the database was away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client

from fleet import events, gateways, servers, tools, until
from postgres import Postgres, running_postgres
from toolscore_client import FAULTY, TOOLSCORE, call, execute, outcome, register_faulty, text

LISTING = str(Path(__file__).parents[1] / "listing_server.py")


@pytest.fixture
def own() -> Iterator[Postgres]:
    """A server of the test's own, to be killed."""
    with running_postgres() as server:
        yield server


async def echoed(client: Client, server: str, said: str) -> bool:
    done: dict[str, str] = json.loads(text(await execute(client, f"{server}__echo", text=said)))
    return done == {"text": said}


def listed(*tools: tuple[str, str]) -> str:
    return json.dumps(
        [{"name": name, "description": said, "inputSchema": {"type": "object"}} for name, said in tools]
    )


async def test_a_server_that_comes_changes_and_goes_at_one_gateway_does_so_at_all(
    tmp_path: Path, postgres: Postgres
) -> None:
    async with gateways(tmp_path, postgres.database(), "a", "b") as (a, b):
        await register_faulty(a, "f")
        await until(lambda: tools(b), lambda names: "f__echo" in names)
        assert await echoed(b, "f", "hello")
        told = await until(
            lambda: events(b), lambda seen: [e for e in seen if e["event"] == "tool_installed"]
        )
        installed = [event for event in told if event["event"] == "tool_installed"]
        assert [(event["server"], "f__echo" in event["tools"]) for event in installed] == [("f", True)]

        await call(b, "manage_server", name="f", action="disable")
        await until(
            lambda: servers(a), lambda seen: not seen["f"]["enabled"] and seen["f"]["state"] == "STOPPED"
        )
        assert "f__echo" not in await tools(a)
        await call(a, "manage_server", name="f", action="enable")
        await until(lambda: servers(b), lambda seen: seen["f"]["enabled"])
        assert await echoed(b, "f", "again")

        await call(b, "configure_server", name="f", settings={"max_parallel": 3})

        # Whoever has not heard of it yet is refused; nothing is overwritten.
        asked = {"name": "f", "settings": {"groups": ["x"]}}
        done = await until(lambda: a.call_tool("configure_server", asked), lambda done: not done.is_error)
        assert done.structured_content is not None
        assert done.structured_content["settings"] == {"max_parallel": 3, "groups": ["x"]}

        await call(b, "unregister_tool", name="f")
        await until(lambda: servers(a), lambda seen: "f" not in seen)
        assert "f__echo" not in await tools(a)
        assert outcome(await execute(a, "f__echo", text="?")) == "unknown_tool"
        gone = [event for event in await events(a) if event["event"] == "tool_removed"]
        assert "f__echo" in gone[-1]["tools"]


async def test_a_list_that_changes_at_one_gateway_and_its_quarantine_are_so_at_all(
    tmp_path: Path, postgres: Postgres
) -> None:
    file = tmp_path / "tools.json"

    def lists(*tools: tuple[str, str]) -> None:
        # In one piece, as the server may be asked for its list at any moment.
        file.with_suffix(".new").write_text(listed(*tools))
        file.with_suffix(".new").replace(file)

    lists(("announce", "Announces."), ("add", "Adds."))
    async with gateways(tmp_path, postgres.database(), "a", "b") as (a, b):
        await call(a, "register_tool", name="s", command=sys.executable, args=["-S", LISTING, str(file)])
        await until(lambda: tools(b), lambda names: "s__add" in names)
        await until(lambda: servers(b), lambda seen: seen["s"]["state"] == "READY")
        lists(("announce", "Announces."), ("add", "Adds, and more."), ("new", "News."))
        assert text(await execute(a, "s__announce")) == "announce"
        await until(lambda: tools(b), lambda names: "s__new" in names)

        async def held() -> list[str]:
            return [one["tool"] for one in (await call(b, "list_quarantined"))["tools"]]

        await until(held, lambda names: names == ["s__add"])
        refused = await execute(b, "s__add")
        assert outcome(refused) == "changed"
        done = await asyncio.to_thread(toolscore, tmp_path / "a" / "home", "approve", "s", "add", "--yes")
        assert done.returncode == 0, done.stderr
        await until(held, lambda names: names == [])


async def test_of_two_gateways_that_take_one_name_at_once_one_gets_it_whole(
    tmp_path: Path, postgres: Postgres
) -> None:
    # Two servers that have nothing in common but the name they are to have.
    file = tmp_path / "tools.json"
    file.write_text(listed(("announce", "Announces.")))
    programs = {"echo": [FAULTY], "announce": ["-S", LISTING, str(file)]}
    async with gateways(tmp_path, postgres.database(), "a", "b") as both:
        for name in ("f", "g", "h"):
            done = await asyncio.gather(
                *(
                    client.call_tool("register_tool", {"name": name, "command": sys.executable, "args": args})
                    for client, args in zip(both, programs.values(), strict=True)
                )
            )
            outcomes = [outcome(one) or "" for one in done]
            assert outcomes.count("") == 1, [text(one) for one in done]
            assert {"", "name_taken", "installing"} >= set(outcomes), [text(one) for one in done]
            mine, other = sorted(programs, key=lambda tool: list(programs).index(tool) != outcomes.index(""))
            for client in both:
                await until(partial(tools, client), partial(contains, f"{name}__{mine}"))
                assert not contains(f"{name}__{other}", await tools(client))
                assert not (await execute(client, f"{name}__{mine}")).is_error


async def test_a_name_is_free_at_the_others_from_the_moment_its_server_is_removed(
    tmp_path: Path, postgres: Postgres
) -> None:
    async with gateways(tmp_path, postgres.database(), "a", "b") as (a, b):
        # Its end takes a while, for which the name is not in the store any more and its process still there.
        await register_faulty(a, "f", "ignore-eof")
        await until(lambda: tools(b), lambda names: "f__echo" in names)
        removing = asyncio.create_task(call(a, "unregister_tool", name="f"))
        await until(lambda: servers(b), lambda seen: "f" not in seen)
        # Nor is a program that is not there held against the one that comes after it.
        asked = {"name": "f", "command": str(tmp_path / "nothing")}
        # While it is being taken out here, it says so, and to try again.
        refused = await until(
            lambda: b.call_tool("register_tool", asked), lambda one: outcome(one) != "installing"
        )
        assert outcome(refused) == "failed_to_start", text(refused)
        done = await b.call_tool("register_tool", {**asked, "command": sys.executable, "args": [FAULTY]})
        assert not done.is_error, text(done)
        await removing
        await until(lambda: tools(a), lambda names: "f__echo" in names)
        assert await echoed(a, "f", "the new one")


async def test_what_changed_while_the_database_was_away_for_one_is_seen_when_it_is_back(
    tmp_path: Path, own: Postgres
) -> None:
    url = own.database()
    async with gateways(tmp_path, url, "a", "b", env={"TOOLSCORE_GATEWAY_TIMEOUT": "60"}) as (a, b):
        await register_faulty(a, "old")
        await until(lambda: tools(b), lambda names: "old__echo" in names)
        assert await echoed(b, "old", "over the other one")
        own.kill()
        # What runs goes on while it surely is whose it was, and what would have to be kept is refused.
        assert await echoed(a, "old", "still")
        refused = await a.call_tool(
            "register_tool", {"name": "new", "command": sys.executable, "args": [FAULTY]}
        )
        assert refused.is_error
        assert "cannot be reached" in text(refused) or "does not answer" in text(refused)
        assert "new" not in await servers(a)
        own.start()
        # As another gateway would have while this one did not hear it.
        own.execute("DELETE FROM server WHERE name = 'old'", url)
        for client in (a, b):
            await until(partial(servers, client), lambda seen: "old" not in seen)
        await until(lambda: a.call_tool("register_tool", asked()), lambda done: not done.is_error)
        await until(lambda: tools(b), lambda names: "new__echo" in names)


def toolscore(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOLSCORE, "--home", str(home), *words], capture_output=True, text=True, check=False
    )


def contains(name: str, names: set[str]) -> bool:
    return name in names


def asked() -> dict[str, Any]:
    return {"name": "new", "command": sys.executable, "args": [FAULTY]}


async def test_functions_are_those_of_all_gateways(tmp_path: Path, postgres: Postgres) -> None:
    source = "def double(n: int) -> int:\n    '''Doubles.'''\n    return {}\n"
    async with gateways(tmp_path, postgres.database(), "a", "b") as (a, b):
        await call(a, "register_tool", name="double", source=source.format("2 * n"))
        await until(lambda: tools(b), lambda names: "functions__double" in names)
        await call(b, "register_tool", name="double", source=source.format("n + n"))

        async def version() -> Any:
            return (await call(a, "show_functions", name="double"))["functions"][0]["version"]

        await until(version, lambda now: now == 2)
        await call(a, "manage_function", name="double", action="remove")
        await until(lambda: tools(b), lambda names: "functions__double" not in names)
