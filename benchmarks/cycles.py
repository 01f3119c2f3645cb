"""A thousand starts and stops, and what ToolScore and its guardian hold afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path

from callers import MIB, OK
from gateways import Gateway, Tally, gateway
from lines import Failed
from peers import COSTLESS, Bench
from report import Report

AT_ONCE = 8
"""Servers that start and stop at the same time."""

WARM_UP = 4_000
"""Cycles before the first count. Four events each fill the 10,000 that ToolScore keeps for whoever asks after 2,500,
and some hundred later the heap has seen the most it will ever hold between two collections of garbage."""

GROWTH = 2.0
"""MiB that a thousand cycles may add after that: the allocator's pages wander by about half of it, while even 2 KiB
that each cycle left behind would be as much."""


def cycles(bench: Bench, report: Report) -> None:
    """1,000 starts and stops, each with a call, in one ToolScore: what it holds after a warm-up, and at the end."""
    asyncio.run(_cycles(bench, report))


async def _cycles(bench: Bench, report: Report) -> None:
    warm, wanted = (20, 40) if bench.quick else (WARM_UP, 1_000)
    async with gateway(Path(bench.home()) / "home") as toolscore:
        names = [f"server{number}" for number in range(AT_ONCE)]
        for name in names:
            await toolscore.register(name, COSTLESS)
        counted = Counted(toolscore, names)
        await counted.run(warm)
        before = after = await counted.quiet()
        report.row("cycles", f"after {warm} cycles", before.values())
        for part in range(1, 5):
            await counted.run(wanted // 4)
            after = await counted.quiet()
            report.row("cycles", f"and {wanted * part // 4} more", after.values())
    grown = {key: value - before.values()[key] for key, value in after.values().items()}
    report.goal("cycles", "starts or calls that failed", counted.failed, 0, "cycles")
    report.goal("cycles", "descriptors more", grown["files"], 0, "")
    report.goal("cycles", "descriptors of the guardian more", grown["guard_files"], 0, "")
    report.goal("cycles", "tasks more", grown["tasks"], 0, "")
    report.goal("cycles", "threads more", grown["threads"], 0, "")
    report.goal("cycles", f"memory more in {wanted} cycles", (after.rss - before.rss) / MIB, GROWTH, "MiB")
    report.goal(
        "cycles",
        f"guardian's memory more in {wanted} cycles",
        (after.guard_rss - before.guard_rss) / MIB,
        1,
        "MiB",
    )


class Counted:
    """Cycles of several servers at once."""

    def __init__(self, toolscore: Gateway, names: list[str]) -> None:
        self.failed = 0
        self._toolscore, self._names = toolscore, names

    async def run(self, count: int) -> None:
        """Do so many cycles in all."""
        left = iter(range(count))

        async def repeat(name: str) -> None:
            client = self._toolscore.client
            for _ in left:
                try:
                    await client.own("manage_server", name=name, action="start")
                    self.failed += (await client.call(name, "echo", text="x")).outcome != OK
                    await client.own("manage_server", name=name, action="stop")
                except Failed as exc:
                    self.failed += 1
                    print(f"  {name}: {exc}", flush=True)

        await asyncio.gather(*(repeat(name) for name in self._names))

    async def quiet(self) -> Tally:
        """Count once nothing runs any more, and nothing changes for a second."""
        client = self._toolscore.client
        for name in self._names:
            await client.own("manage_server", name=name, action="stop")
        before = await self._toolscore.tally()
        for _ in range(20):
            await asyncio.sleep(1)
            now = await self._toolscore.tally()
            if (now.files, now.tasks, now.threads) == (before.files, before.tasks, before.threads):
                return now
            before = now
        return before
