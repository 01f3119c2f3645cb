"""What is done has one record each, with all there is to know, and without what must not be seen."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_json

from journaled import ANA, BEN, kept, lines, passage
from routed import house
from toolscore.tools.caller import OWNER
from toolscore.tools.journal.journal import Journal
from toolscore.tools.journal.options import Options
from toolscore.tools.journal.subject import EXECUTE
from toolscore.tools.outcome import Outcome, RefusalError

SECRET = "hunter2-hunter2"


def masked(text: str) -> str:
    return text.replace(SECRET, "***")


def said(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


async def test_a_call_has_one_record_with_all_there_is_to_know(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    async with kept(tmp_path) as one:
        record = await one.only(passage("time__now", {"zone": "UTC"}, result=said("noon")))
    run, _, number = record["id"].partition("-")
    assert re.fullmatch("[0-9a-f]{8}", run)
    assert number == "1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record["time"])
    # It is the time it came, a quarter of a second before it was over.
    came, spare = datetime.fromisoformat(record["time"]), timedelta(seconds=1)
    assert before - spare < came < datetime.now(UTC) + spare
    assert re.fullmatch("[0-9a-f]{32}", record["trace"])
    assert re.fullmatch("[0-9a-f]{16}", record["span"])
    told = {key: value for key, value in record.items() if key not in ("id", "time", "trace", "span")}
    assert told == {
        "kind": "call",
        "method": "tools/call",
        "client": {"principal": "ana", "listener": "ws", "connection": 7},
        "session": f"{run}.7",
        "server": "time",
        "version": "1.2.3",
        "tool": "time__now",
        "outcome": "ok",
        "seconds": 0.25,
        "arguments": {"zone": "UTC"},
        "result": said("noon"),
        "bytes": {"arguments": 14, "result": 43},
    }


async def test_real_calls_are_written_down_whatever_becomes_of_them(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        journal = Journal(tmp_path / "journal", Options())
        journal.start()
        made.router.guards, made.router.watch = (journal,), journal.watch
        await made.call("echo", text="hi")
        await made.call("failed")
        await made.call("error")
        assert (await made.refused("missing")).outcome is Outcome.UNKNOWN_TOOL
        with pytest.raises(RefusalError):
            await made.router.call("faulty__echo", {}, replace(OWNER, rights=frozenset()))
        task = asyncio.create_task(made.call("sleep", seconds=60))
        unit = made.supervisor.units["faulty"]
        async with asyncio.timeout(30):
            while unit.session is None or not unit.session.in_flight:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        await journal.aclose()
    records = lines(tmp_path / "journal")
    assert [(one["tool"], one["outcome"]) for one in records] == [
        ("faulty__echo", "ok"),
        ("faulty__failed", "error"),
        ("faulty__error", "server_error"),
        ("faulty__missing", "unknown_tool"),
        ("faulty__echo", "refused"),
        ("faulty__sleep", "cancelled"),
    ]
    assert records[1]["error"] == "it did not work"
    assert "may not call" in records[4]["error"]
    assert all(one["seconds"] >= 0 for one in records)


async def test_a_trace_of_the_client_is_continued(tmp_path: Path) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with kept(tmp_path) as one:
        record = await one.only(passage(meta={"traceparent": f"00-{trace}-{parent}-01"}))
        assert (record["trace"], record["parent"]) == (trace, parent)
        assert record["span"] not in (parent, "0" * 16)
        read = passage("time", {"uri": "a:b", "_meta": {"traceparent": f"00-{trace}-{parent}-00"}})
        read.method = "resources/read"
        record = await one.only(read)
        assert (record["kind"], record["trace"], record["arguments"]) == ("read", trace, {"uri": "a:b"})


@pytest.mark.parametrize(
    "parent",
    [
        "",
        7,
        None,
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
    ],
)
async def test_a_trace_that_is_none_is_left_aside(tmp_path: Path, parent: Any) -> None:
    async with kept(tmp_path) as one:
        record = await one.only(passage(meta={"traceparent": parent}))
    assert "parent" not in record
    assert record["trace"] != "0af7651916cd43dd8448eb211c80319c"


async def test_calls_from_inside_of_a_call_have_it_as_their_parent(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        outer = passage("python__run")
        one.journal.admit(outer)
        inner = replace(ANA, span=outer.span, depth=1, parent="python#1")
        one.over(passage("time__now", caller=inner))
        one.journal.watch(outer)
        called, ran = await one.records()
    assert called["trace"] == ran["trace"]
    assert (called["parent"], called["depth"]) == (ran["span"], 1)
    assert "parent" not in ran


async def test_no_two_spans_are_the_same(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        spans = set()
        for _ in range(2000):
            call = passage()
            one.journal.admit(call)
            spans.add(call.span)
    assert len(spans) == 2000


async def test_the_session_is_what_the_client_names_it(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        record = await one.only(passage(caller=replace(ANA, session="episode 1")))
        assert record["session"] == "episode 1"
        assert (await one.only(passage(caller=BEN)))["session"] == f"{one.journal.run}.8"


async def test_execute_tool_is_written_down_only_where_nothing_was_called(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        outer = passage(EXECUTE, {"tool": "time__now"}, result=said("noon"))
        outer.tool = None
        one.over(outer)
        one.over(passage("time__now", outcome="refused", said="no"))
        passed_on = passage(EXECUTE, {"tool": "time__now"}, outcome="refused", said="no")
        passed_on.tool = None
        one.over(passed_on)
        alone = passage(EXECUTE, {"tool": "time__now"}, outcome="refused", said="policy: not execute_tool")
        alone.tool = None
        one.over(alone)
        records = await one.records()
    assert [record["tool"] for record in records] == ["time__now", EXECUTE]
    assert records[1]["error"] == "policy: not execute_tool"


# --- contents


async def test_of_long_contents_the_beginning_is_kept_and_what_the_whole_was(tmp_path: Path) -> None:
    result = said("é" * 40_000) | {"structuredContent": {"never": "seen"}}
    arguments = {"rows": list(range(10_000)), "after": "x"}
    async with kept(tmp_path, content_bytes=1000) as one:
        record = await one.only(passage(arguments=arguments, result=result))
    for name, whole in (("arguments", arguments), ("result", result)):
        text = to_json(whole)
        assert record["cut"][name] == {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        assert record["bytes"][name] == len(text)
        assert 900 <= len(to_json(record[name])) <= 1100
    [block] = record["result"]["content"]
    assert set(block["text"]) == {"é"}
    assert record["arguments"]["rows"][:3] == [0, 1, 2]


@pytest.mark.parametrize(
    ("contents", "there"), [("on", (True, True)), ("arguments", (True, False)), ("off", (False, False))]
)
async def test_contents_can_be_left_out(tmp_path: Path, contents: Any, there: tuple[bool, bool]) -> None:
    async with kept(tmp_path, contents=contents) as one:
        record = await one.only(passage(arguments={"a": 1}, result=said("noon")))
    assert ("arguments" in record, "result" in record) == there
    assert record["bytes"] == {"arguments": 7, "result": 43}


async def test_contents_are_kept_otherwise_from_the_next_call_on(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        assert "result" in await one.only(passage(result=said("noon")))
        one.journal.configure(Options(contents="off"))
        assert "result" not in await one.only(passage(result=said("noon")))


async def test_what_is_changed_after_a_call_is_not_changed_in_its_record(tmp_path: Path) -> None:
    arguments = {"text": "as it was"}
    async with kept(tmp_path) as one:
        one.over(passage(arguments=arguments))
        await asyncio.sleep(0)
        arguments["text"] = "otherwise"
        [record] = await one.records()
    assert record["arguments"] == {"text": "as it was"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"note": f"the word is {SECRET}"},
        {"api_key": "anything"},
        {"deep": [{"dbPassword": "anything"}]},
        {"tokens": {"access_token": ["anything"]}},
        {SECRET: 1},
        {"body": '{"client_secret": "anything", "other": 1}'},
        {"multi\nline token": "anything"},
        {"page": "see https://h.example/a?x=1&access_token=anything#there"},
    ],
)
async def test_secrets_are_masked_by_value_and_by_name(tmp_path: Path, arguments: dict[str, Any]) -> None:
    async with kept(tmp_path, mask=masked) as one:
        one.over(
            passage(arguments={"plain": "anybody", **arguments}, result={"structuredContent": arguments})
        )
        await one.records()
    text = (one.folder / "00000001.jsonl").read_text()
    assert "anybody" in text
    assert "***" in text
    assert SECRET not in text
    assert "anything" not in text
    json.loads(text)


async def test_what_is_said_of_a_failure_and_noted_is_masked_too(tmp_path: Path) -> None:
    async with kept(tmp_path, mask=masked) as one:
        one.over(passage(outcome="error", said=f"cannot log in with {SECRET}"))
        one.journal.note(
            "server_failed", server="time", said=f"exits: {SECRET}", where=f"at {SECRET}", token="abcdef"
        )
        await one.records()
    text = (one.folder / "00000001.jsonl").read_text()
    assert text.count("***") == 4
    assert SECRET not in text
    assert "abcdef" not in text


async def test_a_secret_that_is_cut_in_two_leaves_no_half(tmp_path: Path) -> None:
    def masked(text: str) -> str:
        return text.replace("S" * 100, "*")

    async with kept(tmp_path, mask=masked, content_bytes=1000) as one:
        for begin in (*range(860, 960, 7), *range(4960, 5060, 7)):
            one.over(passage(result=said("x" * begin + "S" * 100 + "y" * 9000)))
        # What is masked makes room for what comes behind it.
        one.over(passage(result=said("S" * 5050 + "y" * 9000)))
        await one.records()
    assert "SS" not in (one.folder / "00000001.jsonl").read_text()


async def test_values_that_a_server_is_given_are_not_kept_whatever_they_are_named(tmp_path: Path) -> None:
    arguments = {
        "name": "db",
        "command": "serve",
        "args": ["--api-key", "PRIVATE1", "--port", "80", "--url=https://u:PRIVATE2@h/?token=PRIVATE3"],
        "env": {"ORDINARY": "PRIVATE4"},
        "headers": {"X-Any": "PRIVATE5"},
    }
    async with kept(tmp_path) as one:
        call = passage("toolscore__register_tool", arguments, result={"structuredContent": {"name": "db"}})
        call.tool = None
        record = await one.only(call)
    assert (record["kind"], record["server"]) == ("register", "db")
    assert record["arguments"]["env"] == {"ORDINARY": "***"}
    assert record["arguments"]["args"][2:4] == ["--port", "80"]
    assert "PRIVATE" not in json.dumps(record)


def deep(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {"token": "anything"}
    for _ in range(levels):
        made = {"in": made}
    return made


def circle() -> dict[str, Any]:
    made: dict[str, Any] = {}
    made["itself"] = made
    return made


@pytest.mark.parametrize(
    "value",
    [
        {"text": "\ud800 alone"},
        {"number": float("nan"), "more": [float("inf"), -float("inf")]},
        {"thing": object()},
        {"bytes": b"\xff"},
        {"integer": 10**400},
        {"line": "a\u2028b\nc\0d"},
        circle(),
        deep(180),
        deep(900),
        deep(20_000),
    ],
    ids=["surrogate", "infinite", "object", "bytes", "large", "lines", "circle", "deep", "deeper", "deepest"],
)
async def test_contents_that_json_has_not_keep_no_call_out_of_the_journal(
    tmp_path: Path, value: dict[str, Any]
) -> None:
    async with kept(tmp_path) as one:
        one.over(passage(arguments=value, result={"structuredContent": value}))
        one.over(passage(caller=replace(ANA, session="\ud800"), outcome="error", said="\udfff"))
        assert len(await one.records()) == 2
    assert len(lines(one.folder)) == 2
    assert "anything" not in json.dumps(lines(one.folder))


async def test_what_a_client_makes_up_is_bounded_and_masked_in_what_a_record_is_about(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.over(passage("x" * 1_000_000, outcome="unknown_tool", said="y" * 1_000_000))
        one.over(passage("files", {"uri": "a://b?token=anything"}, method="resources/read"))
        read = passage("a://b?token=anything", {"uri": "a://b?token=anything"}, method="resources/read")
        read.server = "files"
        one.over(read)
        records = await one.records()
    assert len(records[0]["tool"]) < 1100
    assert len(records[0]["error"]) == 4096
    assert records[2]["subject"] == "a://b?token=***"
    assert "anything" not in (one.folder / "00000001.jsonl").read_text()


async def test_very_long_contents_are_kept_within_the_bound(tmp_path: Path) -> None:
    async with kept(tmp_path, content_bytes=1000) as one:
        record = await one.only(passage(arguments={"text": "x" * (32 << 20)}))
    assert record["bytes"]["arguments"] == (32 << 20) + 11
    assert (one.folder / "00000001.jsonl").stat().st_size < 3000


# --- notes


async def test_notes_say_who_what_and_when(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.journal.note(
            "approval", server="time", tool="time__now", caller=ANA, outcome="approved", at=1e9, by="file"
        )
        [record] = await one.records()
    run = one.journal.run
    assert {key: value for key, value in record.items() if key not in ("trace", "span")} == {
        "id": f"{run}-1",
        "time": "2001-09-09T01:46:40.000000Z",
        "kind": "approval",
        "client": {"principal": "ana", "listener": "ws", "connection": 7},
        "session": f"{run}.7",
        "server": "time",
        "version": "1.2.3",
        "tool": "time__now",
        "outcome": "approved",
        "detail": {"by": "file"},
    }


async def test_notes_may_come_from_any_thread(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        await asyncio.gather(
            *(asyncio.to_thread(one.journal.note, "approval", number=number) for number in range(200))
        )
        records = await one.records()
    assert sorted(record["detail"]["number"] for record in records) == list(range(200))
    assert len({record["id"] for record in records}) == 200
