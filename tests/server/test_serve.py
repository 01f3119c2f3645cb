"""ToolScore as clients see it: started over stdio, in both protocol eras, with a real server behind it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp.client.client import Client

from helpers import gone
from toolscore.server.own_tools import OWN_TOOLS
from toolscore_client import (
    FAULTY,
    TOOLSCORE,
    Mode,
    call,
    connected,
    execute,
    outcome,
    parameters,
    register_faulty,
    text,
)

LISTED = {
    "list_tools",
    "search_tools",
    "describe_tool",
    "execute_tool",
    "register_tool",
    "install_server",
    "search_servers",
    "find_tool_gap",
    "ensure_tools",
    "list_servers",
}

both_eras = pytest.mark.parametrize("mode", ["legacy", "auto"])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@both_eras
async def test_a_client_of_either_era_finds_the_ten_own_tools(home: Path, mode: Mode) -> None:
    async with connected(home, mode=mode) as client:
        tools = (await client.list_tools()).tools
        assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
    assert {tool.name for tool in tools} == LISTED
    for tool in tools:
        assert tool.title
        assert tool.description
        assert tool.annotations is not None
        assert tool.input_schema["type"] == "object"
        # Clients reject a result that does not fit a declared schema, and a server's result fits none of ours.
        assert (tool.output_schema is None) == (tool.name == "execute_tool")


async def test_the_own_tools_cost_a_model_little(home: Path) -> None:
    async with connected(home) as client:
        tools = (await client.list_tools()).tools
    listed = [tool.model_dump(by_alias=True, exclude_none=True) for tool in tools]
    assert len(json.dumps(listed, separators=(",", ":"))) / 4 < 3000


@both_eras
async def test_a_registered_server_can_be_listed_described_and_called(home: Path, mode: Mode) -> None:
    async with connected(home, mode=mode) as client:
        added = await register_faulty(client, "faulty")
        assert "faulty__add" in added["tools"]
        listed = await call(client, "list_tools", server="faulty")
        assert {"name": "faulty__add", "description": "The add tool", "server": "faulty"} in listed["tools"]
        described = await call(client, "describe_tool", tool="faulty__add")
        assert described["inputSchema"] == {"type": "object"}
        assert described["annotations"] == {"destructiveHint": True}
        assert text(await execute(client, "faulty__add", a=2, b=3)) == "5"


@both_eras
async def test_a_result_comes_back_whole(home: Path, mode: Mode) -> None:
    async with connected(home, mode=mode) as client:
        await register_faulty(client, "faulty")
        result = await execute(client, "faulty__echo", n=1, text="é 中文", big=2**70)
        assert result.structured_content is not None
        assert result.structured_content["arguments"] == {"n": 1, "text": "é 中文", "big": 2**70}
        assert result.meta is not None
        assert result.meta["faulty/kept"] is True
        failed = await execute(client, "faulty__failed")
        assert failed.is_error
        assert outcome(failed) is None
        assert text(failed) == "it did not work"


async def test_fields_no_model_knows_are_not_lost(home: Path) -> None:
    replies = await raw(
        home,
        {"name": "register_tool", "arguments": {"name": "f", "command": sys.executable, "args": [FAULTY]}},
        {"name": "execute_tool", "arguments": {"tool": "f__echo", "arguments": '{"as": "text"}'}},
    )
    result = replies[1]["result"]
    assert result["x-unknown"] == {"kept": [1, 2.5, None]}
    assert result["content"][0]["x-unknown"] == 1
    assert result["structuredContent"]["arguments"] == {"as": "text"}


async def test_arguments_that_are_no_object_are_refused_with_what_is_wrong(home: Path) -> None:
    async with connected(home) as client:
        result = await client.call_tool("execute_tool", {"tool": "f__echo", "arguments": "[1]"})
        assert outcome(result) == "invalid_arguments"
        assert "arguments" in text(result)
        result = await client.call_tool("list_tools", {"sever": "x"})
        assert outcome(result) == "invalid_arguments"
        assert "sever" in text(result)


async def test_an_unknown_tool_is_answered_with_the_nearest_ones(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "faulty")
        result = await execute(client, "faulty__ecko")
        assert outcome(result) == "unknown_tool"
        assert "'faulty__echo'" in text(result)


async def test_a_servers_own_error_is_told_whole(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "faulty")
        result = await execute(client, "faulty__error")
        assert outcome(result) == "server_error"
        assert result.meta is not None
        assert result.meta["toolscore/error"] == {
            "code": -32050,
            "message": "out of order",
            "data": {"since": "Tuesday"},
        }
        assert outcome(await execute(client, "faulty__invalid")) == "invalid_arguments"


@both_eras
async def test_progress_reaches_the_client_in_order_and_before_the_answer(home: Path, mode: Mode) -> None:
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async with connected(home, mode=mode) as client:
        await register_faulty(client, "faulty")
        await client.call_tool(
            "execute_tool", {"tool": "faulty__progress", "arguments": {"count": 5}}, progress_callback=note
        )
        assert seen == [(n, 5, f"step {n}") for n in range(1, 6)]


@both_eras
async def test_cancelling_a_call_cancels_it_at_the_server(home: Path, mode: Mode) -> None:
    async with connected(home, mode=mode) as client:
        await register_faulty(client, "faulty")
        sleeping = asyncio.create_task(execute(client, "faulty__sleep", seconds=60))
        async with asyncio.timeout(60):  # a call that comes later may overtake it
            while len(((await execute(client, "faulty__cancelled")).structured_content or {})["begun"]) < 2:
                pass
        sleeping.cancel()
        await asyncio.wait([sleeping])
        async with asyncio.timeout(10):
            while True:
                told = await execute(client, "faulty__cancelled")
                assert told.structured_content is not None
                if told.structured_content["ids"]:
                    break


async def test_a_call_over_its_time_is_answered_and_the_server_lives_on(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "faulty")
        result = await execute(client, "faulty__sleep", timeout=0.2, seconds=60)
        assert outcome(result) == "timed_out"
        assert text(await execute(client, "faulty__add", a=1, b=1)) == "2"


async def test_a_server_that_dies_in_a_call_says_outcome_unknown_and_comes_back(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "faulty")
        result = await execute(client, "faulty__exit")
        assert outcome(result) == "outcome_unknown"
        assert "status 3" in text(result)
        assert text(await execute(client, "faulty__add", a=1, b=1)) == "2"


async def test_a_call_that_may_be_repeated_is(home: Path, tmp_path: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "faulty")
        result = await execute(client, "faulty__die_once_safely", file=str(tmp_path / "lives"))
        assert text(result) == "1"


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (["exit-on-start"], "exited with status"),
        (["garbage"], "no MCP message"),
        (["usage"], "stdio"),
        (["unknown-version"], "protocol version"),
        (["bad-cursor"], "circle"),
    ],
)
async def test_a_server_that_does_not_come_up_is_explained_and_not_kept(
    home: Path, faults: list[str], expected: str
) -> None:
    # One that only says garbage is waited for that long; the others have to come up within it.
    async with connected(home, "--set", "process.start_timeout=5") as client:
        result = await client.call_tool(
            "register_tool", {"name": "bad", "command": sys.executable, "args": [FAULTY, *faults]}
        )
        assert outcome(result) == "failed_to_start"
        assert expected in text(result)
        assert (await call(client, "list_servers"))["servers"] == []
        await register_faulty(client, "bad")  # the name is free


async def test_a_server_that_hangs_is_given_up_in_time(home: Path) -> None:
    async with connected(home, "--set", "process.start_timeout=0.5") as client:
        async with asyncio.timeout(10):
            result = await client.call_tool(
                "register_tool",
                {"name": "bad", "command": sys.executable, "args": [FAULTY, "hang-handshake"]},
            )
        assert outcome(result) == "failed_to_start"
        assert "0.5 s" in text(result)


async def test_a_name_that_is_taken_is_refused_also_while_it_is_being_registered(
    home: Path, tmp_path: Path
) -> None:
    async with connected(home) as client:
        given = {"name": "one", **waiting_for(tmp_path / "go")}
        both = [asyncio.create_task(client.call_tool("register_tool", given)) for _ in range(2)]
        done, left = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        assert [outcome(one.result()) for one in done] == ["installing"]
        (tmp_path / "go").touch()
        assert [outcome(await one) for one in left] == [None]
        result = await client.call_tool("register_tool", {"name": "one", "command": sys.executable})
        assert outcome(result) == "name_taken"


async def test_an_unset_variable_disables_only_that_server(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "good")
        result = await client.call_tool(
            "register_tool",
            {"name": "bad", "command": sys.executable, "args": [FAULTY], "env": {"KEY": "${NOT_SET_HERE}"}},
        )
        assert outcome(result) == "failed_to_start"
        assert "NOT_SET_HERE" in text(result)
        assert text(await execute(client, "good__add", a=1, b=1)) == "2"


async def test_literal_values_reach_the_server_but_never_the_store(home: Path) -> None:
    async with connected(home) as client:
        await call(
            client,
            "register_tool",
            name="secretive",
            command=sys.executable,
            args=[FAULTY],
            env={"API_KEY": "hunter2-hunter2"},
        )
        told = await execute(client, "secretive__env")
        assert told.structured_content is not None
        assert told.structured_content["API_KEY"] == "***"  # what a server is given is masked in its answers
        pid = int(text(await execute(client, "secretive__pid")))
        assert psutil.Process(pid).environ()["API_KEY"] == "hunter2-hunter2"
        holders = [
            path.name for path in home.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()
        ]
        assert holders == ["secrets.json"]
        assert (home / "secrets.json").stat().st_mode & 0o777 == 0o600
        await call(client, "unregister_tool", name="secretive")
        assert b"hunter2" not in (home / "secrets.json").read_bytes()


async def test_a_child_gets_the_white_list_and_nothing_else_of_ours(home: Path) -> None:
    async with connected(home, env={"OWNERS_TOKEN": "x", "LC_ALL": "C.UTF-8"}) as client:
        await register_faulty(client, "faulty")
        told = (await execute(client, "faulty__env")).structured_content or {}
        assert "OWNERS_TOKEN" not in told
        assert told["LC_ALL"] == "C.UTF-8"
        assert told["PATH"] == os.environ["PATH"]


async def test_everything_is_there_again_after_a_restart(home: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.touch()
    async with connected(home) as client:
        await call(client, "register_tool", name="slow", **waiting_for(go))
        await register_faulty(client, "off")
        await call(client, "manage_server", name="off", action="disable")
    go.unlink()
    async with connected(home) as client:
        listed = await call(client, "list_tools", server="slow")
        states = {row["name"]: row["state"] for row in (await call(client, "list_servers"))["servers"]}
        assert states["slow"] == "STARTING"  # its tools are known before it is back
        assert states["off"] == "STOPPED"
        assert "slow__add" in [tool["name"] for tool in listed["tools"]]
        go.touch()
        assert text(await execute(client, "slow__add", a=1, b=1)) == "2"
        refused = await execute(client, "off__add", a=1, b=1)
        assert outcome(refused) == "unavailable"
        assert "enable" in text(refused)


async def test_a_changed_tool_list_is_taken_over(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "faulty")
        await execute(client, "faulty__change_tools", name="brand_new")
        async with asyncio.timeout(10):
            while True:
                listed = await call(client, "list_tools", server="faulty")
                if "faulty__brand_new" in [tool["name"] for tool in listed["tools"]]:
                    break
        assert not (await execute(client, "faulty__brand_new")).is_error


async def test_a_server_can_be_stopped_started_and_restarted(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "faulty")
        first = text(await execute(client, "faulty__pid"))
        assert (await call(client, "manage_server", name="faulty", action="stop"))["state"] == "STOPPED"
        # A stopped server starts at its next call.
        second = text(await execute(client, "faulty__pid"))
        assert (await call(client, "manage_server", name="faulty", action="restart"))["state"] == "READY"
        third = text(await execute(client, "faulty__pid"))
        assert len({first, second, third}) == 3
        assert outcome(await client.call_tool("manage_server", {"name": "x", "action": "start"})) == (
            "unknown_server"
        )


async def test_tools_are_listed_in_pages_that_hold_every_tool_once(home: Path) -> None:
    async with connected(home, "--set", "tools.page_size=7") as client:
        await register_faulty(client, "faulty", "many-tools=230")
        names: list[str] = []
        cursor: str | None = None
        while True:
            page = await call(client, "list_tools", **({"cursor": cursor} if cursor else {}))
            names += [tool["name"] for tool in page["tools"]]
            cursor = page.get("nextCursor")
            if cursor is None:
                break
        assert len(names) == len(set(names)) == page["total"] > 230
        assert outcome(await client.call_tool("list_tools", {"cursor": "?!"})) == "invalid_arguments"


async def test_the_own_tools_are_in_the_library_too(home: Path) -> None:
    async with connected(home) as client:
        listed = await call(client, "list_tools", server="toolscore")
        names = [tool["name"] for tool in listed["tools"]]
        assert names == [f"toolscore__{tool.name}" for tool in OWN_TOOLS]
        assert {f"toolscore__{name}" for name in (*LISTED, "manage_server", "read_result")} <= set(names)
        result = await execute(client, "toolscore__list_servers")
        assert result.structured_content == {"servers": [], "missing": []}
        assert outcome(await execute(client, "toolscore__execute_tool")) == "invalid_arguments"


async def test_logs_of_a_server_can_be_read(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "faulty", "flood=100")
        async with asyncio.timeout(20):  # much at once is read by the way
            while True:
                lines = (await call(client, "server_logs", name="faulty", lines=3))["lines"]
                assert len(lines) == 3
                if "000099" in lines[-1]:
                    break


async def test_what_is_no_message_is_answered_and_does_not_end_the_session(home: Path) -> None:
    lines = [b"{nonsense", b"[]", b'{"jsonrpc": "2.0", "id": 5}', b'{"id": NaN}', b'"\\ud800"']
    replies = await raw(home, before=lines)
    codes = [reply["error"]["code"] for reply in replies[: len(lines)]]
    assert codes == [-32700, -32600, -32600, -32700, -32700]
    assert replies[1]["error"]["message"].startswith("batches")
    assert replies[2]["id"] == 5


async def test_requests_that_are_piped_in_are_all_answered(home: Path) -> None:
    replies = await raw(home, {"name": "list_servers", "arguments": {}}, close_early=True)
    assert replies[0]["result"]["structuredContent"] == {"servers": [], "missing": []}


async def test_a_command_is_served_beside_the_client(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "faulty")
        process = await asyncio.create_subprocess_exec(
            TOOLSCORE,
            "call",
            "faulty__add",
            '{"a": 1, "b": 1}',
            "--home",
            str(home),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert (process.returncode, out.strip()) == (0, b"2")


async def test_standalone_refuses_a_home_that_is_owned(home: Path) -> None:
    async with connected(home):
        finished = await asyncio.to_thread(
            subprocess.run,
            [TOOLSCORE, "serve", "--standalone", "--home", str(home)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert finished.returncode == 3
    assert str(home) in finished.stderr.decode()


def test_a_home_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    finished = serve_with_empty_input(blocked)
    assert finished.returncode == 3
    assert "--home" in finished.stderr
    assert finished.stdout == ""


async def test_a_store_of_a_newer_version_is_refused_and_left_alone(home: Path) -> None:
    async with connected(home) as client:
        await call(client, "list_servers")  # it is there once something is answered from it
    store = home / "toolscore.db"
    with sqlite3.connect(store) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    connection.close()
    before = store.read_bytes()
    finished = await asyncio.to_thread(serve_with_empty_input, home)
    assert finished.returncode == 3
    assert "newer" in finished.stderr
    assert store.read_bytes() == before


async def test_a_signal_ends_toolscore_and_its_servers(home: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        TOOLSCORE, "serve", "--home", str(home), "--background", stderr=asyncio.subprocess.PIPE
    )

    def run(*words: str) -> str:
        command = [TOOLSCORE, *words[:1], "--home", str(home), *words[1:]]
        return subprocess.run(command, capture_output=True, check=True, timeout=60, text=True).stdout

    assert process.stderr is not None
    while b"serves" not in await process.stderr.readline():
        pass
    await asyncio.to_thread(run, "register", "faulty", "--", sys.executable, FAULTY, "fork")
    pid = int(await asyncio.to_thread(run, "call", "faulty__pid", "{}"))
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    assert gone(pid)
    assert not (home / "run" / "toolscore.sock").exists()


async def test_twenty_clients_call_at_once_without_mixing_answers(home: Path) -> None:
    async def talk(client: Client, number: int) -> None:
        answers = await asyncio.gather(
            *(execute(client, "faulty__add", a=number * 1000, b=k) for k in range(25))
        )
        assert [text(answer) for answer in answers] == [str(number * 1000 + k) for k in range(25)]

    async with connected(home) as client:
        await register_faulty(client, "faulty")
        await asyncio.gather(*(talk(client, number) for number in range(20)))


def waiting_for(file: Path) -> dict[str, Any]:
    """Give a server that comes up once a file is there."""
    script = 'until [ -e "$0" ]; do sleep 0.02; done; exec "$@"'
    return {"command": "sh", "args": ["-c", script, str(file), sys.executable, "-S", FAULTY]}


def serve_with_empty_input(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TOOLSCORE, "serve", "--standalone", "--home", str(home)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
        text=True,
    )


async def raw(
    home: Path, *calls: dict[str, Any], before: list[bytes] | None = None, close_early: bool = False
) -> list[dict[str, Any]]:
    """Speak line by line with ToolScore; give the answers, the one to `initialize` left out.

    What it tells by itself is left out too: that the tools of a server have come, a moment after that server.
    """
    setup = parameters(home)
    process = await asyncio.create_subprocess_exec(
        setup.command,
        *setup.args,
        env=setup.env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 24,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdout = process.stdout

    async def answered() -> dict[str, Any]:
        while "method" in (message := json.loads(await stdout.readline())):
            pass
        return dict(message)

    replies = []
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }
    requests = [("initialize", params), *(("tools/call", params) for params in calls)]
    for line in before or ():
        process.stdin.write(line + b"\n")
        replies.append(await answered())
    for number, (method, params) in enumerate(requests):
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        process.stdin.write(json.dumps(message).encode() + b"\n")
        if number == 0:
            process.stdin.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
        if close_early and number == len(requests) - 1:
            process.stdin.close()
        if not close_early:
            reply = await answered()
            replies += [reply] if number else []
    if not close_early:
        process.stdin.close()
    rest, _ = await asyncio.gather(stdout.read(), process.wait())
    left = [message for message in map(json.loads, rest.splitlines()) if "method" not in message]
    replies += left[1 if close_early else 0 :]
    return replies
