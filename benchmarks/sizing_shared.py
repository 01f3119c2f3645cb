"""What it costs that several gateways share a database: with a real PostgreSQL, and two gateways on it."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from peers import COSTLESS, HERE, Bench
from shared import seconds
from sizing_line import CROWD

sys.path.append(str(HERE.parent / "tests"))

IDLE = 10
"""Seconds for which it is counted what gateways do that nobody asks anything."""

SENT = 3.0
"""Seconds after which what goes on behind calls is over, and the journal in the database."""

ROWS = 3_000
"""Records of the journal at the least, of which one's cost is taken."""


def gateways(bench: Bench) -> dict[str, Any]:
    """Measure what passing calls on, sending the journal and being one of several costs, if there is PostgreSQL."""
    from postgres import missing, running_postgres
    from several_gateways import running
    from toolscore.server.settings_gateway import GatewaySettings

    if (why := missing()) is not None:
        print(f"  not measured: {why}", flush=True)
        return {}
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        url = postgres.database()
        timeout = GatewaySettings().timeout  # the tests' own is longer
        gates = stack.enter_context(running(Path(bench.home()), url, "one", "two", gateway__timeout=timeout))
        name = url.rpartition("/")[2]
        counted = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{name}'"
        asyncio.run(_settled())
        before, began = postgres.execute(counted)[0][0], time.monotonic()
        asyncio.run(asyncio.sleep(IDLE))
        beats = (postgres.execute(counted)[0][0] - before) / (time.monotonic() - began) / 2
        processes = [psutil.Process(gates[one].process.pid) for one in ("one", "two")]
        calls = 2_000 if bench.quick else 6_000
        told = asyncio.run(_passed_on(gates["one"].url, gates["two"].url, processes, calls))
        row = asyncio.run(_row(url, gates["one"].home / "journal"))
    return {**told, "row_us": row, "beats_s": beats}


async def _settled() -> None:
    await asyncio.sleep(SENT)


async def _passed_on(at: str, through: str, processes: list[psutil.Process], calls: int) -> dict[str, float]:
    """Call at the gateway that runs a server and at the other one, in turns."""
    from several_gateways import Visitor, eventually, visiting

    async with visiting(at) as owner, visiting(through) as other:
        added = await owner.own("register_tool", name="bench", command=COSTLESS[0], args=COSTLESS[1:])
        tool = str(added["tools"][0])

        async def known() -> bool:
            listed = await other.own("list_servers")
            return any(one["name"] == "bench" for one in listed["servers"])

        async def crowd(visitor: Visitor) -> float:
            before = sum(map(seconds, processes))
            await asyncio.gather(*(visitor.timed(tool, calls // CROWD) for _ in range(CROWD)))
            await _settled()
            return (sum(map(seconds, processes)) - before) / (calls // CROWD * CROWD)

        await eventually(known)
        for visitor in (owner, other):
            await visitor.timed(tool, 200)  # everything is warm then
        more, later = [], []
        for _ in range(3):
            here, there = await crowd(owner), await crowd(other)
            more.append(there - here)
            alone = [statistics.median(await visitor.timed(tool, calls // 10)) for visitor in (owner, other)]
            later.append(alone[1] - alone[0])
    peer = max(0.0, statistics.median(more) * 1e6)
    # What is not work is waiting: for the kernel, and the loopback here.
    return {"peer_us": peer, "between_us": max(0.0, statistics.median(later) * 1e6 - peer)}


async def _row(url: str, journal: Path) -> float:
    """Processor time of sending one record of a gateway's journal, in microseconds."""
    from toolscore.tools.journal.sending import Sending
    from toolscore.tools.store import Store

    lines = sum(path.read_bytes().count(b"\n") for path in journal.iterdir() if path.is_file())
    if lines < ROWS:
        raise RuntimeError(f"the journal has {lines} records only")
    store = await Store.open(url)
    try:
        sending = Sending(store, "bench", journal, 0.0)
        before = time.process_time()
        while await sending.send():
            pass
        return (time.process_time() - before) / lines * 1e6
    finally:
        await store.close()
