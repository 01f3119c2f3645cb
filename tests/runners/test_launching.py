"""Telling a download from a start: with launchers made for it, with uv and npm themselves, and from the indexes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from helpers import until
from toolscore.runners.environment import child_environment
from toolscore.runners.launching import is_launcher, still_fetching
from toolscore.runners.programs import find_program

if sys.platform == "win32":
    pytest.skip("needs sh", allow_module_level=True)

UVX = find_program("uvx") or "uvx"


@pytest.mark.parametrize(
    "line",
    [
        "npx -y @modelcontextprotocol/server-everything",
        "npx server",
        "/usr/local/bin/npx --yes server",
        r"C:\nodejs\npx.cmd server",
        "NPX.CMD server",
        "cmd /c npx -y server",
        "cmd.exe /d /s /c npx -y server",
        "node /usr/lib/node_modules/npm/bin/npx-cli.js server",
        "npm exec -y -- server",
        "npm --prefix here exec server",
        "npm x server",
        "uvx mcp-server-time",
        "uv run server.py",
        "uv --directory /srv/server run server.py",
        "uv --quiet --project=. run server",
        "uv tool run mcp-server-time",
        "python3 -m uv tool run mcp-server-time",
        "pipx run server",
        "python -m pipx run server",
        "pnpm dlx server",
        "pnpx server",
        "bunx server",
        "bun x server",
        "yarn dlx server",
        "node .yarn/releases/yarn-4.5.0.cjs dlx server",
        "env -i TOKEN=x npx server",
        "/usr/bin/env uvx server",
    ],
)
def test_what_fetches_a_server_before_it_starts_it_is_a_launcher(line: str) -> None:
    command, *args = line.split()
    assert is_launcher(command, args)


@pytest.mark.parametrize(
    "line",
    [
        "python server.py",
        "python -m server run",
        "node dist/index.js exec",
        "docker run npx",
        "/opt/uvx-server/bin/server run",
        "npm start",
        "npm run exec",
        "pnpm exec server",
        "yarn start dlx",
        "bun server.ts",
        "uv --version",
        "uv pip install server",
        "uv --directory run sync",
        "pipx install run",
        "env TOKEN=x server",
        "sh",
        "cmd",
        "",
    ],
)
def test_what_starts_what_is_there_is_none(line: str) -> None:
    assert not is_launcher(line.split()[0] if line else "", line.split()[1:])


def test_a_launcher_is_seen_through_a_shell() -> None:
    assert is_launcher("sh", ["-c", "exec npx -y server --name 'a b'"])
    assert is_launcher("/bin/bash", ["-lc", "uvx server"])
    assert not is_launcher("sh", ["-c", "cd /srv && ./server"])
    assert not is_launcher("sh", ["-c", "a quote that 'does not end"])


def below(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []


def is_there(process: asyncio.subprocess.Process, word: str) -> bool:
    """Whether something below a process has a word in its command line, or an npm event of that name."""
    for child in below(process):
        try:
            if child.environ().get("npm_lifecycle_event") == word or word in " ".join(child.cmdline()):
                return True
        except psutil.Error:
            continue
    return False


@asynccontextmanager
async def launched(*line: str | Path, **options: object) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *map(str, line),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        **options,  # type: ignore[arg-type]
    )
    try:
        yield process
    finally:
        for one in below(process):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        if process.returncode is None:
            process.kill()
        await process.communicate()


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


def go_on(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")


WAIT = "sh -c 'read _; :'"
"""A program that runs until it is told to `go_on`."""


async def test_an_npx_fetches_until_it_starts_what_is_no_script_of_an_installation(tmp_path: Path) -> None:
    npx = script(
        tmp_path,
        "npx",
        f"read _\nnpm_lifecycle_event=postinstall {WAIT}\nread _\nnpm_lifecycle_event=npx {WAIT}\n",
    )
    async with launched(npx, "-y", "server") as process:
        assert still_fetching(process.pid)
        go_on(process)
        await until(lambda: is_there(process, "postinstall"))
        assert still_fetching(process.pid)
        go_on(process)
        await until(lambda: not below(process))
        assert still_fetching(process.pid)
        go_on(process)
        await until(lambda: is_there(process, "npx"))
        assert not still_fetching(process.pid)


async def test_a_launcher_within_an_installation_is_part_of_it(tmp_path: Path) -> None:
    script(tmp_path, "npx", f"npm_lifecycle_event=npx {WAIT}")
    outer = script(tmp_path, "npm", 'npm_lifecycle_event=install sh -c "npx prebuild-install; :"\nread _\n')
    path = f"{tmp_path}:{os.environ['PATH']}"
    async with launched(outer, "exec", "server", env={"PATH": path}) as process:
        await until(lambda: is_there(process, "npx"))
        assert still_fetching(process.pid)


async def test_an_uvx_fetches_while_it_asks_pythons_and_builds(tmp_path: Path) -> None:
    python = tmp_path / "builds-v0" / ".tmpX" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/sh")
    uvx = script(
        tmp_path,
        "uvx",
        f"{WAIT} from python.get_interpreter_info import main\n"
        f"{python} -c '{WAIT.replace(chr(39), chr(34))}; :'\n"
        f"{WAIT} git-server\n",
    )
    async with launched(uvx, "server") as process:
        for word in ("get_interpreter_info", "builds-v0"):
            await until(lambda word=word: is_there(process, word))  # type: ignore[misc]
            assert still_fetching(process.pid)
            go_on(process)
        await until(lambda: is_there(process, "git-server"))
        assert not still_fetching(process.pid)


async def test_a_launcher_that_calls_another_fetches_until_that_one_has_started_the_server(
    tmp_path: Path,
) -> None:
    npx = script(tmp_path, "npx", f"read _\n{WAIT} server\n")
    async with launched("sh", "-c", f"{npx} server; :") as process:
        await until(lambda: is_there(process, "npx"))
        assert still_fetching(process.pid)
        go_on(process)
        await until(lambda: is_there(process, "read _"))
        assert not still_fetching(process.pid)


async def test_a_launcher_that_becomes_the_server_fetches_until_then(tmp_path: Path) -> None:
    pipx = script(tmp_path, "pipx", f"{WAIT} pip install\nexec {WAIT} server\n")
    async with launched(pipx, "run", "server") as process:
        await until(lambda: is_there(process, "pip install"))
        assert still_fetching(process.pid)
        go_on(process)
        await until(lambda: psutil.Process(process.pid).cmdline()[:1] == ["sh"])
        assert not still_fetching(process.pid)


async def test_what_ended_fetches_no_more(tmp_path: Path) -> None:
    async with launched(script(tmp_path, "npx", "exit 1\n"), "server") as process:
        await process.wait()
        assert not still_fetching(process.pid)


async def fetched(process: asyncio.subprocess.Process, server: str, within: float = 300) -> int:
    """Wait for the end of the download, and count the looks before; the server must be there then."""
    looks = 0

    async def over() -> None:
        nonlocal looks
        while await asyncio.to_thread(still_fetching, process.pid):
            looks += 1
            await asyncio.sleep(0.005)

    await asyncio.wait_for(over(), within)
    assert process.returncode is None
    assert is_there(process, server), [child.cmdline() for child in below(process)]
    return looks


BACKEND = """
import base64, hashlib, pathlib, time, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    while not pathlib.Path({go!r}).exists():
        time.sleep(0.01)
    name = "slow_server-1-py3-none-any.whl"
    info = "slow_server-1.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        wheel.writestr("slow_server.py", "def main(): input()")
        wheel.writestr(f"{{info}}/METADATA", "Metadata-Version: 2.1\\nName: slow-server\\nVersion: 1\\n")
        wheel.writestr(f"{{info}}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{{info}}/entry_points.txt", "[console_scripts]\\nslow-server = slow_server:main\\n")
        wheel.writestr(f"{{info}}/RECORD", "")
    return name
