"""Runners and supervised servers in front of an engine of the tests'."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from docker_engine import IMAGE, DockerEngine
from toolscore.runners.container import Container
from toolscore.runners.docker.runner import DockerRunner
from toolscore.runners.keeping import Keeping
from toolscore.runners.kinds import Runners
from toolscore.runners.lifecycle import State
from toolscore.runners.process import ProcessOptions, ProcessRunner
from toolscore.runners.spec import Candidate, Installation
from toolscore.runners.supervisor import Supervisor, SupervisorOptions, Unit

OPTIONS = SupervisorOptions(client_info={"name": "test", "version": "1"})


@asynccontextmanager
async def runners_of(tmp_path: Path, engine: DockerEngine) -> AsyncIterator[Runners]:
    """Make the runners of a home; nothing is left of them."""
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


async def installed(
    runners: Runners, *args: str, name: str = "one", keeping: Keeping | None = None, **options: Any
) -> Installation:
    """Install the faulty server's image."""
    candidate = Candidate(
        source=f"docker:{IMAGE}", name=name, args=args, container=Container(**options) if options else None
    )
    found = await runners.install_server(candidate)
    return found.model_copy(update={"keeping": keeping or Keeping()})


@asynccontextmanager
async def running(
    runners: Runners, installation: Installation, stop_grace: float | None = None
) -> AsyncIterator[Unit]:
    """Keep a server alive as long as the block lasts."""
    async with Supervisor(runners, OPTIONS, stop_grace=stop_grace) as supervisor:
        unit = supervisor.add(installation)
        unit.start()
        assert await unit.settled() is State.READY, unit.life.reason
        yield unit


async def call(unit: Unit, tool: str, **arguments: Any) -> str:
    """Call a tool of it, starting it if need be."""
    session = await unit.ready()
    result = await session.request("tools/call", {"name": tool, "arguments": arguments}, timeout=60)
    return str(result["content"][0]["text"])
