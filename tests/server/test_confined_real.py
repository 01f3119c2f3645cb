"""Servers from the package indexes, confined: they answer, and reach what was named for them and nothing else."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from confined import LAYERS, NEEDS, ordinary_folder, ready, state
from helpers import gone
from modern_node import find_node
from toolscore_client import call, connected, execute, text

pytestmark = [pytest.mark.index, NEEDS]

FILESYSTEM = "@modelcontextprotocol/server-filesystem"


@pytest.fixture
def place() -> Iterator[Path]:
    with ordinary_folder() as path:
        for name in ("in", "out"):
            (path / name).mkdir()
        (path / "in" / "text").write_text("what is in it")
        yield path


@asynccontextmanager
async def restarted(client: Any, name: str) -> AsyncIterator[None]:
    """Start a server again in the middle; what ran before has ended then."""
    before = (await state(client, name))["pids"]
    yield
    await call(client, "manage_server", name=name, action="restart")
    with anyio.fail_after(60):
        while not await ready(client, name) or not all(gone(pid) for pid in before):
            await anyio.sleep(0.05)
    assert list((await state(client, name))["confined"]) == LAYERS


async def check_files(client: Any, name: str, place: Path) -> None:
    """Read where that is allowed to the server, write where that is, and neither elsewhere."""
    read = await execute(client, f"{name}__read_text_file", path=str(place / "in" / "text"))
    assert "what is in it" in text(read)
    for folder, works in (("out", True), ("in", False)):
        file = place / folder / "new"
        written = await execute(client, f"{name}__write_file", path=str(file), content="new")
        assert (not written.is_error) is works, text(written)
        assert file.exists() is works
        assert works or "EROFS" in text(written)
        file.unlink(missing_ok=True)


async def test_an_installed_python_server_works_confined(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with connected(home, "--standalone") as client:
        await call(client, "install_server", source="pypi:mcp-server-time", name="time", confine=True)
        asked: dict[str, Any] = {
            "source_timezone": "Asia/Shanghai",
            "time": "09:30",
            "target_timezone": "Asia/Tokyo",
        }
        for _ in range(2):
            async with restarted(client, "time"):
                answer = json.loads(text(await execute(client, "time__convert_time", **asked)))
                assert answer["target"]["datetime"][11:16] == "10:30"
        logs = await execute(client, "toolscore__server_logs", name="time")
        assert "it is confined" in text(logs)
        pids = (await state(client, "time"))["pids"]
        await call(client, "uninstall_server", name="time")
        assert not (home / "servers" / "time").exists()
    with anyio.fail_after(60):
        while not all(gone(pid) for pid in pids):
            await anyio.sleep(0.01)


async def test_an_installed_node_server_works_confined(tmp_path: Path, place: Path) -> None:
    find_node()
    async with connected(tmp_path / "home", "--standalone") as client:
        await call(
            client,
            "install_server",
            source=f"npm:{FILESYSTEM}",
            name="files",
            args=[str(place / "in"), str(place / "out")],
            confine={"write": [str(place / "out")], "hide": ["/etc/hostname"]},
        )
        for _ in range(2):
            async with restarted(client, "files"):
                await check_files(client, "files", place)


async def test_npx_fetches_and_starts_a_server_with_the_network_alone(tmp_path: Path, place: Path) -> None:
    if shutil.which("npx") is None:
        pytest.skip("no npx here")
    async with connected(tmp_path / "home", "--standalone") as client:
        given = {"command": "npx", "args": ["-y", FILESYSTEM, str(place / "in"), str(place / "out")]}
        opened = {"network": True, "write": [str(place / "out")]}
        await call(client, "register_tool", name="files", confine=opened, **given)
        async with restarted(client, "files"):
            await check_files(client, "files", place)
        refused = await client.call_tool("register_tool", {"name": "walled", "confine": True, **given})
        assert refused.is_error
        assert f"install_server(source='npm:{FILESYSTEM}', confine=...)" in text(refused)


async def test_uvx_fetches_and_starts_a_server_with_the_network_alone(tmp_path: Path) -> None:
    async with connected(tmp_path / "home", "--standalone") as client:
        given = {"command": "uvx", "args": ["--python", sys.executable, "mcp-server-time"]}
        await call(client, "register_tool", name="time", confine={"network": True}, **given)
        answer = await execute(client, "time__get_current_time", timezone="UTC")
        assert not answer.is_error, text(answer)
        given["args"] = ["--from", "mcp-server-time", "mcp-server-time"]
        refused = await client.call_tool("register_tool", {"name": "walled", "confine": True, **given})
        assert refused.is_error
        assert "install_server(source='pypi:mcp-server-time', confine=...)" in text(refused)
