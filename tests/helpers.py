"""What many tests need: the faulty server as an installation, waiting for a condition, looking at processes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from toolscore.runners.base import BaseRunner, Child
from toolscore.runners.keeping import Kept
from toolscore.runners.lifecycle import RestartPolicy
from toolscore.runners.process import ProcessOptions, ProcessRunner
from toolscore.runners.session import ChildSession
from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.runners.supervisor import Supervisor, SupervisorOptions

FAULTY = Path(__file__).parent / "faulty_server.py"
HTTP = Path(__file__).parent / "http_server.py"
CLIENT_INFO = {"name": "tests", "version": "1"}
PATIENT = RestartPolicy(first_delay=30, jitter=0)
"""A back-off that no test lives to see the end of."""


def installation(spec: ServerSpec, name: str = "faulty") -> Installation:
    return Installation(server_id=name, kind=SourceKind.REGISTERED, source="test", spec=spec)


def faulty(*faults: str, name: str = "faulty", **spec: Any) -> Installation:
    """The faulty server as an installation; `ws` faults need the site packages, the others start without."""
    flags = [] if any(fault.startswith("ws=") for fault in faults) else ["-S"]
    return installation(ServerSpec(command=sys.executable, args=(*flags, str(FAULTY), *faults), **spec), name)


def runner_at(folder: Path, **options: Any) -> ProcessRunner:
    for name in ("servers", "logs"):
        (folder / name).mkdir(exist_ok=True)
    options = {"stop_grace": 0.5, "connect_timeout": 10.0} | options
    return ProcessRunner(
        ProcessOptions(servers=folder / "servers", logs=folder / "logs", run=folder, **options)
    )


@asynccontextmanager
async def started(folder: Path, *faults: str, **options: Any) -> AsyncIterator[tuple[ChildSession, Child]]:
    """A faulty server right after its start, without a handshake."""
    runner = runner_at(folder, **options)
    child = await runner.start_server(faulty(*faults))
    session = ChildSession(child.channel, client_info=CLIENT_INFO, epitaph=child.epitaph)
    session.open()
    try:
        yield session, child
    finally:
        await runner.stop_server("faulty", 0)
        await session.aclose()


@asynccontextmanager
async def speaking(folder: Path, *faults: str, **options: Any) -> AsyncIterator[ChildSession]:
    """A session with a faulty server, after the handshake."""
    async with started(folder, *faults, **options) as (session, _child):
        await session.handshake()
        yield session


@asynccontextmanager
async def supervising(
    folder: Path, runner: BaseRunner | None = None, **options: Any
) -> AsyncIterator[Supervisor]:
    """A supervisor; options are fields of `Kept` or of `SupervisorOptions`."""
    options = {"start_timeout": 10.0} | options
    kept = Kept(**{name: options.pop(name) for name in list(options) if name in Kept.model_fields})
    async with Supervisor(
        runner or runner_at(folder),
        SupervisorOptions(client_info=CLIENT_INFO, kept=kept, **options),
        stop_grace=0,
    ) as supervisor:
        yield supervisor


async def call(session: ChildSession, tool: str, timeout: float | None = 20, **arguments: Any) -> Any:
    """Call a tool; a single text is given as such, structured content too."""
    result = await session.request("tools/call", {"name": tool, "arguments": arguments}, timeout=timeout)
    return result["structuredContent"] if "structuredContent" in result else result["content"][0]["text"]


async def until(condition: Callable[[], object], within: float = 30.0) -> None:
    """Wait for what nothing signals."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has, though its pid is still there."""
    try:
        state: str = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return True
    return state in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
