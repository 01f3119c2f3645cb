"""Scores of tools through a real ToolScore: fed by every way to call one, kept, shown and exported."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client

from cli_shell import shell_in
from listening import Serving, raw, register, serving
from toolscore.server.home import Home
from toolscore.server.own_tools import OWN_TOOLS
from toolscore.server.tokens import Tokens
from toolscore.tools.caller import CALL, MANAGE
from toolscore_client import BARE, FAULTY, call, connected, execute, outcome, register_faulty, text

linux = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


async def score(client: Client, tool: str) -> dict[str, Any]:
    """The score of one tool that was called."""
    told = await call(client, "toolscore__tool_score", tool=tool)
    assert told["total"] == 1, told
    found: dict[str, Any] = told["scores"][0]
    return found


def kept(home: Path) -> str:
    """What the store has of all scores."""
    with closing(sqlite3.connect(home / "toolscore.db")) as connection:
        return "\n".join(record for (record,) in connection.execute("SELECT record FROM score"))


def page(one: Serving, *, token: str | None = None) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with opener.open(urllib.request.Request(one.page("/metrics"), headers=headers), timeout=10) as answer:
        body: str = answer.read().decode()
        return body


def test_the_tool_is_not_listed_by_default() -> None:
    (tool,) = (tool for tool in OWN_TOOLS if tool.name == "tool_score")
    assert not tool.listed
    assert len(json.dumps(tool.definition)) < 4000


async def test_every_way_to_call_a_tool_feeds_its_score_and_a_restart_keeps_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with connected(home, "--expose", "all") as client:
        await register_faulty(client, "odd")
        await execute(client, "odd__echo", a=1)
        await client.call_tool("odd__echo", {"a": 1})  # the express lane, by now
        await client.call_tool("toolscore__execute_tool", {"tool": "odd__echo", "arguments": {}})
        assert (await score(client, "odd__echo"))["successes"] == 3
        assert outcome(await execute(client, "odd__exit")) == "outcome_unknown"
        await execute(client, "odd__failed")
        await execute(client, "odd__invalid")
        assert outcome(await execute(client, "odd__sleep", timeout=0.1, seconds=60)) == "timed_out"
        listed = await call(client, "tool_score", server="odd")
        assert [(one["name"], one["failures"], one["excused"]) for one in listed["scores"]] == [
            ("odd__exit", {"outcome_unknown": 1}, {}),
            ("odd__failed", {"error": 1}, {}),
            ("odd__invalid", {"server_error": 1}, {}),  # which says so of arguments that fit
            ("odd__echo", {}, {}),
            ("odd__sleep", {}, {"timed_out": 1}),
        ]
        used = await call(client, "tool_score", order="used", limit=1)
        assert (used["scores"][0]["name"], used["total"]) == ("odd__echo", 5)
        before = await score(client, "odd__echo")
        assert before["version"] == "1.0"
        assert before["score"] == before["versions"][0]["score"] == pytest.approx(0.526, abs=0.001)
        assert 0 < before["p50"] <= before["p90"] <= before["p99"]
        assert "3 of 3 calls succeeded" in before["explained"]
    async with connected(home) as client:
        assert await score(client, "odd__echo") == before
        failed = await score(client, "odd__failed")
        assert (failed["last_failure"]["kind"], failed["last_failure"]["text"]) == (
            "error",
            "it did not work",
        )


async def test_a_killed_toolscore_forgets_no_more_than_the_last_seconds(tmp_path: Path) -> None:
    home = tmp_path / "home"
    register(home, "odd")
    with serving(home) as one:
        async with raw(one.url) as line:
            for number in range(20):
                await line.call(number, "odd__echo")
                await line.receive()
        deadline = time.monotonic() + 30
        while '"ok":20' not in kept(home):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        os.kill(one.process.pid, signal.SIGKILL)
    with serving(home) as one:
        async with raw(one.url) as line:
            answer = await line.request(
                "tools/call", name="toolscore__tool_score", arguments={"tool": "odd__echo"}
            )
            assert answer["result"]["structuredContent"]["scores"][0]["successes"] == 20


async def test_figures_of_tools_are_exported_and_texts_are_for_those_who_manage(tmp_path: Path) -> None:
    home = tmp_path / "home"
    register(home, "odd")
    with serving(home, options=()) as one:
        tokens = Tokens(Home.at(home), frozenset({CALL}))
        small = tokens.create("small", frozenset({CALL}))
        great = tokens.create("great", frozenset({CALL, MANAGE}))
        async with raw(one.url, additional_headers={"Authorization": f"Bearer {small}"}) as line:
            for tool in ("echo", "echo", "failed"):
                await line.call(tool, f"odd__{tool}")
                await line.receive()
            asked = {"name": "tool_score", "arguments": {"tool": "odd__failed"}}
            answer = await line.request("tools/call", **asked)
            last = answer["result"]["structuredContent"]["scores"][0]["last_failure"]
            assert (last["kind"], last["text"]) == ("error", None)
        async with raw(one.url, additional_headers={"Authorization": f"Bearer {great}"}) as line:
            answer = await line.request("tools/call", **asked)
            assert (
                answer["result"]["structuredContent"]["scores"][0]["last_failure"]["text"]
                == "it did not work"
            )
        deadline = time.monotonic() + 30
        while "toolscore_tool_calls_total{" not in (body := page(one, token=one.token)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    assert 'toolscore_tool_calls_total{outcome="ok",tool="odd__echo"} 2.0' in body
    assert 'toolscore_tool_calls_total{outcome="error",tool="odd__failed"} 1.0' in body
    assert re.search(r'toolscore_tool_success_bound\{tool="odd__echo"\} 0\.4\d', body)
    assert 'toolscore_tool_success_bound{tool="odd__failed"} 0.0' in body
    for quantile in ("0.5", "0.9", "0.99"):
        assert re.search(
            rf'toolscore_tool_seconds\{{quantile="{quantile}",tool="odd__echo"\}} [1-9]*\d\.\d', body
        )


async def test_a_new_version_begins_its_own_record_and_the_old_one_is_still_told(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        await register_faulty(client, "odd", "version=1.0")
        for _ in range(5):
            await execute(client, "odd__failed")
        old = await score(client, "odd__failed")
        await call(client, "unregister_tool", name="odd")
        gone = await score(client, "odd__failed")
        assert gone["failures"] == {"error": 5}
        await register_faulty(client, "odd", "version=2.0")
        await execute(client, "odd__failed")
        new = await score(client, "odd__failed")
        assert [(one["version"], one["failures"]) for one in new["versions"]] == [
            ("2.0", {"error": 1}),
            ("1.0", {"error": 5}),
        ]
        assert (old["version"], new["version"], new["failures"]) == ("1.0", "2.0", {"error": 6})


async def test_a_secret_in_an_error_is_masked_also_where_it_is_kept(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with connected(home) as client:
        await call(
            client,
            "register_tool",
            name="odd",
            command=sys.executable,
            args=[FAULTY],
            env={"API_KEY": "swordfish-1234567"},
        )
        result = {"content": [{"type": "text", "text": "401 for swordfish-1234567"}], "isError": True}
        line = '{"jsonrpc":"2.0","id":$ID,"result":' + json.dumps(result) + "}"
        assert (await execute(client, "odd__raw", line=line)).is_error
        assert (await score(client, "odd__raw"))["last_failure"]["text"] == "401 for ***"
    assert "401 for ***" in kept(home)
    assert "swordfish" not in kept(home)


async def test_what_was_asked_wrongly_is_answered_with_what_to_do(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        await register_faulty(client, "odd")
        told = await call(client, "tool_score")
        assert (told["scores"], told["total"]) == ([], 0)
        told = await call(client, "tool_score", tool="odd__echo")
        assert "not called yet" in told["note"]
        for arguments, code, word in (
            ({"tool": "odd__ech"}, "unknown_tool", "odd__echo"),
            ({"server": "none"}, "unknown_server", "list_servers"),
            ({"tool": "odd__echo", "server": "odd"}, "invalid_arguments", "not both"),
            ({"tool": "toolscore__list_tools"}, "invalid_arguments", "have no scores"),
            ({"limit": 1000}, "invalid_arguments", "limit"),
            ({"order": "random"}, "invalid_arguments", "worst"),
        ):
            result = await client.call_tool("tool_score", arguments)
            assert (result.is_error, outcome(result)) == (True, code), arguments
            assert word in text(result)


@linux
async def test_a_call_from_inside_of_code_counts_and_wrong_code_is_not_the_executors_fault(
    tmp_path: Path,
) -> None:
    python = "python-executor__python_execute"
    async with connected(
        tmp_path / "home", "--set", "sandbox.tools=*", env=dict.fromkeys(BARE, "")
    ) as client:
        await register_faulty(client, "odd")
        code = "from toolscore_tools import call_tool\nfor _ in range(3): call_tool('odd__echo', {})"
        assert not (await client.call_tool(python, {"code": code})).is_error
        assert (await score(client, "odd__echo"))["successes"] == 3
        assert (await client.call_tool(python, {"code": "1 / 0"})).is_error
        told = await score(client, python)
        assert (told["successes"], told["failures"], told["excused"]) == (1, {}, {"code_failed": 1})


# --- the command line


async def test_the_command_shows_a_table_one_tool_in_full_or_json(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    async with connected(shell.home) as client:
        await call(
            client, "register_tool", name="small", command=sys.executable, args=[str(tmp_path / "server.py")]
        )
        for tool in ("echo", "fail", "echo"):
            await execute(client, f"small__{tool}")
    done = await asyncio.to_thread(shell, "scores")
    assert done.returncode == 0, done.stderr
    assert [re.split(r"\s{2,}", line)[:4] for line in done.stdout.splitlines()] == [
        ["small__fail", "0.00", "0", "1"],
        ["small__echo", "0.42", "2", "0"],
    ]
    one = (await asyncio.to_thread(shell, "scores", "small__fail")).stdout
    assert "0 of 1 call succeeded" in one
    assert "error: it went wrong" in one
    assert "1.2.3" in one
    document = await asyncio.to_thread(shell.document, "scores", "small", "--order", "used", "--limit", "1")
    assert (document["total"], document["scores"][0]["successes"]) == (2, 2)


def test_the_command_makes_no_home(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    assert shell("scores").stdout == "no tool was called yet\n"
    assert not shell.home.exists()
