"""The process ledger: what a killed ToolScore left is ended, and nothing else ever is."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers import FAULTY, gone, until
from toolscore.runners.environment import MARKER
from toolscore.runners.ledger import Ledger, kill_marked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the marker from /proc")

MINE = secrets.token_hex(8)
"""A marker is looked for on the whole machine: another run of these tests must not find ours."""

OWNER = """
import asyncio, sys
from pathlib import Path
from helpers import faulty, runner_at

async def main():
    runner = runner_at(Path(sys.argv[1]))
    child = await runner.start_server(faulty("ignore-eof", "ignore-sigterm", "fork"))
    while "grandchild" not in child.stderr_tail():
        await asyncio.sleep(0.01)
    print(child.pid, child.stderr_tail().split()[-1], flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@contextmanager
def owning(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A ToolScore-like owner in a process of its own, with a child that outlives it and a grandchild."""
    environment = {**os.environ, "PYTHONPATH": str(FAULTY.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True, env=environment
    ) as owner:
        assert owner.stdout is not None
        child, grandchild = map(int, owner.stdout.readline().split())
        try:
            yield owner, child, grandchild
        finally:
            owner.kill()


@contextmanager
def process(**environment: str) -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"], env={**os.environ, **environment}) as sleeping:
        try:
            while not Path(f"/proc/{sleeping.pid}/environ").read_bytes():
                time.sleep(0.001)  # the kernel shows it a moment after the program began
            yield sleeping.pid
        finally:
            sleeping.kill()


def row(pid: int, marker: str, owner: int, **changes: Any) -> str:
    values = {
        "owner": owner,
        "owner_started": 1.0,
        "server": "one",
        "pid": pid,
        "started": psutil.Process(pid).create_time(),
        "marker": marker,
    }
    return json.dumps(values | changes) + "\n"


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    return ended.pid


@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
async def test_what_a_killed_owner_left_is_ended_by_the_next(tmp_path: Path, reaped: bool) -> None:
    with owning(tmp_path) as (owner, child, grandchild):
        owner.kill()
        if reaped:
            owner.wait()
        else:
            await until(lambda: gone(owner.pid))
        assert not gone(child)
        assert not gone(grandchild)
        assert Ledger(tmp_path / "processes.jsonl").sweep() == ["faulty"]
        await until(lambda: gone(child) and gone(grandchild))
        assert (tmp_path / "processes.jsonl").read_text() == ""
        assert Ledger(tmp_path / "processes.jsonl").sweep() == []


async def test_the_children_of_a_living_owner_are_left_alone_and_remembered(tmp_path: Path) -> None:
    with owning(tmp_path) as (_, child, grandchild):
        before = (tmp_path / "processes.jsonl").read_text()
        assert Ledger(tmp_path / "processes.jsonl").sweep() == []
        assert (tmp_path / "processes.jsonl").read_text() == before
        assert not gone(child)
        kill_marked(json.loads(before)["marker"])
        await until(lambda: gone(child) and gone(grandchild))


def test_a_process_that_got_a_recycled_pid_is_never_ended(tmp_path: Path) -> None:
    path = tmp_path / "processes.jsonl"
    with process() as innocent, process(**{MARKER: "other"}) as other:
        path.write_text(row(innocent, MINE, dead_pid()) + row(other, MINE, dead_pid()))
        assert Ledger(path).sweep() == []
        assert not gone(innocent)
        assert not gone(other)


def test_an_owner_whose_pid_was_recycled_counts_as_gone(tmp_path: Path) -> None:
    path = tmp_path / "processes.jsonl"
    with process(**{MARKER: MINE}) as orphan:
        path.write_text(row(orphan, MINE, os.getpid(), owner_started=1.0))
        assert Ledger(path).sweep() == ["one"]


def test_lines_that_were_cut_short_are_forgotten_and_do_not_hinder_the_others(tmp_path: Path) -> None:
    path = tmp_path / "processes.jsonl"
    with process(**{MARKER: MINE}) as orphan:
        good = row(orphan, MINE, dead_pid())
        path.write_text('{"owner": 1\n[]\n7\n{"owner": "x", "owner_started": null}\n' + good + good[:20])
        assert Ledger(path).sweep() == ["one"]
        assert path.read_text() == ""


def test_a_child_is_written_down_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "processes.jsonl"
    with process() as pid:
        Ledger(path).add("one", pid, MINE, guardian=7)
    written = json.loads(path.read_text())
    assert (written["owner"], written["pid"], written["marker"]) == (os.getpid(), pid, MINE)
    assert written["guardian"] == 7
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_home_without_a_ledger_has_nothing_to_sweep(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "processes.jsonl").sweep() == []


def test_one_that_hands_over_to_a_new_process_all_the_time_is_caught_too(tmp_path: Path) -> None:
    marker = secrets.token_hex(16)
    hopping = [
        sys.executable,
        "-I",
        "-S",
        str(FAULTY.parents[1] / "benchmarks" / "family.py"),
        "hopper",
        "true",
    ]
    with subprocess.Popen(hopping, env={**os.environ, MARKER: marker}) as leader:
        leader.wait()
    assert kill_marked(marker) > 0
    assert kill_marked(marker) == 0


def test_what_is_over_is_forgotten_while_toolscore_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.runners.ledger.COMPACT_EVERY", 10)
    ledger = Ledger(tmp_path / "processes.jsonl")
    with process() as alive:
        ledger.add("alive", alive, "a")
        for _ in range(25):
            with process() as pid:
                ledger.add("over", pid, "b")
        rows = [json.loads(line) for line in (tmp_path / "processes.jsonl").read_text().splitlines()]
        assert len(rows) < 12
        assert alive in [row["pid"] for row in rows]
