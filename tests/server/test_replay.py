"""Answering from a recording: which request is the same, in which order, and what is said where there is none."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from taped import Message, Writing, replaying, said
from toolscore.server.tape.stage import REPORT_URI

OUTCOME = "toolscore/outcome"
FORM: Message = {
    "message": "Who?",
    "requestedSchema": {"type": "object", "properties": {"who": {"type": "string"}}},
}

both_eras = pytest.mark.parametrize("modern", [False, True], ids=["handshake", "modern"])


@pytest.fixture
def writing(tmp_path: Path) -> Writing:
    return Writing(tmp_path / "tape.jsonl")


def accept(**content: Any) -> Message:
    return {"action": "accept", "content": content}


@both_eras
async def test_the_recorded_answer_is_given_whatever_does_not_matter_differs(
    writing: Writing, modern: bool
) -> None:
    recording = writing.call("f__add", {"a": 1, "b": {"x": 1, "y": [2]}}, "3").done()
    async with replaying(recording) as replay, replay.client(modern=modern) as client:
        assert await client.text("f__add", b={"y": [2.0], "x": 1}, a=1.0) == "3"
        through = {"tool": "f__add", "arguments": {"a": 1, "b": {"x": 1, "y": [2]}}, "timeout": 7}
        assert await client.text("execute_tool", **through) == "3"
        assert await client.text("toolscore__execute_tool", **through) == "3"
        assert replay.report["not_found"] == 0


async def test_a_call_through_execute_tool_answers_a_direct_one(writing: Writing) -> None:
    recording = writing.call("execute_tool", {"tool": "f__add", "arguments": {"a": 1}}, "1").done()
    async with replaying(recording) as replay, replay.client() as client:
        assert await client.text("f__add", a=1) == "1"


async def test_the_same_request_is_answered_in_turn_and_then_with_the_last_again(writing: Writing) -> None:
    recording = writing.call("f__pop", {}, "one").call("f__pop", {}, "two").done()
    async with replaying(recording) as replay:
        async with replay.client() as client:
            assert [await client.text("f__pop") for _ in range(3)] == ["one", "two", "two"]
        async with replay.client() as another:  # which begins at the first
            assert await another.text("f__pop") == "one"


async def test_what_several_sessions_were_answered_is_one_when_content_counts(writing: Writing) -> None:
    recording = writing.call("f__a", {}, "of one").call("f__b", {}, "of two", session=2).done()
    async with replaying(recording) as replay, replay.client() as client:
        assert await client.text("f__b") == "of two"
        assert await client.text("f__a") == "of one"


@both_eras
async def test_a_request_that_was_not_recorded_is_refused_with_what_is_nearest(
    writing: Writing, modern: bool
) -> None:
    recording = writing.call("f__add", {"a": 1, "b": 2}, "3").call("f__other", {"z": 1}, "4").done()
    async with replaying(recording) as replay, replay.client(modern=modern) as client:
        result = await client.call("f__add", a=1, b=5, c=6)
        assert result["isError"]
        assert result["_meta"][OUTCOME] == "not_recorded"
        text = result["content"][0]["text"]
        assert "f__add (line 2)" in text
        assert "arguments.b is 5, recorded was 2" in text
        assert "arguments.c was not given there" in text
        answer = await client.request("resources/read", uri="file:///nothing")
        assert answer["error"]["data"][OUTCOME] == "not_recorded"
        report = replay.report
    assert (report["asked"], report["answered"], report["not_found"], report["unused"]) == (2, 0, 2, 2)
    missed = report["sessions"][0]["requests_not_found"][0]
    assert missed["nearest"][0]["differences"][0] == {"path": "arguments.b", "recorded": 2, "asked": 5}
    assert not report["diverged"]  # only an order can be left


async def test_errors_are_answered_as_they_were(writing: Writing) -> None:
    number = writing.ask("tools/call", {"name": "f__bad", "arguments": {}})
    writing.put("answer", 1, number, error={"code": -32099, "message": "no", "data": [1]})
    async with replaying(writing.done()) as replay, replay.client() as client:
        answer = await client.request("tools/call", name="f__bad", arguments={})
        assert answer["error"] == {"code": -32099, "message": "no", "data": [1]}
        assert replay.report["answered"] == 1


async def test_lists_are_what_the_recorded_client_would_have_seen(writing: Writing) -> None:
    tool = {"name": "f__add", "inputSchema": {"type": "object"}}
    writing.put("introduced", method="initialize", result={"instructions": "Mind the gap."})
    writing.put("surface", answers={"tools/list": {"tools": [tool]}, "prompts/list": {"prompts": []}})
    number = writing.ask("prompts/list", {})
    writing.put("answer", 1, number, result={"prompts": [{"name": "p"}]})
    async with replaying(writing.done()) as replay, replay.client() as client:
        assert (await client.request("tools/list"))["result"] == {"tools": [tool]}
        assert (await client.request("prompts/list"))["result"] == {"prompts": [{"name": "p"}]}
        assert "error" in await client.request("resources/list")  # this recording has none
        answer = await client.request(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "x", "version": "1"},
        )
        assert answer["result"]["instructions"] == "Mind the gap."


@both_eras
async def test_progress_and_logs_come_again_before_the_answer(writing: Writing, modern: bool) -> None:
    number = writing.ask("tools/call", {"name": "f__slow", "arguments": {}})
    for done in (1, 2):
        params = {"progressToken": "old", "progress": done, "total": 2, "message": f"step {done}"}
        writing.put("told", 1, number, method="notifications/progress", params=params)
    log = {"level": "warning", "logger": "f", "data": "hot"}
    writing.put("told", 1, number, method="notifications/message", params=log)
    async with (
        replaying(writing.answer(number, "done").done()) as replay,
        replay.client(modern=modern) as client,
    ):
        client._meta = client._meta | ({"io.modelcontextprotocol/logLevel": "info"} if modern else {})
        result = await client.call("f__slow", "mine")
        assert result["content"][0]["text"] == "done"
        came = [(one["method"], one["params"]) for one in client.told]
    progress = [params for method, params in came if method == "notifications/progress"]
    assert [(one["progressToken"], one["progress"], one["message"]) for one in progress] == [
        ("mine", 1, "step 1"),
        ("mine", 2, "step 2"),
    ]
    assert ("notifications/message", log) in came


async def test_what_was_told_between_requests_follows_the_answer_before(writing: Writing) -> None:
    writing.call("f__touch", {}, "touched")
    writing.put("note", method="notifications/resources/updated", params={"uri": "x://y"})
    writing.call("f__next", {}, "next")
    async with replaying(writing.done()) as replay, replay.client() as client:
        await client.call("f__touch")
        assert not client.told
        assert await client.hear("notifications/resources/updated") == {"uri": "x://y"}


async def test_a_listen_stream_hears_what_was_told(writing: Writing) -> None:
    writing.call("f__install", {}, "installed").put(
        "note", method="notifications/tools/list_changed", params={}
    )
    async with replaying(writing.done()) as replay, replay.client(modern=True) as client:
        client.ask("subscriptions/listen", notifications={"toolsListChanged": True})
        await client.hear("notifications/subscriptions/acknowledged")
        await client.call("f__install")
        await client.hear("notifications/tools/list_changed")


def questioned(writing: Writing, reply: Message) -> Path:
    number = writing.ask("tools/call", {"name": "f__ask", "arguments": {}})
    writing.put("question", 1, number, question=1, method="elicitation/create", params=FORM)
    writing.put("reply", 1, number, question=1, **reply)
    return writing.answer(number, "hello Ada").done()


@pytest.mark.parametrize("strict", [False, True], ids=["content", "strict"])
async def test_a_question_is_asked_again(writing: Writing, strict: bool) -> None:
    recording = questioned(writing, {"result": accept(who="Ada")})
    async with replaying(recording, strict=strict) as replay, replay.client(elicitation={}) as client:
        client.replies["elicitation/create"] = accept(who="Ada")
        assert await client.text("f__ask") == "hello Ada"
        assert [one["params"] for one in client.asked] == [FORM]
        assert not replay.report["diverged"]


async def test_a_modern_client_is_told_to_come_back_with_the_input(writing: Writing) -> None:
    recording = questioned(writing, {"result": accept(who="Ada")})
    async with (
        replaying(recording, strict=True) as replay,
        replay.client(modern=True, elicitation={}) as client,
    ):
        first = await client.call("f__ask")
        assert first["resultType"] == "input_required"
        (key,) = first["inputRequests"]
        params = {"name": "f__ask", "arguments": {}, "requestState": first["requestState"]}
        answer = await client.request("tools/call", **params, inputResponses={key: accept(who="Ada")})
        assert answer["result"]["content"][0]["text"] == "hello Ada"
        assert (replay.report["asked"], replay.report["diverged"]) == (1, False)


async def test_another_answer_to_a_question_is_taken_as_given_unless_the_replay_is_strict(
    writing: Writing,
) -> None:
    recording = questioned(writing, {"result": accept(who="Ada")})
    async with replaying(recording) as replay, replay.client(elicitation={}) as client:
        client.replies["elicitation/create"] = accept(who="Bob")
        assert await client.text("f__ask") == "hello Ada"
        otherwise = replay.report["sessions"][0]["questions_answered_otherwise"]
        assert otherwise[0]["differences"] == [{"path": "content.who", "recorded": "Ada", "asked": "Bob"}]
    async with replaying(recording, strict=True) as replay, replay.client(elicitation={}) as client:
        client.replies["elicitation/create"] = accept(who="Bob")
        result = await client.call("f__ask")
        assert result["_meta"][OUTCOME] == "diverged"
        assert "content.who" in result["content"][0]["text"]
        assert replay.report["diverged"]


async def test_a_client_that_cannot_be_asked_is_answered_all_the_same(writing: Writing) -> None:
    recording = questioned(writing, {"result": accept(who="Ada")})
    async with replaying(recording) as replay, replay.client() as client:
        assert await client.text("f__ask") == "hello Ada"
        assert replay.report["sessions"][0]["questions_answered_otherwise"]


async def test_input_that_a_modern_client_was_told_to_give_is_asked_of_one_of_the_handshake_era(
    writing: Writing,
) -> None:
    params: Message = {"name": "m__need", "arguments": {}}
    first = writing.ask("tools/call", params)
    required = {
        "resultType": "input_required",
        "inputRequests": {"k": {"method": "elicitation/create", "params": FORM}},
        "requestState": "s1",
    }
    writing.put("answer", 1, first, result=required)
    second = writing.ask(
        "tools/call", {**params, "requestState": "s1", "inputResponses": {"k": accept(who="A")}}
    )
    writing.answer(second, "thanks")
    async with replaying(writing.done(), strict=True) as replay, replay.client(elicitation={}) as client:
        client.replies["elicitation/create"] = accept(who="A")
        assert await client.text("m__need") == "thanks"
        assert not replay.report["diverged"]


# --- strict


async def test_strict_takes_the_recorded_order_and_says_what_it_expected_instead(writing: Writing) -> None:
    recording = writing.call("f__a", {"x": 1}, "a").call("f__b", {}, "b").call("f__c", {}, "c").done()
    async with replaying(recording, strict=True) as replay:
        async with replay.client() as client:
            assert await client.text("f__a", x=1) == "a"
            wrong = await client.call("f__c")
            assert wrong["_meta"][OUTCOME] == "diverged"
            assert "goes on with tools/call f__b (line 4)" in wrong["content"][0]["text"]
            assert await client.text("f__b") == "b"  # it waits for what is next
            wrong = await client.call("f__c", x=1)
            assert "arguments.x was not given there" in wrong["content"][0]["text"]
        report = replay.report
    assert report["diverged"]
    session = report["sessions"][0]
    assert (session["asked"], session["answered"], session["not_asked"]) == (4, 2, 1)
    assert session["requests_not_asked"][0]["subject"] == "tools/call f__c"


async def test_strict_has_diverged_too_where_less_was_asked_than_recorded(writing: Writing) -> None:
    recording = writing.call("f__a", {}, "a").call("f__b", {}, "b").done()
    async with replaying(recording, strict=True) as replay:
        async with replay.client() as client:
            await client.call("f__a")
        assert replay.report["diverged"]


async def test_strict_lets_those_that_were_under_way_together_come_in_any_order(writing: Writing) -> None:
    one = writing.ask("tools/call", {"name": "f__one", "arguments": {}})
    two = writing.ask("tools/call", {"name": "f__two", "arguments": {}})
    writing.answer(two, "2").answer(one, "1").call("f__three", {}, "3")
    async with replaying(writing.done(), strict=True) as replay, replay.client() as client:
        early = await client.call("f__three")
        assert early["_meta"][OUTCOME] == "diverged"
        assert [await client.text(f"f__{name}") for name in ("two", "one", "three")] == ["2", "1", "3"]


async def test_strict_does_not_count_lists(writing: Writing) -> None:
    writing.put("surface", answers={"tools/list": {"tools": []}})
    recording = writing.call("f__a", {}, "a").call("f__b", {}, "b").done()
    async with replaying(recording, strict=True) as replay, replay.client() as client:
        await client.call("f__a")
        assert (await client.request("tools/list"))["result"] == {"tools": []}
        assert (await client.request("logging/setLevel", level="info"))["result"] == {}
        assert await client.text("f__b") == "b"
        assert not replay.report["diverged"]


async def test_strict_answers_lists_as_they_were_at_that_point_of_that_session(writing: Writing) -> None:
    def listing(name: str, session: int) -> None:
        answer = {"tools": [{"name": name, "inputSchema": {"type": "object"}}]}
        writing.put("answer", session, writing.ask("tools/list", {}, session), result=answer)

    for session in (1, 2):
        listing(f"early{session}", session)
    writing.call("f__change", {}, "1").call("f__change", {}, "2", session=2)
    for session in (1, 2):
        listing(f"late{session}", session)
    writing.call("f__late", {}, "1").call("f__late", {}, "2", session=2)
    async with replaying(writing.done(), strict=True) as replay:
        async with replay.client() as one, replay.client() as other:

            async def shown(client: Any) -> str:
                found: str = (await client.request("tools/list"))["result"]["tools"][0]["name"]
                return found

            assert [await shown(one), await shown(one)] == ["early1", "early1"]
            await one.text("f__change")
            assert [await shown(one), await shown(one)] == ["late1", "late1"]
            await one.text("f__late")
            # Not asked for before: it is not behind what was done since.
            await other.text("f__change")
            assert [await shown(other), await shown(one)] == ["late2", "late1"]
            await other.text("f__late")
        assert replay.report["diverged"] is False


async def test_strict_gives_each_client_the_next_session(writing: Writing) -> None:
    recording = writing.call("f__a", {}, "one").call("f__a", {}, "two", session=2).done()
    async with replaying(recording, strict=True) as replay:
        async with replay.client() as first, replay.client() as second:
            assert await first.text("f__a") == "one"
            assert await second.text("f__a") == "two"
        assert not replay.report["diverged"]
        async with replay.client() as third:
            assert (await third.call("f__a"))["_meta"][OUTCOME] == "diverged"
        assert replay.report["diverged"]


# --- what did not end


async def test_what_was_never_answered_is_said_to_be_so(writing: Writing) -> None:
    writing.ask("tools/call", {"name": "f__hang", "arguments": {}})
    async with replaying(writing.done()) as replay, replay.client() as client:
        result = await client.call("f__hang")
        assert "recording ended before it was answered" in result["content"][0]["text"]
        assert result["_meta"][OUTCOME] == "not_recorded"


async def test_a_client_can_cancel_again_what_it_cancelled(writing: Writing) -> None:
    number = writing.ask("tools/call", {"name": "f__hang", "arguments": {}})
    writing.put("cancelled", 1, number).call("f__add", {}, "3")
    async with replaying(writing.done(), strict=True) as replay, replay.client() as client:
        waiting = client.ask("tools/call", name="f__hang", arguments={})
        client.send(method="notifications/cancelled", params={"requestId": waiting})
        assert await client.text("f__add") == "3"
        assert not replay.report["diverged"]


async def test_an_answer_counts_more_than_a_request_that_was_cut_short(writing: Writing) -> None:
    number = writing.ask("tools/call", {"name": "f__add", "arguments": {}})
    recording = writing.put("cancelled", 1, number).call("f__add", {}, "3").done()
    async with replaying(recording) as replay, replay.client() as client:
        assert await client.text("f__add") == "3"


async def test_answers_can_take_as_long_as_they_did(writing: Writing) -> None:
    number = writing.ask("tools/call", {"name": "f__slow", "arguments": {}})
    recording = writing.later(0.4).answer(number, "late").done()
    for delayed in (True, False):
        async with replaying(recording, delayed=delayed) as replay, replay.client() as client:
            began = time.monotonic()
            assert await client.text("f__slow") == "late"
            if delayed:
                assert time.monotonic() - began > 0.39


async def test_what_was_hidden_fits_anything(writing: Writing) -> None:
    recording = writing.call("f__login", {"user": "ada", "password": "***", "url": "x?key=***"}, "in").done()
    for strict in (False, True):
        async with replaying(recording, strict=strict) as replay, replay.client() as client:
            assert await client.text("f__login", user="ada", password="pw", url="x?key=1") == "in"
        async with replaying(recording, strict=strict) as replay, replay.client() as client:
            assert (await client.call("f__login", user="bob", password="pw", url="x?key=1"))["isError"]


async def test_the_report_can_be_read_meanwhile(writing: Writing) -> None:
    recording = writing.call("f__a", {}, "a").done()
    async with replaying(recording) as replay, replay.client() as client:
        await client.call("f__a")
        answer = await client.request("resources/read", uri=REPORT_URI)
        report = json.loads(answer["result"]["contents"][0]["text"])
        assert (report["asked"], report["answered"], report["unused"]) == (1, 1, 0)


async def test_many_calls_at_once_are_each_answered_with_their_own(writing: Writing) -> None:
    for number in range(200):
        writing.call("f__echo", {"n": number}, str(number))
    async with replaying(writing.done()) as replay, replay.client() as client:
        identities = [client.ask("tools/call", name="f__echo", arguments={"n": n}) for n in range(200)]
        answers: dict[int, str] = {}
        async with asyncio.timeout(30):
            while len(answers) < len(identities):
                message = await client._next()
                answers[message["id"]] = message["result"]["content"][0]["text"]
    assert [answers[one] for one in identities] == [str(n) for n in range(200)]


async def test_large_and_strange_values_come_through(writing: Writing) -> None:
    big = {"n": 10**40, "f": 0.1, "text": 'q"\\\u2028\u0000é🌍', "blob": "QUJD" * 50_000}
    writing.call("f__big", {"n": 10**40}, "x")
    writing.lines[-1]["result"] = {**said("x"), "structuredContent": big}
    async with replaying(writing.done()) as replay, replay.client() as client:
        assert (await client.call("f__big", n=10**40))["structuredContent"] == big
