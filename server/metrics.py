"""Figures of this process for Prometheus: counted always, which costs next to nothing, and written out when asked."""

from __future__ import annotations

import asyncio
import importlib
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from .. import __version__

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from ..tools.journal.standing import Standing
    from ..tools.scores.figures import Figures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what `Metrics.render` gives: the text format every version of Prometheus reads."""

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds, in seconds, of the classes calls are counted in by their duration."""

SERIES = 4096
"""Pairs of server and outcome that are counted apart; further ones are counted as server `other`."""

OTHER = "other"


def _none() -> Mapping[str, int]:
    return {}


def _zero() -> int:
    return 0


async def _nobody() -> AsyncIterator[Figures]:
    nobody: tuple[Figures, ...] = ()
    for one in nobody:
        yield one


class Metrics:
    """What is counted, and what is asked for when somebody wants to know. For one thread.

    Args:
        connections: Gives the clients there are now, by listener.
        servers: Gives the servers there are now, by state.
        in_flight: Gives the calls that wait for their answers now.
        refused: Gives the requests listeners have turned away so far.
        uptime: Gives the seconds since the start; otherwise they count from now.
        tools: Gives the tools that were called, of bounded number (`Scores.figures`).
        journal: Gives how the journal is; `None` where there is none.
    """

    def __init__(
        self,
        *,
        connections: Callable[[], Mapping[str, int]] = _none,
        servers: Callable[[], Mapping[str, int]] = _none,
        in_flight: Callable[[], int] = _zero,
        refused: Callable[[], int] = _zero,
        quarantined: Callable[[], int] = _zero,
        uptime: Callable[[], float] | None = None,
        tools: Callable[[], AsyncIterator[Figures]] = _nobody,
        journal: Callable[[], Standing | None] = lambda: None,
    ) -> None:
        started = time.monotonic()
        self._connections = connections
        self._servers = servers
        self._in_flight = in_flight
        self._refused = refused
        self._quarantined = quarantined
        self._tools = tools
        self._journal = journal
        self._uptime = uptime or (lambda: time.monotonic() - started)
        # Calls by class of duration, one more for those above all bounds, and last the sum of the seconds.
        self._rows: dict[tuple[str, str], list[float]] = {}

    def call(self, server: str, outcome: str, seconds: float) -> None:
        """Count one call that is over.

        Args:
            server: The server's name in the library; for calls that reached none, `toolscore`. Never what a
                client made up: each name is a series that is kept for as long as this process lives.
            outcome: What came of it: `ok`, `error`, or an outcome of docs/outcomes.md.
            seconds: How long it took.
        """
        try:
            row = self._rows[server, outcome]
        except KeyError:
            row = self._row(server, outcome)
        row[bisect_left(BOUNDS, seconds)] += 1
        row[-1] += seconds

    async def render(self) -> bytes:
        """Write everything out, in the format `CONTENT_TYPE` names."""
        await asyncio.to_thread(
            importlib.import_module, "prometheus_client"
        )  # the first time, a tenth of a second
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(_Collector(self._families))
        tools = await self._tool_lines()
        return generate_latest(registry) + tools.encode()

    def _row(self, server: str, outcome: str) -> list[float]:
        key = (server if len(self._rows) < SERIES else OTHER, outcome)
        return self._rows.setdefault(key, [0] * (len(BOUNDS) + 1) + [0.0])

    def _families(self) -> Iterator[Metric]:
        import psutil
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        calls = CounterMetricFamily(
            "toolscore_calls", "Tool calls that are over.", labels=["server", "outcome"]
        )
        for key, row in self._rows.items():
            calls.add_metric(key, sum(row[:-1]))
        yield calls

        columns = [sum(column) for column in zip(*self._rows.values(), strict=True)] or [0.0] * (
            len(BOUNDS) + 2
        )
        reached, buckets = 0.0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), columns[:-1], strict=True):
            reached += count
            buckets.append((bound, reached))
        yield HistogramMetricFamily(
            "toolscore_call_seconds", "How long tool calls took.", buckets=buckets, sum_value=columns[-1]
        )

        connections = GaugeMetricFamily(
            "toolscore_connections", "Clients there are now.", labels=["listener"]
        )
        for listener, count in self._connections().items():
            connections.add_metric([listener], count)
        yield connections
        servers = GaugeMetricFamily("toolscore_servers", "Servers there are now.", labels=["state"])
        for state, count in self._servers().items():
            servers.add_metric([state], count)
        yield servers

        yield GaugeMetricFamily(
            "toolscore_calls_in_flight",
            "Tool calls that wait for their answers now.",
            value=self._in_flight(),
        )
        yield CounterMetricFamily(
            "toolscore_requests_refused", "Requests that listeners turned away.", value=self._refused()
        )
        if (journal := self._journal()) is not None:
            yield from _journal_families(journal)
        yield GaugeMetricFamily(
            "toolscore_tools_quarantined",
            "Tools that are not called until a person approves them.",
            value=self._quarantined(),
        )
        yield GaugeMetricFamily("toolscore_up_seconds", "Seconds since the start.", value=self._uptime())

        own = psutil.Process()
        times = own.cpu_times()
        yield GaugeMetricFamily(
            "toolscore_process_resident_bytes",
            "Memory of ToolScore's own process, without its servers.",
            value=own.memory_info().rss,
        )
        yield CounterMetricFamily(
            "toolscore_process_cpu_seconds",
            "Processor time of ToolScore's own process, without its servers.",
            value=times.user + times.system,
        )
        yield InfoMetricFamily("toolscore", "This ToolScore.", value={"version": __version__})

    async def _tool_lines(self) -> str:
        """Write what there is of tools, which is most of it and takes long: in pieces that hold nobody up."""
        calls, bounds, seconds = [*_CALLS], [*_BOUND], [*_SECONDS]
        async for one in self._tools():
            tool = _escaped(one.tool)
            for outcome, count in one.calls.items():
                line = f'toolscore_tool_calls_total{{outcome="{_escaped(outcome)}",tool="{tool}"}}'
                calls.append(f"{line} {float(count)}")
            if one.bound is not None:
                bounds.append(f'toolscore_tool_success_bound{{tool="{tool}"}} {float(one.bound)}')
            for share, value in zip(("0.5", "0.9", "0.99"), one.seconds, strict=False):
                if value is not None:
                    line = f'toolscore_tool_seconds{{quantile="{share}",tool="{tool}"}}'
                    seconds.append(f"{line} {float(value)}")
        return "\n".join((*calls, *bounds, *seconds, ""))


