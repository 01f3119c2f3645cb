"""Real servers from the package indexes, all behind one ToolScore at once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from helpers import gone
from toolscore_client import TOOLSCORE, call, connected, execute, outcome, text

pytestmark = pytest.mark.index

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = "npm:@modelcontextprotocol/server-everything"
MEMORY = "npm:@modelcontextprotocol/server-memory"


async def check_all(client: Client, repository: Path) -> None:
    """Call a tool of each server."""
    converted = await execute(
        client,
        "time__convert_time",
        source_timezone="Asia/Shanghai",
        time="09:30",
        target_timezone="Europe/London",
    )
    # London is eight hours behind in winter, seven in summer.
    assert json.loads(text(converted))["target"]["datetime"][11:16] in ("01:30", "02:30")
    assert "clean" in text(await execute(client, "git__git_status", repo_path=str(repository)))
    assert text(await execute(client, "calculator__calculate", expression="6 * 7")) == "42"
    assert not (await execute(client, "sqlite__list_tables")).is_error
    assert "hello" in text(await execute(client, "everything__echo", message="hello"))
    graph = await execute(client, "memory__read_graph")
    assert graph.structured_content is not None
    image = await execute(client, "everything__get-tiny-image")
    assert "image" in [block.type for block in image.content]


async def test_six_real_servers_work_at_once_and_come_back_after_a_restart(tmp_path: Path) -> None:
    home, repository = tmp_path / "home", tmp_path / "repository"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    steps: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, message))

    async with connected(home, mode="auto") as client:
        database = str(tmp_path / "test.db")
        installed = await asyncio.gather(
            call(client, "install_server", source="pypi:mcp-server-time"),
            call(
                client, "install_server", source="pypi:mcp-server-git", args=["--repository", str(repository)]
            ),
            call(client, "install_server", source="pypi:mcp-server-calculator"),
            call(client, "install_server", source="pypi:mcp-server-sqlite", args=["--db-path", database]),
            call(client, "install_server", source=EVERYTHING),
        )
        result = await client.call_tool("install_server", {"source": MEMORY}, progress_callback=note)
        assert not result.is_error, text(result)
        by_name = {added["name"]: added for added in installed}
        assert set(by_name) == {"time", "git", "calculator", "sqlite", "everything"}
        assert all(added["version"] for added in installed)
        # Version 2 of the SDK ends this one at its start; its own environment was given version 1.
        assert by_name["sqlite"]["notes"] == ["its own environment was repaired with the constraint mcp<2"]
        assert [progress for progress, _ in steps] == sorted({progress for progress, _ in steps})
        assert len(steps) >= 4
        await check_all(client, repository)
    async with connected(home, mode="legacy") as client:
        assert (await call(client, "list_tools"))["total"] > 30
        await check_all(client, repository)
        rows = (await call(client, "list_servers"))["servers"]
        assert {row["state"] for row in rows} == {"READY"}
        pids = [row["pid"] for row in rows]
        await call(client, "uninstall_server", name="sqlite")
        assert not (home / "servers" / "sqlite").exists()
        assert outcome(await execute(client, "sqlite__list_tables")) == "unknown_tool"
    assert [pid for pid in pids if not gone(pid)] == []


async def test_what_cannot_be_installed_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / "empty").mkdir()
    expected = {
        "pypi:this-package-does-not-exist-xyzzy": ("install_failed", "this-package-does-not-exist-xyzzy"),
        "npm:this-package-does-not-exist-xyzzy": ("install_failed", "this-package-does-not-exist-xyzzy"),
        "pypi:mcp-server-time@0.0.0.1": ("install_failed", "0.0.0.1"),
        "pypi:six": ("install_failed", "entry point"),
        "pypi:cowsay": ("failed_to_start", "Cowsay: error"),
        "somewhere:else": ("invalid_arguments", "pypi:"),
        str(tmp_path / "empty"): ("install_failed", "pyproject.toml"),
        str(tmp_path / "absent"): ("install_failed", "absent"),
        "command: no-such-program-xyzzy": ("install_failed", "no-such-program-xyzzy"),
    }
    async with connected(home) as client:
        for source, (code, words) in expected.items():
            result = await client.call_tool("install_server", {"source": source, "name": "candidate"})
            assert (source, outcome(result)) == (source, code), text(result)
            assert words in text(result)
        assert (await call(client, "list_servers"))["servers"] == []
    assert list((home / "servers").iterdir()) == []


ENDLESS = """
import pathlib, time
def build_wheel(folder, settings=None, metadata=None):
    pathlib.Path({mark!r}).touch()
    time.sleep(600)
"""


async def test_an_install_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    home, project, begun = tmp_path / "home", tmp_path / "project", tmp_path / "begun"
    project.mkdir()
    (project / "backend.py").write_text(ENDLESS.format(mark=str(begun)))
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "endless"\nversion = "1.0"\n'
    )
    async with connected(home) as client:
        task = asyncio.create_task(client.call_tool("install_server", {"source": str(project)}))
        async with asyncio.timeout(300):
            while not begun.exists():
                assert not task.done(), task.result()
                await asyncio.sleep(0.02)
        assert list((home / "servers").iterdir())
        task.cancel()
        await asyncio.wait([task])
        async with asyncio.timeout(60):
            while list((home / "servers").iterdir()):
                await asyncio.sleep(0.02)
        assert (await call(client, "list_servers"))["servers"] == []


async def test_the_client_entry_of_the_readme_works_with_uvx_from_a_folder(tmp_path: Path) -> None:
    uvx = Path(sys.executable).with_name("uvx")
    parameters = StdioServerParameters(
        command=str(uvx),
        args=["--from", str(ROOT), "toolscore", "--home", str(tmp_path / "home")],
        env=dict(os.environ),
    )
    async with Client(stdio_client(parameters)) as client:
        assert len((await client.list_tools()).tools) == 10


def test_the_module_and_the_script_are_the_same() -> None:
    outputs = {
        subprocess.run([*command, "--version"], capture_output=True, check=True, text=True).stdout
        for command in ([TOOLSCORE], [sys.executable, "-m", "toolscore"])
    }
    assert len(outputs) == 1


def test_the_demo_runs_and_stays_in_the_checkout(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        capture_output=True,
        check=False,
        text=True,
        timeout=600,  # it fetches from the indexes
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "01:30:00+00:00" in finished.stdout or "02:30:00+01:00" in finished.stdout
    shutil.rmtree(ROOT / ".demo")


async def test_uvx_is_found_where_path_has_none(tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    assert shutil.which("uvx", path="/usr/bin:/bin") is None
    (bare / "python3").symlink_to(Path(sys.executable).resolve())  # or uv would look for one elsewhere
    async with connected(tmp_path / "home", env={"PATH": f"{bare}:/usr/bin:/bin"}) as client:
        added = await call(client, "install_server", source="command: uvx mcp-server-time")
        assert added["name"] == "time"
        assert not (await execute(client, "time__get_current_time", timezone="UTC")).is_error
