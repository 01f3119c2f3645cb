"""What came out: rows of figures, goals met or not, printed or as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Row:
    """The figures of one subject in one scenario; `note` says why there are none, or what is special."""

    scenario: str
    subject: str
    values: dict[str, float]
    note: str = ""


@dataclass
class Goal:
    """A bound one figure has to keep; `met` is `None` where it could not be measured."""

    scenario: str
    what: str
    measured: float | None
    limit: float
    unit: str
    at_least: bool = False
    met: bool | None = field(init=False)

    def __post_init__(self) -> None:
        if self.measured is None:
            self.met = None
        else:
            self.met = self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        bound = f"{'>=' if self.at_least else '<='} {self.limit:g} {self.unit}"
        measured = "not measured" if self.measured is None else f"{figure(self.measured)} {self.unit}"
        verdict = {True: "met", False: "NOT MET", None: "-"}[self.met]
        return f"{self.what:58} {measured:>18}   goal {bound:<14} {verdict}"


class Report:
    """Collects both."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.goals: list[Goal] = []

    def row(self, scenario: str, subject: str, values: dict[str, float], note: str = "") -> None:
        """Add the figures of a subject."""
        self.rows.append(Row(scenario, subject, values, note))

    def goal(
        self,
        scenario: str,
        what: str,
        measured: float | None,
        limit: float,
        unit: str,
        *,
        at_least: bool = False,
    ) -> None:
        """Add a goal."""
        self.goals.append(Goal(scenario, what, measured, limit, unit, at_least))

    def document(self) -> dict[str, Any]:
        """Give all of it for JSON."""
        return {"rows": [asdict(row) for row in self.rows], "goals": [asdict(goal) for goal in self.goals]}

    def table(self, scenario: str) -> str:
        """Write the figures of one scenario, a line a subject."""
        rows = [row for row in self.rows if row.scenario == scenario]
        columns = list(dict.fromkeys(key for row in rows for key in row.values))
        widths = [max(len(column), 9) for column in columns]
        head = " ".join(f"{column:>{width}}" for column, width in zip(columns, widths, strict=True))
        lines = [f"  {'':26} {head}".rstrip()]
        for row in rows:
            cells = " ".join(
                f"{figure(row.values[column]) if column in row.values else '':>{width}}"
                for column, width in zip(columns, widths, strict=True)
            )
            lines.append(f"  {row.subject:26} {cells}{'  ' + row.note if row.note else ''}".rstrip())
        return "\n".join(lines)


def figure(value: float) -> str:
    """Write a number with three digits that mean something."""
    if abs(value) >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def perform(report: Report, scenarios: Mapping[str, Callable[[Any, Report], None]], bench: Any) -> None:
    """Run scenarios, and print the table of each as soon as it is there.

    Args:
        report: What collects the figures.
        scenarios: The scenarios to run, by name; their docstrings say what they measure.
        bench: What they run with.
    """
    for name, scenario in scenarios.items():
        print(f"\n{name}: {scenario.__doc__}", flush=True)
        start = time.perf_counter()
        scenario(bench, report)
        print(f"{report.table(name)}\n  ({time.perf_counter() - start:.0f} s)", flush=True)


def conclude(report: Report, about: Mapping[str, Any], began: float, path: Path | None) -> None:
    """Print the goals, and write all as JSON where that is asked for.

    Args:
        report: What collected the figures.
        about: Of the machine and the run.
        began: When it began, in seconds since 1970.
        path: Where the JSON goes.
    """
    print("\ngoals")
    for goal in report.goals:
        print(f"  {goal}")
    seconds = round(time.time() - began)
    print(f"\n{seconds} s in all")
    if path:
        document = {"about": {**about, "seconds": seconds}, **report.document()}
        path.write_text(json.dumps(document, indent=2) + "\n")
