"""Sessions as trajectories: steps in order, what made which, and what is not whole is marked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]

from journaled import ANA, BEN, kept, passage
from toolscore.tools.journal.trajectory import SCHEMA, trajectories


def of(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    document = trajectories(records)
    jsonschema.validate(document, SCHEMA)
    episodes: list[dict[str, Any]] = document["episodes"]
    return episodes


async def test_steps_are_in_the_order_they_began_with_what_made_them(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.journal.note("session_begun", caller=ANA)
        outer = passage(
            "python__run", {"code": "1"}, result={"content": [], "structuredContent": {"value": 1}}
        )
        outer.began -= 5
        one.journal.admit(outer)
        one.over(
            passage("time__now", caller=replace(ANA, span=outer.span, depth=1), outcome="error", said="late")
        )
        one.journal.watch(outer)
        await one.records()
        one.journal.note("session_ended", caller=ANA)
        [episode] = of(await one.records())
    ran, called = episode["steps"]
    assert [step["action"]["tool"] for step in (ran, called)] == ["python__run", "time__now"]
    assert (ran["parent"], called["parent"]) == (None, 0)
    assert ran["observation"]["structured"] == {"value": 1}
    assert (called["observation"]["is_error"], called["observation"]["error"]) == (True, "late")
    assert episode["complete"] is True
    assert episode["totals"] == {
        "steps": 2,
        "failed": 1,
        "seconds": 0.25,  # what was called from inside is in there
        "argument_bytes": 14,
        "result_bytes": 46,
        "outcomes": {"ok": 1, "error": 1},
    }


async def test_sessions_of_one_name_are_apart_where_they_are_of_two(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        for caller in (ANA, BEN, ANA):
            one.over(passage(caller=replace(caller, session="same")))
        episodes = of(await one.records())
    assert sorted((one["client"]["principal"], len(one["steps"])) for one in episodes) == [
        ("ana", 2),
        ("ben", 1),
    ]


async def test_what_is_not_whole_is_marked(tmp_path: Path) -> None:
    async with kept(tmp_path, content_bytes=500) as one:
        one.over(passage(result={"content": [{"type": "text", "text": "x" * 9000}]}))
        one.over(passage(caller=BEN, result={"content": []}))
        cut, begun_before = of(await one.records())
    [step] = cut["steps"]
    assert step["observation"]["truncated"]["bytes"] == 9039
    assert len(step["observation"]["truncated"]["sha256"]) == 64
    assert set(step["observation"]["content"][0]["text"]) == {"x"}
    assert cut["complete"] is False
    assert begun_before["complete"] is False  # a connection whose beginning is not there


async def test_contents_that_were_not_kept_are_null(tmp_path: Path) -> None:
    async with kept(tmp_path, contents="off") as one:
        one.over(passage(arguments={"a": 1}, result={"content": []}))
        [episode] = of(await one.records())
    [step] = episode["steps"]
    assert step["action"]["arguments"] is None
    assert step["observation"]["content"] is None
    assert episode["totals"]["argument_bytes"] == 7