"""


async def test_uv_fetches_while_it_builds_a_package(tmp_path: Path) -> None:
    project, go = tmp_path / "project", tmp_path / "go"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "slow-server"\nversion = "1"\n[project.scripts]\nslow-server = "slow_server:main"\n'
    )
    (project / "backend.py").write_text(BACKEND.format(go=str(go)))
    environment = {**os.environ, "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_OFFLINE": "1"}
    line = (UVX, "--python", sys.executable, "--from", project, "slow-server")
    assert is_launcher(str(line[0]), list(map(str, line[1:])))
    async with launched(*line, env=environment) as process:
        await until(lambda: is_there(process, "builds-v"), 30)
        assert still_fetching(process.pid)
        go.touch()
        await fetched(process, "bin/slow-server", 30)


async def test_npx_fetches_while_a_package_runs_its_scripts(tmp_path: Path) -> None:
    if shutil.which("npx") is None:
        pytest.skip("needs npm")
    package, go = tmp_path / "package", tmp_path / "go"
    package.mkdir()
    manifest = {
        "name": "slow-server",
        "version": "1.0.0",
        "bin": "server.js",
        "scripts": {"postinstall": f"while [ ! -e '{go}' ]; do sleep 0.02; done"},
    }
    (package / "package.json").write_text(json.dumps(manifest))
    (package / "server.js").write_text("#!/usr/bin/env node\nprocess.stdin.resume()\n")
    (package / "server.js").chmod(0o755)
    environment = {**os.environ, "npm_config_cache": str(tmp_path / "cache"), "npm_config_offline": "true"}
    async with launched("npx", "-y", package, env=environment) as process:
        await until(lambda: is_there(process, "postinstall"), 30)
        assert still_fetching(process.pid)
        go.touch()
        await fetched(process, "npx", 30)


@pytest.mark.index
@pytest.mark.parametrize(
    ("line", "cache", "server"),
    [
        ((UVX, "mcp-server-time"), "UV_CACHE_DIR", "bin/mcp-server-time"),
        (
            ("npx", "-y", "@modelcontextprotocol/server-everything"),
            "npm_config_cache",
            "mcp-server-everything",
        ),
    ],
    ids=["uvx", "npx"],
)
async def test_a_download_from_an_index_is_told_from_the_start_of_the_server(
    tmp_path: Path, line: tuple[str, ...], cache: str, server: str
) -> None:
    if shutil.which(line[0]) is None:
        pytest.skip(f"needs {line[0]}")
    assert is_launcher(line[0], line[1:])
    environment = child_environment(os.environ, spec_env={cache: str(tmp_path / "cache")}, program=line[0])
    async with launched(*line, env=environment) as process:
        assert await fetched(process, server) > 0
