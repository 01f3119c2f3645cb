"""Installing programs are captured, reported, bounded in time, and end with everything they started."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import anyio
import psutil
import pytest

from toolscore.runners.errors import InstallError
from toolscore.runners.installers import run as run_module
from toolscore.runners.installers.run import MAX_OUTPUT, Job, installer_environment

# Starts a child in its group and one in a session of its own, tells their ids, and never ends.
TREES = """
import subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [subprocess.Popen(sleeper), subprocess.Popen(sleeper, start_new_session=True)]
print("pids", *(child.pid for child in children), flush=True)
time.sleep(600)
"""
FOREST = [sys.executable, "-I", "-S", "-c", TREES]  # which is up at once


class Reports(list[str]):
    """A `Report` that keeps the messages and can be waited for."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.came = asyncio.Event()

    async def __call__(self, step: float, total: float | None, message: str) -> None:
        self.steps.append(step)
        self.append(message)
        self.came.set()


def job(directory: Path, report: Reports, timeout: float = 30) -> Job:
    return Job(directory, report, timeout, sys.executable)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def all_dead(pids: list[int]) -> None:
    with anyio.fail_after(30):
        while not all(is_dead(pid) for pid in pids):
            await asyncio.sleep(0.01)


async def test_both_outputs_are_kept_and_every_line_is_reported(tmp_path: Path) -> None:
    reports = Reports()
    code = "import sys; print('one', flush=True); print('two', file=sys.stderr, flush=True); sys.exit(3)"
    done = await job(tmp_path, reports).run(python(code))
    assert done.returncode == 3
    assert done.output.splitlines() == ["one", "two"]
    assert reports == ["one", "two"]
    assert reports.steps == [1.0, 2.0]


async def test_of_a_flood_the_end_is_kept(tmp_path: Path) -> None:
    done = await job(tmp_path, Reports()).run(python("print('x' * 5_000_000); print('the reason')"))
    assert len(done.output) <= MAX_OUTPUT
    assert done.output.endswith("x\nthe reason")


async def test_passwords_and_colours_are_taken_out_of_the_output(tmp_path: Path) -> None:
    reports = Reports()
    done = await job(tmp_path, reports).run(
        python(r"print('\x1b[31mGET https://me:hunter2@host/simple\x1b[0m')")
    )
    assert done.output == "GET https://***@host/simple"
    assert reports == [done.output]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("'https://ghp_x@github.com/o/r'", "'https://***@github.com/o/r'"),
        ("HTTP://me:p@ss@host:80/x@1 y@z", "HTTP://***@host:80/x@1 y@z"),
        ("'https://h/x?sig=hush' next", "'https://h/x?***' next"),
        ("git+ssh://git@host/x", "git+ssh://git@host/x"),
        ("ssh://git:hush@host/x", "ssh://git:***@host/x"),
        ("https://registry.example/@scope/name", "https://registry.example/@scope/name"),
    ],
)
async def test_tokens_in_urls_are_hidden_and_user_names_of_ssh_are_not(
    tmp_path: Path, written: str, shown: str
) -> None:
    done = await job(tmp_path, Reports()).run(python(f"print({written!r})"))
    assert done.output == shown


async def test_standard_input_is_empty_so_that_a_question_does_not_hang(tmp_path: Path) -> None:
    done = await job(tmp_path, Reports()).run(python("import sys; print(repr(sys.stdin.read()))"))
    assert done.output == "''"


async def test_the_working_directory_is_a_neutral_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = await job(tmp_path, Reports()).run(python("import os; print(os.getcwd())"))
    assert done.output == "/"


def test_settings_of_mirrors_pass_and_toolscores_own_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = (
        *(
            "UV_INDEX_URL",
            "UV_DEFAULT_INDEX",
            "NPM_CONFIG_REGISTRY",
            "npm_config_cafile",
            "PIP_CERT",
            "NETRC",
        ),
        *("SSL_CERT_FILE", "GIT_SSL_CAINFO", "GIT_CONFIG_GLOBAL", "SSH_AUTH_SOCK", "CC", "CFLAGS", "LC_ALL"),
    )
    for name in kept:
        monkeypatch.setenv(name, "kept")
    monkeypatch.setenv("HTTP_PROXY", "http://me:pw@proxy:8080")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:8080")
    for name in ("TOOLSCORE_TOKEN", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT_ENVIRONMENT"):
        monkeypatch.setenv(name, "dropped")
    env = installer_environment({"ADDED": "1", "HTTPS_PROXY": None})
    assert "dropped" not in env.values()
    assert {name: env.get(name) for name in kept} == dict.fromkeys(kept, "kept")
    assert env["HTTP_PROXY"] == "http://me:pw@proxy:8080"
    assert env["ADDED"] == "1"
    assert "HTTPS_PROXY" not in env


@pytest.mark.parametrize("name", ["MY_CLOUD_SECRET", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"])
def test_what_else_a_shell_exports_does_not_pass(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "hush")
    assert "hush" not in installer_environment().values()


async def test_a_silent_program_is_reported_as_still_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "HEARTBEAT", 0.05)
    gate, reports = tmp_path / "gate", Reports()
    os.mkfifo(gate)
    running = asyncio.create_task(
        job(tmp_path, reports).run(python(f"open({str(gate)!r}).read(); print('awake')"))
    )
    await asyncio.wait_for(reports.came.wait(), 30)
    await asyncio.to_thread(gate.write_text, "go")
    await running
    assert "still at work" in reports[0]
    assert reports[-1] == "awake"


async def test_time_out_ends_the_whole_tree_and_says_what_to_do(tmp_path: Path) -> None:
    reports = Reports()
    with pytest.raises(InstallError, match=r"longer than 5 seconds.*try again") as caught:
        await job(tmp_path, reports, timeout=5).run(FOREST)
    await all_dead([int(pid) for pid in reports[0].split()[1:]])
    assert "pids" in caught.value.stderr


async def test_cancellation_ends_the_whole_tree(tmp_path: Path) -> None:
    reports = Reports()
    running = asyncio.create_task(job(tmp_path, reports).run(FOREST))
    await asyncio.wait_for(reports.came.wait(), 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await all_dead([int(pid) for pid in reports[0].split()[1:]])


async def test_a_cancelled_scope_ends_the_whole_tree_too(tmp_path: Path) -> None:
    reports = Reports()
    with anyio.move_on_after(30) as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(job(tmp_path, reports).run, FOREST)
            await reports.came.wait()
            scope.cancel()
    await all_dead([int(pid) for pid in reports[0].split()[1:]])


async def test_a_background_child_that_keeps_the_output_open_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "LINGER", 0.1)
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)"
    )
    started = time.monotonic()
    done = await job(tmp_path, Reports()).run(python(code))
    assert time.monotonic() - started < 60  # the child lives for ten times as long
    assert done.returncode == 0
    psutil.Process(int(done.output)).kill()


async def test_a_failing_report_ends_the_program(tmp_path: Path) -> None:
    async def fail(_step: float, _total: float | None, message: str) -> None:
        raise RuntimeError(message)

    failing = Job(tmp_path, fail, 30, sys.executable)
    with pytest.raises(RuntimeError, match="pids") as caught:
        await failing.run(FOREST)
    await all_dead([int(pid) for pid in str(caught.value).split()[1:]])


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="/no/such/program cannot be started"):
        await job(tmp_path, Reports()).run(["/no/such/program"])
