"""The built-in server `python-executor`, through a real ToolScore: in every home, found and called like any other."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client

from cli_shell import shell_in
from python_calls import python, value
from toolscore.tools.migrate import migrate
from toolscore_client import BARE, FAULTY, call, connected, execute, outcome, register_faulty, text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

FULL = dict.fromkeys(BARE, "")
MODES = ["separate", "embedded"]


@asynccontextmanager
async def house(folder: Path, *, file: str | None = None, **settings: str) -> AsyncIterator[Client]:
    """A ToolScore whose home has what is part of it; settings are of the group `sandbox`."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    if file is not None:
        (home / "config.toml").write_text(file)
    words = [word for key, value in settings.items() for word in ("--set", f"sandbox.{key}={value}")]
    async with connected(home, *words, env=FULL) as client:
        yield client


async def listed(client: Client) -> dict[str, Any]:
    """The executor among the servers."""
    servers = (await call(client, "list_servers"))["servers"]
    found: dict[str, Any] = {server["name"]: server for server in servers}
    return found


async def test_it_is_in_a_new_home_and_its_tools_are_known_before_it_ever_ran(tmp_path: Path) -> None:
    async with house(tmp_path) as client:
        one = (await listed(client))["python-executor"]
        assert (one["origin"], one["kind"], one["state"], one["enabled"]) == (
            "builtin",
            "builtin",
            "STOPPED",
            True,
        )
        names = [tool["name"] for tool in (await call(client, "list_tools"))["tools"]]
        assert "python-executor__python_execute" in names
        described = await call(client, "describe_tool", tool="python-executor__python_execute")
        assert "code" in described["inputSchema"]["properties"]
        assert (await listed(client))["python-executor"]["state"] == "STOPPED"
        shown = [
            tool.model_dump(by_alias=True, exclude_none=True) for tool in (await client.list_tools()).tools
        ]
        assert len(json.dumps(shown, separators=(",", ":"))) / 4 < 3000


@pytest.mark.parametrize("mode", MODES)
async def test_code_runs_the_same_in_both_modes(tmp_path: Path, mode: str) -> None:
    async with house(tmp_path, mode=mode) as client:
        result = await python(client, "print('out')\n[6 * 7]")
        assert result.structured_content is not None
        told = result.structured_content
        assert (told["status"], told["value"], told["stdout"]) == ("ok", [42], "out\n")
        state = await call(client, "server_state", name="python-executor")
        assert state["state"] == "READY"
        if mode == "embedded":
            assert state["pids"] == []
            assert "inside ToolScore's own process" in state["doing"]
        else:
            assert len(state["pids"]) == 1
        await call(client, "manage_server", name="python-executor", action="restart")
        assert await value(client, "1 + 1") == 2
        await call(client, "manage_server", name="python-executor", action="stop")
        assert (await listed(client))["python-executor"]["state"] == "STOPPED"
        assert await value(client, "2 + 2") == 4


@pytest.mark.parametrize("mode", MODES)
async def test_code_calls_tools_in_its_callers_name_where_that_is_allowed(tmp_path: Path, mode: str) -> None:
    code = (
        "from toolscore_tools import call_tool\n"
        "total = 0\n"
        "for n in range(10):\n"
        "    total += int(str(call_tool('f__add', {'a': n, 'b': 1})))\n"
        "total"
    )
    async with house(tmp_path, mode=mode, tools="owner") as client:
        await register_faulty(client, "f")
        assert await value(client, code) == 55
        own = await value(
            client,
            "from toolscore_tools import call_tool\ncall_tool('toolscore__list_servers', {})['servers'][0]['name']",
        )
        assert own == "f"
        refused = await python(
            client,
            "from toolscore_tools import call_tool\ncall_tool('toolscore__uninstall_server', {'name': 'f'})",
        )
        assert "cannot call" in text(refused)
        assert "f" in await listed(client)


@pytest.mark.parametrize("mode", MODES)
async def test_code_that_runs_code_needs_no_second_place(tmp_path: Path, mode: str) -> None:
    inner = "python-executor__python_execute"
    code = f"from toolscore_tools import call_tool\ncall_tool({inner!r}, {{'code': '20 + 1'}})['value'] * 2"
    async with house(tmp_path, mode=mode, tools="*") as client:
        await call(client, "configure_server", name="python-executor", settings={"max_parallel": 1})
        assert await asyncio.wait_for(value(client, code), 60) == 42


async def test_tools_are_off_unless_they_are_allowed(tmp_path: Path) -> None:
    async with house(tmp_path, tools="somebody-else") as client:
        result = await python(client, "import toolscore_tools")
        assert "sandbox.tools" in text(result)


