"""A server's standard error on disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from toolscore.runners import logs
from toolscore.runners.logs import ServerLog, read_lines


def test_lines_are_kept_with_their_time_for_the_owner_alone(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "a.log")
    log.write("one")
    log.write("zwei ü \udc80")
    log.close()
    lines = read_lines(log.path, 10)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ one", lines[0])
    assert lines[1].endswith("Z zwei ü ?")
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_a_log_moves_away_at_its_size_and_the_last_lines_come_from_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 1000)
    log = ServerLog(tmp_path / "a.log")
    for number in range(200):
        log.write(f"line {number}")
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    lines = read_lines(log.path, 30)
    assert [line.split()[-1] for line in lines] == [str(number) for number in range(170, 200)]


def test_the_tail_is_bounded_and_starts_anew_with_each_life(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "a.log")
    for number in range(1000):
        log.write(f"{number} " + "x" * 200)
    assert len(log.tail()) == 4097
    assert "999 xxx" in log.tail()
    log.mark()
    assert log.tail() == ""
    log.write("new")
    assert log.tail() == "new"
    log.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_loses_lines_but_not_the_tail() -> None:
    log = ServerLog(Path("/dev/full"))
    log.write("first")
    log.write("second")
    assert log.tail() == "first\nsecond"
    log.close()


def test_a_folder_that_vanished_loses_lines_only(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "gone" / "a.log")
    log.write("first")
    assert log.tail() == "first"
    (tmp_path / "gone").mkdir()
    log.write("second")
    log.close()
    assert [line.split()[-1] for line in read_lines(log.path, 5)] == ["second"]


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.log", 5) == []
