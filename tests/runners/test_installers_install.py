"""One installation as a whole: it stays in its folder, is undone when it fails, and is removed for good."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from helpers import gone, until
from toolscore.runners.errors import InstallError, SourceError
from toolscore.runners.installers import folder as folder_module
from toolscore.runners.installers.install import install, remove
from toolscore.runners.spec import Candidate, Installation, ServerSpec, SourceKind, silent

# A build that tells its process id and then hangs.
BACKEND = """
import os, time
def build_wheel(*args, **kwargs):
    with open({gate!r} + ".new", "w") as gate:
        gate.write(str(os.getpid()))
    os.rename({gate!r} + ".new", {gate!r})
    time.sleep(600)
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def candidate(source: str | Path, **more: object) -> Candidate:
    return Candidate(source=str(source), name="it", **more)


@pytest.fixture
def servers(tmp_path: Path) -> Path:
    return tmp_path / "servers"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "server.py").write_text("print('hello')\n")
    return folder


@pytest.fixture
def hanging(tmp_path: Path) -> tuple[Path, Path]:
    """A project whose build hangs, and the file in which the build tells its process id."""
    folder, gate = tmp_path / "hanging", tmp_path / "gate"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(BACKEND.format(gate=str(gate)))
    return folder, gate


async def building(gate: Path, over: Callable[[], bool] = lambda: False) -> int | None:
    """Wait until the build is under way and give its process id; nothing, where all was over before it began."""
    await until(lambda: gate.exists() or over(), 60)
    return int(gate.read_text()) if gate.exists() else None


async def ended(pid: int | None) -> None:
    await until(lambda: pid is None or gone(pid), 30)


async def test_a_command_makes_no_folder_and_keeps_its_words(servers: Path) -> None:
    done = await install(
        candidate("command: env -i 'a b' $X", args=("c",), env={"K": "${V}"}), servers=servers, report=silent
    )
    assert done.kind is SourceKind.COMMAND
    assert done.directory is None
    assert done.runtime == "binary"
    assert done.spec == ServerSpec(command="env", args=("-i", "a b", "$X", "c"), env={"K": "${V}"})
    assert not servers.exists()
    await remove(done, servers=servers)


async def test_a_relative_program_keeps_its_meaning_when_the_server_starts_elsewhere(
    servers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.sh").touch(0o755)
    monkeypatch.chdir(tmp_path)
    done = await install(candidate("command: ./run.sh"), servers=servers, report=silent)
    assert done.spec.command == str(tmp_path / "run.sh")


@pytest.mark.parametrize("program", ["no-such-program-here", "/no/such/program", "/etc/passwd"])
async def test_a_program_that_cannot_run_is_refused(servers: Path, program: str) -> None:
    with pytest.raises(InstallError, match=r"was not found.*install it, or give its full path"):
        await install(candidate(f"command: {program}"), servers=servers, report=silent)


async def test_the_home_folder_of_nobody_is_said_so(servers: Path) -> None:
    with pytest.raises(InstallError, match="home folder of a user who does not exist"):
        await install(candidate("command: ~nobody-of-that-name/x"), servers=servers, report=silent)


async def test_a_source_that_is_not_understood_makes_no_folder(servers: Path) -> None:
    with pytest.raises(SourceError, match="Known forms"):
        await install(candidate("time"), servers=servers, report=silent)
    assert not servers.exists()


async def test_an_existing_folder_is_refused_and_left_alone(servers: Path, project: Path) -> None:
    (servers / "it").mkdir(parents=True)
    (servers / "it" / "precious").touch()
    with pytest.raises(InstallError, match="already exists: choose another name"):
        await install(candidate(project), servers=servers, report=silent)
    assert (servers / "it" / "precious").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/tmp/x", "a/b"])
async def test_a_name_cannot_lead_out_of_the_servers_folder(servers: Path, project: Path, name: str) -> None:
    with pytest.raises(InstallError, match="no name of a server"):
        await install(Candidate(source=str(project), name=name), servers=servers, report=silent)


async def test_progress_is_told_step_by_step_and_only_grows(servers: Path, project: Path) -> None:
    steps: list[tuple[float, str]] = []

    async def report(step: float, _total: float | None, message: str) -> None:
        steps.append((step, message))

    await install(candidate(project), servers=servers, report=report)
    assert [step for step, _ in steps] == sorted({step for step, _ in steps})
    assert "copying" in steps[0][1]


async def test_cancellation_ends_the_build_and_leaves_nothing(
    servers: Path, hanging: tuple[Path, Path]
) -> None:
    folder, gate = hanging
    running = asyncio.create_task(install(candidate(folder), servers=servers, report=silent))
    pid = await building(gate)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await ended(pid)
    assert list(servers.iterdir()) == []


async def test_a_cancelled_scope_leaves_nothing_either(servers: Path, hanging: tuple[Path, Path]) -> None:
    folder, gate = hanging
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            # The scope delivers its cancellation again at every wait, also in the cleaning up.
            tasks.start_soon(lambda: install(candidate(folder), servers=servers, report=silent))
            pid = await building(gate)
            scope.cancel()
    await ended(pid)
    assert list(servers.iterdir()) == []


async def test_time_out_ends_the_build_and_leaves_nothing(servers: Path, hanging: tuple[Path, Path]) -> None:
    folder, gate = hanging
    running = asyncio.create_task(install(candidate(folder), servers=servers, report=silent, timeout=4))
    pid = await building(gate, running.done)
    with pytest.raises(InstallError, match=r"longer than 4 seconds"):
        await running
    await ended(pid)
    assert list(servers.iterdir()) == []


async def test_a_full_disk_is_said_so_and_leaves_nothing(
    servers: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_source: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_module, "copy_tree", full)
    with pytest.raises(InstallError, match="disk is full"):
        await install(candidate(project), servers=servers, report=silent)
    assert list(servers.iterdir()) == []


async def test_an_entry_point_cannot_hold_a_reference_to_a_secret(servers: Path, project: Path) -> None:
    (project / "${secret:x}.py").write_text("")
    with pytest.raises(InstallError, match="no entry point may"):
        await install(candidate(f"{project}#${{secret:x}}.py"), servers=servers, report=silent)


async def test_what_was_installed_is_removed_and_removing_it_again_is_no_error(
    servers: Path, project: Path
) -> None:
    done = await install(candidate(project), servers=servers, report=silent)
    assert done.directory is not None
    locked = Path(done.directory) / "locked"
    (locked / "inner").mkdir(parents=True)
    locked.chmod(0o500)
    await remove(done, servers=servers)
    assert list(servers.iterdir()) == []
    await remove(done, servers=servers)


async def test_nothing_outside_the_servers_folder_is_ever_deleted(servers: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    servers.mkdir()
    (servers / "link").symlink_to(precious)
    (servers / "a").mkdir()
    for place in (
        precious,
        servers,
        servers / "..",
        servers / "link",
        servers / "a" / ".." / ".." / "precious",
        "/",
    ):
        done = Installation(
            server_id="it",
            kind=SourceKind.FOLDER,
            source="x",
            spec=ServerSpec(command=sys.executable),
            directory=str(place),
        )
        with pytest.raises(InstallError, match="it was not deleted"):
            await remove(done, servers=servers)
    assert precious.is_dir()
