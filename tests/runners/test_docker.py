"""Servers in containers of a real Docker engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from docker_engine import IMAGE, DockerEngine, needs_engine
from docker_engine import engine as engine
from toolscore.runners.container import Container
from toolscore.runners.docker.runner import DockerRunner
from toolscore.runners.keeping import Keeping
from toolscore.runners.kinds import Runners
from toolscore.runners.lifecycle import State
from toolscore.runners.process import ProcessOptions, ProcessRunner
from toolscore.runners.spec import Candidate, Installation, SourceKind
from toolscore.runners.supervisor import Supervisor, SupervisorOptions, Unit

pytestmark = needs_engine

OPTIONS = SupervisorOptions(client_info={"name": "test", "version": "1"})


@asynccontextmanager
async def runners_of(tmp_path: Path, engine: DockerEngine) -> AsyncIterator[Runners]:
    options = ProcessOptions(
        servers=tmp_path / "servers", logs=tmp_path / "logs", run=tmp_path / "run", stop_grace=0.5
    )
    for folder in (options.servers, options.logs, options.run):
        folder.mkdir(exist_ok=True)
    runners = Runners(ProcessRunner(options), {"docker": lambda means: DockerRunner(means, engine.host)})
    try:
        yield runners
    finally:
        await runners.aclose()
        runners.process.close()


@pytest.fixture
async def runners(tmp_path: Path, engine: DockerEngine) -> AsyncIterator[Runners]:
    async with runners_of(tmp_path, engine) as found:
        yield found


async def installed(
    runners: Runners, *args: str, name: str = "one", keeping: Keeping | None = None, **options: Any
) -> Installation:
    candidate = Candidate(
        source=f"docker:{IMAGE}", name=name, args=args, container=Container(**options) if options else None
    )
    found = await runners.install_server(candidate)
    return found.model_copy(update={"keeping": keeping or Keeping()})


@asynccontextmanager
async def running(runners: Runners, installation: Installation) -> AsyncIterator[Unit]:
    async with Supervisor(runners, OPTIONS) as supervisor:
        unit = supervisor.add(installation)
        unit.start()
        assert await unit.settled() is State.READY, unit.life.reason
        yield unit


async def call(unit: Unit, tool: str, **arguments: Any) -> str:
    session = await unit.ready()
    result = await session.request("tools/call", {"name": tool, "arguments": arguments}, timeout=30)
    return str(result["content"][0]["text"])


async def test_a_server_in_a_container_is_installed_started_called_and_leaves_nothing(
    runners: Runners, engine: DockerEngine
) -> None:
    installation = await installed(runners)
    assert installation.kind is SourceKind.DOCKER
    assert installation.pin is not None
    assert installation.pin.content == installation.spec.container.image  # type: ignore[union-attr]
    async with running(runners, installation) as unit:
        assert "from inside" in await call(unit, "echo", text="from inside")
        [container] = engine.containers()
        assert container["Labels"]["org.toolscore.server"] == "one"
    assert engine.containers() == []
