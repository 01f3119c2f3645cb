"""The journal can be followed by a resource, with the filters and rights of `read_journal`, without writing to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from several import RICH, Line, Message, Serving, serving
from toolscore.server.home import Home
from toolscore.server.tokens import Tokens
from toolscore.tools.caller import CALL, MANAGE
from toolscore.tools.journal.recent import BYTES, LINES, Recent

JOURNAL = "toolscore://journal"
POLICY = """
[[rule]]
who = "blind"
tools = "toolscore__read_journal"
answer = "deny"

[[rule]]
who = "short"
servers = "rich"
answer = "deny"
"""


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("follow")
    (folder / "home").mkdir(mode=0o700)
    (folder / "home" / "policy.toml").write_text(POLICY)
    with serving(folder, "--expose", "all", "--set", "tools.semantic=off", rich=["-S", RICH]) as one:
        yield one


@pytest.fixture(scope="module")
def tokens(toolscore: Serving) -> dict[str, str]:
    made = Tokens(Home.at(toolscore.home), frozenset({CALL}))
    rights = {"boss": {CALL, MANAGE}, "ann": {CALL}, "blind": {CALL, MANAGE}, "short": {CALL, MANAGE}}
    return {name: made.create(name, frozenset(given)) for name, given in rights.items()}


async def read(line: Line, query: str = "") -> Message:
    [content] = (await line.request("resources/read", uri=f"{JOURNAL}{query}"))["result"]["contents"]
    body: Message = json.loads(content["text"])
    return body


async def until(line: Line, query: str, wanted: Callable[[list[Any]], Any]) -> list[Any]:
    async with asyncio.timeout(60):
        while True:
            body = await read(line, query)
            if wanted(body["records"]):
                return list(body["records"])
            await asyncio.sleep(0.05)


async def test_calls_of_others_are_told_and_looking_on_is_not_written_down(
    toolscore: Serving, tokens: dict[str, str]
) -> None:
    async with toolscore.line(token=tokens["boss"]) as boss, toolscore.line(token=tokens["ann"]) as ann:
        assert "result" in await boss.request("resources/subscribe", uri=JOURNAL)
        begin = await read(boss)
        assert begin["records"] == []
        await ann.call("rich__echo", secret_word="xyzzy")
        assert (await boss.told("notifications/resources/updated"))["uri"] == JOURNAL
        query = f"?after={begin['cursor']}"
        records = await until(
            boss, query, lambda found: any(one.get("tool") == "rich__echo" for one in found)
        )
        [call] = [one for one in records if one.get("tool") == "rich__echo"]
        assert (call["client"]["principal"], call["outcome"]) == ("ann", "ok")
        assert "arguments" not in call, "contents are read_journal's"
        assert not [one for one in records if one["kind"] == "read" or "read_journal" in str(one)]
        filtered = await read(boss, f"{query}&server=rich&outcome=!ok")
        assert filtered["records"] == []
        assert filtered["missed"] is False
        assert (await read(boss, "?after=gone-1"))["missed"] is True


async def test_without_the_right_to_manage_only_ones_own_calls_are_told(
    toolscore: Serving, tokens: dict[str, str]
) -> None:
    async with toolscore.line(token=tokens["boss"]) as boss, toolscore.line(token=tokens["ann"]) as ann:
        cursor = (await read(ann))["cursor"]
        await boss.call("rich__echo")
        await ann.call("rich__echo")
        records = await until(ann, f"?after={cursor}", bool)
        assert {one["client"]["principal"] for one in records} == {"ann"}


async def test_who_may_not_read_the_journal_may_not_follow_it(
    toolscore: Serving, tokens: dict[str, str]
) -> None:
    async with toolscore.line(token=tokens["blind"]) as blind:
        refused = await blind.request("resources/read", uri=JOURNAL)
        assert "does not let 'blind'" in refused["error"]["message"]


async def test_of_what_may_not_be_seen_nothing_is_told(toolscore: Serving, tokens: dict[str, str]) -> None:
    async with toolscore.line(token=tokens["short"]) as short, toolscore.line(token=tokens["boss"]) as boss:
        cursor = (await read(short))["cursor"]
        for _ in range(2):
            await boss.call("rich__echo")
            await boss.call("list_servers")
        query = f"?after={cursor}"
        await until(boss, query, lambda found: sum("list_servers" in str(one) for one in found) == 2)
        told = (await read(short, query))["records"]
        assert [one["tool"] for one in told if one["kind"] == "call"] == ["toolscore__list_servers"] * 2
        assert "rich" not in json.dumps(told)


async def test_a_filter_that_is_none_is_named(toolscore: Serving, tokens: dict[str, str]) -> None:
    async with toolscore.line(token=tokens["boss"]) as boss:
        refused = await boss.request("resources/read", uri=f"{JOURNAL}?colour=red")
        assert "colour" in refused["error"]["message"]


def test_what_is_kept_is_bounded_and_says_what_was_missed() -> None:
    recent = Recent("run")
    recent.take([b"before anybody wanted any"])
    assert recent.since("") == ([], "run-1", False)
    recent.take([b"%d" % number for number in range(LINES + 5)])
    lines, cursor, missed = recent.since("run-1")
    assert (len(lines), lines[0], missed) == (LINES, b"5", True)
    assert recent.since(cursor) == ([], cursor, False)
    recent.take([b"x" * (BYTES // 2)] * 3)
    lines, _, missed = recent.since(cursor)
    assert (len(lines), missed) == (2, True)
    assert recent.since("other-3")[2]


def test_nobody_is_told_of_lines_before_somebody_wanted_them() -> None:
    recent = Recent("run")
    heard: list[int] = []
    recent.on_lines = lambda: heard.append(1)
    recent.take([b"1"])
    assert not heard
    recent.since("")
    recent.take([b"2"])
    assert heard
