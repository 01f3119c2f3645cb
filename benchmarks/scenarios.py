"""What is asked of the subjects, and the goals ToolScore is held to.

Every round measures all subjects one after the other, every second round backwards, so that a busy minute of the
machine hits them alike. A figure is the median of the rounds; a ratio is the quotient of two such medians.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import cast

from lines import Failed, Message
from peers import COSTLESS, EVERYTHING, SDK, Bench, Children, Starter, Subject, toolscore_stdio, toolscore_ws
from report import Report

Figures = dict[str, float]
OURS = ("toolscore stdio", "toolscore ws")
MIB = 2**20


@dataclass
class Scenario:
    """One question put to every subject.

    Attributes:
        name: What `--only` takes.
        children: The servers behind the gateways.
        starters: The subjects.
    """

    name: str
    children: Children
    starters: dict[str, Starter]

    def run(
        self,
        bench: Bench,
        report: Report,
        measure: Callable[[Subject], Figures],
        *,
        rounds: int,
        ratio: tuple[str, ...] = (),
        note: Callable[[Subject], str] = lambda _subject: "",
    ) -> dict[str, Figures]:
        """Measure all subjects in turns.

        Args:
            bench: The run.
            report: Takes a row a subject.
            measure: Takes the figures of one round.
            rounds: How many rounds; peers get one.
            ratio: The figures to set against those of the child alone.
            note: What to remark beside a subject.

        Returns:
            The medians of those that could do it.
        """
        found: dict[str, Figures] = {}
        refused: dict[str, str] = {}
        with bench.subjects(self.children, self.starters, refused.__setitem__) as subjects:
            samples: dict[str, list[Figures]] = {subject.name: [] for subject in subjects}
            for number in range(rounds):
                for subject in subjects if number % 2 == 0 else reversed(subjects):
                    if subject.name in refused or (number and not subject.ours):
                        continue
                    try:
                        samples[subject.name].append(measure(subject))
                    except (Failed, OSError) as exc:
                        refused[subject.name] = str(exc)
            notes = {subject.name: note(subject) for subject in subjects}
        for name, taken in samples.items():
            if name not in refused:
                found[name] = {key: statistics.median(figures[key] for figures in taken) for key in taken[0]}
        for name in self.starters:
            values = found.get(name, {})
            for key in ratio:
                if key in values and key in found.get("direct", {}):
                    values[f"x {key}"] = values[key] / found["direct"][key]
            report.row(self.name, name, values, refused.get(name) or notes.get(name, ""))
        return found


def _goals(
    report: Report,
    scenario: str,
    what: str,
    found: dict[str, Figures],
    key: str,
    limits: tuple[float, float],
    unit: str = "x",
) -> None:
    """Hold ToolScore to a bound over stdio, and to one over WebSocket."""
    for name, limit in zip(OURS, limits, strict=True):
        report.goal(scenario, f"{what}, {name.split()[1]}", found.get(name, {}).get(key), limit, unit)


def processor(bench: Bench, report: Report) -> None:
    """Processor time of the gateway a call, 16 in flight, with a child that costs nothing."""
    scenario = Scenario("processor", {"child": COSTLESS}, EVERYTHING)

    def measure(subject: Subject) -> Figures:
        calls = (5_000 if bench.quick else 20_000) if subject.ours else (1_000 if bench.quick else 3_000)
        named = subject.call("echo", text="hello")
        figures = _loaded(subject, named, calls)
        before = subject.program.cpu()
        alone = subject.line.load(named, calls // 5)
        figures["cpu_alone_us"] = (subject.program.cpu() - before) / (calls // 5) * 1e6
        figures["p50_alone_us"] = alone.p50 * 1e6
        if subject.name in OURS:
            meta = _loaded(subject, _by_execute_tool(named), calls)
            figures["meta_more_us"] = meta["cpu_us"] - figures["cpu_us"]
            figures["meta_calls_s"] = meta["calls_s"]
        return figures

    found = scenario.run(bench, report, measure, rounds=5 if bench.quick else 7, ratio=("p50_alone_us",))
    _goals(report, "processor", "processor time a call, by name", found, "cpu_us", (50, 70), "us")
    _goals(report, "processor", "execute_tool more than by name", found, "meta_more_us", (10, 10), "us")
    theirs = found.get("fastmcp", {}).get("calls_s")
    ours = found.get("toolscore stdio", {}).get("calls_s")
    times = ours / theirs if ours and theirs else None
    report.goal("processor", "calls/s against FastMCP's proxy, stdio", times, 20, "x", at_least=True)


def _by_execute_tool(params: Message) -> Message:
    return {"name": "execute_tool", "arguments": {"tool": params["name"], "arguments": params["arguments"]}}


def _loaded(subject: Subject, params: Message, calls: int) -> Figures:
    subject.line.load(params, calls // 10, 16)
    before = subject.program.cpu()
    load = subject.line.load(params, calls, 16)
    return {"cpu_us": (subject.program.cpu() - before) / calls * 1e6, "calls_s": calls / load.seconds}


def latency(bench: Bench, report: Report) -> None:
    """The median call, alone, with a child on the SDK."""
    scenario = Scenario("latency", {"child": SDK}, EVERYTHING)
    calls = 200 if bench.quick else 500

    def measure(subject: Subject) -> Figures:
        params = subject.call("echo", text="hello")
        subject.line.load(params, calls // 5)
        return {"p50_us": subject.line.load(params, calls).p50 * 1e6}

    found = scenario.run(bench, report, measure, rounds=3 if bench.quick else 7, ratio=("p50_us",))
    _goals(report, "latency", "p50 alone, against direct", found, "x p50_us", (1.5, 1.7))


def large(bench: Bench, report: Report) -> None:
    """Text of 1 MiB and of 16 MiB there and back, with a child on the SDK."""
    scenario = Scenario("large", {"child": SDK}, EVERYTHING)
    line = 'He said "it is done" and wrote 4,096 lines of it, each of them like this one.\n'
    text = (line * (MIB // len(line) + 1))[:MIB]
    too_large: dict[str, str] = {}

    def echoed(subject: Subject, text: str, calls: int) -> float:
        load = subject.line.load(subject.call("echo", text=text), calls)
        back: str = json.loads(load.last)["result"]["content"][0]["text"]
        if back != text:
            raise Failed("not what was sent came back")
        return load.p50 * 1e3

    def measure(subject: Subject) -> Figures:
        echoed(subject, text, 2)
        before, calls = subject.program.cpu(), 5 if bench.quick else 10
        milliseconds = echoed(subject, text, calls)
        return {"1_mib_ms": milliseconds, "cpu_ms": (subject.program.cpu() - before) / calls * 1e3}

    def sixteen(subject: Subject) -> str:
        # Last, because a line on which a message was refused is not measured any more.
        try:
            milliseconds = echoed(subject, text * 16, 2)
        except (Failed, OSError) as exc:
            too_large[subject.name] = str(exc)
            return f"16 MiB: {exc}"
        return f"16 MiB echoed in {milliseconds:,.0f} ms"

    found = scenario.run(
        bench, report, measure, rounds=3 if bench.quick else 5, ratio=("1_mib_ms",), note=sixteen
    )
    _goals(report, "large", "1 MiB echoed, against direct", found, "x 1_mib_ms", (1.7, 1.7))
    for name in OURS:
        accepted = None if name not in found else float(name not in too_large)
        what = f"16 MiB accepted, {name.split()[1]}"
        report.goal("large", what, accepted, 1, "of 1", at_least=True)


def parallel(bench: Bench, report: Report) -> None:
    """64 calls of 100 ms at once, with a child on the SDK."""
    scenario = Scenario("parallel", {"child": SDK}, EVERYTHING)

    def measure(subject: Subject) -> Figures:
        params = subject.call("sleep", seconds=0.1)
        subject.line.load(params, 64, 64)
        return {"wall_ms": subject.line.load(params, 64, 64).seconds * 1e3}

    found = scenario.run(bench, report, measure, rounds=3 if bench.quick else 7, ratio=("wall_ms",))
    _goals(report, "parallel", "64 calls of 100 ms, against direct", found, "x wall_ms", (1.15, 1.15))


def sleeper(bench: Bench, report: Report) -> None:
    """The slowest calls while another call sleeps for seconds, in the same child and in another."""
    scenario = Scenario("sleeper", {"child": SDK, "other": SDK}, EVERYTHING)
    samples = 500 if bench.quick else 2_000

    def measure(subject: Subject) -> Figures:
        params = subject.call("echo", text="hello")
        subject.line.load(params, samples // 5)
        alone = subject.line.load(params, samples)
        figures = {"p99_ms": alone.quantile(0.99) * 1e3}
        for where, child in (("same", "child"), ("other", "other")):
            if child in subject.lines:
                figures[f"{where}_ms"] = _beside_sleeper(subject, child, params, samples, alone.seconds) * 1e3
        return figures

    def factor(figures: Figures) -> None:
        for where in ("same", "other"):
            if f"{where}_ms" in figures:
                figures[f"{where}_x"] = figures[f"{where}_ms"] / figures["p99_ms"]

    found = scenario.run(bench, report, measure, rounds=1 if bench.quick else 5)
    for figures in found.values():
        factor(figures)  # the rows hold the same dictionaries
    _goals(report, "sleeper", "p99 while another call of the child sleeps", found, "same_x", (2, 2))
    _goals(report, "sleeper", "p99 while a call of another child sleeps", found, "other_x", (2, 2))


def _beside_sleeper(subject: Subject, child: str, params: Message, samples: int, alone: float) -> float:
    """Give the p99 of calls that were all made while one slept."""
    seconds = max(2.0, alone * 1.5 + 1)
    line = subject.lines[child]
    for _ in range(3):
        begun = perf_counter()
        line.begin("tools/call", subject.call("sleep", child=child, seconds=seconds), "sleeper")
        load = subject.line.load(params, samples)
        covered = perf_counter() - begun < seconds
        with line.program.limit(seconds + 60):
            line.end("sleeper")
        if covered:
            return load.quantile(0.99)
        seconds *= 2
    raise Failed("the sleeper was always awake before the calls were done")


def memory(bench: Bench, report: Report) -> None:
    """What the gateway's resident set grows by in 20,000 calls after 2,000."""
    scenario = Scenario("memory", {"child": COSTLESS}, EVERYTHING)

    def measure(subject: Subject) -> Figures:
        calls = 2_000 if bench.quick and not subject.ours else 20_000
        params = subject.call("echo", text="hello")
        subject.line.load(params, 2_000, 16)
        warm = subject.program.rss()
        subject.line.load(params, calls, 16)
        after = subject.program.rss()
        return {
            "calls": calls,
            "warm_mib": warm / MIB,
            "after_mib": after / MIB,
            "growth_mib": (after - warm) / MIB,
        }

    found = scenario.run(bench, report, measure, rounds=1)
    _goals(report, "memory", "growth in 20,000 calls", found, "growth_mib", (2, 2), "MiB")


