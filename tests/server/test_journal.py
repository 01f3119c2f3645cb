"""The journal of a real ToolScore: every client and server is in it, once, and everybody reads what is theirs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from cli_shell import Shell, shell_in
from helpers import gone, until
from journaled import lines, read
from several import Line, Serving, ask_owner, serving
from toolscore.server.cli.journal import exported
from toolscore.server.cli.parser import parse
from toolscore.server.home import Home
from toolscore.server.tokens import Tokens
from toolscore.tools.caller import CALL, MANAGE
from toolscore.tools.journal.trajectory import SCHEMA
from toolscore_client import FAULTY, call, connected, execute, outcome, register_faulty, text

Message = dict[str, Any]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def test_everything_that_is_done_has_one_record(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with connected(home) as client:
        await register_faulty(client, "faulty")
        await execute(client, "faulty__echo", text="once")
        meta: Any = {"traceparent": f"00-{TRACE}-{PARENT}-01", "toolscore/session": "episode"}
        echoed = await client.call_tool("faulty__echo", {"text": "x", "api_key": "PRIVATE"}, meta=meta)
        assert f"00-{TRACE}-{PARENT}-01" in json.dumps(
            echoed.structured_content
        )  # the server sees it untouched
        assert outcome(await execute(client, "faulty__nothing")) == "unknown_tool"
        assert (
            outcome(await client.call_tool("execute_tool", {"tool": "execute_tool"})) == "invalid_arguments"
        )
        # What is wrong with the arguments of an own tool is found before anything is done, and written down too.
        for name, arguments in (
            ("install_server", {"env": {"PLACE": "PRIVATE"}}),
            ("execute_tool", {"tool": "tool_score", "arguments": '{"x": 1}'}),
        ):
            assert outcome(await client.call_tool(name, arguments)) == "invalid_arguments"
        # A server that lists its tools anew was not started again.
        await execute(client, "faulty__change_tools", name="new")
        async with asyncio.timeout(60):
            while "faulty__new" not in json.dumps(await call(client, "list_tools", server="faulty")):
                await asyncio.sleep(0.02)
        await execute(client, "faulty__exit")
        await call(client, "manage_server", name="faulty", action="stop")
        await call(client, "unregister_tool", name="faulty")
        told = await call(
            client, "execute_tool", tool="toolscore__read_journal", arguments={"kind": "register"}
        )
        [shown] = told["records"]
        assert (shown["server"], shown["outcome"], "arguments" in shown) == ("faulty", "ok", False)
    records = lines(home / "journal")
    assert len({record["id"] for record in records}) == len(records)
    calls = [(record["kind"], record["tool"], record["outcome"]) for record in records if "method" in record]
    calls = [one for one in calls if one[1] != "toolscore__list_tools"]
    assert calls == [
        ("register", "toolscore__register_tool", "ok"),
        ("call", "faulty__echo", "ok"),
        ("call", "faulty__echo", "ok"),
        ("call", "faulty__nothing", "unknown_tool"),
        ("call", "toolscore__execute_tool", "invalid_arguments"),
        ("install", "toolscore__install_server", "invalid_arguments"),
        ("call", "toolscore__tool_score", "invalid_arguments"),
        ("call", "faulty__change_tools", "ok"),
        ("call", "faulty__exit", "outcome_unknown"),
        ("manage", "toolscore__manage_server", "ok"),
        ("unregister", "toolscore__unregister_tool", "ok"),
        ("call", "toolscore__read_journal", "ok"),
    ]
    assert {"session_begun", "session_ended", "server_started", "server_failed", "server_stopped"} <= {
        record["kind"] for record in records
    }
    [failed] = [record for record in records if record["kind"] == "server_failed"]
    assert (failed["server"], failed["outcome"]) == ("faulty", "error")
    starts = [record for record in records[: records.index(failed)] if record["kind"] == "server_started"]
    assert len(starts) == 1
    assert "exit" in failed["error"]
    begun = next(record for record in records if record["kind"] == "session_begun")
    assert begun["client"]["name"] == "mcp"
    assert begun["client"]["version"]
    first, named = [record for record in records if record.get("tool") == "faulty__echo"]
    assert first["session"] == begun["session"]
    assert (first["version"], first["server"]) == ("1.0", "faulty")
    assert (named["session"], named["trace"], named["parent"]) == ("episode", TRACE, PARENT)
    assert named["arguments"] == {"text": "x", "api_key": "***"}
    assert "PRIVATE" not in json.dumps(records)


def token(home: Path, name: str, *rights: str) -> str:
    return Tokens(Home.at(home), frozenset({CALL})).create(name, frozenset(rights))


async def journal(line: Line, **arguments: Any) -> Message:
    result = await line.call("toolscore__read_journal", **arguments)
    assert not result.get("isError"), result
    told: Message = result["structuredContent"]
    return told


async def test_a_client_sees_its_own_session_and_who_manages_sees_all(tmp_path: Path) -> None:
    with serving(tmp_path, faulty=["-S", FAULTY]) as one:
        ana, ben = token(one.home, "ana", CALL), token(one.home, "ben", CALL, MANAGE)
        async with one.line(token=ana) as first, one.line(token=ana) as again, one.line(token=ben) as manager:
            named = {"toolscore/session": "shared name"}

            async def use(line: Line, words: str) -> None:
                for _ in range(5):
                    await line.call("faulty__echo", named, text=words)

            await asyncio.gather(
                use(first, "of the first"),
                use(again, "of the second"),
                manager.call("faulty__echo", text="of the manager"),
            )
            mine = await journal(first, tool="faulty__*", contents=True)
            assert [record["arguments"]["text"] for record in mine["records"]] == ["of the first"] * 5
            assert "own session" in mine["note"]
            # The name of another's session, or the id of its record, opens nothing.
            assert len((await journal(first, session="shared name"))["records"]) == 5
            theirs = (await journal(again, tool="faulty__*"))["records"][0]["id"]
            assert (await journal(first, id=theirs))["records"] == []
            everything = await journal(manager, tool="faulty__*", limit=200)
            assert len(everything["records"]) == 11
            assert {record["client"]["principal"] for record in everything["records"]} == {"ana", "ben"}
            refused = await manager.call("toolscore__read_journal", since="yesterday")
            assert refused["_meta"]["toolscore/outcome"] == "invalid_arguments"
        found = Shell(one.home, tmp_path).document(
            "journal", "export", "--format", "trajectory", "--session", "shared name"
        )
    [episode] = found["episodes"]
    assert (episode["client"]["principal"], len(episode["steps"])) == ("ana", 10)


def page(one: Serving, secret: str, path: str) -> str:
    address = one.url.replace("ws://", "http://").removesuffix("/mcp") + path
    asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {secret}"})
    with urllib.request.urlopen(asked) as answer:
        found: str = answer.read().decode()
    return found


def component(one: Serving, secret: str) -> tuple[str, Message]:
    told = json.loads(page(one, secret, "/health/detailed"))
    [found] = [part for part in told["components"] if part["kind"] == "journal"]
    return told["status"], found


async def test_a_journal_that_cannot_be_written_stops_calls_only_where_it_shall(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "journal").write_text("something else")
    (home / "config.toml").write_text("")
    with serving(tmp_path) as one:
        secret = token(home, "ana", CALL, MANAGE)
        async with one.line(token=secret) as line:
            await line.call("list_servers")  # once there is a library there is a journal
            await until(lambda: component(one, secret)[1]["status"] == "failed", 60)
            status, found = component(one, secret)
            assert (status, "journal" in found["reason"]) == ("degraded", True)
            assert "toolscore_journal_writable 0.0" in page(one, secret, "/metrics")
            registered = await line.call(
                "register_tool", name="faulty", command=sys.executable, args=["-S", FAULTY]
            )
            assert not registered.get("isError"), registered
            assert not (await line.call("faulty__echo", number=1)).get("isError")
            (home / "config.toml").write_text('[journal]\non_full = "refuse"\n')
            ask_owner(one.process, "reload_configuration")
            refused = await line.call("faulty__echo", number=2)
            assert refused["_meta"]["toolscore/outcome"] == "unavailable"
            assert "journal" in refused["content"][0]["text"]
            # Own tools that only read go on, to say what is wrong.
            assert not (await line.call("list_servers")).get("isError")
            (home / "journal").unlink()
            await until(lambda: component(one, secret)[1]["status"] == "ok", 60)
            assert not (await line.call("faulty__echo", number=3)).get("isError")
            events = await line.request("resources/read", uri="toolscore://events")
            told = [event["event"] for event in json.loads(events["result"]["contents"][0]["text"])["events"]]
            assert told.index("journal_stopped") < told.index("journal_resumed")
            figures = page(one, secret, "/metrics")
            assert "toolscore_journal_writable 1.0" in figures
            assert "toolscore_journal_dropped_total 0.0" in figures
    assert "the journal cannot be written" in one.log.read_text()
    # Nothing of before is lost: it waited.
    calls = read(home / "journal", tools=("faulty__echo",))
    assert [(record["arguments"]["number"], record["outcome"]) for record in calls] == [
        (1, "ok"),
        (2, "unavailable"),
        (3, "ok"),
    ]


async def test_a_killed_toolscore_leaves_what_was_done_and_the_next_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, "--no-token", faulty=["-S", FAULTY]) as one:
        async with one.line() as line:
            for number in range(20):
                await line.call("faulty__echo", number=number)
            await until(lambda: len(read(one.home / "journal", tools=("faulty__echo",))) == 20, 60)
            os.kill(one.process.pid, signal.SIGKILL)
            await until(lambda: gone(one.process.pid), 60)
    folder = one.home / "journal"
    newest = max(folder.iterdir())
    with newest.open("ab") as file:
        file.write(b'{"id":"torn-1","time":"2026')
    with serving(tmp_path, "--no-token") as again:
        async with again.line() as line:
            await line.call("faulty__echo", number=20)
    records = [record for record in lines(folder) if record.get("tool") == "faulty__echo"]
    assert [record["arguments"]["number"] for record in records] == list(range(21))
    assert len({record["id"].partition("-")[0] for record in records}) == 2


async def test_contents_are_left_out_as_soon_as_the_file_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    config = home / "config.toml"
    config.write_text("")
    with serving(tmp_path, "--no-token", faulty=["-S", FAULTY]) as one:
        async with one.line() as line:
            await line.call("faulty__echo", text="kept")
            config.write_text('[journal]\ncontents = "off"\n')
            ask_owner(one.process, "reload_configuration")
            await line.call("faulty__echo", text="left out")
            config.write_text('[journal]\ncontents = "sometimes"\n')
            answer = ask_owner(one.process, "reload_configuration")
            assert answer["result"]["structuredContent"]["valid"] is False
    records = lines(home / "journal")
    first, second = [record for record in records if record.get("tool") == "faulty__echo"]
    assert first["arguments"] == {"text": "kept"}
    assert "arguments" not in second
    assert "result" not in second
    assert second["bytes"]["result"] > 0
    reloads = [record for record in records if record["kind"] == "configuration"]
    assert [(record["outcome"], record["detail"]["settings"]) for record in reloads][:1] == [
        ("ok", ["journal.contents"])
    ]


async def test_nothing_is_written_where_there_is_to_be_no_journal(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with connected(home, "--set", "journal.enabled=false") as client:
        told = await call(client, "execute_tool", tool="toolscore__read_journal", arguments={})
        assert told["records"] == []
        assert "journal.enabled" in told["note"]
    assert not (home / "journal").exists()


# --- the command line


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A home in which something was done, by commands alone."""
    shell = shell_in(tmp_path_factory.mktemp("used"))
    server = str(shell.cwd / "server.py")
    assert shell("register", "small", "--env", "ANY=PRIVATE", "--", sys.executable, server).returncode == 0
    assert shell("call", "small__echo", '{"text": "hi"}').returncode == 0
    assert shell("call", "small__fail").returncode == 1
    return shell