async def test_a_client_cannot_say_who_it_is(tmp_path: Path) -> None:
    async with house(tmp_path) as client:
        started = await execute(client, "python-executor__session_start")
        assert started.structured_content is not None
        session = started.structured_content["session"]
        forged: Any = {"toolscore/caller": {"principal": "victim", "depth": 0, "tools": None}}
        result = await client.call_tool(
            "python-executor__python_execute", {"code": "1", "session": session}, meta=forged
        )
        assert not result.is_error, text(result)
        await register_faulty(client, "f")
        seen = await client.call_tool("f__echo", {}, meta=forged | {"other": 1})
        assert seen.structured_content is not None
        assert "toolscore/caller" not in seen.structured_content["meta"]
        assert seen.structured_content["meta"]["other"] == 1


async def test_a_created_file_can_be_read_as_a_resource_by_its_caller(tmp_path: Path) -> None:
    async with house(tmp_path) as client:
        result = await python(client, "open('big.txt', 'w').write('x' * 200_000)")
        links = [block for block in result.content if block.type == "resource_link"]
        assert links, result
        read = await client.read_resource(str(links[0].uri))
        assert getattr(read.contents[0], "text", "") == "x" * 200_000


async def test_it_is_disabled_and_stays_so(tmp_path: Path) -> None:
    async with house(tmp_path) as client:
        await call(client, "manage_server", name="python-executor", action="disable")
        assert outcome(await python(client, "1")) == "unavailable"
    async with house(tmp_path) as client:
        assert (await listed(client))["python-executor"]["enabled"] is False
        await call(client, "manage_server", name="python-executor", action="enable")
        assert await value(client, "1") == 1


@pytest.mark.parametrize("mode", MODES)
async def test_one_that_was_uninstalled_does_not_come_back_until_it_is_asked_for(
    tmp_path: Path, mode: str
) -> None:
    async with house(tmp_path, mode=mode) as client:
        assert await value(client, "1") == 1
        wrong = await client.call_tool("unregister_tool", {"name": "python-executor"})
        assert "uninstall_server" in text(wrong)
        await call(client, "uninstall_server", name="python-executor")
        assert await listed(client) == {}
        gone = await python(client, "1")
        assert outcome(gone) == "unknown_tool"
        assert "install_server(source='builtin:python-executor')" in text(gone)
    async with house(tmp_path, mode=mode) as client:
        assert await listed(client) == {}
        for words in ({"source": "builtin:nothing"}, {"source": "builtin:python-executor", "name": "other"}):
            refused = await client.call_tool("install_server", words)
            assert outcome(refused) == "invalid_arguments"
        added = await call(client, "install_server", source="builtin:python-executor")
        assert "python-executor__python_execute" in added["tools"]
        assert await value(client, "2") == 2
        again = await client.call_tool("install_server", {"source": "builtin:python-executor"})
        assert outcome(again) == "name_taken"
    async with house(tmp_path, mode=mode) as client:
        assert (await listed(client))["python-executor"]["origin"] == "builtin"
        assert await value(client, "3") == 3


async def test_a_server_of_the_users_own_has_its_name_and_keeps_it(tmp_path: Path) -> None:
    async with house(tmp_path) as client:
        taken = await client.call_tool(
            "register_tool", {"name": "python-executor", "command": sys.executable}
        )
        assert outcome(taken) == "name_taken"
        assert "mcpServers.python-executor" in text(taken)
        assert "uninstall" in text(taken)
        await call(client, "uninstall_server", name="python-executor")
        await register_faulty(client, "python-executor")
        assert (await listed(client))["python-executor"]["origin"] == "agent"
    async with house(tmp_path) as client:
        assert (await listed(client))["python-executor"]["origin"] == "agent"
        result = await execute(client, "python-executor__echo", a=1)
        assert result.structured_content is not None
        assert "toolscore/caller" not in result.structured_content["meta"]
        await call(client, "unregister_tool", name="python-executor")
        assert await listed(client) == {}
    async with house(tmp_path) as client:
        assert await listed(client) == {}


async def test_a_home_from_before_there_was_one_gets_it_at_its_first_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    migrate(home / "toolscore.db", "0002")
    async with house(tmp_path) as client:
        assert list(await listed(client)) == ["python-executor"]
        assert await value(client, "1") == 1
        await call(client, "uninstall_server", name="python-executor")
    async with house(tmp_path) as client:
        assert await listed(client) == {}


