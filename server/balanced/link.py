"""Lines to other gateways for what clients ask: each carries one request at a time, and is used again after it.

One request has a line for itself, so that a client that reads slowly holds up nobody else, and closing it cancels.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from ...runners.errors import StartError

if TYPE_CHECKING:
    from ...tools.gateways.gateway import Gateway
    from ..gateways.home import Gateways

logger = logging.getLogger(__name__)

PATH = "/client"
"""Where gateways take what clients of others ask."""

FRAME = 1 << 20
"""Bytes of a body in one frame."""

SPARE = 32
"""Lines to one gateway that are kept for later."""

SPARE_TIME = 60.0
"""Seconds they are kept."""


class UnreachedError(Exception):
    """A gateway cannot be reached, so that nothing of a request was done there. The text says why."""


class LineLostError(Exception):
    """The line to a gateway was lost in the course of a request, of which nothing more is known."""


class Line:
    """A line to a gateway, while one request goes over it.

    Args:
        wire: The connection (websockets).
    """

    def __init__(self, wire: Any) -> None:
        self.wire = wire
        self.is_cut = False
        """Whether it is of no use any more."""

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            LineLostError: If the line is lost.
        """
        await self._sent(to_json(message).decode())

    async def send_body(self, body: bytes) -> None:
        """Send what belongs to the message before it, and that it is all.

        Raises:
            LineLostError: If the line is lost.
        """
        await self.send_part(body)
        await self._sent("{}")

    async def send_part(self, part: bytes) -> None:
        """Send a part of what belongs to the message before it.

        Raises:
            LineLostError: If the line is lost.
        """
        for at in range(0, len(part), FRAME):
            await self._sent(part[at : at + FRAME])

    async def _sent(self, frame: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            await self.wire.send(frame)
        except ConnectionClosed as exc:
            raise LineLostError(str(exc)) from exc

    async def receive(self) -> dict[str, Any] | bytes:
        """Give what comes next: a message, or bytes of a body.

        Raises:
            LineLostError: If the line is lost, or does not say what can be understood.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            frame = await self.wire.recv()
            if isinstance(frame, bytes):
                return frame
            message = from_json(frame)
        except ConnectionClosed as exc:
            raise LineLostError(str(exc)) from exc
        except ValueError as exc:
            raise LineLostError(f"this is not JSON: {exc}") from exc
        if not isinstance(message, dict):
            raise LineLostError("this is no message")
        return message

    async def receive_body(self) -> bytes:
        """Give all that belongs to the message before it.

        Raises:
            LineLostError: As in `receive`.
        """
        parts: list[bytes] = []
        while isinstance(part := await self.receive(), bytes):
            parts.append(part)
        return b"".join(parts)


class Links:
    """The lines from here to all other gateways.

    Args:
        gateways: The gateways.
    """

    def __init__(self, gateways: Gateways) -> None:
        self._gateways = gateways
        self._spare: defaultdict[str, list[tuple[float, Any]]] = defaultdict(list)
        self._used: dict[Any, str] = {}
        """The gateways of those that are in use."""
        self._closing: set[asyncio.Task[None]] = set()

    async def take(self, gateway: Gateway) -> Line:
        """Give a line to a gateway, to be given back or cut.

        Raises:
            UnreachedError: If it cannot be reached.
        """
        spare = self._spare[gateway.id]
        while spare:
            since, wire = spare.pop()
            if wire.close_code is None and time.monotonic() - since < SPARE_TIME:
                self._used[wire] = gateway.id
                return Line(wire)
            self._close(wire)
        try:
            wire = await self._gateways.dialer.dial(gateway, PATH, {})
        except StartError as exc:
            raise UnreachedError(exc.message) from exc
        self._used[wire] = gateway.id
        return Line(wire)

    def give_back(self, gateway: Gateway, line: Line) -> None:
        """Keep a line for later, whose request is over; not one that was cut meanwhile."""
        self._used.pop(line.wire, None)
        if line.is_cut:
            return
        spare = self._spare[gateway.id]
        for since, wire in spare[:]:
            if time.monotonic() - since >= SPARE_TIME:
                spare.remove((since, wire))
                self._close(wire)
        if len(spare) < SPARE and line.wire.close_code is None:
            spare.append((time.monotonic(), line.wire))
        else:
            self._close(line.wire)

    def cut(self, line: Line) -> None:
        """End a line, and with it what goes on there for its request."""
        line.is_cut = True
        self._used.pop(line.wire, None)
        self._close(line.wire)

    def _close(self, wire: Any) -> None:
        async def close() -> None:
            with suppress(Exception):
                await wire.close()

        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def forget(self, living: set[str]) -> None:
        """Let go of the lines to gateways that are gone."""
        for identity in [one for one in self._spare if one not in living]:
            for _since, wire in self._spare.pop(identity):
                self._close(wire)

    def cut_off(self, gateway: str) -> None:
        """Close the lines to a gateway that is dead; one that hangs would let them wait for its answers."""
        for wire in [wire for wire, identity in self._used.items() if identity == gateway]:
            self._close(wire)

    async def aclose(self) -> None:
        """Close all that are not in use."""
        self.forget(set())
        if self._closing:
            await asyncio.wait(self._closing, timeout=1.0)
