"""A server that is killed, or stopped, while it is under load, and one beside it that is not."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from callers import HUNG, OK, Client, Ended, cold_start
from gateways import gateway
from lines import Failed, Message
from peers import SDK, Bench
from report import Report

FAULTY = [
    sys.executable,
    "-S",
    str(Path(__file__).resolve().parents[1] / "tests" / "faulty_server.py"),
]
"""A real server of the standard library alone, whose arguments choose how it misbehaves."""

HANG = 60.0
"""Seconds after which a call that is not answered hangs."""

PAUSE = 0.01
"""Seconds between two quick calls of a caller: a machine that has nothing left would only measure itself."""

SLACK = 0.3
"""Seconds ToolScore may take beyond the child's own cold start."""


class Load:
    """Calls without a pause, and what became of them.

    Args:
        client: Who calls.
        server: Whom.
        tools: How many callers of which tool.
    """

    def __init__(self, client: Client, server: str, tools: dict[str, int]) -> None:
        self.server = server
        self.ended: list[Ended] = []
        self._client = client
        self._going = True
        loop = asyncio.get_running_loop()
        self._callers = [
            loop.create_task(self._calls(tool)) for tool, count in tools.items() for _ in range(count)
        ]

    async def _calls(self, tool: str) -> None:
        arguments: Message = {"seconds": 0.2} if tool.startswith("sleep") else {"text": "x"}
        while self._going:
            one = await self._client.call(self.server, tool, within=HANG, **arguments)
            self.ended.append(one)
            if one.outcome != OK:
                # As a caller does that was refused; it would otherwise only measure refusals.
                await asyncio.sleep(min(one.retry_after or 0.0, 0.05))
            elif not tool.startswith("sleep"):
                await asyncio.sleep(PAUSE)

    async def stop(self) -> list[Ended]:
        """Let the calls under way end; give all."""
        self._going = False
        await asyncio.gather(*self._callers)
        return self.ended

    async def first_after(self, moment: float, within: float) -> Ended:
        """Wait for the first call that was begun after a moment and answered.

        Raises:
            Failed: If there is none in time.
        """
        deadline, at = time.monotonic() + within, 0
        while time.monotonic() < deadline:
            for one in self.ended[at:]:
                if one.begun > moment and one.outcome == OK:
                    return one
            at = len(self.ended)
            await asyncio.sleep(0.002)
        raise Failed(f"no call of {self.server} was answered within {within:g} s")


@asynccontextmanager
async def pair(bench: Bench, command: list[str]) -> AsyncIterator[tuple[Client, Client]]:
    """Start ToolScore with a server to be hurt and one not to be; give two clients, one on its Unix socket."""
    folder = Path(bench.home())
    async with gateway(folder / "home") as toolscore:
        await toolscore.register("victim", command)
        await toolscore.register("other", FAULTY)
        yield toolscore.client, await toolscore.unix("unix")


