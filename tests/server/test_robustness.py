"""What reviews found: a ToolScore that stays sound when a server, a client or a moment is unkind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from toolscore_client import FAULTY, TOOLSCORE, call, connected, execute, outcome, register_faulty, text


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


async def test_a_server_that_says_odd_things_of_itself_spoils_no_list(home: Path) -> None:
    async with connected(home) as client:
        added = await register_faulty(client, "odd", "odd-texts")
        assert added["version"] is None
        rows = (await call(client, "list_servers"))["servers"]
        assert [row["name"] for row in rows] == ["odd"]
        assert (await call(client, "describe_tool", tool="odd__add"))["description"] == ""
        assert (await call(client, "list_tools"))["total"] > 0


async def test_removing_a_server_can_be_cancelled_without_leaving_half_of_it(home: Path) -> None:
    async with connected(home) as client:
        await call(
            client,
            "register_tool",
            name="slow",
            command=sys.executable,
            args=[FAULTY, "ignore-eof"],
            env={"API_KEY": "hunter2-hunter2"},
        )
        removing = asyncio.create_task(client.call_tool("unregister_tool", {"name": "slow"}))
        async with asyncio.timeout(20):
            # Its name is held for as long as it takes to stop.
            while True:
                result = await client.call_tool(
                    "register_tool", {"name": "slow", "command": sys.executable, "args": [FAULTY]}
                )
                assert outcome(result) in ("name_taken", "installing", None), text(result)
                if outcome(result) == "installing":
                    removing.cancel()
                    await asyncio.wait([removing])
                if outcome(result) is None:
                    break
        assert b"hunter2" not in (home / "secrets.json").read_bytes()
        assert text(await execute(client, "slow__add", a=1, b=1)) == "2"


async def test_disabling_a_server_just_as_it_comes_up_lasts(home: Path) -> None:
    async with connected(home) as client:
        for _ in range(5):
            await register_faulty(client, "brief")
            await call(client, "manage_server", name="brief", action="disable")
            rows = (await call(client, "list_servers"))["servers"]
            assert [row["enabled"] for row in rows] == [False]
            await call(client, "unregister_tool", name="brief")


async def test_a_secrets_file_open_to_others_is_told_with_the_cure(home: Path) -> None:
    async with connected(home) as client:
        await call(
            client,
            "register_tool",
            name="keyed",
            command=sys.executable,
            args=[FAULTY],
            env={"API_KEY": "hunter2-hunter2"},
        )
        (home / "secrets.json").chmod(0o644)
        result = await client.call_tool("manage_server", {"name": "keyed", "action": "restart"})
        assert outcome(result) == "failed_to_start"
        assert "chmod 600" in text(result)
        assert "internal" not in text(result)


async def test_what_a_killed_installation_left_is_gone_after_the_next_start(home: Path) -> None:
    async with connected(home) as client:
        await call(client, "list_servers")
    (home / "servers" / "half").mkdir()
    secrets = home / "secrets.json"
    kept = json.loads(secrets.read_text()) if secrets.exists() else None
    async with connected(home) as client:
        await call(
            client,
            "register_tool",
            name="a",
            command=sys.executable,
            args=[FAULTY],
            env={"KEY": "hunter2-hunter2"},
        )
    renamed = secrets.read_text().replace("a/env/KEY", "gone/env/KEY")
    secrets.write_text(renamed)
    async with connected(home) as client:
        await call(client, "list_servers")
    assert not (home / "servers" / "half").exists()
    assert "hunter2" not in secrets.read_text()
    assert kept is None


async def test_a_client_that_never_reads_standard_error_stops_nothing(home: Path) -> None:
    unread, stderr = os.pipe()
    process = await asyncio.create_subprocess_exec(
        TOOLSCORE,
        *("serve", "--standalone", "--home", str(home), "--set", "log.level=debug"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
    )
    os.close(stderr)
    assert process.stdin is not None
    assert process.stdout is not None

    async def request(number: int, method: str, params: object) -> dict[str, object]:
        assert process.stdin is not None
        assert process.stdout is not None
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        process.stdin.write(json.dumps(message).encode() + b"\n")
        async with asyncio.timeout(20):
            while True:
                answer: dict[str, object] = json.loads(await process.stdout.readline())
                if "id" in answer:  # and not the announcement of the server's tools
                    return answer

    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    await request(0, "initialize", info)
    process.stdin.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
    registration = {"name": "f", "command": sys.executable, "args": [FAULTY]}
    await request(1, "tools/call", {"name": "register_tool", "arguments": registration})
    # Each restart logs some lines; a pipe that nobody reads holds 64 KiB of them.
    restart = {"name": "manage_server", "arguments": {"name": "f", "action": "restart"}}
    for number in range(2, 202):
        assert "result" in await request(number, "tools/call", restart)
    process.stdin.close()
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    os.close(unread)


async def test_starting_anew_while_the_last_one_still_ends_waits_for_the_home(home: Path) -> None:
    async with connected(home) as client:
        await register_faulty(client, "stubborn", "ignore-eof", "ignore-sigterm")
        again = asyncio.create_task(joined_later(home))
    assert await again == "2"


async def joined_later(home: Path) -> str:
    socket = home / "run" / "toolscore.sock"
    while socket.exists():
        await asyncio.sleep(0.01)
    async with connected(home) as client:
        return text(await execute(client, "stubborn__add", a=1, b=1))
