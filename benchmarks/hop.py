"""What a call costs through another gateway than the one that runs its server, against a call at that one.

    .venv/bin/python benchmarks/hop.py [--calls N] [--database URL]

Two gateways of this machine on one PostgreSQL, which is started for it where no URL is given, and the server of the
other benchmarks that costs nothing. One client at each gateway, one call at a time, in turns; then 16 at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from postgres import running_postgres
from several_gateways import Visitor, eventually, running, visiting

CHILD = str(Path(__file__).with_name("costless_child.py"))
ROUNDS = 5


async def _many(visitor: Visitor, tool: str, calls: int) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(visitor.timed(tool, calls // 16) for _ in range(16)))
    return calls // 16 * 16 / (time.perf_counter() - began)


def _shown(name: str, took: list[float]) -> str:
    ordered = sorted(took)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    return f"{name:>10}  p50 {p50 * 1e3:7.3f} ms  p99 {p99 * 1e3:7.3f} ms"


async def _measure(at: str, through: str, calls: int) -> None:
    async with visiting(at) as owner, visiting(through) as other:
        added = await owner.own("register_tool", name="bench", command=sys.executable, args=["-S", CHILD])
        tool = str(added["tools"][0])

        async def known() -> bool:
            listed = await other.own("list_servers")
            return any(one["name"] == "bench" for one in listed["servers"])

        await eventually(known)
        here: list[float] = []
        there: list[float] = []
        rates: tuple[list[float], list[float]] = [], []
        for visitor in (owner, other):
            await visitor.timed(tool, 50)  # everything is warm then
        for _ in range(ROUNDS):
            here += await owner.timed(tool, calls // ROUNDS)
            there += await other.timed(tool, calls // ROUNDS)
            rates[0].append(await _many(owner, tool, calls // ROUNDS))
            rates[1].append(await _many(other, tool, calls // ROUNDS))
    print(_shown("at owner", here))
    print(_shown("through", there))
    added_by = statistics.median(there) - statistics.median(here)
    print(f"     added  p50 {added_by * 1e3:7.3f} ms")
    print(
        f"  16 at a time: at owner {statistics.median(rates[0]):.0f} calls/s, "
        f"through {statistics.median(rates[1]):.0f} calls/s"
    )


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2000, help="calls each way (2000)")
    parser.add_argument("--database", metavar="URL", help="an empty database; one is made when left out")
    options = parser.parse_args()
    with ExitStack() as stack:
        url = options.database or stack.enter_context(running_postgres()).database()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="toolscore-hop-")))
        gates = stack.enter_context(running(folder, url, "one", "two"))
        asyncio.run(_measure(gates["one"].url, gates["two"].url, options.calls))


if __name__ == "__main__":
    main()
