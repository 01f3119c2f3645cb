"""The short form of `benchmarks/lifecycle.py`: servers that die, hang, start and stop, under load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "lifecycle.py"
SCENARIOS = ("kill", "boot", "stuck", "cycles")


class Measured:
    """What the benchmark found."""

    def __init__(self, document: dict[str, Any], told: str) -> None:
        self.document = document
        self.told = told

    def goals(self, scenario: str) -> dict[str, float]:
        return {
            goal["what"]: goal["measured"] for goal in self.document["goals"] if goal["scenario"] == scenario
        }

    def rows(self, scenario: str) -> dict[str, dict[str, float]]:
        return {row["subject"]: row["values"] for row in self.document["rows"] if row["scenario"] == scenario}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    file = tmp_path_factory.mktemp("lifecycle") / "report.json"
    command = [sys.executable, str(BENCHMARK), "--quick", "--json", str(file)]
    for scenario in SCENARIOS:
        command += ["--only", scenario]
    # Its exit status tells of goals in milliseconds, too, which no machine keeps that tests share.
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert file.exists(), done.stdout + done.stderr
    return Measured(json.loads(file.read_text()), done.stdout)


@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="what processes hold is read from /proc")
class TestFigures:
    def test_a_server_that_is_killed_fails_its_calls_in_flight_and_no_others(
        self, measured: Measured
    ) -> None:
        counted = {what: value for what, value in measured.goals("kill").items() if "calls" in what}
        assert len(counted) == 8
        assert not any(counted.values()), measured.told
        in_flight = measured.rows("kill")["stdlib child"]
        assert in_flight["unknown"] > 0
        assert in_flight["replayed"] > 0

    def test_a_server_that_is_killed_is_back_soon_after_its_own_cold_start(self, measured: Measured) -> None:
        rows = measured.rows("kill")
        assert len(rows) == 2
        for row in rows.values():
            assert row["back_max_s"] < 5.0 + 2 * row["cold_max_s"], measured.told

    def test_the_gateway_answers_while_its_servers_boot(self, measured: Measured) -> None:
        row = measured.rows("boot")["stdlib children"]
        assert row["asked"] >= 2
        assert row["list_worst_ms"] < 5_000, measured.told

    def test_one_that_hangs_at_its_start_keeps_nobody_waiting(self, measured: Measured) -> None:
        delays = measured.goals("stuck")
        assert len(delays) == 6
        assert max(delays.values()) < 1_000, measured.told

    def test_sixty_starts_and_stops_leave_nothing_behind(self, measured: Measured) -> None:
        grown = measured.goals("cycles")
        memory = {what: value for what, value in grown.items() if "memory" in what}
        counted = {what: value for what, value in grown.items() if what not in memory}
        assert len(counted) == 5
        assert max(counted.values()) <= 0, measured.told
        assert max(memory.values()) < 4, measured.told
