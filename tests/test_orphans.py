"""ToolScore is killed in every way, and two seconds later nothing of its servers is left; ten kills of a hundred."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ORPHANS = Path(__file__).parents[1] / "benchmarks" / "orphans.py"


@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="counts orphans by being the one they come to")
def test_a_killed_toolscore_leaves_nothing_and_takes_nothing_of_others() -> None:
    done = subprocess.run(
        [sys.executable, ORPHANS, "--kills", "10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " 0 processes left, 0 of others ended" in done.stdout