def test_commands_are_written_down_and_filtered(used: Shell) -> None:
    records = used.document("journal")["records"]
    done = [record for record in records if "method" in record]
    assert [record["kind"] for record in done] == ["register", "call", "call"]
    assert {record["client"]["listener"] for record in done} == {"command"}
    assert len({record["session"] for record in done}) == 3  # each command is one
    assert "PRIVATE" not in json.dumps(records)
    for words, count in (
        (("--tool", "echo", "--tool", "fail"), 2),
        (("--outcome", "!ok", "--server", "small", "--since", "1h"), 1),
        (("--client", "owner", "--limit", "2"), 2),
        (("--until", "1h"), 0),
        (("--trace", done[1]["trace"], "--session", done[1]["session"], "--kind", "call"), 1),
    ):
        assert len(used.document("journal", *words)["records"]) == count, words


def test_a_line_a_record_for_a_person(used: Shell) -> None:
    shown = used("journal", "--kind", "call")
    first, second = shown.stdout.splitlines()
    assert "small__echo" in first
    assert '{"text": "hi"}' in first
    assert " error " in second
    assert "it went wrong" in second
    assert used("journal", "--kind", "none").stderr.strip() == "there are no such records"


def test_one_record_is_shown_whole(used: Shell) -> None:
    [record] = used.document("journal", "--tool", "small__echo")["records"]
    assert used.document("journal", "show", record["id"]) == record
    assert json.loads(used("journal", "show", record["id"]).stdout) == record
    missing = used("journal", "show", "0-0")
    assert (missing.returncode, "no record 0-0" in missing.stderr) == (4, True)


