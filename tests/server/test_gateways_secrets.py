"""Secrets travel sealed where the gateways have a passphrase, and not at all where they have none."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from mcp.client.client import Client

from fleet import gateways, servers, until
from postgres import Postgres
from toolscore_client import TOOLSCORE, call, execute, text

TELLING = str(Path(__file__).parents[1] / "telling_server.py")
WORD = "sesame-street-9"


async def register(client: Client, value: str) -> None:
    await call(
        client, "register_tool", name="t", command=sys.executable, args=["-S", TELLING], env={"KEY": value}
    )


async def state(client: Client) -> str:
    found = (await servers(client)).get("t", {})
    return f"{found.get('state')} {found.get('reason')}"


def everything(postgres: Postgres, url: str) -> str:
    rows = postgres.execute("SELECT installation::text FROM server", url)
    rows += postgres.execute("SELECT body FROM common", url) + postgres.execute(
        "SELECT line FROM journal", url
    )
    return "\n".join(str(row[0]) for row in rows)


async def knows(client: Client) -> bool:
    told = text(await execute(client, "t__holders", word=WORD.encode().hex()))
    return "environ" in told


async def test_a_secret_that_one_gateway_was_given_is_at_the_other_and_never_readable_in_between(
    tmp_path: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    async with gateways(tmp_path, url, "a", "b", env={"TOOLSCORE_PASSPHRASE": "one for all"}) as (a, b):
        await register(a, WORD)
        await until(partial(state, b), lambda seen: seen.startswith("READY"))
        assert await knows(b)
        assert WORD not in everything(postgres, url)

        # One that is set by name, while nobody looks, is there as well, and goes everywhere when it goes.
        def kept(name: str) -> str:
            file = tmp_path / name / "home" / "secrets.json"
            return file.read_text() if file.exists() else ""

        await until(partial(asyncio.to_thread, kept, "b"), lambda seen: WORD in seen)
        asked = [TOOLSCORE, "--home", str(tmp_path / "a" / "home"), "secret"]
        environment = {**os.environ, "TOOLSCORE_PASSPHRASE": "one for all"}
        subprocess.run([*asked, "set", "LATER"], input="open-up", text=True, env=environment, check=True)
        await until(partial(asyncio.to_thread, kept, "b"), lambda seen: "open-up" in seen)
        subprocess.run([*asked, "delete", "LATER"], env=environment, check=True)
        await until(partial(asyncio.to_thread, kept, "b"), lambda seen: "open-up" not in seen)
        await call(b, "unregister_tool", name="t")
        for name in "ab":
            await until(partial(asyncio.to_thread, kept, name), lambda seen: WORD not in seen)


async def test_without_a_passphrase_a_gateway_says_what_it_lacks(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.database()
    async with gateways(tmp_path, url, "b") as (b,):
        async with gateways(tmp_path, url, "a") as (a,):
            await register(a, WORD)
            await until(partial(state, b), lambda seen: seen.startswith("READY"))
            assert await knows(b)  # by the gateway that has it
        # Until it has heard that the other one is gone, it says that.
        await until(
            lambda: execute(b, "t__holders", word=""),
            lambda done: "it lacks the secret t/env/KEY" in text(done),
        )
        assert WORD not in everything(postgres, url)
