"""Confined servers: a Python and a Node server that answer, and reach what their profile names and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from confined import HERE, LAYERS, NEEDS, running, server
from helpers import call, gone, runner_at, until
from toolscore.runners.confinement import Confinement
from toolscore.runners.errors import StartError
from toolscore.runners.spec import ServerSpec
from toolscore.runners.template import expand_spec, variables

pytestmark = NEEDS


@pytest.fixture(params=["python", pytest.param("node", marks=pytest.mark.index)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_it_answers_and_tells_what_confines_it(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path, server(tmp_path, kind)) as (session, runner):
        assert {"write", "read", "connect"} <= {tool["name"] for tool in await session.list_tools()}
        layers = runner.confined("probing")
        assert layers is not None
        assert list(layers) == LAYERS
        assert all(state.startswith("active") for state in layers.values())
        assert any("it is confined" in line for line in await runner.logs("probing"))
    assert runner.confined("probing") is None


async def test_it_writes_in_its_own_folder_only(tmp_path: Path, kind: str) -> None:
    shared = Path("/srv" if os.getuid() == 0 else Path.home()) / f"toolscore-{os.getpid()}"
    shared.mkdir()
    try:
        async with running(tmp_path, server(tmp_path, kind)) as (session, _):
            assert await call(session, "write", path="mine") == "done"
            assert await call(session, "write", path="/tmp/mine") == "done"
            assert await call(session, "write", path=str(shared / "file")) == "EROFS"
            assert await call(session, "write", path=str(HERE / "file")) == "EROFS"
        assert (tmp_path / "servers" / "probing" / "mine").read_text() == "written"
        assert not Path("/tmp/mine").exists()
        profile = Confinement(write=(str(shared),))
        async with running(tmp_path, server(tmp_path, kind, profile)) as (session, _):
            assert await call(session, "write", path=str(shared / "file")) == "done"
    finally:
        for file in shared.iterdir():
            file.unlink()
        shared.rmdir()


async def test_it_cannot_read_what_toolscore_keeps(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path, server(tmp_path, kind)) as (session, _):
        assert await call(session, "read", path=str(tmp_path / "secrets.json")) == "ENOENT"
        assert await call(session, "read", path=str(tmp_path / "logs")) == "ENOENT"
        assert await call(session, "read", path="/etc/hosts") == "done"


async def test_it_reaches_the_network_only_where_that_is_asked_for(tmp_path: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        port = listener.getsockname()[1]
        async with running(tmp_path, server(tmp_path, kind)) as (session, _):
            assert await call(session, "connect", port=port) == "ECONNREFUSED"
        with pytest.raises(BlockingIOError):
            listener.accept()
        async with running(tmp_path, server(tmp_path, kind, Confinement(network=True))) as (session, _):
            assert await call(session, "connect", port=port) == "done"
        listener.accept()[0].close()


async def test_it_is_measured_and_ends_with_all_it_started(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path, server(tmp_path, kind)) as (session, runner):
        child = runner.child("probing")
        assert child is not None
        assert child.pid is not None
        health = await runner.health_check("probing")
        assert health.memory is not None
        assert health.memory > 1_000_000
        command = psutil.Process(child.pid).cmdline()
        assert Path(command[-1]).name.startswith("probing_server")  # the launcher became the server
        assert "TOOLSCORE_CHILD_ID" in psutil.Process(child.pid).environ()
        grandchild = int(await call(session, "spawn"))
        assert not gone(grandchild)
        await runner.stop_server("probing", 1)
        await until(lambda: gone(grandchild), 20)


OUTLIVED = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from confined import running, server
from helpers import call
async def main():
    folder = Path(sys.argv[2])
    async with running(folder, server(folder, "python")) as (session, runner):
        print(runner.child("probing").pid, await call(session, "spawn"), flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_it_does_not_outlive_a_toolscore_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OUTLIVED, str(HERE), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as toolscore:
        assert toolscore.stdout is not None
        pids = [int(word) for word in toolscore.stdout.readline().split()]
        assert len(pids) == 2
        toolscore.send_signal(signal.SIGKILL)
        await until(lambda: all(gone(pid) for pid in pids), 30)


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"program 'no-such-program-anywhere' does not exist"):
        await runner_at(tmp_path).start_server(server(tmp_path, "python", command="no-such-program-anywhere"))


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    profile = Confinement(write=("${NOWHERE:-data}",))
    with pytest.raises(StartError, match=r"confine\.write\[0\] does not exist: .*/servers/probing/data"):
        await runner_at(tmp_path).start_server(server(tmp_path, "python", profile))
    with pytest.raises(StartError, match=r"confine\.write\[0\] is /, which is no confinement"):
        await runner_at(tmp_path).start_server(server(tmp_path, "python", Confinement(write=("/",))))


async def test_a_server_that_cannot_be_confined_is_not_started_and_says_why(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    installed = server(tmp_path, "python", command=str(program))
    runner = runner_at(tmp_path)
    child = await runner.start_server(installed)
    assert await child.ended_within(30)
    assert child.returncode == 78
    diagnosis = runner.explain(installed, child.epitaph())
    assert "is in a place that is hidden from it: name its folder in `read`" in diagnosis.message
    await runner.stop_server("probing", 0)
    await runner.aclose()


async def test_a_server_that_meets_the_walls_is_explained(tmp_path: Path) -> None:
    script = "echo 'cannot open /var/log/x: Read-only file system' >&2; exit 1"
    installed = server(tmp_path, "python", command="/bin/sh", args=("-c", script))
    runner = runner_at(tmp_path)
    child = await runner.start_server(installed)
    assert await child.ended_within(30)
    assert "It is confined, and was denied something" in runner.explain(installed, child.epitaph()).message
    await runner.stop_server("probing", 0)
    await runner.aclose()


def test_a_server_with_a_url_needs_the_network() -> None:
    with pytest.raises(ValidationError, match="needs network = true here"):
        ServerSpec(command="x", url="ws://127.0.0.1:${PORT}/", confine=Confinement())
    with pytest.raises(ValidationError, match="only goes with a command"):
        ServerSpec(url="ws://127.0.0.1:1/", confine=Confinement(network=True))
    ServerSpec(command="x", url="ws://127.0.0.1:${PORT}/", confine=Confinement(network=True))


def test_a_profile_is_true_or_a_table_and_its_paths_are_templates() -> None:
    assert ServerSpec.model_validate({"command": "x", "confine": True}).confine == Confinement()
    assert ServerSpec.model_validate({"command": "x", "confine": False}).confine is None
    assert ServerSpec.model_validate_json('{"command": "x"}').confine is None
    spec = ServerSpec.model_validate({"command": "x", "confine": {"write": ["${DATA}/in"], "network": True}})
    assert variables(spec) == {"DATA"}
    expanded = expand_spec(spec, {"DATA": "/data"}.get, lambda _key: None, {})
    assert expanded.confine == Confinement(write=("/data/in",), network=True)
    assert ServerSpec.model_validate_json(spec.model_dump_json()) == spec