def _journal_families(journal: Standing) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily(
        "toolscore_journal_writable",
        "Whether the journal can be written: 1, or 0 where its disk is full.",
        value=float(journal.trouble is None),
    )
    yield GaugeMetricFamily(
        "toolscore_journal_bytes", "Bytes of the journal's segments.", value=journal.bytes
    )
    yield GaugeMetricFamily(
        "toolscore_journal_waiting", "Records that wait to be written.", value=journal.waiting
    )
    for name, text, value in (
        ("written", "Records of the journal that were written.", journal.written),
        ("dropped", "Records of the journal that found no room.", journal.dropped),
        ("segments_deleted", "Segments that were deleted to keep within size and age.", journal.deleted),
        ("spans_sent", "Spans that the collector took.", journal.sent),
        ("spans_unsent", "Spans that it did not.", journal.unsent),
    ):
        yield CounterMetricFamily(f"toolscore_journal_{name}", text, value=value)


_CALLS = (
    "# HELP toolscore_tool_calls_total Tool calls that are over, those before the last start too.",
    "# TYPE toolscore_tool_calls_total counter",
)
_BOUND = (
    "# HELP toolscore_tool_success_bound With 95 % confidence, at least this share of a tool's calls succeeds.",
    "# TYPE toolscore_tool_success_bound gauge",
)
_SECONDS = (
    "# HELP toolscore_tool_seconds Time to a tool's answer that this share (quantile) of its calls does not exceed.",
    "# TYPE toolscore_tool_seconds gauge",
)


def _escaped(label: str) -> str:
    """Give a label's value as the text format has it; a lone surrogate, which UTF-8 has not, as its number."""
    text = label.encode("utf-8", "backslashreplace").decode()
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class _Collector:
    """What a registry of prometheus_client asks.

    Args:
        families: Gives what there is now.
    """

    def __init__(self, families: Callable[[], Iterator[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return self._families()
