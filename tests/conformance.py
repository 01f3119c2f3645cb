"""The official conformance suite: the pinned versions, and how it is called.

They are installed once, into the user's cache; a folder there is whole or not there at all, so runs may race.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cache import once
from modern_node import find_node, path_with, run

HANDSHAKE_SUITE = "0.1.16"
"""The newest release, which knows the handshake era only."""

MODERN_SUITE = "0.2.0-alpha.12"
"""The newest one that knows 2026-07-28."""

PACKAGE = "@modelcontextprotocol/conformance"

HANDSHAKE_BASELINE = Path(__file__).with_name("conformance_baseline_0.1.yml")
MODERN_BASELINE = Path(__file__).with_name("conformance_baseline_2026-07-28.yml")


class Run(NamedTuple):
    """One call of the suite.

    Attributes:
        version: The suite's version.
        baseline: What is expected to fail, and why.
        arguments: Which scenarios to run.
    """

    version: str
    baseline: Path
    arguments: tuple[str, ...]


HANDSHAKE_RUNS = {
    "0.1, all of it": Run(HANDSHAKE_SUITE, HANDSHAKE_BASELINE, ("--suite", "all")),
    # The same again as the newer suite checks it: each message against the schema, and how sessions end.
    "what 2025-11-25 requires": Run(MODERN_SUITE, HANDSHAKE_BASELINE, ("--requirements", "2025-11-25")),
}
MODERN_RUNS = {
    "what 2026-07-28 requires": Run(MODERN_SUITE, MODERN_BASELINE, ("--requirements", "2026-07-28")),
    # Required by the specification, though the suite does not count them yet: headers and JSON Schema.
    "what it does not count yet": Run(
        MODERN_SUITE, MODERN_BASELINE, ("--suite", "pending", "--spec-version", "2026-07-28")
    ),
}


@cache
def find_suite(version: str) -> Path:
    """Give the program of one version of the suite, installed if it was missing."""
    node = find_node()

    def install(target: Path) -> None:
        options = ("--prefix", str(target), "--no-audit", "--no-fund", "--ignore-scripts")
        run(*node.npm, "install", *options, f"{PACKAGE}@{version}", cwd=target, path=path_with(node))

    return once(f"conformance-{version}", install) / "node_modules" / PACKAGE / "dist/index.js"


def run_suite(url: str, version: str, expected_failures: Path, *arguments: str) -> tuple[int, str]:
    """Run the suite against a server.

    Args:
        url: Where the server listens.
        version: The suite's version.
        expected_failures: The file of what is known to fail; more failures, warnings too, or fewer are an error.
        arguments: More words for `conformance server`, such as those which choose scenarios.

    Returns:
        The exit status, and what was printed.
    """
    command = [find_node().program, str(find_suite(version)), "server", "--url", url]
    done = subprocess.run(
        [*command, "--expected-failures", str(expected_failures), *arguments],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    return done.returncode, done.stdout
