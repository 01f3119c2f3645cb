"""Recording real sessions with real servers, and replaying them to real clients with the servers gone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.session import ClientRequestContext
from mcp.client.stdio import stdio_client
from mcp_types import ElicitRequestParams, ElicitResult

from helpers import until
from listening import raw
from several import MODES, RICH
from several import Serving as Listening
from several import serving as listening
from toolscore_client import FAULTY, TOOLSCORE, Mode, call, connected, execute, outcome, parameters, text

MODERN = "2026-07-28"


def lines(recording: Path) -> list[dict[str, Any]]:
    # What is behind the last line end is not written whole yet.
    return [json.loads(line) for line in recording.read_bytes().split(b"\n")[:-1]]


@asynccontextmanager
async def replayed(
    recording: Path, *options: str, mode: Mode = "auto", status: int | None = 0, **more: Any
) -> AsyncIterator[Client]:
    """Connect to a replay of a recording, over stdio; there is no home to be found."""
    words = ["--replay", str(recording), *options]
    started = parameters(recording.parent / "no-home", *words, alone=False)
    log = recording.with_suffix(".log")
    with log.open("w") as errlog:
        async with Client(stdio_client(started, errlog=errlog), mode=mode, **more) as client:
            yield client
    assert not (recording.parent / "no-home").exists()


async def session(client: Client) -> list[str]:
    """What a recorded client does, and the agent that is tested with it."""
    heard: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    said = [text(await execute(client, "f__add", a=1, b=2))]
    said.append(text(await execute(client, "f__add", a=10**15, b=1)))
    result = await client.call_tool(
        "execute_tool",
        {"tool": "f__progress", "arguments": {"count": 3}},
        progress_callback=on_progress,
    )
    said.append(f"{text(result)} {len(heard)}")
    failed = await execute(client, "f__failed")
    assert failed.is_error
    said.append(text(failed))
    said.append(str(outcome(await execute(client, "f__nothing_like_it"))))
    said.append(str(sorted(tool.name for tool in (await client.list_tools()).tools)))
    said.append(str([one["name"] for one in (await call(client, "list_tools", server="f"))["tools"]]))
    return said


@pytest.mark.parametrize("mode", MODES)
async def test_a_session_is_replayed_to_clients_of_both_eras_with_its_server_deleted(
    tmp_path: Path, mode: Mode
) -> None:
    program = tmp_path / "server.py"
    shutil.copy(FAULTY, program)
    recording, report = tmp_path / "tape.jsonl", tmp_path / "report.json"
    async with connected(tmp_path / "home", "--record", str(recording), mode=mode) as client:
        await call(client, "register_tool", name="f", command=sys.executable, args=["-S", str(program)])
        expected = await session(client)
    assert stat.S_IMODE(recording.stat().st_mode) == 0o600
    program.unlink()
    shutil.rmtree(tmp_path / "home")
    added = {"name": "f", "command": sys.executable, "args": ["-S", str(program)]}
    other: Mode = "auto" if mode == "legacy" else "legacy"
    for again, strict in ((mode, ["--replay-mode", "strict"]), (other, [])):
        async with replayed(recording, "--report", str(report), *strict, mode=again) as client:
            assert client.protocol_version == (MODERN if again == "auto" else "2025-11-25")
            await call(client, "register_tool", **added)
            assert await session(client) == expected
        written = json.loads(report.read_text())
        assert written["not_found"] == 0
        assert written["asked"] == written["answered"]
        assert not written["diverged"]


# --- over a network, with a server that asks


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Listening, Path]]:
    folder = tmp_path_factory.mktemp("recorded")
    recording = folder / "tape.jsonl"
    with listening(
        folder,
        *("--no-token", "--set", "tools.expose=all", "--record", str(recording)),
        *("--listen", "http://127.0.0.1:0/mcp"),
        r=["-S", RICH],
    ) as one:
        yield one, recording


FORM: dict[str, Any] = {
    "message": "Who are you?",
    "requestedSchema": {"type": "object", "properties": {"who": {"type": "string"}}},
}


async def ada(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="accept", content={"who": "Ada"})


async def test_questions_logs_resources_and_prompts_are_recorded_and_replayed_over_websocket_and_http(
    recorded: tuple[Listening, Path], tmp_path: Path
) -> None:
    toolscore, recording = recorded

    async def act(client: Client) -> list[Any]:
        asked = {"method": "elicitation/create", "params": FORM}
        answer = await client.call_tool("r__question", asked)
        prompt = (await client.list_prompts()).prompts[0].name
        got = await client.get_prompt(prompt, {})
        resource = (await client.list_resources()).resources[-1].uri
        read = await client.read_resource(resource)
        return [answer.structured_content, prompt, got.messages, str(resource), read.contents]

    async with toolscore.client(elicitation_callback=ada) as client:
        expected = await act(client)
    assert expected[0]["result"]["content"] == {"who": "Ada"}
    await until(lambda: b'"kind":"left"' in recording.read_bytes())
    copy = tmp_path / "copy.jsonl"
    shutil.copy(recording, copy)
    words = [TOOLSCORE, "--replay", str(copy), "--no-token", "--replay-mode", "content"]
    words += ["--listen", "ws://127.0.0.1:0/mcp", "--listen", "http://127.0.0.1:0/mcp"]
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        await until(lambda: b"replays" in log.read_bytes() or process.poll() is not None, within=60)
        urls = [word for word in log.read_text().split() if word.startswith(("ws://", "http://"))]
        from toolscore.client import websocket

        async with Client(websocket(urls[0]), mode="legacy", elicitation_callback=ada) as client:
            assert await act(client) == expected
        async with Client(urls[1], mode="auto", elicitation_callback=ada) as client:
            assert await act(client) == expected
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert " 0 not found" in log.read_text()


async def test_clients_over_http_are_recorded_with_progress_and_questions(
    recorded: tuple[Listening, Path], tmp_path: Path
) -> None:
    toolscore, recording = recorded
    await until(lambda: "listening on http" in toolscore.log.read_text())
    url = next(word for word in toolscore.log.read_text().split() if word.startswith("http://"))

    async def act(client: Client, mode: Mode) -> list[Any]:
        heard: list[float] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            heard.append(progress)

        result = await client.call_tool(
            "r__progress", {"count": 2, "of": mode}, progress_callback=on_progress
        )
        asked = {"method": "elicitation/create", "params": {**FORM, "message": f"of {mode}"}}
        answer = await client.call_tool("r__question", asked)
        assert not result.is_error
        return [heard, answer.structured_content]

    expected = {}
    for mode in MODES:
        async with Client(url, mode=mode, elicitation_callback=ada) as client:
            expected[mode] = await act(client, mode)
        assert expected[mode][0] == [1, 2]
        assert expected[mode][1]["result"]["content"] == {"who": "Ada"}
        await until(lambda wanted=f"of {mode}": _is_answered(recording, wanted))  # type: ignore[misc]
    copy = tmp_path / "copy.jsonl"
    shutil.copy(recording, copy)
    async with replayed(copy, mode="legacy", elicitation_callback=ada) as client:
        for mode in MODES:
            assert await act(client, mode) == expected[mode]


def _is_answered(recording: Path, text: str) -> bool:
    """Whether the call with a text in it was answered."""
    known = lines(recording)
    answered = {line["request"] for line in known if line.get("kind") == "answer"}
    asked = [line for line in known if line.get("kind") == "request" and text in json.dumps(line)]
    return bool(asked) and all(line["request"] in answered for line in asked)


async def test_two_clients_at_once_are_two_sessions_of_one_recording(
    recorded: tuple[Listening, Path], tmp_path: Path
) -> None:
    toolscore, recording = recorded
    async with raw(toolscore.url) as one, raw(toolscore.url) as other:
        for number, client in enumerate((one, other, one)):
            await client.request("tools/call", name="r__echo", arguments={"text": f"n{number}"})
    await until(lambda: b'"n2"' in recording.read_bytes())
    asked = {
        line["params"]["arguments"]["text"]: line["session"]
        for line in lines(recording)
        if line.get("kind") == "request" and line["params"].get("name") == "r__echo"
    }
    assert asked["n0"] == asked["n2"] != asked["n1"]


# --- what it must not hold, and faults


async def test_secrets_and_tokens_are_not_in_a_recording(tmp_path: Path) -> None:
    recording = tmp_path / "tape.jsonl"
    secret = 'tr0ub4dor"\\and\u00e93'
    async with connected(tmp_path / "home", "--record", str(recording), env={"FROM_HERE": secret}) as client:
        added = {
            "name": "f",
            "command": sys.executable,
            "args": ["-S", FAULTY],
            "env": {"KEY": "pl41n-s3cr3t"},
        }
        await call(client, "register_tool", **added)
        await call(client, "register_tool", **(added | {"name": "g", "env": {"KEY": "${FROM_HERE}"}}))
        for name in ("f", "g"):
            shown = await execute(client, f"{name}__env", name="KEY")
            assert shown is not None
        await execute(client, "g__echo", text=f"it is {secret}", Authorization="Bearer abcdef123456")
    content = recording.read_text()
    assert "pl41n-s3cr3t" not in content
    assert "tr0ub4dor" not in content
    assert "abcdef123456" not in content


async def test_a_killed_toolscore_leaves_a_recording_that_can_be_replayed(tmp_path: Path) -> None:
    recording = tmp_path / "tape.jsonl"
    process = await asyncio.create_subprocess_exec(
        *(TOOLSCORE, "serve", "--standalone", "--home", str(tmp_path / "home"), "--record", str(recording)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        limit=1 << 24,
        env={**os.environ, "TOOLSCORE_TEST_BARE": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None

    async def ask(identity: int, method: str, **params: Any) -> None:
        message = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
        process.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
        await process.stdin.drain()  # type: ignore[union-attr]

    async def answer(identity: int) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while True:
                message: dict[str, Any] = json.loads(await process.stdout.readline())  # type: ignore[union-attr]
                if message.get("id") == identity:
                    return message

    info = {"name": "killed", "version": "1"}
    await ask(1, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
    await answer(1)
    added = {"name": "f", "command": sys.executable, "args": ["-S", FAULTY]}
    await ask(2, "tools/call", name="register_tool", arguments=added)
    await answer(2)
    await ask(
        3, "tools/call", name="execute_tool", arguments={"tool": "f__add", "arguments": {"a": 1, "b": 2}}
    )
    await answer(3)
    await ask(
        4, "tools/call", name="execute_tool", arguments={"tool": "f__sleep", "arguments": {"seconds": 60}}
    )
    await until(lambda: b"f__sleep" in recording.read_bytes().partition(b'"kind":"request","at"')[2])
    await until(
        lambda: any(line.get("request") == 3 and line["kind"] == "request" for line in lines(recording))
    )
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with replayed(recording) as client:
        assert text(await execute(client, "f__add", a=1, b=2)) == "3"
        assert "ended before it was answered" in text(await execute(client, "f__sleep", seconds=60))


async def test_a_recording_is_not_written_over_another(tmp_path: Path) -> None:
    recording = tmp_path / "tape.jsonl"
    recording.write_text("precious")
    for alone in ([], ["--standalone"]):
        words = [TOOLSCORE, *alone, "--home", str(tmp_path / "home"), "--record", str(recording)]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 3
        assert "is there already" in done.stderr
        assert done.stdout == ""
    assert recording.read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--record", "a", "--replay", "b"], "exclude each other"),
        (["--overwrite"], "--record"),
        (["--report", "x"], "needs --replay"),
        (["--replay-mode", "strict"], "needs --replay"),
        (["--replay", "x", "--listen", "ws://127.0.0.1:0/mcp"], "--no-token"),
        (["--replay", "x", "--expose", "all"], "--expose"),
        (["start", "--record", "x"], "has no option --record"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from toolscore.server.cli.parser import parse

    with pytest.raises(SystemExit) as end:
        parse(words)
    assert end.value.code == 2
    assert why in capsys.readouterr().err


# --- the process that replays


@pytest.mark.parametrize(("file", "why"), [("missing", "cannot be read"), (FAULTY, "is no recording")])
def test_a_replay_that_cannot_be_says_why(
    tmp_path: Path, file: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from toolscore.server.cli import run

    assert run(["--replay", str(tmp_path / file)]) == 3
    assert why in capsys.readouterr().err


def test_a_replay_loads_neither_the_store_nor_what_serves_websockets() -> None:
    words = (
        "import sys\n"
        "from toolscore.server.cli import run\n"
        "run(['--replay', sys.argv[1]])\n"
        "print([name for name in ('sqlalchemy', 'alembic', 'websockets') if name in sys.modules])"
    )
    recording = Path(__file__).with_name("test_record.py")  # no recording, which is said once all is loaded
    program = [sys.executable, "-c", "import toolscore.server.tape.stage\n" + words, str(recording)]
    done = subprocess.run(
        program, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_a_strict_replay_that_diverged_ends_with_status_1_and_says_where(tmp_path: Path) -> None:
    from taped import Writing

    recording = Writing(tmp_path / "tape.jsonl").call("f__a", {}, "a").call("f__b", {}, "b").done()
    report = tmp_path / "report.json"
    process = subprocess.Popen(
        [TOOLSCORE, "--replay", str(recording), "--replay-mode", "strict", "--report", str(report)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    asked = [("initialize", info), ("tools/call", {"name": "f__a"}), ("tools/call", {"name": "f__c"})]
    frames = [
        json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        for number, (method, params) in enumerate(asked)
    ]
    out, err = process.communicate("\n".join(frames) + "\n", timeout=60)
    assert process.returncode == 1
    answers = {message["id"]: message for message in map(json.loads, out.splitlines())}
    assert answers[1]["result"]["content"] == [{"type": "text", "text": "a"}]
    assert "goes on with tools/call f__b (line 4)" in answers[2]["result"]["content"][0]["text"]
    assert "f__b (line 4) was not asked" in err
    written = json.loads(report.read_text())
    assert written["diverged"]
    assert written["sessions"][0]["client"] == "x"


# --- a shared ToolScore


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is shared here")
async def test_one_client_of_a_shared_toolscore_is_recorded_alone(tmp_path: Path) -> None:
    home, recording = tmp_path / "home", tmp_path / "tape.jsonl"
    try:
        plain = parameters(home, alone=False)
        recorded = parameters(home, "--record", str(recording), alone=False)
        async with Client(stdio_client(plain)) as other, Client(stdio_client(recorded)) as client:
            await call(other, "register_tool", name="f", command=sys.executable, args=["-S", FAULTY])
            assert text(await execute(client, "f__add", a=1, b=2)) == "3"
            assert text(await execute(other, "f__add", a=5, b=5)) == "10"
        await until(lambda: b'"kind":"left"' in recording.read_bytes())
        asked = [line["params"] for line in lines(recording) if line.get("kind") == "request"]
        assert [one["arguments"].get("arguments") for one in asked if one.get("name") == "execute_tool"] == [
            {"a": 1, "b": 2}
        ]
        async with replayed(recording, "--replay-mode", "strict") as client:
            assert text(await execute(client, "f__add", a=1, b=2)) == "3"
    finally:
        subprocess.run([TOOLSCORE, "--home", str(home), "stop"], capture_output=True, timeout=60, check=False)


def test_the_example_of_testing_an_agent_runs(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "replay.py"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*words, "-c", os.devnull, str(example)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
