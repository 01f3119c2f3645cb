"""How well the look through definitions tells poisoned ones from clean ones, on this project's own labelled set.

    python benchmarks/scan.py [--misses] [--json]

Of each style every second definition, beginning with the second, is held out: rules were not made by looking at
what they did there. `--misses` names what was missed and what raised a false alarm in the half that was not held out.
The set was written by the same people as the rules, so that its figures say how the rules do on what those thought
of; they say nothing of an attacker who has read them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolscore.tools.scan.finding import ORDER, Finding, worst
from toolscore.tools.scan.scan import scan

SET = Path(__file__).with_name("poisoned_tools.jsonl")
OWN = ("list_tools", "describe_tool", "execute_tool", "search_tools", "install_server", "approve_tool")
ROUNDS = 5

Rows = list[tuple[dict[str, Any], tuple[Finding, ...]]]


def halves() -> tuple[Rows, Rows, float]:
    """Look through all; give the half that was there to learn from, the held-out one, and microseconds a tool."""
    rows = [json.loads(line) for line in SET.read_text(encoding="utf-8").splitlines()]
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = [_scanned(row) for row in rows]
        best = min(best, time.perf_counter() - began)
    seen: dict[str, int] = defaultdict(int)
    learned: Rows = []
    held_out: Rows = []
    for row, findings in zip(rows, found, strict=True):
        (held_out if seen[row["style"]] % 2 else learned).append((row, findings))
        seen[row["style"]] += 1
    return learned, held_out, best / len(rows) * 1e6


def _scanned(row: dict[str, Any]) -> tuple[Finding, ...]:
    names: dict[str, Sequence[str]] = {"toolscore": OWN, **row.get("installed", {})}
    return scan(row["tool"], row["server"], names)


def counted(rows: Rows) -> dict[str, dict[str, int]]:
    """Count, by style, how many there are, and in how many the worst finding is at least that severe."""
    table: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row, findings in rows:
        most = worst(findings)
        for style in (row["style"], f"all {row['label']}"):
            table[style]["all"] += 1
            for severity in ORDER:
                table[style][severity] += most is not None and ORDER[most] <= ORDER[severity]
    return {style: dict(counts) for style, counts in table.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    learned, held_out, micros = halves()
    if options.json:
        figures = {"dev": counted(learned), "held_out": counted(held_out), "microseconds": round(micros, 1)}
        print(json.dumps(figures, indent=2))
        return
    for title, rows in (("half to learn from", learned), ("held-out half", held_out)):
        print(f"{title}\n  {'style':<14}{'all':>5}{'high':>6}{'medium+':>9}{'any':>5}")
        for style, counts in counted(rows).items():
            print(
                f"  {style:<14}{counts['all']:>5}{counts['high']:>6}{counts['medium']:>9}{counts['low']:>5}"
            )
    print(f"{micros:.0f} microseconds a tool")
    if options.misses:
        for row, findings in learned:
            most = worst(findings)
            if (row["label"] == "poisoned" and most != "high") or (
                row["label"] == "clean" and most in ("high", "medium")
            ):
                print(f"{row['style']} {row['tool']['name']}: {most}")
                for one in findings:
                    print(f"    {one.severity} {one.kind} {one.place}: {one.said}: {one.excerpt}")


if __name__ == "__main__":
    main()
