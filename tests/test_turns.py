"""Tests in several processes: one that is marked `alone` runs beside no other, and is not put off for ever."""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from machine import until
from turns import TURNS, Turns

if sys.platform == "win32":
    pytest.skip("there the tests run in one process", allow_module_level=True)

import fcntl


def is_free(file: Path, kind: int) -> bool:
    with file.open("w") as opened:
        try:
            fcntl.flock(opened, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_who_wants_to_be_alone_waits_for_all_others_and_all_that_come_later_for_him(tmp_path: Path) -> None:
    said: list[str] = []

    def test(name: str, alone: bool) -> threading.Thread:
        def run() -> None:
            with closing(Turns(tmp_path)) as turns, turns.turn(alone):
                said.append(name)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with ExitStack() as running:
        for _ in range(2):  # side by side
            turns = running.enter_context(closing(Turns(tmp_path)))
            running.enter_context(turns.turn(alone=False))
        threads = [test("alone", True)]
        until(lambda: not is_free(tmp_path / "queue", fcntl.LOCK_EX))
        threads += [test("late", False) for _ in range(3)]
        assert said == []
    for thread in threads:
        thread.join(30)
    assert said == ["alone", "late", "late", "late"]


@pytest.fixture
def turns(pytestconfig: pytest.Config) -> Turns:
    if TURNS not in pytestconfig.stash:
        pytest.skip("the tests run in one process")
    return pytestconfig.stash[TURNS]


@pytest.mark.alone
def test_one_that_is_marked_runs_beside_no_other(turns: Turns) -> None:
    assert not is_free(turns.folder / "floor", fcntl.LOCK_SH)


def test_one_that_is_not_runs_beside_others_and_not_beside_those(turns: Turns) -> None:
    assert is_free(turns.folder / "floor", fcntl.LOCK_SH)
    assert not is_free(turns.folder / "floor", fcntl.LOCK_EX)