def test_sessions_and_figures(used: Shell) -> None:
    sessions = used.document("journal", "sessions")["sessions"]
    assert [(one["calls"], one["failed"]) for one in sessions] == [(1, 0), (1, 0), (1, 1)]
    stats = used.document("journal", "stats")
    assert stats["outcomes"] == {"ok": 2, "error": 1}
    assert {one["tool"] for one in stats["tools"]} >= {"small__echo", "small__fail"}
    assert used("journal", "sessions").returncode == used("journal", "stats").returncode == 0


def test_exports_are_what_they_say(used: Shell, tmp_path: Path) -> None:
    everything = used.document("journal")["records"]
    exported = used("journal", "export").stdout
    assert [json.loads(line) for line in exported.splitlines()] == everything
    file = tmp_path / "spans.json"
    assert used("journal", "export", "--format", "otlp", "-o", str(file)).returncode == 0
    [resource] = json.loads(file.read_text())["resourceSpans"]
    assert len(resource["scopeSpans"][0]["spans"]) == len(everything)
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
    session = used.document("journal", "sessions")["sessions"][1]["session"]
    document = json.loads(used("journal", "export", "--format", "trajectory", "--session", session).stdout)
    schema = json.loads(used("journal", "schema").stdout)
    assert schema == SCHEMA
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    [episode] = document["episodes"]
    [step] = episode["steps"]
    assert step["action"] == {
        "method": "tools/call",
        "tool": "small__echo",
        "arguments": {"text": "hi"},
        "truncated": None,
    }
    assert step["observation"]["content"] == [{"type": "text", "text": '{"text": "hi"}'}]
    assert (step["observation"]["outcome"], step["observation"]["is_error"]) == ("ok", False)
    assert step["server"] == {"name": "small", "version": "1.2.3"}
    assert episode["totals"]["steps"] == 1
    nowhere = used("journal", "export", "-o", str(tmp_path / "none" / "x"))
    assert (nowhere.returncode, nowhere.stdout) == (1, "")
    assert nowhere.stderr.startswith(f"toolscore: {tmp_path / 'none' / 'x'} cannot be written: ")
    none = used("journal", "export", "--format", "trajectory", "--session", "none")
    assert (none.returncode, none.stdout) == (4, "")


