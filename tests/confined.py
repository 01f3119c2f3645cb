"""The probing server, in Python and on Node, started confined; and what a confined ToolScore child is asked for."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from cache import CACHE
from helpers import CLIENT_INFO, runner_at
from modern_node import find_node
from toolscore.runners.confinement import Confinement
from toolscore.runners.process import ProcessRunner
from toolscore.runners.session import ChildSession
from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.sandbox.probe import probe
from toolscore_client import call, execute

HERE = Path(__file__).parent
LAYERS = ["namespaces", "landlock", "privileges", "seccomp"]
OFFERED = {layer.name for layer in probe() if layer.offered} if sys.platform == "linux" else set()
NEEDS = pytest.mark.skipif(
    not {"user-namespaces", "landlock"} <= OFFERED, reason="needs user namespaces and Landlock"
)


def command_of(kind: str) -> tuple[str, tuple[str, ...]]:
    if kind == "python":
        return sys.executable, ("-S", str(HERE / "probing_server.py"))
    return find_node().program, (str(HERE / "probing_server.mjs"),)


def server(folder: Path, kind: str, confine: Confinement | None = None, **spec: object) -> Installation:
    """A server with a folder of its own in the home at `folder`, which holds a secret as well."""
    own = folder / "servers" / "probing"
    own.mkdir(parents=True, exist_ok=True)
    (folder / "secrets.json").write_text("{}")
    program, args = command_of(kind)
    # What is below pytest's folder in /tmp would be hidden with it: the programs lie elsewhere.
    made = ServerSpec.model_validate(
        {"command": program, "args": args, "confine": confine or Confinement()} | spec
    )
    return Installation(
        server_id="probing", kind=SourceKind.FOLDER, source="test", spec=made, directory=str(own)
    )


@asynccontextmanager
async def running(folder: Path, installed: Installation) -> AsyncIterator[tuple[ChildSession, ProcessRunner]]:
    runner = runner_at(folder)
    child = await runner.start_server(installed)
    session = ChildSession(child.channel, client_info=CLIENT_INFO, epitaph=child.epitaph)
    session.open()
    try:
        await session.handshake()
        yield session, runner
    finally:
        await runner.stop_server("probing", 1)
        await session.aclose()
        await runner.aclose()


@contextmanager
def ordinary_folder() -> Iterator[Path]:
    """A folder that is not among the temporary ones, which are hidden."""
    parent = Path("/srv") if os.getuid() == 0 else CACHE
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(mkdtemp(prefix="toolscore-place-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # what ends with the test may be tidying up there itself


async def state(client: Any, name: str) -> dict[str, Any]:
    found = (await execute(client, "toolscore__server_state", name=name)).structured_content
    assert found is not None
    told: dict[str, Any] = found
    return told


async def ready(client: Any, name: str) -> bool:
    listed = (await call(client, "list_servers"))["servers"]
    return any((server["name"], server["state"]) == (name, "READY") for server in listed)
