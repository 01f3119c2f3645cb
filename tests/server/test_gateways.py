"""Several gateways, one state: a server runs at one of them, and is used at all."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from gateways import eventually, running, visiting
from helpers import gone
from postgres import Postgres


async def test_a_server_runs_at_one_gateway_and_is_used_at_all(postgres: Postgres, tmp_path: Path) -> None:
    with running(tmp_path, postgres.database(), "one", "two") as gates:
        async with visiting(gates["one"].url) as first, visiting(gates["two"].url) as second:
            await first.register("f")

            async def known() -> bool:
                listed = await second.own("list_servers")
                return "f" in [server["name"] for server in listed["servers"]]

            await eventually(known)
            assert await first.text("f__add", a=1, b=2) == "3"
            assert await second.text("f__add", a=3, b=4) == "7"
            assert await first.text("f__pid") == await second.text("f__pid")
