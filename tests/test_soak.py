"""Some seconds of `benchmarks/soak.py`, always the same: mixed faults, and every promise kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "soak.py"


@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="what processes hold is read from /proc")
def test_some_seconds_of_mixed_faults_break_no_promise(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, str(BENCHMARK), "--minutes", "0.3", "--seed", "4", "--json", str(report)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert report.exists(), done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["broken"] == [], done.stdout
    assert done.returncode == 0, done.stdout
    calls = next(row["values"] for row in found["rows"] if row["subject"] == "all")
    assert calls["calls"] > 200, done.stdout
    assert calls["ok"] > calls["calls"] / 2, done.stdout
