"""MCP clients made by others, each in an environment of its own: what they install, and how they are run.

Installed once, into the user's cache; a folder there is whole or not there at all, so runs may race. Another
version is another folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cache import once
from modern_node import UV, find_node, path_with, run

PYTHON_SDK = "1.30.0"
"""The newest version 1, the last line that has a WebSocket client."""

TYPESCRIPT_SDK = "1.32.2"
"""The newest version 1."""

CLIENTS = Path(__file__).with_name("clients")


def python_sdk() -> Path:
    """A virtual environment with version 1 of the Python SDK: its interpreter."""

    def make(folder: Path) -> None:
        run(UV, "venv", "--python", sys.executable, folder / "venv", cwd=folder)
        python = folder / "venv" / "bin" / "python"
        run(UV, "pip", "install", "--python", python, f"mcp[ws]=={PYTHON_SDK}", cwd=folder)

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return once(f"mcp-{PYTHON_SDK}-py{version}", make) / "venv" / "bin" / "python"


def typescript_sdk() -> Path:
    """A folder with the TypeScript SDK in its `node_modules`."""
    node = find_node()

    def make(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true}')
        package = f"@modelcontextprotocol/sdk@{TYPESCRIPT_SDK}"
        run(*node.npm, "install", "--ignore-scripts", package, cwd=folder, path=path_with(node))

    return once(f"typescript-sdk-{TYPESCRIPT_SDK}", make)


def python_client(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `clients/v1_websocket.py`."""
    return _run(python_sdk(), CLIENTS / "v1_websocket.py", *arguments)


def typescript_client(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `clients/ts_websocket.mjs`."""
    return _run(find_node().program, CLIENTS / "ts_websocket.mjs", typescript_sdk(), *arguments)


def document(done: subprocess.CompletedProcess[str]) -> Any:
    """Give what a client printed; it has to have ended well."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)
