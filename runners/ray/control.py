"""ToolScore's side of the bridge: started through the guardian, started again when it ends, and spoken to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ..guard import Guard
from ..launch import Running, launch
from ..pipes import LineSplitter, StderrReader

logger = logging.getLogger(__name__)

FIRST_DELAY = 0.2
LONGEST_DELAY = 10.0
"""Seconds before the bridge is started again: the first time, and at the most."""

BEGINNING = 60.0
"""Seconds the bridge has to reach the cluster."""

MUTE = 10.0
"""Seconds it may say nothing after that, before it is ended and started again: it waits for a head that is gone."""

Message = dict[str, Any]


class Control:
    """The bridge, as ToolScore has it.

    Args:
        guard: Starts it.
        told: Its first line.
        environment: Its environment.
        receive: Takes what it says.
        lost: Told that it ended, and why.
    """

    def __init__(
        self,
        guard: Guard | None,
        told: Message,
        environment: Mapping[str, str],
        receive: Callable[[Message], None],
        lost: Callable[[str], None],
    ) -> None:
        self._guard = guard
        self._told = told
        self._environment = environment
        self._receive = receive
        self._lost = lost
        self._input: asyncio.WriteTransport | None = None
        self._words: deque[str] = deque(maxlen=20)
        self._why: str | None = None
        self._heard = asyncio.Event()
        self.pid: int | None = None
        self._keeping: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start it, and keep it."""
        if self._keeping is None:
            self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def aclose(self) -> None:
        """End it."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])

    def order(self, message: Message) -> None:
        """Tell it something; one that is not there is told nothing."""
        if self._input is not None and not self._input.is_closing():
            self._input.write(json.dumps(message).encode() + b"\n")

    async def _keep(self) -> None:
        delay = FIRST_DELAY
        while True:
            self._why = None
            self._words.clear()
            try:
                connected = await self._once()
            except OSError as exc:
                connected, self._why = False, str(exc)
            why = self._why or (self._words[-1] if self._words else "it ended")
            logger.warning("the bridge to the Ray cluster ended: %s", why)
            self._lost(why)
            delay = FIRST_DELAY if connected else min(delay * 2, LONGEST_DELAY)
            await asyncio.sleep(delay)

    async def _once(self) -> bool:
        """Run it once; tell whether it came as far as the cluster."""
        with contextlib.ExitStack() as closing:
            ours: list[int] = []
            theirs: list[int] = []
            for number in range(3):
                reading, writing = os.pipe()
                closing.callback(os.close, reading)
                closing.callback(os.close, writing)
                theirs.append(reading if number == 0 else writing)
                ours.append(writing if number == 0 else reading)
            process = await launch(
                [sys.executable, "-P", "-m", "toolscore.runners.ray.bridge"],
                env=self._environment,
                cwd="/",
                stdin=theirs[0],
                stdout=theirs[1],
                stderr=theirs[2],
                guard=self._guard,
            )
            closing.pop_all()
        for descriptor in theirs:
            os.close(descriptor)
        files = [os.fdopen(one, "wb" if number == 0 else "rb", 0) for number, one in enumerate(ours)]
        loop = asyncio.get_running_loop()
        lines = _Lines(self._told_by_bridge)
        complaints = StderrReader(self._words.append)
        watching: asyncio.Task[None] | None = None
        try:
            self._input, _ = await loop.connect_write_pipe(lambda: _Orders(self._input_lost), files[0])
            await loop.connect_read_pipe(lambda: lines, files[1])
            await loop.connect_read_pipe(lambda: complaints, files[2])
            self.pid = process.pid
            self.order(self._told)
            watching = loop.create_task(self._watch(process, lines))
            await process.exited.wait()
            await asyncio.wait({loop.create_task(lines.closed.wait())}, timeout=1.0)
        finally:
            self.pid = None
            process.end()
            if watching is not None:
                watching.cancel()
            if self._input is not None:
                self._input.abort()
            lines.abandon()
            complaints.abandon()
            for file in files[1:]:
                file.close()
        return lines.connected

    def _input_lost(self) -> None:
        self._input = None

    async def _watch(self, process: Running, lines: _Lines) -> None:
        while True:
            self._heard.clear()
            patience = MUTE if lines.connected else BEGINNING
            try:
                await asyncio.wait_for(self._heard.wait(), patience)
            except TimeoutError:
                self._why = f"nothing was heard of the cluster for {patience:g} s; is its head up?"
                if not lines.connected:
                    self._why = (
                        f"the cluster could not be joined within {patience:g} s: is what answers at ray.address a "
                        "head of this version of Ray, and ray.token its token?"
                    )
                process.end()
                return

    def _told_by_bridge(self, message: Message) -> None:
        self._heard.set()
        if message["op"] == "failed":
            self._why = str(message["why"])
        elif message["op"] != "alive":
            self._receive(message)


class _Lines(asyncio.Protocol):
    """Reads what the bridge says."""

    def __init__(self, receive: Callable[[Message], None]) -> None:
        self._receive = receive
        self._splitter = LineSplitter()
        self.connected = False
        self.closed = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def abandon(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        for line in self._splitter.feed(data):
            message = json.loads(line)
            self.connected = self.connected or message["op"] == "connected"
            self._receive(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()


class _Orders(asyncio.BaseProtocol):
    """Notes when nothing can be told any more."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()
