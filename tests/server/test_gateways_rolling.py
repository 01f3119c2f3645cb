"""Three gateways behind a plain TCP balancer, restarted one after the other under load, and the database away."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from helpers import gone, until
from listening import Message
from postgres import Postgres, running_postgres
from several_gateways import LIFE, PATIENCE, Gate, Gates, Visitor, eventually, running, visiting
from streams import pass_on, serving_streams
from toolscore.client import ToolScore
from toolscore_client import TOOLSCORE

NAMES = ("one", "two", "three")
SHARED = ("alpha", "beta", "gamma")


class Balancer:
    """A plain TCP balancer: each connection goes to the next gateway that takes it."""

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self._turn = 0
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Balancer]:
        async with serving_streams(self._took) as port:
            self.url = f"ws://127.0.0.1:{port}/mcp"
            yield self

    async def _took(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in NAMES:
            self._turn += 1
            port = urlsplit(self._gates[NAMES[self._turn % len(NAMES)]].url).port
            assert port is not None
            with suppress(OSError):
                await pass_on(reader, writer, port)
                return
        writer.close()


class Load:
    """Clients that call without a pause, and connect anew when their line is closed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.told: Counter[str] = Counter()
        self.wrong: list[object] = []
        self.joined = asyncio.Event()
        """Set once the client for runtimes has all its lines."""
        self.over = asyncio.Event()

    async def client(self, tool: str) -> None:
        number = 0
        while not self.over.is_set():
            with suppress(ConnectionError, ConnectionClosed, InvalidHandshake, OSError, EOFError):
                async with visiting(self._url) as visitor:
                    while not self.over.is_set():
                        await self._called(visitor, tool, number := number + 1)
            await asyncio.sleep(0.02)

    async def _called(self, visitor: Visitor, tool: str, number: int) -> None:
        try:
            result = await visitor.call(tool, a=number, b=1)
        except ConnectionError:
            # Closed in order, so that it was not heard: it is simply called again.
            self.told["not heard" if visitor.closed_in_order else "cut off"] += 1
            raise
        if not result.get("isError"):
            if result["content"][0]["text"] != str(number + 1):
                self.wrong.append(result)
            self.told["answered"] += 1
            return
        outcome = result["_meta"]["toolscore/outcome"]
        self.told[outcome] += 1
        self.wrong.append(result)


async def runtime(url: str, load: Load) -> None:
    """Call by the client for runtimes, which goes on by itself, and follow the events."""
    servers: set[str] = set()

    async def follow(ts: ToolScore) -> None:
        async for event in ts.events():
            servers.add(event.server)

    async with ToolScore.connect(url, lines=3, patience=LIFE) as ts:
        following = asyncio.create_task(follow(ts))
        number = 0
        while not load.over.is_set():
            calls = [(f"{name}__add", {"a": (number := number + 1), "b": 1}) for name in (*SHARED, "own")]
            for (_tool, given), result in zip(calls, await ts.execute_many(calls), strict=True):
                if result.text != str(given["a"] + 1):
                    load.wrong.append(result)
            load.joined.set()
            await asyncio.sleep(0.05)  # the gateways that start want some of the machine too
        assert ts.lines_lost >= 3
        assert servers & {*SHARED}
        following.cancel()
        await asyncio.wait([following])


@pytest.fixture
def three(postgres: Postgres, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Gates]:
    timeout = getattr(request, "param", 40)
    with running(tmp_path, postgres.database(), *NAMES, gateway__timeout=timeout) as gates:
        yield gates


async def test_a_rolling_restart_under_load_loses_no_call(three: Gates) -> None:
    async with visiting(three["one"].url) as visitor:
        for name in SHARED:
            await visitor.register(name)
        await visitor.register("own")
        await visitor.own("configure_server", name="own", settings={"isolation": "per-client"})
        tools = len((await visitor.own("list_tools", server="alpha"))["tools"])
    for name in NAMES:
        async with visiting(three[name].url) as visitor:
            await eventually(lambda visitor=visitor: _keeps_apart(visitor, "own"))
    async with Balancer(three).serving() as balancer:
        load = Load(balancer.url)
        clients = [asyncio.create_task(load.client(f"{name}__add")) for name in (*SHARED, "own")]
        clients.append(asyncio.create_task(runtime(balancer.url, load)))
        async with asyncio.timeout(LIFE):
            await load.joined.wait()  # else one of its lines may come to a gateway that was restarted already
        for name in NAMES:
            before = load.told["answered"]
            await eventually(lambda before=before: _more(load, before + 40))
            three[name].end()
            await asyncio.to_thread(three[name].close)
            await asyncio.to_thread(three[name].start)
        before = load.told["answered"]
        await eventually(lambda: _more(load, before + 40))
        load.over.set()
        await asyncio.gather(*clients)
        assert load.wrong == []  # none takes longer than a gateway waits, so that none is refused either
        assert load.told["cut off"] == 0, load.told
        async with visiting(balancer.url) as visitor:
            again = (await visitor.own("list_tools", server="alpha"))["tools"]
            assert len({tool["name"] for tool in again}) == len(again) == tools
            pids = set()
            for name in NAMES:
                async with visiting(three[name].url) as one:
                    pids.add(await one.text("alpha__pid"))
            assert len(pids) == 1


