"""The python-executor as MCP clients meet it: over dicts, and as a process with the SDK's own client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from helpers import gone, until
from plain_boxes import PlainBoxes
from toolscore.sandbox.errors import InputRefusedError
from toolscore.sandbox.execution import Execution, Job
from toolscore.sandbox.executor import LOCAL, Executor
from toolscore.sandbox.face import CALLER, PROGRESS_INTERVAL, Face
from toolscore.sandbox.intake import Intake
from toolscore.sandbox.limits import Limits
from toolscore.sandbox.settings import SandboxSettings, SettingsError
from toolscore.sandbox.supplies import Tell

PROCESS = Path(__file__).parent.parent / "plain_executor.py"
"""The executor process with plain boxes instead of the pool."""


class Wire:
    """A client of a face: sends requests and waits for what comes."""

    def __init__(self, boxes: PlainBoxes | None = None, **settings: Any) -> None:
        self.boxes = boxes or PlainBoxes()
        self.made: list[Any] = []
        values = {"limits": Limits(wall=20), **settings}
        self.executor = Executor(SandboxSettings(**values), self._make, self)
        self.received: list[dict[str, Any]] = []
        self.face = Face(self.executor, self.received.append)
        self._number = 0

    def _make(self, environment: Any) -> PlainBoxes:
        self.made.append(environment)
        return self.boxes

    async def environment(self, packages: Sequence[str], tell: Tell | None = None) -> Any:
        return tuple(packages) or None

    def release(self, environment: Any) -> None: ...

    def sweep(self) -> int:
        return 0

    def close(self) -> None: ...

    async def send(self, method: str, params: dict[str, Any] | None = None, **members: Any) -> int:
        self._number += 1
        await self.face.handle(
            {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params, **members}
        )
        return self._number

    async def answer(self, number: int) -> dict[str, Any]:
        await until(lambda: any(message.get("id") == number for message in self.received), within=20)
        return next(message for message in self.received if message.get("id") == number)

    async def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self.answer(await self.send(method, params))

    async def execute(
        self, code: str, meta: dict[str, Any] | None = None, **arguments: Any
    ) -> dict[str, Any]:
        params = {"name": "python_execute", "arguments": {"code": code, **arguments}, "_meta": meta or {}}
        result: dict[str, Any] = (await self.ask("tools/call", params))["result"]
        return result


@asynccontextmanager
async def wired(**settings: Any) -> AsyncIterator[Wire]:
    made = Wire(**settings)
    try:
        yield made
    finally:
        await made.face.close()
        await made.executor.close()
        assert not made.boxes.open_boxes


def stamp(principal: str) -> dict[str, Any]:
    return {CALLER: {"principal": principal, "depth": 1, "tools": None}}


@pytest.mark.parametrize(
    ("asked", "given"),
    [("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")],
)
async def test_the_version_is_the_clients_where_it_is_known(asked: str, given: str) -> None:
    async with wired() as wire:
        answer = await wire.ask("initialize", {"protocolVersion": asked, "capabilities": {}})
        assert answer["result"]["protocolVersion"] == given
        assert answer["result"]["capabilities"] == {"tools": {}, "resources": {}}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("logging/setLevel", {"level": "info"}, -32601),
        ("prompts/list", {}, -32601),
        ("initialize", {}, -32602),
        ("tools/call", {}, -32602),
        ("tools/call", {"name": "nope"}, -32602),
        ("tools/call", {"name": "python_execute", "arguments": []}, -32602),
        ("tools/list", {"cursor": "x"}, -32602),
        ("resources/read", {}, -32602),
        ("resources/read", {"uri": "sandbox://executions/x/y"}, -32002),
        ("resources/read", {"uri": "file:///etc/passwd"}, -32002),
        ("server/discover", {}, -32602),
        ("tools/list", {"_meta": {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}}, -32022),
    ],
)
async def test_faults_of_the_protocol_have_their_codes(
    method: str, params: dict[str, Any], code: int
) -> None:
    async with wired() as wire:
        assert (await wire.ask(method, params))["error"]["code"] == code


async def test_tools_are_described_with_valid_schemas() -> None:
    async with wired() as wire:
        tools = (await wire.ask("tools/list"))["result"]["tools"]
        assert [tool["name"] for tool in tools] == [
            "python_execute", "session_start", "session_end", "sandbox_status",
        ]  # fmt: skip
        for tool in tools:
            for schema in ("inputSchema", "outputSchema"):
                Draft202012Validator.check_schema(tool[schema])
                assert tool[schema]["type"] == "object"


async def test_calls_run_at_the_same_time() -> None:
    async with wired() as wire:
        code = {"code": "import time; time.sleep(30)"}
        slow = await wire.send("tools/call", {"name": "python_execute", "arguments": code})
        assert (await wire.execute("6 * 7"))["structuredContent"]["value"] == 42
        assert (await wire.ask("ping"))["result"] == {}
        await wire.face.handle({"method": "notifications/cancelled", "params": {"requestId": slow}})
        await until(lambda: not wire.boxes.open_boxes)
        assert all(message.get("id") != slow for message in wire.received)


async def test_output_comes_as_progress_while_code_runs(tmp_path: Path) -> None:
    async with wired() as wire:
        code = (
            "import os, sys, time\n"
            "for n in range(40):\n    print(n, flush=True); time.sleep(0.01)\n"
            f"while not os.path.exists({str(tmp_path / 'heard')!r}): time.sleep(0.01)\n"
            "sys.stdout.buffer.write('é'.encode()[:1]); sys.stdout.flush(); time.sleep(0.3)\n"
            "sys.stdout.buffer.write('é'.encode()[1:] + b'\\xff'); sys.stdout.flush()"
        )
        running = asyncio.ensure_future(wire.execute(code, {"progressToken": "p"}))
        await until(lambda: any(message.get("method") for message in wire.received), within=20)
        (tmp_path / "heard").touch()
        result = await running
        told = [
            message["params"]
            for message in wire.received
            if message.get("method") == "notifications/progress"
        ]
        assert "".join(item["message"] for item in told) == result["structuredContent"]["stdout"]
        counts = [item["progress"] for item in told]
        assert counts == sorted(set(counts))
        assert 2 <= len(told) <= result["structuredContent"]["usage"]["wall"] / PROGRESS_INTERVAL + 2
        assert "method" not in wire.received[-1]


async def test_files_go_in_and_come_out_as_resources_of_their_owner() -> None:
    async with wired() as wire:
        code = "open('out.txt', 'w').write(open('d/in').read() * 2); open('big', 'wb').write(b'x' * 100_000)"
        result = await wire.execute(code, stamp("ann"), files=[{"path": "d/in", "text": "ab"}])
        kinds = {block["type"]: block for block in result["content"]}
        assert kinds["resource"]["resource"]["text"] == "abab"
        link = kinds["resource_link"]["uri"]
        read = await wire.ask("resources/read", {"uri": link, "_meta": stamp("ann")})
        assert read["result"]["contents"][0]["text"] == "x" * 100_000
        assert (await wire.ask("resources/read", {"uri": link, "_meta": stamp("bob")}))["error"][
            "code"
        ] == -32002
        assert (await wire.ask("resources/read", {"uri": link}))["error"]["code"] == -32002
        listed = await wire.ask("resources/list", {"_meta": stamp("ann")})
        assert link in [item["uri"] for item in listed["result"]["resources"]]
        assert (await wire.ask("resources/list"))["result"]["resources"] == []


async def test_limits_above_the_operators_are_noted() -> None:
    async with wired() as wire:
        result = await wire.execute("1", limits={"wall": 1000, "memory": 64})
        assert result["structuredContent"]["notes"] == [
            "wall: 1000 seconds was asked for, 20 seconds is the most here"
        ]
        assert wire.boxes.jobs[0].limits.wall == 20
        assert wire.boxes.jobs[0].limits.memory == 64 << 20


async def test_limits_are_told_in_the_units_they_are_asked_for() -> None:
    async with wired() as wire:
        result = await wire.execute("1", limits={"memory": 100_000, "output": 5_000_000, "processes": 99})
        assert result["structuredContent"]["notes"] == [
            "memory: 100000 MiB was asked for, 512 MiB is the most here",
            "processes: 99 was asked for, 32 is the most here",
            "output: 5000000 bytes was asked for, 1048576 bytes is the most here",
        ]
        status = await wire.ask("tools/call", {"name": "sandbox_status"})
        text = status["result"]["content"][0]["text"]
        assert "limits: wall 20 seconds, cpu 30 seconds, memory 512 MiB, processes 32" in text
        [tool] = [one for one in wire.executor.tools() if one["name"] == "sandbox_status"]
        described = tool["outputSchema"]["properties"]["limits"]["properties"]
        assert described.keys() == status["result"]["structuredContent"]["limits"].keys()
        assert (described["wall"]["description"], described["memory"]["description"]) == (
            "Seconds.",
            "Bytes.",
        )
        Draft202012Validator(tool["outputSchema"]).validate(status["result"]["structuredContent"])


async def test_a_file_without_a_link_is_told_with_what_to_do() -> None:
    async with wired(keep_bytes=2 << 20) as wire:
        made = await wire.execute(
            "open('large.bin', 'wb').write(bytes(3 << 20)); open('small', 'w').write('x')"
        )
        told = made["structuredContent"]
        assert [file["uri"] is None for file in told["files"]] == [True, False]
        [note] = told["notes"]
        assert note.startswith(
            "large.bin: not kept: the created files of an execution are up to 1 MiB together."
        )
        assert "print what is needed" in note
        assert note in made["content"][0]["text"]


async def test_the_input_of_waiting_calls_has_a_limit_and_small_calls_pass() -> None:
    async with wired() as wire:
        wire.executor._intake = Intake(4 << 20)
        arguments = {"code": "import time; time.sleep(60)", "stdin": "x" * 1_500_000}
        params = {"name": "python_execute", "arguments": arguments, "_meta": stamp("ann")}
        slow = await wire.send("tools/call", params)
        await until(lambda: wire.boxes.jobs)
        refused = await wire.execute("1", stamp("ann"), stdin="x" * 1_500_000)
        assert refused["_meta"]["toolscore/outcome"] == "queue_full"
        assert "1.43 MiB" in refused["content"][0]["text"]
        assert "2 MiB are the most" in refused["content"][0]["text"]
        assert not (await wire.execute("1", stamp("ann"), stdin="x" * 1000))["isError"]
        assert not (await wire.execute("1", stamp("bob"), stdin="x" * 1_500_000))["isError"]
        text = "x" * 2_800_000
        refused = await wire.execute("1", stamp("bob"), files=[{"path": "f", "text": text}])
        assert refused["_meta"]["toolscore/outcome"] == "queue_full"
        await wire.face.handle({"method": "notifications/cancelled", "params": {"requestId": slow}})
        await until(lambda: not wire.executor._intake._held)
        assert not (await wire.execute("1", stamp("bob"), files=[{"path": "f", "text": text}]))["isError"]
        assert not wire.executor._intake._held


async def test_a_call_that_waits_holds_its_input_once() -> None:
    class Text(str):
        """One whose life can be watched."""

    async with wired() as wire:
        stdin = Text("x" * 1_000_000)
        watched = weakref.ref(stdin)
        call = {
            "name": "python_execute",
            "arguments": {"code": "import time; time.sleep(60)", "stdin": stdin},
        }
        del stdin
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        await wire.face.handle(message)
        del call, message
        await until(lambda: wire.boxes.jobs)
        assert len(wire.boxes.jobs[0].stdin) == 1_000_000
        assert watched() is None


async def test_input_that_does_not_fit_is_the_callers_to_correct() -> None:
    class Full(PlainBoxes):
        async def run(self, job: Job, **options: Any) -> Execution:
            raise InputRefusedError("Nothing was run. The session holds 200 MiB already: ask for more.")

    async with wired(boxes=Full()) as wire:
        refused = await wire.execute("1")
        assert refused["_meta"]["toolscore/outcome"] == "invalid_arguments"
        assert (
            refused["content"][0]["text"]
            == "Nothing was run. The session holds 200 MiB already: ask for more."
        )


async def test_a_job_says_for_whom_it_is() -> None:
    async with wired() as wire:
        await wire.execute("1", stamp("ann"))
        await wire.execute("1")
        assert [job.owner for job in wire.boxes.jobs] == ["ann", LOCAL]


async def test_a_machine_without_isolation_refuses_each_execution_in_words() -> None:
    async with wired(boxes=PlainBoxes(refusal="Nothing isolates here. Do this.")) as wire:
        result = await wire.execute("1")
        assert result["isError"]
        assert result["content"][0]["text"] == "Nothing was run. Nothing isolates here. Do this."
        assert result["_meta"]["toolscore/outcome"] == "refused"


async def test_packages_are_those_of_the_operator_and_what_is_allowed_beyond() -> None:
    async with wired(packages=("numpy==2.1",), allow_packages=("Pandas",)) as wire:
        assert not (await wire.execute("1", packages=["NumPy"]))["isError"]
        assert not (await wire.execute("1", packages=["pandas >= 2"]))["isError"]
        assert wire.made == [("numpy==2.1",), ("numpy==2.1", "pandas>=2")]
        for wrong in ("evil", "numpy==9", "pandas @ https://x/y.whl", "--index-url=x", "../x"):
            result = await wire.execute("1", packages=[wrong])
            assert result["isError"], wrong
        assert "sandbox.allow_packages" in (await wire.execute("1", packages=["evil"]))["content"][0]["text"]
        assert len(wire.made) == 2


async def test_few_environments_are_kept_at_the_same_time() -> None:
    async with wired(allow_packages=("*",)) as wire:
        for name in "abcd":
            assert not (await wire.execute("1", packages=[name]))["isError"]
        await wire.execute("1", packages=["d"])
        await wire.execute("1", packages=["a"])
        assert [environment[0] for environment in wire.made] == ["a", "b", "c", "d", "a"]
        assert len(wire.executor.pools.stats()) == 3


def test_settings_survive_their_way_and_wrong_ones_are_named() -> None:
    settings = SandboxSettings(limits=Limits(wall=2), packages=("numpy",), sessions=0)
    assert SandboxSettings.from_json(settings.to_json()) == settings
    for wrong in (
        '{"wall": 1}',
        '{"limits": {"wall": 0}}',
        '{"minimum": "most"}',
        '{"packages": "x"}',
        "[]",
        "{",
    ):
        with pytest.raises(SettingsError):
            SandboxSettings.from_json(wrong)


# --- as a process


def parameters() -> StdioServerParameters:
    return StdioServerParameters(command=sys.executable, args=[str(PROCESS)])


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28", "auto"])
async def test_the_sdks_client_is_served_in_both_eras(mode: str) -> None:
    heard: list[str | None] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    async with asyncio.timeout(30), Client(stdio_client(parameters()), mode=mode) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"python_execute"}
        code = "print('hi', flush=True); open('f', 'w').write('x' * 70_000); {'a': [1, None]}"
        result = await client.call_tool("python_execute", {"code": code}, progress_callback=told)
        assert result.structured_content is not None
        assert result.structured_content["value"] == {"a": [1, None]}
        assert heard == ["hi\n"]
        [link] = [block for block in result.content if block.type == "resource_link"]
        read = await client.read_resource(str(link.uri))
        assert getattr(read.contents[0], "text", "") == "x" * 70_000
        assert (await client.list_resource_templates()).resource_templates
        status = await client.call_tool("sandbox_status", {})
        assert not status.is_error


async def started() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROCESS),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 << 20,
    )


def request(number: int, method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


@pytest.mark.parametrize("how", ["eof", "sigterm"])
async def test_the_process_ends_cleanly_with_everything_in_it(how: str) -> None:
    process = await started()
    assert process.stdin is not None
    assert process.stdout is not None
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    call = {"name": "python_execute", "arguments": {"code": code}, "_meta": {"progressToken": 1}}
    process.stdin.write(request(1, "tools/call", **call))
    pid = int(json.loads(await process.stdout.readline())["params"]["message"])
    if how == "eof":
        process.stdin.close()
    else:
        process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        assert await process.wait() == 0
        assert await process.stdout.read() == b""
    assert gone(pid)


async def test_lines_that_are_no_messages_are_answered_and_the_line_goes_on() -> None:
    process = await started()
    assert process.stdin is not None
    assert process.stdout is not None
    codes = []
    for line in (b"{", b"[]", b"7", b'{"id": 1}', b'{"id": [], "method": "ping"}', b"\xff", b'"\\ud800"'):
        process.stdin.write(line + b"\n")
        codes.append(json.loads(await process.stdout.readline())["error"]["code"])
    assert codes == [-32700, -32600, -32600, -32600, -32600, -32700, -32700]
    large = "#" + "x" * (3 << 20)
    process.stdin.write(request(5, "tools/call", name="python_execute", arguments={"code": large + "\n5"}))
    answer = json.loads(await process.stdout.readline())
    assert answer["result"]["structuredContent"]["value"] == 5
    process.stdin.close()
    await process.wait()


async def test_nothing_stray_gets_between_the_messages() -> None:
    process = await started()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(request(1, "test/stray"))
    assert json.loads(await process.stdout.readline())["error"]["code"] == -32601
    os.kill(process.pid, signal.SIGUSR1)  # has the process print
    process.stdin.write(request(2, "ping"))
    assert json.loads(await process.stdout.readline()) == {"jsonrpc": "2.0", "id": 2, "result": {}}
    process.stdin.close()
    await process.wait()
