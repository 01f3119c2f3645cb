"""Reading recordings: those that were cut short, edited, made by others, long, or that are none."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from helpers import until
from taped import Writing, replaying, said
from toolscore.server.tape.cover import Cover, gives, without_given
from toolscore.server.tape.event import MARK, TapeError, event, header
from toolscore.server.tape.likeness import differences, key_of, likeness
from toolscore.server.tape.place import opened
from toolscore.server.tape.recorder import Recorder
from toolscore.server.tape.tape import LONG, Tape
from toolscore.server.tape.writer import Writer

LOG_LEVEL = "io.modelcontextprotocol/logLevel"

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's devices")


@pytest.fixture
def writing(tmp_path: Path) -> Writing:
    return Writing(tmp_path / "tape.jsonl")


# --- reading


async def test_a_last_line_that_was_cut_short_is_left_out(writing: Writing) -> None:
    recording = writing.call("f__a", {}, "a").call("f__b", {}, "b").done()
    whole = recording.read_bytes()
    recording.write_bytes(whole[:-30])
    async with replaying(recording) as replay, replay.client() as client:
        assert await client.text("f__a") == "a"
        assert "ended before it was answered" in (await client.call("f__b"))["content"][0]["text"]
        assert replay.report["problems"] == ["line 5 is left out: it was not written to its end"]


async def test_every_cut_of_a_recording_can_be_read(writing: Writing) -> None:
    recording = writing.call("f__a", {"x": "é"}, "a").call("f__b", {}, "b").done()
    whole = recording.read_bytes()
    first = whole.index(b"\n")
    for length in range(first, len(whole)):
        recording.write_bytes(whole[:length])
        tape = Tape(recording)
        assert tape.problem_count <= 1
        tape.close()


async def test_a_recording_edited_by_hand_can_be_replayed(writing: Writing) -> None:
    recording = writing.call("f__a", {}, "a").done()
    head, asked, answer = recording.read_text().splitlines()
    edited = json.loads(asked)
    spaced = json.dumps(
        {"note of mine": 1, **dict(reversed(edited.items()))}, indent=None, separators=(", ", ": ")
    )
    wrong = [
        "{",
        "[1]",
        '{"kind": "what", "at": 0, "session": 1}',
        '{"kind": "answer", "at": 0, "session": 1}',
    ]
    wrong += ['{"kind": "request", "at": 0, "session": "x", "request": 1, "method": "m", "params": {}}']
    wrong += ['{"kind": "answer", "at": 0, "session": 1, "request": 77, "result": {}}']
    lines = [head, "", *wrong, spaced, "   ", answer]
    recording.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())  # and no end of the last line
    async with replaying(recording) as replay, replay.client() as client:
        assert await client.text("f__a") == "a"
        assert replay.report["problem_count"] == len(wrong)


def everything(writing: Writing) -> Path:
    """A recording with a line of every kind."""
    writing.put("session", listener="stdio", era="handshake", client={"name": "x"})
    writing.put("introduced", method="initialize", result={"instructions": "hi"})
    writing.put("tools", 0, known={"f__a": "digest"})
    writing.put("surface", answers={"tools/list": {"tools": []}, "prompts/list": {"prompts": []}})
    writing.call("f__a", {}, "a").put("note", method="notifications/tools/list_changed", params={})
    number = writing.ask("tools/call", {"name": "f__ask", "arguments": {}})
    writing.put("told", 1, number, method="notifications/progress", params={"progress": 1})
    writing.put("told", 1, number, method="notifications/message", params={"level": "info", "data": 1})
    writing.put("question", 1, number, question=1, method="elicitation/create", params={"message": "x"})
    writing.put("reply", 1, number, question=1, result={"action": "accept", "content": {}})
    return writing.answer(number, "asked").put("left").done()


@pytest.mark.parametrize("wrong", [None, [], {"a": 1}, "x", -1], ids=repr)
async def test_whatever_is_wrong_in_a_line_the_others_are_replayed(writing: Writing, wrong: Any) -> None:
    everything(writing)
    good = list(writing.lines)
    for index, line in enumerate(good[1:], 1):
        for member in line:
            writing.lines = [*good[:index], {**line, member: wrong}, *good[index + 1 :]]
            async with replaying(writing.done()) as replay, replay.client(elicitation={}) as client:
                client.replies["elicitation/create"] = {"action": "accept", "content": {}}
                for name in ("f__a", "f__ask"):
                    answer = await client.request("tools/call", "token", name=name, arguments={})
                    fault = answer.get("error")
                    assert fault is None or fault["message"] == "the recorded answer says nothing"
                assert replay.report["asked"] == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("hello\n", "no JSON object"),
        ('{"kind": "request"}\n', "no recording"),
        (json.dumps({MARK: True}) + "\n", "no recording"),
        (json.dumps({MARK: 2, "toolscore": "9.9"}) + "\n", "by ToolScore 9.9 in format 2"),
    ],
)
def test_what_is_no_recording_of_this_version_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "x"
    file.write_text(content)
    with pytest.raises(TapeError, match=said):
        Tape(file)


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="not a file"):
        Tape(tmp_path)
    with pytest.raises(TapeError, match="cannot be read"):
        Tape(tmp_path / "missing")


async def test_long_answers_stay_in_the_file_until_they_are_asked_for(writing: Writing) -> None:
    for number in range(20):
        writing.call("f__big", {"n": number}, f"{number} " + "x" * 4 * LONG)
    recording = writing.done()
    before = recording.read_bytes()
    # What is not looked at before it is needed cannot be found wrong before.
    recording.write_bytes(before.replace(b'"7 xxxx', b'"7 xx\x00x'))
    async with replaying(recording) as replay, replay.client() as client:
        assert (await client.text("f__big", n=3)).startswith("3 xxxx")
        answer = await client.request("tools/call", name="f__big", arguments={"n": 7})
        assert "cannot be read any more" in answer["error"]["message"]
        assert (await client.text("f__big", n=8)).startswith("8 xxxx")


async def test_two_runs_in_one_file_are_sessions_of_their_own(writing: Writing) -> None:
    recording = writing.call("f__a", {}, "one").done()
    other = Writing(recording.with_name("other")).call("f__a", {}, "two").done()
    recording.write_bytes(recording.read_bytes() + other.read_bytes())
    async with replaying(recording, strict=True) as replay:
        async with replay.client() as first, replay.client() as second:
            assert [await first.text("f__a"), await second.text("f__a")] == ["one", "two"]
        assert not replay.report["diverged"]


# --- likeness


def same(one: dict[str, Any], other: dict[str, Any], method: str = "tools/call") -> bool:
    return key_of(method, likeness(method, one)) == key_of(method, likeness(method, other))


def test_what_makes_two_requests_the_same() -> None:
    assert same({"name": "a"}, {"name": "a", "arguments": {}, "_meta": {"traceparent": "00"}})
    assert same({"name": "a", "arguments": {"n": 1}}, {"name": "a", "arguments": {"n": 1.0}})
    assert same({"name": "toolscore__list_servers"}, {"name": "list_servers", "arguments": None})
    assert not same({"name": "a", "arguments": {"n": 1}}, {"name": "a", "arguments": {"n": True}})
    assert not same({"name": "a", "arguments": {"n": 1}}, {"name": "a", "arguments": {"n": "1"}})
    assert not same({"name": "a", "arguments": {"n": [1, 2]}}, {"name": "a", "arguments": {"n": [2, 1]}})
    assert not same({"name": "a", "arguments": {"n": None}}, {"name": "a", "arguments": {}})
    through = {"name": "execute_tool", "arguments": {"tool": "a", "arguments": '{"n": 1}'}}
    assert same(through, {"name": "a", "arguments": {"n": 1}})  # some models write them out
    assert not same(through, {"name": "a", "arguments": {"n": 2}})
    assert not same(through, {"name": "execute_tool", "arguments": {"tool": "a", "arguments": "{"}})
    cut = {"name": "execute_tool", "arguments": {"tool": "a", "arguments": {}, "max_tokens": 100}}
    assert not same(cut, {"name": "a"})  # another answer: it is cut
    assert same({"uri": "a", "_meta": {"x": 1}}, {"uri": "a"}, "resources/read")


def test_differences_are_told_by_their_place() -> None:
    recorded = {"a": [1, {"b": 2}], "c": 1, "same": None}
    asked = {"a": [1, {"b": 3}], "d": 4, "same": None}
    assert differences(recorded, asked) == [
        {"path": "a[1].b", "recorded": 2, "asked": 3},
        {"path": "c", "recorded": 1},
        {"path": "d", "asked": 4},
    ]
    assert differences([1], [1, 2]) == [{"path": "", "recorded": [1], "asked": [1, 2]}]


# --- what is not written


def test_secrets_are_hidden_by_what_they_are_near() -> None:
    cover = Cover(["tok-of-home"])
    cover.masks = lambda text: text.replace("s3cr3t", "***")
    line = {
        "kind": "answer",
        "result": {
            "Authorization": "Basic abc",
            "password": "p",
            "GITHUB_TOKEN": "t",
            "nextPageToken": "page-2",
            "text": "use Bearer abc123def456 at https://u:pw@x.example/?token=abc&x=1 tok-of-home s3cr3t\n",
            "nested": [{"api_key": "k", "schema": {"password": {"type": "string"}}, "s3cr3t-as-a-name": 1}],
        },
    }
    hidden = cover.line(line)
    assert hidden["kind"] == "answer"
    assert hidden["result"] == {
        "Authorization": "***",
        "password": "***",
        "GITHUB_TOKEN": "***",
        "nextPageToken": "page-2",
        "text": "use Bearer *** at https://u:***@x.example/?token=***&x=1 *** ***\n",
        "nested": [{"api_key": "***", "schema": {"password": {"type": "string"}}, "***-as-a-name": 1}],
    }


def test_what_a_server_is_given_is_hidden_before_it_is_known_as_a_secret() -> None:
    given = {"name": "x", "env": {"KEY": "k", "DEBUG": True}, "headers": {"X": "y"}}
    covered = without_given("tools/call", {"name": "register_tool", "arguments": given})
    assert covered["arguments"] == {
        "name": "x",
        "env": {"KEY": "***", "DEBUG": True},
        "headers": {"X": "***"},
    }
    words = {"name": "x", "args": ["--token", "tok", "here"], "url": "wss://u:pw@x.example/?token=tok"}
    covered = without_given("tools/call", {"name": "register_tool", "arguments": words})
    assert covered["arguments"]["args"] == ["--token", "***", "here"]
    assert "pw" not in covered["arguments"]["url"]
    assert "tok@" not in covered["arguments"]["url"]
    synced = {"name": "x", "secrets": {"x/env/PIN": "1234"}}
    covered = without_given("tools/call", {"name": "sync_server", "arguments": synced})
    assert covered["arguments"]["secrets"] == {"x/env/PIN": "***"}
    through = {"tool": "toolscore__install_server", "arguments": {"settings": {"a": {"b": 1}}}}
    covered = without_given("tools/call", {"name": "execute_tool", "arguments": through})
    assert covered["arguments"]["arguments"] == {"settings": {"a": {"b": "***"}}}
    assert gives(
        "tools/call", {"name": "execute_tool", "arguments": through}
    )  # and what is asked in its course
    assert not gives("tools/call", {"name": "f__install_server", "arguments": {}})
    words["env"] = '{"KEY": "tok"}'
    as_text = {"tool": "register_tool", "arguments": json.dumps(words | {"args": json.dumps(words["args"])})}
    covered = without_given("tools/call", {"name": "execute_tool", "arguments": as_text})
    assert covered["arguments"]["arguments"]["args"] == ["--token", "***", "here"]
    assert covered["arguments"]["arguments"]["env"] == "***"
    other = {"name": "f__x", "arguments": given}
    assert without_given("tools/call", other) is other  # a server's own tool may mean anything by it


# --- writing


def test_a_file_that_is_there_is_not_touched_unless_that_is_wanted(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("precious\n")
    with pytest.raises(TapeError, match="--overwrite"):
        opened(file)
    with pytest.raises(TapeError, match="no recording"):
        opened(file, append=True)
    assert file.read_text() == "precious\n"
    with pytest.raises(TapeError, match="not a file"):
        opened(tmp_path, overwrite=True)
    with pytest.raises(TapeError, match="cannot be written"):
        opened(tmp_path / "missing" / "x")
    os.close(opened(file, overwrite=True))
    assert file.read_bytes() == b""
    file.chmod(0o644)
    os.close(opened(file))  # there is nothing in it to lose
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_gone_on_with_begins_on_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps(header(0)) + "\n" + '{"kind":"request","at":0')
    writer = Writer(opened(file, append=True), file, Cover())
    writer.put(event("request", 0, 1, 1, method="tools/list", params={}))
    writer.close()
    tape = Tape(file)
    assert (len(tape.entries), tape.problem_count) == (1, 1)
    tape.close()


def test_lines_are_written_soon_and_not_only_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    writer = Writer(opened(file), file, Cover())
    try:
        writer.put(event("request", 0, 1, 1, method="tools/list", params={}))
        written = threading.Event()
        for _ in range(2000):
            if file.read_bytes().count(b"\n") == 2:
                written.set()
                break
            written.wait(0.005)
        assert written.is_set()
    finally:
        writer.close()


@on_linux
async def test_a_full_disk_ends_the_recording_loudly_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    full = Path("/dev/full")
    writer = Writer(os.open(full, os.O_WRONLY), full, Cover())
    reasons: list[str] = []
    writer.on_stop = reasons.append
    for number in range(100):
        writer.put(event("request", 0, 1, number, method="tools/list", params={}))
    await until(lambda: reasons)
    writer.put(event("left", 0, 1))
    writer.close()
    assert "the disk is full" in reasons[0]
    assert len(reasons) == 1
    assert "RECORDING STOPPED" in caplog.text


@on_linux
async def test_calls_go_on_when_the_disk_of_a_recording_is_full(writing: Writing) -> None:
    recording = writing.call("f__a", {}, "a").done()
    async with replaying(recording) as replay:
        front, cover, full = replay.stage.front, Cover(), Path("/dev/full")
        front.recorder = Recorder(Writer(os.open(full, os.O_WRONLY), full, cover), cover, front)
        async with replay.client() as client:
            assert await client.text("f__a") == "a"
            await until(lambda: "recording_stopped" in str(front.events.read("toolscore://events")))
            assert await client.text("f__a") == "a"
        front.recorder.close()


@pytest.mark.parametrize("modern", [False, True], ids=["handshake", "modern"])
async def test_what_is_recorded_of_a_replay_is_what_was_replayed(writing: Writing, modern: bool) -> None:
    recording, again = everything(writing), writing.path.with_name("again")
    async with replaying(recording) as replay:
        front, cover = replay.stage.front, Cover()
        front.recorder = Recorder(Writer(opened(again), again, cover), cover, front)
        async with replay.client(modern=modern, elicitation={}) as client:
            client.replies["elicitation/create"] = {"action": "accept", "content": {}}
            client._meta = client._meta | ({LOG_LEVEL: "info"} if modern else {})
            await client.call("f__a")
            answer = await client.call("f__ask", "token")
            if modern:
                (key,) = answer["inputRequests"]
                came = {key: {"action": "accept", "content": {}}}
                params = {"name": "f__ask", "arguments": {}, "requestState": answer["requestState"]}
                await client.request("tools/call", "token", **params, inputResponses=came)
        front.recorder.close()
    # What listen streams are told is recorded by the desk, which a replay has none of.
    kinds = ["request", "told", "question", "reply", "answer", *([] if modern else ["note"])]
    lines = [json.loads(line) for line in again.read_bytes().splitlines()]
    for kind in kinds:
        assert [_payload(line) for line in lines if line.get("kind") == kind] == [
            _payload(line) for line in writing.lines if line.get("kind") == kind
        ]


def _payload(line: dict[str, Any]) -> dict[str, Any]:
    """A line without what differs from run to run."""
    kept = {key: value for key, value in line.items() if key not in ("at", "session", "request")}
    if isinstance(params := kept.get("params"), dict):
        kept["params"] = {key: value for key, value in params.items() if key != "progressToken"}
    return kept


@on_linux
async def test_what_a_full_disk_took_ends_with_a_whole_line(tmp_path: Path) -> None:
    import resource

    file = tmp_path / "x.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = Writer(opened(file), file, Cover())
    reasons: list[str] = []
    writer.on_stop = reasons.append
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        for number in range(1, 100):
            writer.put(event("request", 0, 1, number, method="tools/call", params={"name": "x" * 1000}))
            writer.put(event("answer", 0, 1, number, result=said("y")))
        await until(lambda: reasons)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        writer.close()
    tape = Tape(file)
    assert 30 < len(tape.entries) < 60
    assert tape.problem_count == 0
    assert file.read_bytes().endswith(b"\n")
    tape.close()


@on_linux
async def test_a_disk_that_does_not_keep_up_ends_the_recording_and_not_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.server.tape.writer.WAITING", 100_000)
    pipe = tmp_path / "pipe"
    reading, writing = os.pipe()  # which nobody reads
    writer = Writer(writing, pipe, Cover())
    reasons: list[str] = []
    writer.on_stop = reasons.append
    try:
        for number in range(1000):
            writer.put(event("request", 0, 1, number, method="tools/call", params={"name": "x" * 1000}))
        assert "does not keep up" in reasons[0]
    finally:
        os.close(reading)
        writer.close()
