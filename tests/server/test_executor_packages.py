"""Packages for code in the sandbox, through a real ToolScore, in both modes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp.client.client import Client

import science
from config_file import padded, rewrite_unseen
from helpers import until
from toolscore_client import BARE, call, connected, execute, parameters, text

pytestmark = [pytest.mark.index]

FULL = dict.fromkeys(BARE, "")
MODES = ["separate", "embedded"]
PYTHON = "python-executor__python_execute"
NO_INDEX = {"UV_DEFAULT_INDEX": "http://me:hunter2-hunter2@127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}


def words(mode: str, **settings: str) -> list[str]:
    settings = {"mode": mode, "warm": "1", **settings}
    return [word for key, value in settings.items() for word in ("--set", f"sandbox.{key}={value}")]


def index() -> dict[str, str]:
    """How this machine reaches the package index: what a client would pass on."""
    return {
        name: value for name, value in os.environ.items() if name.startswith("UV_") and name != "UV_OFFLINE"
    }


async def python(client: Client, code: str, **arguments: Any) -> dict[str, Any]:
    result = await execute(client, PYTHON, code=code, **arguments)
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    told: dict[str, Any] = result.structured_content
    return told


@pytest.mark.parametrize("mode", MODES)
async def test_the_operators_packages_are_installed_once_and_the_next_start_needs_no_index(
    tmp_path: Path, mode: str
) -> None:
    home = tmp_path / "home"
    settings = words(mode, packages="six==1.17.0", preload="six,decimal", allow_packages="toml")
    loaded = "import sys, os; [[m in sys.modules for m in ('six', 'decimal')], [n for n in os.environ if 'UV' in n]]"
    heard: list[str] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message or "")

    async with connected(home, *settings, env=FULL | index() | {"UV_MARK": "1"}) as client:
        await client.list_tools()
        first = await client.call_tool(
            PYTHON, {"code": loaded, "limits": {"wall": 20}}, progress_callback=told
        )
        assert first.structured_content is not None, text(first)
        assert first.structured_content["value"] == [[True, True], []]
        assert "Installed 1 package" in "".join(heard)
        session = (
            await execute(client, "python-executor__session_start", packages=["toml"])
        ).structured_content
        assert session is not None
        for code, value in (("import toml, six; kept = 5; six.__version__", "1.17.0"), ("kept", 5)):
            assert (await python(client, code, session=session["session"]))["value"] == value
    assert len(list((home / "packages").glob("*/about.json"))) == 2
    (home / "packages" / "building-of-a-dead-one" / "site").mkdir(parents=True)

    async with connected(home, *settings, env=FULL | NO_INDEX) as client:
        assert (await python(client, loaded))["value"] == [[True, True], []]
        assert (await python(client, "import toml; toml.__name__", packages=["toml"]))["value"] == "toml"
        status = (await execute(client, "python-executor__sandbox_status")).structured_content
        assert status is not None
        assert (status["installed"], status["mode"], status["ready"]) == (["six==1.17.0"], mode, True)
        await until(lambda: not (home / "packages" / "building-of-a-dead-one").exists(), within=30)


@pytest.mark.parametrize("mode", MODES)
async def test_an_index_that_cannot_be_reached_is_told_without_its_password(
    tmp_path: Path, mode: str
) -> None:
    settings = words(mode, packages="six==1.17.0")
    env = FULL | NO_INDEX | {"UV_CACHE_DIR": str(tmp_path / "empty")}
    async with connected(tmp_path / "home", *settings, env=env) as client:
        said = text(await execute(client, PYTHON, code="1"))
        assert "six==1.17.0 cannot be installed" in said
        assert "127.0.0.1:9" in said  # the client's own configuration of uv reached it
        assert "hunter2" not in said
        assert "sandbox.packages" in said
    for log in tmp_path.rglob("*.log"):
        assert "hunter2" not in log.read_text()
    for kept in (tmp_path / "home").glob("toolscore.db*"):
        assert b"hunter2" not in kept.read_bytes()


async def test_changed_packages_are_told_to_need_a_restart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file = home / "config.toml"
    file.write_text(padded(""))
    async with connected(home, env=FULL) as client:
        await rewrite_unseen(client, file, '[sandbox]\npackages = ["six==1.17.0"]\npreload = ["six"]\n')
        told = await call(client, "reload_configuration")
        applies = {change["name"]: change["effective"] for change in told["settings"]}
        assert applies == {"sandbox.packages": "next start", "sandbox.preload": "next start"}


async def test_packages_that_are_not_allowed_are_refused_with_the_setting(tmp_path: Path) -> None:
    async with connected(tmp_path / "home", env=FULL) as client:
        said = text(await execute(client, PYTHON, code="1", packages=["six"]))
        assert "sandbox.allow_packages" in said
        assert "sandbox.packages" in said
    assert not (tmp_path / "home" / "packages").exists()


@pytest.fixture(scope="module")
def kept() -> Path:
    return science.folder()


@pytest.mark.parametrize("mode", MODES)
async def test_numpy_pandas_and_figures_come_back_as_a_user_expects(
    tmp_path: Path, mode: str, kept: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "packages").symlink_to(kept)
    settings = words(
        mode, packages="matplotlib,numpy,pandas", preload="numpy,pandas,matplotlib.pyplot", memory="768"
    )
    async with connected(home, *settings, env=FULL | index()) as client:
        table = await python(client, "import pandas as pd; pd.DataFrame({'a': [1, None]})")
        assert table["repr"].split() == ["a", "0", "1.0", "1", "NaN"]
        numbers = await python(client, "import numpy as np; np.array([1.5, np.nan, np.inf])")
        assert numbers["repr"] == "array([1.5, nan, inf])"
        plotted = await execute(client, PYTHON, code="import pandas as pd; pd.Series([1, 2]).plot(title='x')")
        assert [block.type for block in plotted.content] == ["text", "image"]
        assert plotted.structured_content is not None
        assert plotted.structured_content["stderr"] == ""  # matplotlib found its list of fonts


def name(process: psutil.Process) -> str:
    """Its name; none if it just ended."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


@pytest.mark.parametrize("mode", MODES)
async def test_a_toolscore_killed_while_it_installs_leaves_no_process_and_nothing_that_counts(
    tmp_path: Path, mode: str
) -> None:
    home = tmp_path / "home"
    settings = words(mode, packages="numpy")
    started = parameters(home, *settings, env=FULL | index())
    process = subprocess.Popen(
        [started.command, *started.args],
        env=started.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    asked = {"name": PYTHON, "arguments": {"code": "1"}}
    for message in (
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": asked},
    ):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    process.stdin.flush()
    family: list[psutil.Process] = []

    def installing() -> list[psutil.Process]:
        """What installs, if it does; it is stopped then, so that it is not done before ToolScore is killed."""
        family[:] = psutil.Process(process.pid).children(recursive=True)
        found = [one for one in family if name(one).startswith("uv")]
        if not found or not list((home / "packages").glob("building-*/site")):
            return []
        for one in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.suspend()
        return found

    await until(installing, within=120)
    process.kill()
    process.communicate()
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.resume()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, timeout=20)
    assert not alive
    assert not list((home / "packages").glob("[!b]*/about.json"))

    async with connected(home, *settings, env=FULL | index()) as client:
        assert (await python(client, "import numpy; int(numpy.ones(3).sum())"))["value"] == 3
        await until(lambda: not list((home / "packages").glob("building-*")), within=30)