def listing(bench: Bench, report: Report) -> None:
    """`tools/list` of 2,000 tools, all pages of it."""
    exposed = ("--set", "tools.expose=all")
    starters = {
        **EVERYTHING,
        "toolscore stdio": cast(Starter, lambda bench, children: toolscore_stdio(bench, children, *exposed)),
        "toolscore ws": cast(Starter, lambda bench, children: toolscore_ws(bench, children, *exposed)),
    }
    scenario = Scenario("listing", {"child": [*COSTLESS, "--tools", "2000"]}, starters)

    def measure(subject: Subject) -> Figures:
        figures = [_listed(subject) for _ in range(20)]
        return {key: statistics.median(taken[key] for taken in figures) for key in figures[0]}

    found = scenario.run(bench, report, measure, rounds=1)
    _goals(report, "listing", "tools/list of 2,000 tools", found, "list_ms", (20, 20), "ms")


def _listed(subject: Subject) -> Figures:
    seconds, tools, pages = 0.0, 0, 0
    cursor: Message = {}
    with subject.program.limit(60):
        while True:
            took, result = subject.line.exchange("tools/list", cursor)
            seconds, tools, pages = seconds + took, tools + len(result["tools"]), pages + 1
            if not result.get("nextCursor"):
                break
            cursor = {"cursor": result["nextCursor"]}
    if tools < 2_000:
        raise Failed(f"it lists {tools} of them")
    return {"list_ms": seconds * 1e3, "pages": pages, "tools": tools}
