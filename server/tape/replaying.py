"""One run of `serve --replay`: no home, no store, no child, only clients and a recording."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...tools.caller import Caller
from ..endpoint import Endpoint, EndpointError, parse_endpoint
from ..home import Home, HomeError
from ..stderr import StderrHandler
from .event import TapeError
from .stage import Stage
from .tape import Tape

if TYPE_CHECKING:
    from ..connection import Connection
    from ..settings import Settings
    from ..tokens import Identity

logger = logging.getLogger(__name__)

DIVERGED = 1
"""Exit status where a client did something else than was recorded, in the strict mode."""

INTERRUPTED = 130

CLIENTS_GRACE = 2.0
"""Seconds the last answers may take to leave."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What is to be replayed, and how.

    Attributes:
        path: The recording.
        strict: Whether its order counts.
        delayed: Whether answers take as long as they did.
        report: Where the report is written, if anywhere.
        quiet: Whether nothing is said of it on standard error where all was found.
    """

    path: Path
    strict: bool = False
    delayed: bool = False
    report: Path | None = None
    quiet: bool = False


def serve_recording(replay: Replay, settings: Settings, *, listen: Sequence[str] = ()) -> int:
    """Serve clients from a recording until the one on standard input is gone, or a signal ends it.

    Args:
        replay: What, and how.
        settings: Of these, only `log.level` and what holds for listeners.
        listen: Addresses to serve on.

    Returns:
        The exit status.

    Raises:
        TapeError: If the recording cannot be used, the report not be written, or an address not be had.
    """
    if replay.report is not None and (not replay.report.parent.is_dir() or replay.report.is_dir()):
        raise TapeError(f"The report cannot be written to {replay.report}: that is no file in a folder.")
    try:
        endpoints = [parse_endpoint(address) for address in listen]
    except EndpointError as error:
        raise TapeError(str(error)) from error
    tape = Tape(replay.path)
    _log(settings.log.level)
    try:
        return asyncio.run(_Replaying(replay, tape, settings, endpoints).run())
    except HomeError as error:  # of a listener
        raise TapeError(str(error)) from error
    finally:
        tape.close()


def _log(level: str) -> None:
    handler = StderrHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("mcp.shared.jsonrpc_dispatcher").setLevel(logging.ERROR)


class _Replaying:
    """One run."""

    def __init__(self, replay: Replay, tape: Tape, settings: Settings, endpoints: list[Endpoint]) -> None:
        self._replay = replay
        self._tape = tape
        self._settings = settings
        self._endpoints = endpoints
        self._stop = asyncio.Event()
        self._signal: int | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._numbers = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError):  # Windows has no signal handlers on its loop
                loop.add_signal_handler(number, self._signalled, number)
        stage = Stage(self._tape, strict=self._replay.strict, delayed=self._replay.delayed)
        for problem in self._tape.problems:
            logger.warning("%s: %s", self._tape.path, problem)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._end_clients)
            if not self._endpoints or not sys.stdin.isatty():
                from ..stdio import open_stdio

                try:
                    connection = await open_stdio(self._settings.network.max_message << 20)
                except OSError as error:
                    if not self._endpoints:
                        raise TapeError(f"standard input and output must both be open: {error}") from error
                else:
                    self._serve_first(stage, connection)
            if self._endpoints:
                from ..listeners import Listeners

                home = Home.at(self._settings.home)  # never looked at: there are no tokens
                network = self._settings.network
                listeners = Listeners(stage, network, home, self, no_token=True)
                listeners.without_library = True
                await listeners.open(self._endpoints, announce=False)
                closing.push_async_callback(listeners.close)
                logger.info("replays %s", self._tape.path)
            await self._stop.wait()
            await self._end_clients()
            stage.close()
        return self._reported(stage)

    def _serve_first(self, stage: Stage, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(stage.gateway.serve(connection, self.caller("stdio")))
        self.hold(task)

        def gone(_task: asyncio.Task[None]) -> None:
            # A listener that was started with its input closed goes on.
            if connection.answered.is_set() or not self._endpoints:
                self._stop.set()

        task.add_done_callback(gone)

    def _reported(self, stage: Stage) -> int:
        report = stage.front.report
        if not self._replay.quiet or report.diverged or any(one.missed for one in report.accounts):
            with suppress(OSError):
                print(f"toolscore: {report.text()}", file=sys.stderr, flush=True)
        if self._replay.report is not None:
            try:
                report.write(self._replay.report)
            except OSError as error:
                raise TapeError(
                    f"The report cannot be written to {self._replay.report}: {error.strerror}."
                ) from error
        if report.diverged:
            return DIVERGED
        return INTERRUPTED if self._signal == signal.SIGINT else 0

    def _signalled(self, number: int) -> None:
        self._signal = number
        self._stop.set()

    async def _end_clients(self) -> None:
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=CLIENTS_GRACE)

    def caller(self, listener: str, identity: Identity | None = None) -> Caller:
        """Give the caller of a new connection; see `listeners.Holder`."""
        self._numbers += 1
        if identity is None:
            return Caller(principal="owner", listener=listener, connection=self._numbers)
        return Caller(identity.principal, listener, self._numbers, identity.rights)

    def hold(self, task: asyncio.Task[None]) -> None:
        """End a client's task with all; see `listeners.Holder`."""
        self._clients.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._clients.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("a connection ended with a bug", exc_info=exc)