async def _keeps_apart(visitor: Visitor, name: str) -> bool:
    """Tell whether a gateway has heard that each client is to have that server for itself."""
    if name not in {one["name"] for one in (await visitor.own("list_servers"))["servers"]}:
        return False
    return bool((await visitor.own("server_state", name=name))["keeping"]["isolation"] == "per-client")


async def _more(load: Load, count: int) -> bool:
    return load.told["answered"] >= count


@pytest.mark.parametrize("three", [8], indirect=True)
async def test_what_one_of_three_ran_is_run_by_the_others_when_it_is_killed_or_hangs(three: Gates) -> None:
    servers = [f"s{number}" for number in range(6)]
    async with visiting(three["one"].url) as first, visiting(three["two"].url) as second:
        pids = []
        for name in servers:
            await first.register(name)
            pids.append(int(await first.text(f"{name}__pid")))
        await eventually(lambda: _sees(second, {"one": len(servers)}))
        three["one"].kill()

        found: Message = {}

        async def taken_over() -> bool:
            """Nobody calls them: they are to come back all the same."""
            nonlocal found
            found = await second.own("list_servers")
            # Who has one that was just taken is known at the next look only.
            return all(
                one["state"] == "READY" and one.get("gateway") in ("two", "three") for one in found["servers"]
            )

        await eventually(taken_over)
        assert {one["name"] for one in found["gateways"]} == {"two", "three"}
        await until(lambda: all(gone(pid) for pid in pids), PATIENCE)  # their guardian gives them a moment

        # Who is chosen for a server has it, unless it is so slow that another one takes it: either may have all.
        hangs = found["servers"][0]["gateway"]
        stays = "three" if hangs == "two" else "two"
        async with visiting(three["three"].url) as third:
            hanging, staying = (second, third) if hangs == "two" else (third, second)
            had = [one["name"] for one in found["servers"] if one["gateway"] == hangs]
            old = [int(await staying.text(f"{name}__pid")) for name in had]
            waiting = await staying.begin(f"{had[0]}__sleep", seconds=600)
            await staying.text(f"{had[0]}__pid")  # it is on its way
            os.kill(three[hangs].process.pid, signal.SIGSTOP)
            try:
                # As soon as that gateway is dead, and not when its line is found to be.
                async with asyncio.timeout(PATIENCE):
                    said = (await waiting)["result"]
                assert said["_meta"]["toolscore/outcome"] == "outcome_unknown"
                assert "taken for dead" in said["content"][0]["text"], said
                await eventually(lambda: _sees(staying, {stays: len(servers)}))
                new = [int(await staying.text(f"{name}__pid")) for name in had]
            finally:
                os.kill(three[hangs].process.pid, signal.SIGCONT)

            async def ended() -> bool:
                return all(gone(pid) for pid in old)

            await eventually(ended)
            assert not set(old) & set(new)

            async def same() -> bool:
                said = [await hanging.call(f"{name}__pid") for name in had]
                return [one["content"][0]["text"] for one in said] == [str(pid) for pid in new]

            await eventually(same)


def shown(gate: Gate) -> str:
    """Give what `toolscore status` and the health page say."""
    words = [TOOLSCORE, "--home", str(gate.home), "status"]
    status = subprocess.run(words, capture_output=True, text=True, check=False).stderr
    page = gate.url.replace("ws://", "http://").removesuffix("/mcp") + "/health"
    with urlopen(page) as answer:  # fixed scheme
        health: bytes = answer.read()
    return status + health.decode()


async def _sees(visitor: Visitor, counts: dict[str, int]) -> bool:
    found = await visitor.own("list_servers")
    return counts == {one["name"]: len(one["servers"]) for one in found["gateways"] if one["servers"]}


async def test_without_the_database_a_gateway_ends_what_it_shares_and_has_it_again_with_it(
    tmp_path: Path,
) -> None:
    with (
        running_postgres() as postgres,
        running(tmp_path, postgres.database(), "one", "two", gateway__timeout=8) as gates,
    ):
        async with visiting(gates["one"].url) as first, visiting(gates["two"].url) as second:
            await first.register("f")
            await eventually(lambda: _sees(second, {"one": 1}))
            pid = int(await first.text("f__pid"))
            postgres.kill()
            assert int(await first.text("f__pid")) == pid  # its lease surely holds for a while

            async def ended() -> bool:
                return gone(pid)

            await eventually(ended)
            refused = await first.call("f__pid")
            assert refused["_meta"]["toolscore/outcome"] == "unavailable", refused
            assert "database" in refused["content"][0]["text"], refused
            listed = await first.own("list_servers")
            assert "the shared database cannot be reached" in listed["database"]
            told = await asyncio.to_thread(shown, gates["one"])
            assert "the shared database cannot be reached" in told
            assert '"degraded"' in told
            await asyncio.to_thread(postgres.start)

            async def well() -> bool:
                return "database" not in await first.own("list_servers")

            await eventually(well)

            async def back() -> bool:
                here, there = await first.call("f__pid"), await second.call("f__pid")
                same: bool = here["content"][0]["text"] == there["content"][0]["text"]
                return same and not here.get("isError")

            await eventually(back)
            assert int(await second.text("f__pid")) != pid
