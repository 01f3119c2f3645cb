"""ToolScore is killed while code runs and boxes are kept warm: no process outlives it, and nothing piles up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from machine import until
from several import CAPABILITIES, VERSION
from toolscore_client import BARE, TOOLSCORE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

MODES = ["separate", "embedded"]
ENDLESS = "import subprocess, sys, time\nprint('begun', flush=True)\ntime.sleep(600)"


class Owner:
    """A ToolScore on the standard streams."""

    def __init__(self, folder: Path, mode: str) -> None:
        (folder / "tmp").mkdir(exist_ok=True)
        settings = ("--set", f"sandbox.mode={mode}", "--set", "sandbox.warm=2")
        environment = {name: value for name, value in os.environ.items() if name not in BARE}
        with (folder / "stderr.log").open("ab") as log:
            self.process = subprocess.Popen(
                [TOOLSCORE, "serve", "--standalone", "--home", str(folder / "home"), *settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**environment, "TMPDIR": str(folder / "tmp")},
            )

    def begin(self, code: str) -> None:
        """Have code run, with its output as progress."""
        params = {
            "name": "python-executor__python_execute",
            "arguments": {"code": code},
            "_meta": {VERSION: "2026-07-28", CAPABILITIES: {}, "progressToken": 1},
        }
        request = {"jsonrpc": "2.0", "id": "run", "method": "tools/call", "params": params}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()

    def heard(self) -> dict[str, Any]:
        """Give the next message."""
        assert self.process.stdout is not None
        message: dict[str, Any] = json.loads(self.process.stdout.readline())
        return message

    def run(self, code: str) -> Any:
        self.begin(code)
        while "result" not in (message := self.heard()):
            pass
        assert message["result"]["structuredContent"]["status"] == "ok", message
        return message["result"]["structuredContent"]["value"]

    def below(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def owner(folder: Path, mode: str) -> Iterator[Owner]:
    one = Owner(folder, mode)
    try:
        yield one
    finally:
        assert one.process.stdin is not None
        assert one.process.stdout is not None
        with suppress(OSError):
            one.process.stdin.close()
        try:
            one.process.wait(60)
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        one.process.stdout.close()


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill(one: Owner) -> None:
    """Kill it, and see that nothing below it lives on."""
    # At least the zygote, the box that runs with its payload, and one that is warm.
    until(lambda: len(one.below()) >= 4, "a box is warm")
    before = one.below()
    one.process.kill()
    until(lambda: not any(map(lives, before)), "all ends", 60)


@pytest.mark.parametrize("mode", MODES)
def test_after_a_kill_no_box_is_left_and_the_next_start_tidies_up(tmp_path: Path, mode: str) -> None:
    for _ in range(2):
        with owner(tmp_path, mode) as one:
            assert one.run("6 * 7") == 42
            one.begin(ENDLESS)
            assert one.heard()["params"]["message"] == "begun\n"
            kill(one)
        # At the most what this one was killed with; what the one before it had left is gone.
        kept = list((tmp_path / "home" / "run" / "sandbox").iterdir())
        assert len(kept) <= 2, kept
        assert list((tmp_path / "tmp").glob("*")) == []
    with owner(tmp_path, mode) as one:
        assert one.run("1 + 1") == 2
    assert list((tmp_path / "home" / "run" / "sandbox").iterdir()) == []
    assert list((tmp_path / "tmp").glob("*")) == []
