"""How long after one gateway changed something in a shared store another one knows of it.

    .venv/bin/python benchmarks/follow.py [SAMPLES]

Two open stores in one process, on a PostgreSQL of its own: the time from the call that writes until the change
was read again at the other, and beside it that of the write alone, so that the machine's own pace is seen.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from postgres import running_postgres
from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.tools.changes import Changes
from toolscore.tools.rows import ServerRow
from toolscore.tools.store import Store


def row(name: str) -> ServerRow:
    spec = ServerSpec(command="x")
    return ServerRow(
        name, "cli", True, Installation(server_id=name, kind=SourceKind.REGISTERED, source="x", spec=spec)
    )


async def measure(url: str, samples: int) -> None:
    here, there = await Store.open(url), await Store.open(url)
    known: dict[str, asyncio.Event] = {}

    async def follow(_kind: str, name: str) -> None:
        await there.versions()
        known[name].set()

    async def look() -> None:
        await there.versions()

    changes = Changes(there, follow, look)
    task = asyncio.create_task(changes.run())
    await changes.listening.wait()
    writes, heard = [], []
    for number in range(samples):
        name = f"s{number}"
        known[name] = asyncio.Event()
        began = time.perf_counter()
        await here.put_server(row(name), [])
        writes.append(time.perf_counter() - began)
        await known[name].wait()
        heard.append(time.perf_counter() - began)
    task.cancel()
    await asyncio.wait([task])
    await here.close()
    await there.close()
    for what, times in (("written", writes), ("known at the other", heard)):
        ordered = sorted(times)
        p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
        print(
            f"{what}: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, longest {ordered[-1] * 1000:.1f} ms"
        )


def main() -> None:
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with running_postgres() as server:
        asyncio.run(measure(server.database(), samples))


if __name__ == "__main__":
    main()
