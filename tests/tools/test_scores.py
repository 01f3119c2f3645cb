"""Scores: what counts for and against a tool, how it is forgotten, and what is told of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolscore.tools.library import Library
from toolscore.tools.outcome import OUTCOME_KEY, Outcome
from toolscore.tools.scores import figures
from toolscore.tools.scores import scores as module
from toolscore.tools.scores.bounds import expected, lower_bound, upper_bound
from toolscore.tools.scores.figures import Figures
from toolscore.tools.scores.judge import FAILURES, judged
from toolscore.tools.scores.record import Failure, Record
from toolscore.tools.scores.score import ToolScore, explained, score
from toolscore.tools.scores.scores import HALF_LIFE, Scores
from toolscore.tools.tool import Tool

DAY = 86400.0


def tool(name: str = "get", server: str = "time") -> Tool:
    return Tool(f"{server}__{name}", server, name, {"name": name}, "")


class World:
    """Scores over a library of servers without processes, with a clock that is moved by hand."""

    def __init__(self, *tools: Tool, version: Any = "1.0", **options: Any) -> None:
        self.now = 1_800_000_000.0
        self.set_by = 0.0
        self.tools: tuple[Tool, ...] = tools or (tool(),)
        rows = {one.server: self.row(version) for one in self.tools}
        self.library = SimpleNamespace(servers=rows, tools={one.name: one for one in self.tools}, of=self.of)
        self.scores = self.anew(**options)

    def anew(self, **options: Any) -> Scores:
        library = cast(Library, self.library)
        return Scores(library, clock=lambda: self.now + self.set_by, passing=lambda: self.now, **options)

    @staticmethod
    def row(version: Any = None, said: Any = None) -> Any:
        return SimpleNamespace(installation=SimpleNamespace(version=version), server_info=said)

    def of(self, server: str) -> list[Tool]:
        return [one for one in self.tools if one.server == server]

    def calls(
        self,
        outcome: str = "ok",
        count: int = 1,
        which: Tool | None = None,
        seconds: float = 0.1,
        said: str | None = None,
        excused: bool = False,
    ) -> None:
        for _ in range(count):
            self.scores.observe(which or self.tools[0], outcome, seconds, said, excused)

    async def figures(self) -> dict[str, Figures]:
        return {one.tool: one async for one in self.scores.figures()}

    async def listed(self) -> list[str]:
        found, total = await self.scores.listed(order="used")
        assert len(found) == total
        return [one.server for one in found]

    @property
    def bound(self) -> float | None:
        return self.scores.bound(self.tools[0].name)


# --- the bound


def test_the_bound_is_wilsons() -> None:
    assert lower_bound(8, 2) == pytest.approx(0.5408, abs=1e-4)
    assert {lower_bound(0, 1 + number / 1000) for number in range(1000)} == {0.0}
    assert lower_bound(1, 0) == pytest.approx(1 / (1 + 1.6448536**2))
    assert upper_bound(6, 14) == pytest.approx(0.4838, abs=1e-4)
    assert upper_bound(1, 0) == 1.0
    assert expected(0, 0) == 0.5


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_bound_is_below_the_share_and_more_successes_never_lower_it(good: float, bad: float) -> None:
    if good + bad < 1e-6:
        return
    bound = lower_bound(good, bad)
    assert 0 <= bound <= good / (good + bad) + 1e-9
    assert lower_bound(good + 1, bad) >= bound - 1e-9
    assert lower_bound(good, bad + 1) <= bound + 1e-9


def test_a_tool_that_was_never_called_has_no_bound() -> None:
    world = World()
    assert world.bound is None
    assert world.scores.bound("nobody__knows") is None
    assert world.scores.most("nobody__knows") is None
    assert world.scores.of(world.tools[0].name) is None


def test_a_tool_that_mostly_fails_is_known_to_by_how_many_of_its_calls_succeed_at_the_most() -> None:
    world = World()
    world.calls(count=6)
    assert world.scores.most(world.tools[0].name) == 1.0
    world.calls("error", 14)
    least, most = world.bound, world.scores.most(world.tools[0].name)
    assert least is not None
    assert most is not None
    assert least < 0.3 < most < 0.5


def test_a_tool_that_works_comes_before_one_that_fails_now_and_then() -> None:
    world = World(tool("good"), tool("bad"))
    world.calls(count=20, which=world.tools[0])
    world.calls(count=16, which=world.tools[1])
    world.calls("error", 4, which=world.tools[1])
    good, bad = (world.scores.bound(one.name) for one in world.tools)
    assert good is not None
    assert bad is not None
    assert good > 0.8 > bad > 0.5


# --- what counts


@pytest.mark.parametrize("outcome", sorted(FAILURES))
def test_a_failure_counts_against_the_tool_and_is_remembered(outcome: str) -> None:
    world = World()
    world.calls(count=5)
    before = world.bound
    world.now += 100
    world.calls(outcome, said="it broke")
    told = world.scores.of("time__get")
    assert told is not None
    assert told.last is not None
    assert before is not None
    assert told.all.bound is not None
    assert told.all.bound < before
    assert told.all.failures == {outcome: 1}
    assert (told.last.kind, told.last.text, told.last.at, told.last.version) == (
        outcome,
        "it broke",
        world.now,
        "1.0",
    )


@pytest.mark.parametrize(
    "outcome",
    [
        *("invalid_arguments", "refused", "needs_approval", "cancelled", "unknown_tool", "queue_full"),
        *("limit", "installing", "install_failed", "unfinished", "code_failed"),
    ],
)
def test_what_is_not_the_tools_fault_is_counted_but_does_not_count_against_it(outcome: str) -> None:
    world = World()
    world.calls(count=5)
    before = world.bound
    world.calls(outcome, 50)
    told = world.scores.of("time__get")
    assert told is not None
    assert (world.bound, told.all.excused, told.all.failures, told.last) == (before, {outcome: 50}, {}, None)


def test_every_outcome_code_is_either_a_failure_or_excused_on_purpose() -> None:
    excused = {str(outcome) for outcome in Outcome} - FAILURES
    assert excused == {
        *("unknown_tool", "unknown_server", "invalid_arguments", "name_taken", "installing"),
        *("install_failed", "queue_full", "limit", "refused", "needs_approval", "changed"),
    }


def test_a_failure_that_is_excused_does_not_count() -> None:
    world = World()
    world.calls(count=5)
    before = world.bound
    world.calls("timed_out", excused=True)
    assert world.bound == before


def test_an_outage_counts_once_a_minute_however_often_somebody_tries() -> None:
    world = World()
    world.calls(count=20)
    for _ in range(100):
        world.now += 0.5
        world.calls("unavailable")
    told = world.scores.of("time__get")
    assert told is not None
    assert told.all.failures == {"unavailable": 100}
    assert told.all.weight == pytest.approx(21, abs=0.01)
    world.now += 60
    world.calls("unavailable")
    told = world.scores.of("time__get")
    assert told is not None
    assert told.all.weight == pytest.approx(22, abs=0.01)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("MCP error -32602: Input validation error: Invalid arguments for tool get", "invalid_arguments"),
        ("Input validation error: 'zone' is a required property", "invalid_arguments"),
        (
            "Error executing tool get: 1 validation error for getArguments\nzone\n  Field required",
            "invalid_arguments",
        ),
        ("Error executing tool get: 1 validation error for Answer\nzone", "error"),
        ("Error executing tool get: the disk is full", "error"),
        ("The server said: Input validation error: of its own upstream", "error"),
        ("MCP error -32603: internal", "error"),
        ("", "error"),
    ],
)
def test_an_error_that_says_the_arguments_were_wrong_is_the_callers(text: str, verdict: str) -> None:
    assert judged({"content": [{"type": "text", "text": text}], "isError": True}) == verdict


ZONES = {"type": "object", "properties": {"source_timezone": {}, "days": {}, "response": {}}}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Invalid arguments for read_file: path: Required", "invalid_arguments"),
        ("Error: Invalid params: no city", "invalid_arguments"),
        ("Missing required argument 'city'", "invalid_arguments"),
        (
            "Error calling tool 'add': 1 validation error for call[add]\na\n  Input should be",
            "invalid_arguments",
        ),
        ("Access denied - path outside allowed directories: /etc/passwd not in /srv", "invalid_arguments"),
        ("Error executing tool convert: Invalid timezone: 'No time zone found'", "invalid_arguments"),
        ("Invalid source_timezone: Mars/Base", "invalid_arguments"),
        ("days must be between 1 and 14", "invalid_arguments"),
        ("Error: 'days' is required", "invalid_arguments"),
        # The tool may be badly set up, or its service gone.
        ("Access denied", "error"),
        ("Invalid API key", "error"),
        ("Invalid credentials: log in again", "error"),
        ("Invalid response: <html>", "error"),
        ("Invalid zone: x", "error"),
        ("token must be renewed", "error"),
        ("File not found: a.txt", "error"),
        ("ENOENT: no such file or directory, open 'a.txt'", "error"),
        ("1 validation error for WeatherResponse\nrain\n  Field required", "error"),
        ("The server said: Invalid timezone: x", "error"),
    ],
)
def test_only_what_nothing_but_the_arguments_can_be_the_reason_of_is_excused(text: str, verdict: str) -> None:
    result = {"content": [{"type": "text", "text": text}], "isError": True}
    assert judged(result, "convert", schema=ZONES) == verdict


def test_a_function_is_not_blamed_for_tools_its_caller_may_not_call() -> None:
    ends = "ImportError: calling tools from code is not enabled for you: the operator sets sandbox.tools to enable it"
    text = (
        'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n'
        + "    from x import y\n" * 30
        + ends
    )
    result = {"content": [{"type": "text", "text": text}], "isError": True}
    assert judged(result, "a", own=True) == "refused"
    assert judged(result, "a") == "error"
    # What a function itself raises is its own.
    result = {"content": [{"type": "text", "text": "Traceback\nValueError: Invalid isoformat string"}]}
    assert judged(result, "a", own=True, schema=ZONES) == "error"


@pytest.mark.parametrize("schema", [None, 3, [], {"properties": 3}, {"properties": {3: 4, "": {}}}])
def test_a_schema_of_any_shape_can_be_asked_for_the_argument(schema: Any) -> None:
    text = "Invalid timezone: x"
    assert judged({"content": [{"type": "text", "text": text}]}, schema=schema) == "error"


@pytest.mark.parametrize(
    "result",
    [{}, {"content": None}, {"content": [None, 3, {"text": 5}]}, {"content": "text"}, {"_meta": 3}],
)
def test_a_result_of_any_shape_can_be_judged(result: dict[str, Any]) -> None:
    assert judged(result) == judged(result, own=True) == "error"


def test_a_server_of_somebody_elses_cannot_excuse_itself() -> None:
    result = {
        "content": [],
        "_meta": {OUTCOME_KEY: "invalid_arguments"},
        "structuredContent": {"status": "error"},
    }
    assert judged(result, "python_execute") == "error"
    assert judged(result, "python_execute", own=True) == "invalid_arguments"
    del result["_meta"]
    assert judged(result, "python_execute", own=True) == "code_failed"
    assert judged(result, "session_start", own=True) == "error"


# --- time


def test_a_call_counts_half_after_a_half_life() -> None:
    world = World()
    world.calls("error", 10)
    world.now += HALF_LIFE
    told = world.scores.of("time__get")
    assert told is not None
    assert told.all.weight == pytest.approx(5)
    world.calls(count=10)
    told = world.scores.of("time__get")
    assert told is not None
    assert told.all.expected == pytest.approx(expected(10, 5))


def test_what_is_long_ago_is_no_evidence_any_more_but_is_still_told() -> None:
    world = World()
    world.calls()
    world.now += 2 * HALF_LIFE + 1
    assert world.bound is None
    told = world.scores.of("time__get")
    assert told is not None
    assert told.all.successes == 1
    assert "nothing is known by now" in explained(told)


def test_latencies_are_those_of_late() -> None:
    world = World()
    world.calls(count=100, seconds=10.0)
    world.now += 5 * HALF_LIFE
    world.calls(count=20, seconds=0.01)
    told = world.scores.of("time__get")
    assert told is not None
    assert told.all.seconds[0] == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("leap", [-365 * DAY, -1e9, -1e12, 90 * DAY, 365 * DAY, 1e12, 1e300, float("inf")])
def test_a_clock_that_leaps_makes_no_call_count_more_or_less(leap: float) -> None:
    world = World()
    world.calls("error", count=100)
    before = world.bound
    world.set_by = leap
    assert world.bound == before
    world.calls()
    world.set_by = 0.0
    told = world.scores.of("time__get")
    assert told is not None
    assert told.all.weight == pytest.approx(101)
    assert told.all.expected == pytest.approx(1.5 / 102)
    assert told.all.at == pytest.approx(world.now)
    assert told.all.since == pytest.approx(world.now)
    assert told.last is not None
    assert told.last.at == pytest.approx(world.now)
    world.now += HALF_LIFE
    told = world.scores.of("time__get")
    assert told is not None
    assert told.all.weight == pytest.approx(101 / 2)


def test_a_clock_that_is_set_right_after_the_start_loses_nothing_that_was_kept() -> None:
    world = World()
    world.calls(count=100)
    (record,) = world.scores.changed.values()
    kept = record.as_text(1 / world.scores.growth(record.at), str)
    world.set_by = -world.now + 100  # no battery: it is 1970
    later = world.anew()
    later.put([Record.from_text(record.key, record.at, kept)])
    world.set_by = 0.0
    later.observe(world.tools[0], "ok", 0.1)
    told = later.of("time__get")
    assert told is not None
    assert told.all.weight == pytest.approx(101)
    assert told.all.at == world.now
    (record,) = later.changed.values()
    again = Record.from_text(record.key, record.at, record.as_text(1 / later.growth(record.at), str))
    assert again.good == pytest.approx(101)
    assert again.since == world.now


async def test_nothing_is_let_go_of_while_the_clock_is_wrong() -> None:
    world = World()
    world.calls(count=100)
    world.set_by = 200 * DAY
    await world.scores.prune()
    world.set_by = 0.0
    await world.scores.prune()
    assert world.scores.gone == set()
    assert world.bound is not None
    assert world.bound > 0.9


def test_a_clock_that_nobody_checks_counts_no_call_twice_when_it_goes_back() -> None:
    world = World()
    world.scores = Scores(cast(Library, world.library), clock=lambda: world.now)
    world.calls("error", count=100)
    world.now += 365 * DAY
    world.calls()
    world.now -= 365 * DAY
    world.calls("error", count=100)
    assert world.bound is not None
    assert world.bound < 0.05


def test_what_is_kept_never_weighs_more_than_there_were_calls() -> None:
    record = Record(("s", "t", ""), "s__t", 0.0)
    record.ok, record.failures, record.good, record.bad = 3, {"error": 2}, 1e9, 1e9
    text = record.as_text(1.0, str)
    assert '"good":3,"bad":2' in text
    poisoned = text.replace('"good":3,"bad":2', '"good":1e9,"bad":1e9')
    found = Record.from_text(record.key, 0.0, poisoned)
    assert (found.good, found.bad) == (3, 2)


async def test_records_that_are_all_too_old_go_without_holding_others_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("toolscore.tools.scores.turns.TURN", 0.0)
    world = World(*(tool(f"t{number}") for number in range(200)))
    for one in world.tools:
        world.calls(which=one)
    world.now += 181 * DAY
    work, turns = asyncio.create_task(world.scores.prune()), 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 200
    assert len(world.scores.gone) == 200


# --- versions


def test_a_new_version_starts_its_own_record_and_older_ones_lean_on_it_weakly() -> None:
    world = World()
    world.calls(count=100)
    trusted = world.bound
    world.library.servers["time"] = World.row("2.0")
    assert trusted is not None
    assert world.bound is not None
    assert 0.3 < world.bound < 0.5 < trusted  # two calls' worth of a hundred
    world.calls("error", 5)
    told = world.scores.of("time__get")
    assert told is not None
    assert told.all.bound is not None
    assert told.all.bound < 0.15
    assert [(one.version, one.successes, one.failures) for one in told.versions] == [
        ("2.0", 0, {"error": 5}),
        ("1.0", 100, {}),
    ]


def test_a_version_is_the_installed_one_else_what_the_server_says_of_itself() -> None:
    world = World(version=None)
    for said, wanted in (
        ({"version": "7"}, "7"),
        ({"version": ["7"]}, None),
        ({}, None),
        (None, None),
        ({"version": "x" * 1000}, "x" * 64),
    ):
        world.library.servers["time"] = World.row(None, said)
        assert world.scores.version("time") == wanted
    world.library.servers["time"] = World.row("1.2", {"version": "7"})
    assert world.scores.version("time") == "1.2"


def test_a_server_with_a_new_version_at_every_start_does_not_fill_the_memory() -> None:
    world = World()
    for number in range(50):
        world.now += 1
        world.library.servers["time"] = World.row(f"0.{number}")
        world.calls()
    told = world.scores.of("time__get")
    assert told is not None
    assert [one.version for one in told.versions] == [f"0.{number}" for number in range(49, 41, -1)]


# --- names, numbers, texts


async def test_a_removed_servers_record_waits_for_it_to_come_back() -> None:
    world = World()
    world.calls(count=10)
    before = world.bound
    row, names = world.library.servers.pop("time"), dict(world.library.tools)
    world.library.tools.clear()
    assert await world.listed() == []
    told = world.scores.of("time__get")
    assert told is not None
    assert (told.version, told.all.successes) == ("1.0", 10)
    world.library.servers["time"], world.library.tools = row, names
    assert world.bound == before


def test_a_call_whose_server_was_removed_meanwhile_is_not_counted() -> None:
    world = World()
    world.library.servers.clear()
    world.calls("unavailable")
    assert world.scores.of("time__get") is None


async def test_records_are_bounded_in_number_and_age_and_removed_servers_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    tools = [tool("get", server) for server in ("gone", "old", "b", "c", "d")]
    world = World(*tools)
    for one in tools[1:]:
        world.calls(which=one)
        world.now += 1
    world.calls(which=tools[0])
    del world.library.servers["gone"]
    await world.scores.prune()
    assert sorted(key[0] for key in world.scores.gone) == ["gone", "old"]
    assert await world.listed() == ["b", "c", "d"]
    world.now += 181 * DAY
    await world.scores.prune()
    assert await world.listed() == []


def test_a_failures_text_is_cut_and_without_secrets_and_control_characters() -> None:
    world = World(mask=lambda text: text.replace("sesame", "***"))
    cases = {
        "open sesame": "open ***",
        "a\x1b[31m\nb\u202e": "a?[31m b?",
        "x" * 1000: "x" * 299 + "…",
        "y" * 10**6: "(a text of 1000000 characters)",
        "lone \ud800": "lone ?",
        # No half of a secret at the end, where it is cut.
        "z" * 295 + " sesame and more": "z" * 295 + " ***" + "…",
    }
    for said, kept in cases.items():
        world.calls("error", said=said)
        told = world.scores.of("time__get")
        assert told is not None
        assert told.last is not None
        assert told.last.text == kept


async def test_figures_are_for_so_many_tools_and_a_tool_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(figures, "NAMED", 2)
    tools = [tool(name) for name in "abc"]
    world = World(*tools)
    for count, one in zip((1, 5, 3), tools, strict=True):
        world.calls(count=count, which=one)
    world.calls("error", which=tools[0])
    first = {name: one.calls for name, one in (await world.figures()).items()}
    assert first == {"time__b": {"ok": 5}, "time__c": {"ok": 3}, "other": {"ok": 1, "error": 1}}
    world.calls(count=100, which=tools[0])
    found = await world.figures()
    assert found["other"] == Figures("other", {"ok": 101, "error": 1}, None, ())
    assert found["time__b"].bound is not None
    assert found["time__b"].seconds[0] is not None


async def test_what_is_counted_never_becomes_less_when_a_version_or_a_tool_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(figures, "NAMED", 1)
    world = World(tool("get", "a"), tool("get", "b"), tool("get", "c"))
    a, b, c = world.tools
    world.calls(count=50, which=a)
    world.calls("timed_out", count=2, excused=True, which=a)
    for one in (b, c):
        world.calls(count=4, which=one)
    for number in range(20):
        world.now += 1
        world.library.servers["a"] = World.row(f"0.{number}")
        world.calls(count=1, which=a)
        found = await world.figures()
        assert found["a__get"].calls == {"ok": 51 + number, "timed_out": 2}
        assert found["other"].calls == {"ok": 8}
    told = world.scores.of("a__get")
    assert told is not None
    assert told.all.successes == 8  # of the versions that are told one by one
    del world.library.servers["b"], world.library.tools["b__get"]
    assert (await world.figures())["other"].calls == {"ok": 8}
    world.now += 181 * DAY
    await world.scores.prune()
    assert world.scores.of("c__get") is None
    world.calls(which=c)
    assert (await world.figures())["other"].calls == {"ok": 9}


async def test_a_list_of_some_works_out_no_others_and_lets_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tools = [tool(f"t{number:04}") for number in range(5000)]
    world = World(*tools)
    for number, one in enumerate(tools):
        for step in range(4):
            world.calls("error" if number % 7 == step else "ok", which=one, seconds=0.01 * (1 + step))
    worked_out = list[str]()

    def counted(name: str, *rest: Any) -> ToolScore:
        worked_out.append(name)
        return score(name, *rest)

    monkeypatch.setattr(module, "score", counted)
    monkeypatch.setattr("toolscore.tools.scores.turns.TURN", 0.0005)
    turns, ended = 0, False

    async def others() -> None:
        nonlocal turns
        while not ended:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    found, total = await world.scores.listed("time", limit=3)
    assert (total, [one.name for one in found]) == (5000, worked_out)
    assert worked_out == ["time__t0000", "time__t0001", "time__t0002"]
    assert turns > 3
    turns = 0
    assert len(await world.figures()) == figures.NAMED + 1
    assert turns > 3
    ended = True
    await task


def test_a_text_of_many_words_or_of_spaces_is_cut_the_same() -> None:
    for text, wanted in (
        ("a " * 30000, "a " * 149 + "a…"),
        (" \n" * 30000 + "end", "end"),
        ("a" + " " * 60000 + "b", "a b"),
        ("word " * 60, ("word " * 60).strip()),
        ("x" * 300 + "   ", "x" * 300),
    ):
        assert Failure(0, "error", text).cleaned(str) == wanted


def test_a_record_that_is_none_is_refused() -> None:
    record = Record(("a", "b", "1"), "a__b", 5.0)
    record.ok, record.good = 3, 2.5
    text = record.as_text(1.0, str)
    again = Record.from_text(record.key, 6.0, text)
    assert (again.ok, again.good, again.since, again.at) == (3, 2.5, 5.0, 6.0)
    for broken in (
        "",
        "[]",
        "null",
        "{}",
        text[:-2],
        text.replace("2.5", "NaN"),
        text.replace("3", '"3"'),
        "[" * 9000,
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever json says of it
            Record.from_text(record.key, 6.0, broken)


@pytest.mark.alone
def test_taking_note_of_a_call_costs_as_much_as_a_few_dozen_empty_calls() -> None:
    tools = [tool(f"t{number}") for number in range(100)]
    world = World(*tools)
    scores = Scores(cast(Library, world.library))

    def nothing(_tool: Tool, _outcome: str, _seconds: float, _said: str) -> None: ...

    def cost(act: Callable[[Tool, str, float, str], None], outcome: str) -> float:
        times = []
        for _ in range(200):  # the best of many short ones: whatever else runs here only ever adds
            began = time.perf_counter()
            for one in tools:
                act(one, outcome, 0.001, "it broke")
            times.append(time.perf_counter() - began)
        return min(times)

    # About a twentieth of a microsecond, and so one or two in all; a ratio holds on a busy machine too.
    empty = cost(nothing, "ok")
    assert cost(scores.observe, "ok") < 60 * empty
    assert cost(scores.observe, "error") < 100 * empty


def test_the_sentence_tells_the_numbers() -> None:
    world = World()
    world.calls(count=9)
    world.calls("error")
    world.calls("invalid_arguments")
    told = world.scores.of("time__get")
    assert told is not None
    assert explained(told) == (
        "9 of 10 calls succeeded (1 more does not count); with 95% confidence version 1.0 works in at least 65% of "
        "calls, 86% are to be expected."
    )
    assert "it works" in explained(replace(told, version=None))