async def killed(pid: int) -> float:
    """Kill a process; give the moment from which it is gone, its pipes closed: it has to get its turn to die."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(pid)
    try:
        loop.add_reader(descriptor, gone.set)
        os.kill(pid, signal.SIGKILL)
        await gone.wait()
        return time.monotonic()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def kill(bench: Bench, report: Report) -> None:
    """kill -9 of a server under load; another one is under load as well."""
    for name, command in (("stdlib child", FAULTY), ("SDK child", SDK)):
        asyncio.run(_kill(bench, report, name, command))


async def _kill(bench: Bench, report: Report, name: str, command: list[str]) -> None:
    rounds = 15
    if bench.quick:
        rounds = 3 if command is FAULTY else 1
    rng = random.Random(len(name))
    cold, back, ended_beside = [], [], []
    counts = dict.fromkeys(("in_flight", "unknown", "replayed", "lost_later", "lost_beside", "hung"), 0)
    odd: set[str] = set()
    victim_tools = {"sleep": 6, "echo": 2}
    if command is FAULTY:
        victim_tools["sleep_safely"] = 4
    async with pair(bench, command) as (one, two):
        for _ in range(rounds):
            await one.own("manage_server", name="victim", action="restart", force=True)
            pid = (await one.servers())["victim"]["pid"]
            beside = Load(two, "other", {"sleep": 6, "sleep_safely": 2, "echo": 1})
            await asyncio.sleep(0.1)
            # Beside the load there is when the victim comes back, whose own callers wait for it.
            cold.append(await cold_start(command))
            loads = [
                Load(one, "victim", victim_tools),
                Load(two, "victim", {"sleep": 2, "echo": 1}),
            ]
            await asyncio.sleep(rng.uniform(0.3, 0.6))
            moment = time.monotonic()
            dead = await killed(pid)
            firsts = [
                asyncio.get_running_loop().create_task(load.first_after(moment, HANG)) for load in loads
            ]
            finished, _ = await asyncio.wait(firsts, return_when=asyncio.FIRST_COMPLETED)
            back.append(min(task.result().ended for task in finished) - moment)
            await asyncio.gather(*firsts)
            await asyncio.sleep(0.2)
            victims = [call for load in loads for call in await load.stop()]
            ended_beside = await beside.stop()
            counts["hung"] += sum(call.outcome == HUNG for call in (*victims, *ended_beside))
            counts["lost_beside"] += sum(call.outcome != OK for call in ended_beside)
            for call in victims:
                if call.ended < moment:
                    counts["lost_later"] += call.outcome != OK
                    continue
                # Written before ToolScore could know: the kernel tells it a moment after the end.
                if call.begun < dead + 0.02:
                    counts["in_flight"] += 1
                    counts["unknown"] += call.outcome == "outcome_unknown"
                    counts["replayed"] += call.tool == "sleep_safely" and call.outcome == OK
                    replayed = call.tool == "sleep_safely"
                    fits = call.outcome == OK or (call.outcome == "outcome_unknown" and not replayed)
                    if not fits:
                        odd.add(f"{call.tool}: {call.outcome}: {call.text[:120]}")
                elif call.outcome != OK:
                    counts["lost_later"] += 1
                    odd.add(
                        f"later, {call.begun - moment:.3f} s: {call.tool}: {call.outcome}: {call.text[:120]}"
                    )
    usual = statistics.median(cold)
    values: dict[str, float] = {
        "kills": rounds,
        **counts,
        "cold_s": usual,
        "cold_max_s": max(cold),
        "back_s": statistics.median(back),
        "back_max_s": max(back),
    }
    report.row("kill", name, values, "; ".join(sorted(odd)))
    what = f"{name} killed: "
    report.goal("kill", what + "calls in flight without a definite outcome", len(odd), 0, "kinds")
    report.goal("kill", what + "calls that came later and failed", counts["lost_later"], 0, "calls")
    report.goal("kill", what + "calls of the other server that failed", counts["lost_beside"], 0, "calls")
    report.goal("kill", what + "calls that hung", counts["hung"], 0, "calls")
    report.goal(
        "kill", what + "median way back, beyond cold start", statistics.median(back) - usual, SLACK, "s"
    )
    report.goal("kill", what + "longest way back, beyond cold start", max(back) - usual, SLACK, "s")


def hang(bench: Bench, report: Report) -> None:
    """SIGSTOP of a server under load with a time of 1 s for each call: refusals at once, then a new process."""
    for name, again in (("stopped for good", False), ("stopped, continued after 6 s", True)):
        asyncio.run(_hang(bench, report, name, again=again))


async def _hang(bench: Bench, report: Report, name: str, *, again: bool) -> None:
    rounds = 1 if bench.quick else 3
    values: dict[str, list[float]] = {}
    counts = {"hung": 0.0, "lost_beside": 0.0}
    async with pair(bench, FAULTY) as (one, two):
        await one.own("configure_server", name="victim", settings={"timeout": 1.0})
        for _ in range(rounds):
            await one.own("manage_server", name="victim", action="restart", force=True)
            pid = (await one.servers())["victim"]["pid"]
            load = Load(one, "victim", {"sleep": 4, "echo": 4})
            beside = Load(two, "other", {"sleep": 6, "echo": 1})
            await asyncio.sleep(0.5)
            os.kill(pid, signal.SIGSTOP)
            moment = time.monotonic()
            if again:
                asyncio.get_running_loop().call_later(6.0, os.kill, pid, signal.SIGCONT)
            back = await load.first_after(moment, HANG)
            calls = [call for call in await load.stop() if call.ended > moment]
            ended = await beside.stop()
            refused = [call for call in calls if call.outcome == "unavailable"]
            taken = {
                "first_refusal_s": min((call.ended for call in refused), default=moment) - moment,
                "refusals": len(refused),
                "refusal_ms": statistics.median([call.seconds for call in refused] or [0]) * 1e3,
                "refusal_max_ms": max((call.seconds for call in refused), default=0) * 1e3,
                "without_reason": sum(call.retry_after is None or not call.text for call in refused),
                "timed_out": sum(call.outcome == "timed_out" for call in calls),
                "longest_s": max(call.seconds for call in calls),
                "back_s": back.ended - moment,
                "same_process": float((await one.servers())["victim"]["pid"] == pid),
            }
            for key, value in taken.items():
                values.setdefault(key, []).append(value)
            counts["hung"] += sum(call.outcome == HUNG for call in (*calls, *ended))
            counts["lost_beside"] += sum(call.outcome != OK for call in ended)
    figures = {key: statistics.median(taken) for key, taken in values.items()}
    report.row("hang", name, {**figures, **counts})
    report.goal("hang", f"{name}: calls that hung", counts["hung"], 0, "calls")
    report.goal("hang", f"{name}: calls of the other server that failed", counts["lost_beside"], 0, "calls")
    report.goal("hang", f"{name}: refusals without reason or time", figures["without_reason"], 0, "calls")
    report.goal("hang", f"{name}: median refusal", figures["refusal_ms"], 50, "ms")
