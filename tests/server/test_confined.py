"""Confinement from a client's, the file's and a person's point of view: asked for, shown, and holding."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from cli_shell import shell_in
from config_file import padded, rewrite_unseen
from confined import LAYERS, NEEDS, ordinary_folder, ready, state
from confining import BEFORE
from helpers import gone
from toolscore_client import call, connected, execute, parameters, text

PROBING = str(Path(__file__).parents[1] / "probing_server.py")

pytestmark = NEEDS


async def test_a_server_is_registered_confined_shown_so_and_stays_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    given = {"command": sys.executable, "args": ["-S", PROBING]}
    async with connected(home, "--standalone") as client:
        await call(client, "register_tool", name="walled", confine=True, **given)
        await call(client, "register_tool", name="free", **given)
        assert list((await state(client, "walled"))["confined"]) == LAYERS
        assert (await state(client, "free"))["confined"] is None
        secret = str(home / "toolscore.db")
        for name, said in (("walled", "ENOENT"), ("free", "done")):
            assert text(await execute(client, f"{name}__read", path=secret)) == said
        refused = await client.call_tool("register_tool", {"name": "x", **given, "confine": {"wirte": []}})
        assert refused.is_error
        assert "wirte" in text(refused)
    async with connected(home, "--standalone") as client:
        assert text(await execute(client, "walled__read", path=secret)) == "ENOENT"


async def test_a_server_of_the_file_is_confined_as_it_says(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    entry = {"command": sys.executable, "args": ["-S", PROBING], "confine": {"network": True}}
    file = home / "config.json"
    file.write_text(json.dumps({"mcpServers": {"walled": entry}}))
    async with connected(home, "--standalone", "--config", str(file)) as client:
        with anyio.fail_after(60):
            while not await ready(client, "walled"):
                await anyio.sleep(0.02)
        assert text(await execute(client, "walled__read", path=str(file))) == "ENOENT"
        confined = (await state(client, "walled"))["confined"]
        assert confined["namespaces"] == "active (file system, IPC)"


async def test_another_profile_in_the_file_starts_the_server_again_with_it(tmp_path: Path) -> None:
    home, hidden = tmp_path / "home", "/etc/hostname"
    home.mkdir()
    file = home / "config.json"

    def declared(confine: Any) -> str:
        entry = {"command": sys.executable, "args": ["-S", PROBING], "confine": confine}
        return json.dumps({"mcpServers": {"walled": entry}})

    async def started(client: Any) -> int:
        with anyio.fail_after(60):
            while not await ready(client, "walled"):
                await anyio.sleep(0.02)
        pids: list[int] = (await state(client, "walled"))["pids"]
        return pids[0]

    file.write_text(padded(declared(False)))
    async with connected(home, "--standalone", "--config", str(file)) as client:
        before = await started(client)
        for confine, said in ((True, "done"), ({"hide": [hidden]}, "EACCES"), (False, "done")):
            await rewrite_unseen(client, file, declared(confine))
            changed = (await execute(client, "toolscore__reload_configuration")).structured_content
            assert changed is not None
            assert changed["changed"] == [{"name": "walled", "what": ["confine"]}]
            after = await started(client)
            assert after != before
            before = after
            assert text(await execute(client, "walled__read", path=hidden)) == said
            with anyio.fail_after(60):  # its launcher tells it on standard error, which is read by the way
                while bool((await state(client, "walled"))["confined"]) is not bool(confine):
                    await anyio.sleep(0.02)


async def test_the_list_of_servers_tells_which_are_confined_and_by_what(tmp_path: Path) -> None:
    given = {"command": sys.executable, "args": ["-S", PROBING]}
    async with connected(tmp_path / "home", "--standalone") as client:
        await call(client, "register_tool", name="walled", confine=True, **given)
        await call(client, "register_tool", name="free", **given)
        free, walled = (await call(client, "list_servers"))["servers"]
        assert walled["confined"] == ", ".join(LAYERS)
        assert "confined" not in free
        await call(client, "manage_server", name="walled", action="stop")
        assert (await call(client, "list_servers"))["servers"][1]["confined"] == "whenever it runs"
        assert (await state(client, "walled"))["confined"] == {}


@pytest.mark.parametrize("isolation", ["per-client", "per-lease"])
async def test_instances_of_a_server_that_is_not_shared_are_confined_as_well(
    tmp_path: Path, isolation: str
) -> None:
    home = tmp_path / "home"
    async with connected(home, "--standalone") as client:
        given = {"command": sys.executable, "args": ["-S", PROBING], "confine": {"network": False}}
        await call(client, "register_tool", name="walled", **given)
        configured = await execute(
            client, "toolscore__configure_server", name="walled", settings={"isolation": isolation}
        )
        assert not configured.is_error, text(configured)
        lease = {}
        if isolation == "per-lease":
            acquired = await execute(client, "toolscore__acquire_server", name="walled")
            assert acquired.structured_content is not None
            lease = {"lease": acquired.structured_content["lease"]}
        for path, said in ((str(home / "toolscore.db"), "ENOENT"), ("/etc/hosts", "done")):
            asked = {"tool": "walled__read", "arguments": {"path": path}, **lease}
            assert text(await client.call_tool("execute_tool", asked)) == said
        spawned = text(
            await client.call_tool("execute_tool", {"tool": "walled__spawn", "arguments": {}, **lease})
        )
        told = await state(client, "walled")
        assert list(told["confined"]) == LAYERS
        assert told["instances"] or isolation == "shared"
        assert told["memory"] > 1_000_000
        await call(client, "manage_server", name="walled", action="stop", force=True)
        with anyio.fail_after(60):
            while not all(gone(pid) for pid in (*told["pids"], int(spawned))):
                await anyio.sleep(0.01)


async def test_limits_of_a_confined_server_hold_for_all_it_starts(tmp_path: Path) -> None:
    async with connected(tmp_path / "home", "--standalone") as client:
        given = {"command": sys.executable, "args": ["-S", PROBING], "confine": True}
        await call(client, "register_tool", name="walled", **given)
        before = (await state(client, "walled"))["pids"]
        limited = await execute(
            client, "toolscore__configure_server", name="walled", settings={"max_processes": 3}
        )
        assert not limited.is_error, text(limited)
        # With the last of these it is one too many, and it may be ended before it says which.
        told = [text(await execute(client, "walled__spawn")) for _ in range(3)]
        spawned = [int(pid) for pid in told if pid.isdigit()]
        assert len(spawned) >= 2, told
        with anyio.fail_after(60):
            while not all(gone(pid) for pid in (*before, *spawned)):
                await anyio.sleep(0.05)


@asynccontextmanager
async def connected_without(home: Path, *missing: str) -> AsyncIterator[Any]:
    """A ToolScore where something that confines cannot be had, as in a container."""
    usual = parameters(home)
    before = BEFORE.format(paths=[], without={*missing})
    args = ["-c", before, usual.command, *usual.args]
    with (home.parent / "stderr.log").open("a") as log:
        lacking = StdioServerParameters(command=sys.executable, args=args, env=usual.env)
        async with Client(stdio_client(lacking, errlog=log)) as client:
            yield client


async def test_where_namespaces_cannot_be_made_the_state_tells_what_is_left(tmp_path: Path) -> None:
    given = {"command": sys.executable, "args": ["-S", PROBING]}
    # Its temporary folder is out of its reach there: a folder of its own is what it can write.
    with ordinary_folder() as place:
        confine = {"write": [str(place)]}
        async with connected_without(tmp_path / "home", "unshare") as client:
            await call(client, "register_tool", name="walled", confine=confine, **given)
            told = (await state(client, "walled"))["confined"]
            assert told["namespaces"] == "unavailable (unshare: Operation not permitted)"
            assert [name for name, state in told.items() if state.startswith("active")] == LAYERS[1:]
            assert (await call(client, "list_servers"))["servers"][0]["confined"] == ", ".join(LAYERS[1:])
            for tool, path, said in (
                ("write", str(place / "file"), "done"),
                ("write", str(place.parent / "file"), "EACCES"),
                ("read", str(tmp_path / "home" / "toolscore.db"), "EACCES"),
            ):
                assert text(await execute(client, f"walled__{tool}", path=path)) == said
            logs = await execute(client, "toolscore__server_logs", name="walled")
            assert "it is confined; namespaces: unavailable" in text(logs)


async def test_where_nothing_is_left_it_is_not_registered_and_nothing_ran(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w')"
    async with connected_without(tmp_path / "home", "unshare", "landlock") as client:
        given = {"name": "walled", "command": sys.executable, "args": ["-c", code], "confine": True}
        refused = await client.call_tool("register_tool", given)
        assert refused.is_error
        assert "it was not started, since it cannot be confined: there are neither namespaces" in text(
            refused
        )
        assert not (await call(client, "list_servers"))["servers"]
    assert not mark.exists()


def test_a_person_confines_with_options(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    opened = ["--allow-network", "--hide", "/etc/hostname"]
    done = shell("register", "walled", *opened, "--", sys.executable, "-S", PROBING)
    assert done.returncode == 0, done.stderr
    for tool, path, said in (
        ("write", str(Path(PROBING).with_name("x")), "EROFS"),
        ("read", "/etc/hostname", "EACCES"),
        ("read", PROBING, "done"),
    ):
        assert shell("call", f"walled__{tool}", json.dumps({"path": path})).stdout.strip() == said
    assert "confined   whenever it runs" in shell("status", "walled").stdout