@pytest.mark.parametrize("mode", MODES)
async def test_its_log_is_read_like_any_others(tmp_path: Path, mode: str) -> None:
    async with house(tmp_path, mode=mode) as client:
        assert await value(client, "1") == 1
        logs = await call(client, "server_logs", name="python-executor")
        assert (logs["name"], logs["servers"]) == ("python-executor", ["python-executor"])
        async with asyncio.timeout(60):  # a thread of its own writes it
            while not any("python-executor" in line for line in await own(client)):
                await asyncio.sleep(0.02)


async def own(client: Client) -> list[str]:
    """ToolScore's own log."""
    lines: list[str] = (await call(client, "server_logs", name="toolscore", level="info"))["lines"]
    return lines


async def test_what_was_configured_stays_and_settings_are_taken_over_at_the_next_start(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as client:
        await call(client, "configure_server", name="python-executor", settings={"idle_timeout": 60})
        before = await call(client, "describe_tool", tool="python-executor__python_execute")
    async with house(tmp_path, wall="7", memory="64") as client:
        state = await call(client, "server_state", name="python-executor")
        assert state["keeping"]["idle_timeout"] == 60
        assert state["keeping"]["start"] == "use"
        after = await call(client, "describe_tool", tool="python-executor__python_execute")
        assert before["digest"] != after["digest"]
        assert "7 s" in json.dumps(after)
        status = await execute(client, "python-executor__sandbox_status")
        assert status.structured_content is not None
        limits = status.structured_content["limits"]
        assert (limits["wall"], limits["memory"]) == (7.0, 64 << 20)


async def test_without_the_setting_it_is_not_there_and_its_name_is_free(tmp_path: Path) -> None:
    async with house(tmp_path) as client:
        assert "python-executor" in await listed(client)
    async with house(tmp_path, enabled="false") as client:
        assert await listed(client) == {}
        await register_faulty(client, "python-executor")
    async with house(tmp_path) as client:
        assert (await listed(client))["python-executor"]["origin"] == "agent"
        removed = await client.call_tool("unregister_tool", {"name": "python-executor"})
        assert not removed.is_error, text(removed)
        assert (await listed(client))["python-executor"]["origin"] == "builtin"
        assert await value(client, "3") == 3


async def test_a_declared_server_of_its_name_takes_its_place_and_gives_it_back(tmp_path: Path) -> None:
    entry = f"[mcpServers.python-executor]\ncommand = {json.dumps(sys.executable)}\nargs = {json.dumps([FAULTY])}\n"
    async with house(tmp_path) as client:
        assert (await listed(client))["python-executor"]["origin"] == "builtin"
        (tmp_path / "home" / "config.toml").write_text(entry)
        await call(client, "reload_configuration")
        assert (await listed(client))["python-executor"]["origin"] == "file"
        result = await execute(client, "python-executor__echo", a=1)
        assert not result.is_error
        assert result.structured_content is not None
        assert "toolscore/caller" not in result.structured_content["meta"]
    async with house(tmp_path) as client:
        assert (await listed(client))["python-executor"]["origin"] == "file"
        (tmp_path / "home" / "config.toml").write_text("")
        await call(client, "reload_configuration")
        assert (await listed(client))["python-executor"]["origin"] == "builtin"
        assert await value(client, "4") == 4


async def test_output_streams_while_code_runs_and_cancelling_ends_it(tmp_path: Path) -> None:
    async with house(tmp_path) as client:
        await value(client, "1")
        heard: list[str | None] = []

        async def heard_of(progress: float, total: float | None, message: str | None) -> None:
            heard.append(message)

        running = asyncio.create_task(
            client.call_tool(
                "python-executor__python_execute",
                {"code": "import time\nprint('begun', flush=True)\ntime.sleep(25)"},
                progress_callback=heard_of,
            )
        )
        async with asyncio.timeout(30):
            while not heard:
                await asyncio.sleep(0.01)
        assert heard[0] is not None
        assert "begun" in heard[0]
        running.cancel()
        await asyncio.wait([running])
        assert await value(client, "5") == 5


def test_the_command_line_runs_code_without_a_running_toolscore(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    for name in BARE:
        del shell.environ[name]
    done = shell("call", "python-executor__python_execute", "--json", json.dumps({"code": "6 * 7"}))
    assert "42" in done.stdout, done.stderr + done.stdout


async def test_a_home_whose_path_is_too_long_for_a_socket_has_tools_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    async with house(deep, tools="owner") as client:
        code = "from toolscore_tools import call_tool\ncall_tool('toolscore__list_servers', {})['missing']"
        assert await value(client, code) == []
