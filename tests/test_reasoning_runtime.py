"""`examples/reasoning_runtime.py` with a scripted model, served over real HTTP in both dialects."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from gap_parts import CHESS, entry, remote, shelf, tool_servers
from listening import Serving, serving
from toolscore.client import ToolScore
from toolscore.tools.journal.trajectory import SCHEMA
from toolscore_client import BARE, FAULTY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "reasoning_runtime.py"
TASK = "Find the best chess move in a position"
APIS = ("openai", "anthropic")
MANY = "import toolscore_tools as t\nfor n in range(450):\n    t.call_tool('f__add', {'a': n, 'b': 0})"


class Script:
    """A model that says one thing after the other: code to run, a text, or an HTTP answer; the last one for ever."""

    def __init__(self, *said: Any) -> None:
        self.said = list(said)
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.heard, self.over = threading.Event(), threading.Event()

    def next(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(body)
        self.heard.set()
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if said == "hang":
            self.over.wait(60)
            return 200, {}, b"{}"
        if isinstance(said, tuple):
            return said
        make = anthropic if path.endswith("/messages") else openai
        return 200, {}, json.dumps(make(said, len(self.asked))).encode()


def openai(said: dict[str, str], number: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.get("text")}
    if "text" not in said:
        given = said.get("arguments") or json.dumps({"code": said["code"]})
        function = {"name": "run_python", "arguments": given}
        message["tool_calls"] = [{"id": f"c{number}", "type": "function", "function": function}]
    return {"choices": [{"message": message}], "usage": {"prompt_tokens": 90, "completion_tokens": 10}}


def anthropic(said: dict[str, str], number: int) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "text", "text": said.get("text")}
    if "text" not in said:
        given = {"wrong": said["arguments"]} if "arguments" in said else {"code": said["code"]}
        block = {"type": "tool_use", "id": f"t{number}", "name": "run_python", "input": given}
    return {"content": [block], "usage": {"input_tokens": 90, "output_tokens": 10}}


@contextmanager
def endpoint(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            script.headers.append({key.lower(): value for key, value in self.headers.items()})
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, headers, data = script.next(self.path, body)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            try:
                self.wfile.write(data)
            except OSError:
                return

        def log_message(self, *_said: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        script.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE.parent))  # as where it is run as a program
        module = importlib.import_module(EXAMPLE.stem)
        patch.setattr(importlib.import_module("reasoning_model"), "LONGEST_PAUSE", 0.05)
        yield module


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A ToolScore in whose catalog a server for chess waits, and whose code may call tools."""
    folder = tmp_path_factory.mktemp("reasoning")
    options = ("--no-token", "--set", "network.rights=call,manage", "--set", "sandbox.tools=*")
    with (
        tool_servers(folder, board=[CHESS]) as (urls, ready),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in BARE:
            patch.delenv(name, raising=False)
        with serving(folder / "home", options=options) as one:
            shelf(
                folder / "entries",
                entry("io.example/board", "A chess engine", CHESS, **remote(urls["board"])),
            )
            ready()
            asyncio.run(filled(one.url, str(folder / "entries")))
            yield one


async def filled(url: str, entries: str) -> None:
    async with ToolScore.connect(url, check=True) as ts:
        await ts.call("register_tool", {"name": "f", "command": sys.executable, "args": ["-S", FAULTY]})
        await ts.call("sync_catalog", {"source": entries})


def run(example: ModuleType, house: Serving, tmp_path: Path, script: Script, api: str, *more: str) -> Any:
    """Run it; give its exit status and the lines of the trajectory."""
    file = tmp_path / "trajectory.jsonl"
    with endpoint(script) as url:
        words = [TASK, "--endpoint", url, "--model", "scripted", "--api", api, "--save", str(file)]
        status = example.main([*words, "--toolscore", house.url, *more])
    assert file.stat().st_mode & 0o777 == 0o600
    return status, [json.loads(line) for line in file.read_text().splitlines()]


def of(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == kind]


@pytest.mark.parametrize("api", APIS)
def test_it_installs_what_is_missing_and_answers_in_spite_of_everything(
    example: ModuleType,
    house: Serving,
    tmp_path: Path,
    api: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MODEL_API_KEY", "k3y")
    best = "from toolscore_tools import board\nfound = board.best_move(position='start')\nlen(found)"
    script = Script(
        (429, {"retry-after": "0"}, b"slow down"),
        (500, {}, b"oops"),
        (200, {}, b"this is no JSON"),
        {"arguments": "{not json"},
        {"code": "1 / 0"},
        {"code": "from toolscore_tools import f\nf.failed()"},
        {"code": "import os; os.kill(os.getpid(), 9)"},
        {"code": best},
        *([{"code": MANY}] if api == APIS[0] else []),
        {"text": "e4, of course"},
    )
    said_by_it = list(script.said)
    status, lines = run(example, house, tmp_path, script, api, "--yes")
    said = capsys.readouterr()
    assert (status, said.out) == (0, "e4, of course\n"), said.err
    told = json.dumps(script.asked[-1])
    for part in (
        "ZeroDivisionError",
        "ToolError",
        "it did not work",
        "neither an answer",
        "this is a new session",
        "board.best_move(",
    ):
        assert part in told, part
    key = script.headers[0]["x-api-key" if api == "anthropic" else "authorization"]
    assert key == ("k3y" if api == "anthropic" else "Bearer k3y")

    [tools], [end] = of(lines, "tools"), of(lines, "end")
    if api == APIS[0]:  # the second one finds it there
        assert [(one["done"], one["server"]) for one in tools["done"]] == [("installed", "io.example/board")]
    assert (end["status"], end["answer"]) == ("answered", "e4, of course")
    assert end["tokens"] == 100 * sum(not isinstance(one, tuple) for one in said_by_it)
    steps = of(lines, "step")
    added = [step["action"]["arguments"]["a"] for step in steps if step["action"]["tool"] == "f__add"]
    assert added == list(range(450) if api == APIS[0] else [])  # in pages, and all of them
    assert api != APIS[0] or "{not json" not in told  # which an endpoint may refuse
    for step in steps:
        Draft202012Validator({"$ref": "#/$defs/step", "$defs": SCHEMA["$defs"]}).validate(step)
    [move] = [step for step in steps if step["action"]["tool"] == "board__best_move"]
    ran = steps[move["parent"]]
    assert ran["action"]["arguments"]["code"] == best
    assert move["observation"]["outcome"] == "ok"
    assert ran["trace"] == move["trace"] == of(lines, "episode")[0]["trace"]
    assert "board__best_move" in {score["tool"] for score in of(lines, "score")}
    assert "k3y" not in json.dumps(lines)


@pytest.mark.parametrize(
    ("said", "more", "why"),
    [
        ([(400, {}, b"no such model for k3y")], (), "no such model for [key]"),
        (["hang"], ("--request-seconds", "0.2"), "Timeout"),
        ([(200, {}, b"{}")], (), "cannot be read"),
        ([{"text": "  "}], (), "nothing of use"),
        ([(200, {}, b'{"choices": [{"message": {"content": "\\ud83d"}}]}')], (), "cannot be read"),
        ([(200, {}, b'{"choices": [{"message": {"refusal": "I will not"}}]}')], (), "refuses: I will not"),
        (
            [(200, {}, b'{"choices": [{"message": {"content": "It i"}, "finish_reason": "length"}]}')],
            (),
            "of use",
        ),
    ],
)
def test_a_model_that_cannot_be_had_is_an_error_with_its_reason(
    example: ModuleType,
    house: Serving,
    tmp_path: Path,
    said: list[Any],
    more: tuple[str, ...],
    why: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL_API_KEY", "k3y")
    status, lines = run(example, house, tmp_path, Script(*said), "openai", *more)
    assert status == 1
    assert why in capsys.readouterr().err
    [end] = of(lines, "end")
    assert end["status"] == ("refused" if "refuses" in why else "failed")
    assert why in end["error"]


@pytest.mark.parametrize("limit", ["steps", "tokens", "seconds"])
def test_it_keeps_to_its_limits(
    example: ModuleType, house: Serving, tmp_path: Path, limit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import time; time.sleep(25)" if limit == "seconds" else "1"
    much = {"steps": "3", "tokens": "250", "seconds": "6"}[limit]
    status, lines = run(example, house, tmp_path, Script({"code": code}), "openai", f"--max-{limit}", much)
    assert status == 1
    assert f"--max-{limit}" in capsys.readouterr().err
    assert of(lines, "end")[0]["status"] == limit
    assert len(of(lines, "step")) >= (3 if limit != "seconds" else 1)


def test_an_answer_in_parts_is_read_and_the_key_is_kept_out_of_the_file(
    example: ModuleType,
    house: Serving,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL_API_KEY", 'k3"y')
    parts = [{"type": "text", "text": "it is "}, {"type": "text", "text": 'k3"y'}]
    reply = {"choices": [{"message": {"role": "assistant", "content": parts}}]}
    script = Script((200, {}, json.dumps(reply).encode()))
    status, lines = run(example, house, tmp_path, script, "openai")
    assert (status, capsys.readouterr().out) == (0, 'it is k3"y\n')
    assert of(lines, "end")[0]["answer"] == "it is [key]"
    assert 'k3"y' not in "".join(str(line) for line in lines)
    for wrong in (("--endpoint", "host/v1"), ("--save", str(tmp_path / "none" / "t.jsonl"))):
        with pytest.raises(SystemExit):
            example.main([TASK, "--model", "m", "--endpoint", "http://127.0.0.1:1/v1", *wrong])
        assert wrong[0] in capsys.readouterr().err


def test_ctrl_c_ends_it_in_order(house: Serving, tmp_path: Path) -> None:
    script, file = Script("hang"), tmp_path / "t.jsonl"
    with endpoint(script) as url:
        words = [sys.executable, str(EXAMPLE), TASK, "--endpoint", url, "--model", "m", "--save", str(file)]
        process = subprocess.Popen(
            [*words, "--toolscore", house.url],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads matter
        )
        try:
            assert script.heard.wait(120)
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=120)[1].decode()
        finally:
            process.kill()
    assert (process.returncode, "Traceback" in said) == (130, False), said
    assert json.loads(file.read_text().splitlines()[-1])["status"] == "interrupted"


def test_what_is_typed_is_waited_for_without_keeping_the_end_waiting(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    inward, outward = os.pipe()
    with os.fdopen(inward) as stdin, os.fdopen(outward, "wb", buffering=0) as typing:
        monkeypatch.setattr(sys, "stdin", stdin)
        typing.write(b"y\n")
        assert asyncio.run(example.typed("? ")) == "y\n"

        async def late() -> None:
            async with asyncio.timeout(0.01):
                await example.typed("? ")

        threads = set(threading.enumerate())
        with pytest.raises(TimeoutError):
            asyncio.run(late())
        [reading] = set(threading.enumerate()) - threads
        typing.write(b"too late\n")
        reading.join()


def test_without_a_yes_nothing_is_installed(example: ModuleType, house: Serving, tmp_path: Path) -> None:
    async def removed() -> None:
        async with ToolScore.connect(house.url) as ts:
            for server in await ts.servers():
                if server.name == "board":
                    done = await ts.call("uninstall_server", {"name": "board"})
                    assert done.ok or (await ts.call("unregister_tool", {"name": "board"})).ok

    asyncio.run(removed())
    script = Script({"text": "I cannot know"})
    status, lines = run(example, house, tmp_path, script, "openai")
    assert status == 0
    assert [question["allowed"] for question in of(lines, "question")] == [False]
    assert of(lines, "tools")[0]["done"][0]["done"] == "declined"
    assert "best_move" not in json.dumps(script.asked[0]["messages"])
