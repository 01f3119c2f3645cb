"""The official conformance suite, against a server behind ToolScore and against that server alone."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli_shell import Shell
from conformance import HANDSHAKE_RUNS, MODERN_RUNS, Run, run_suite
from ports import free_port

pytestmark = pytest.mark.index

FIXTURE = str(Path(__file__).parents[1] / "conformance_server.py")


def status_of(url: str) -> int | None:
    """The status a server answers with, or None if it does not."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as exc:
        exc.close()
        return exc.code
    except OSError:
        return None


@contextmanager
def serving(process: subprocess.Popen[str], log: Path, url: str, *ready: int) -> Iterator[None]:
    """Wait until a server answers with one of these statuses, and end it after the block."""
    try:
        deadline = time.monotonic() + 60
        while status_of(url) not in ready:
            assert process.poll() is None, f"it ended with status {process.returncode}:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"it did not get ready:\n{log.read_text()}"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


@contextmanager
def behind_toolscore(folder: Path, *fixture_options: str) -> Iterator[str]:
    """Start a ToolScore that shows the fixture under its own names, and give its url."""
    shell = Shell(folder / "home", folder)
    registered = shell("register", "conformance", "--", sys.executable, FIXTURE, *fixture_options)
    assert registered.returncode == 0, registered.stderr
    origin = f"http://127.0.0.1:{free_port()}"
    options = ("--listen", f"{origin}/mcp", "--no-token", "--set", "tools.expose=server:conformance")
    log = folder / "serve.log"
    with log.open("w") as out:
        # Its standard input stays open: the end of it may end a ToolScore.
        process = shell.popen(
            *("serve", "--standalone", "--home", str(shell.home), *options),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
        )
    with serving(process, log, f"{origin}/health/ready", 200):
        yield f"{origin}/mcp"


@contextmanager
def alone(folder: Path) -> Iterator[str]:
    """Start the fixture with the SDK's own listener, and give its url."""
    port = free_port()
    log = folder / "fixture.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, FIXTURE, "--http", str(port)], stdout=out, stderr=out, text=True
        )
    url = f"http://127.0.0.1:{port}/mcp"
    # A bare GET is no request of the protocol; that it is refused says that the server is there.
    with serving(process, log, url, 400, 405, 406):
        yield url


def check(url: str, runs: Mapping[str, Run]) -> None:
    """Run the suite, every time, and say at the end all that went wrong."""
    failed = []
    for name, (version, baseline, arguments) in runs.items():
        status, output = run_suite(url, version, baseline, *arguments)
        print(f"===== {name} ({version}): exit status {status}\n{output}")
        if status != 0:
            failed.append(name)
    assert not failed, f"the suite failed: {', '.join(failed)} (see the output)"


def test_the_suite_of_the_handshake_era_passes_behind_toolscore(tmp_path: Path) -> None:
    with behind_toolscore(tmp_path) as url:
        check(url, HANDSHAKE_RUNS)


def test_the_requirements_of_2026_07_28_pass_behind_toolscore(tmp_path: Path) -> None:
    with behind_toolscore(tmp_path, "--modern-only") as url:
        check(url, MODERN_RUNS)


def test_the_fixture_alone_passes_both(tmp_path: Path) -> None:
    with alone(tmp_path) as url:
        check(url, HANDSHAKE_RUNS)
        check(url, MODERN_RUNS)