def test_exported_requests_are_of_a_size_that_collectors_take() -> None:
    record = {"time": "2026-01-01T00:00:00Z", "kind": "call", "trace": "a" * 32, "span": "b" * 16}
    long = record | {"bytes": {"arguments": 3 << 20, "result": 1}}

    def spans(*records: dict[str, Any]) -> list[int]:
        requests = [json.loads(line) for line in exported("otlp", records)]
        return [len(one["resourceSpans"][0]["scopeSpans"][0]["spans"]) for one in requests]

    assert spans(*[record] * 1200) == [500, 500, 200]
    assert spans(long, record, long, long, record) == [2, 1, 2]
    assert spans() == []


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("sessions", "x"),
        ("stats", "--follow"),
        ("--format", "otlp"),
        ("export", "--format", "xml"),
        ("--since", "soon"),
        ("--limit", "0"),
        ("nothing",),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["journal", *words])
    assert end.value.code == 2
    assert "journal" in capsys.readouterr().err


def test_a_home_without_a_journal_is_not_made(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    assert shell.document("journal")["records"] == []
    assert shell.document("journal", "sessions")["sessions"] == []
    assert not shell.home.exists()


async def test_what_comes_is_followed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with connected(home) as client:
        await register_faulty(client, "faulty")
        shell = Shell(home, tmp_path)
        with shell.popen("journal", "--follow", "--json", "--tool", "faulty__echo") as process:
            assert process.stdout is not None
            try:
                number = 0
                reading = asyncio.create_task(asyncio.to_thread(process.stdout.readline))
                while not reading.done():  # nothing tells when it has begun to look
                    number += 1
                    assert "hi" in text(await execute(client, "faulty__echo", text=f"hi {number}"))
                    await asyncio.wait([reading], timeout=0.2)
                record = json.loads(reading.result())
            finally:
                process.kill()
    assert record["tool"] == "faulty__echo"
