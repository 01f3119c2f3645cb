"""What a container writes, read from the engine's log of it: each line once, also over connections that break."""

from __future__ import annotations

import asyncio
import calendar
import logging
import time
from collections.abc import Callable

import anyio

from ..errors import MachineAwayError
from ..pipes import LONGEST_STDERR_LINE
from .attachment import STDERR, Frames
from .engine import Engine, EngineError

logger = logging.getLogger(__name__)

RATE = 1024 * 1024
"""Bytes a second that are read of a container which floods its log, once a burst is over."""

BURST = 4 * 1024 * 1024

OVERLAP = 30.0
"""Seconds before the last line that was seen, from where on a log is read for those that were missed."""

_AGAIN = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds before each further try to read on."""

_STAMP = len("2026-11-22T12:39:25")


class Follower:
    """Follows the log of one container from a moment on, until the container has ended.

    The engine stamps each line with its time in nanoseconds. The last one's, and how many lines had that same time,
    say where to go on.

    Args:
        engine: The engine.
        container: The container's id.
        line: Takes each line: its text, when it was written (seconds since 1970), and whose output it is of.
        ended: Whether the container has ended for good, so that a log that ends is whole.
        note: Told of floods.
    """

    def __init__(
        self,
        engine: Engine,
        container: str,
        line: Callable[[str, float, int], None],
        *,
        ended: Callable[[], bool],
        note: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._engine = engine
        self._container = container
        self._line = line
        self._ended = ended
        self._note = note
        self._cursor = ""
        self._same = 0
        self._skip = 0
        self._open: dict[int, tuple[float, bytes]] = {}
        self._left = float(BURST)
        self._at = time.monotonic()
        self._told = False
        self._begin = 0.0
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """Hold nothing back any more: the container has ended."""
        self._hurried.set()

    def since_time(self, at: float) -> None:
        """Begin at a time, in seconds since 1970."""
        self._begin = at

    async def run(self, *, follow: bool = True) -> None:
        """Read until the container has ended, or to the present end of its log.

        Args:
            follow: Whether to wait for what is written later.
        """
        tries = 0
        while True:
            complete = False
            try:
                before = self._cursor, self._same
                await self._read(follow)
                complete = True
                if (self._cursor, self._same) != before:
                    tries = 0
            except EngineError as error:
                if error.status in (404, 409, 501):
                    break  # it was removed, or its log cannot be read
                logger.debug("log of container %s: %s", self._container[:12], error)
            except MachineAwayError:
                pass
            # A log also ends when the engine goes; only that of a container that has ended is whole.
            if complete and (not follow or self._ended()):
                break
            await asyncio.sleep(_AGAIN[min(tries, len(_AGAIN) - 1)])
            tries += 1
        for stream, (at, rest) in self._open.items():
            if rest:
                self._line(rest.decode("utf-8", "replace").rstrip("\r"), at, stream)
        self._open.clear()

    async def _read(self, follow: bool) -> None:
        self._skip, seen = self._same, self._cursor
        frames = _Entries(lambda stream, entry: self._entry(stream, entry, seen))
        async with self._engine.stream(
            "GET",
            f"/containers/{self._container}/logs",
            params={
                "follow": follow,
                "stdout": True,
                "stderr": True,
                "timestamps": True,
                "since": _unix(seen) if seen else f"{max(0.0, self._begin):.9f}",
            },
        ) as response:
            import aiohttp

            try:
                async for data in response.content.iter_any():
                    frames.feed(data)
                    await self._pace(len(data))
            except (aiohttp.ClientError, OSError):
                return  # it was cut; the next reading goes on behind the last line

    def _entry(self, stream: int, entry: bytes, seen: str) -> None:
        """Take one entry of the log: a time, a space, and a line or a part of one."""
        stamp, _, text = entry.partition(b" ")
        at = stamp.decode("ascii", "replace")
        if seen and at == seen and self._skip > 0:
            self._skip -= 1
            return
        if at == self._cursor:
            self._same += 1
        else:
            self._cursor, self._same = at, 1
        began, rest = self._open.pop(stream, (_seconds(at), b""))
        whole = text.endswith(b"\n")
        text = (rest + text.rstrip(b"\n"))[:LONGEST_STDERR_LINE]
        if whole:
            self._line(text.decode("utf-8", "replace").rstrip("\r"), began, stream)
        else:
            self._open[stream] = began, text

    async def _pace(self, size: int) -> None:
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._at) * RATE) - size
        self._at = now
        if self._left >= 0 or self._hurried.is_set():
            return
        if not self._told:
            self._told = True
            self._note(f"it floods its log: only {RATE // 1024} KiB of it are read a second")
        with anyio.move_on_after(-self._left / RATE):
            await self._hurried.wait()


class _Entries(Frames):
    """Frames that are each one entry of a log: given as a whole."""

    def __init__(self, take: Callable[[int, bytes], None]) -> None:
        super().__init__(self._piece)
        self._whole = take
        self._pieces: list[bytes] = []

    def _piece(self, stream: int, data: bytes) -> None:
        if self._left:
            self._pieces.append(data)
            return
        if self._pieces:
            self._pieces.append(data)
            data = b"".join(self._pieces)
            self._pieces.clear()
        self._whole(stream, data)


async def missed(engine: Engine, container: str, seen: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Give the lines of standard error that a container wrote since the last one that was seen, with their times.

    Args:
        engine: The engine.
        container: The container's id.
        seen: The last lines that were read from its line itself, with the times they came; all there were, if few.
    """
    found: list[tuple[float, str]] = []

    def take(line: str, at: float, stream: int) -> None:
        if stream == STDERR:
            found.append((at, line))

    reader = Follower(engine, container, take, ended=lambda: True)
    reader.since_time(seen[-1][0] - OVERLAP if seen else 0.0)
    reader.hurry()
    await reader.run(follow=False)
    if not seen:
        return found
    last = seen[-1][0]
    lines = [line for _, line in found]
    fitting: list[int] = []
    for length in range(min(3, len(seen)), 0, -1):  # of an engine that was killed, a line may be lost
        tail = [line for _, line in seen[-length:]]
        fitting = fitting or [
            number for number in range(length, len(lines) + 1) if lines[number - length : number] == tail
        ]
    if not fitting:
        return [one for one in found if one[0] > last]
    # The same text may come again and again: of the places that fit, the one is meant whose time is nearest.
    return found[min(fitting, key=lambda number: abs(found[number - 1][0] - last)) :]


def joined(log: list[tuple[float, str]], live: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Join lines of a log with those that came over the line meanwhile, which are its last ones, in part or all.

    Args:
        log: Lines of the log.
        live: Lines that came while it was read; of the first, the beginning may be missing.
    """
    for number in range(min(len(log), len(live)), 0, -1):
        there, here = [line for _, line in log[-number:]], [line for _, line in live[:number]]
        if there[1:] == here[1:] and there[0].endswith(here[0]):
            return [*log, *live[number:]]
    return [*log, *live]


def _seconds(stamp: str) -> float:
    """Give an engine's time as seconds since 1970; now, where it is none."""
    try:
        whole = calendar.timegm(time.strptime(stamp[:_STAMP], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return time.time()
    fraction = stamp[_STAMP:].rstrip("Z")
    return whole + (float(f"0{fraction}") if fraction.startswith(".") and fraction[1:].isdigit() else 0.0)


def _unix(stamp: str) -> str:
    """Give an engine's time as its parameter `since` wants it, exact to the nanosecond."""
    whole = int(_seconds(stamp[:_STAMP] + "Z"))
    fraction = stamp[_STAMP:].rstrip("Z").lstrip(".")
    return f"{whole}.{fraction.ljust(9, '0')}" if fraction.isdigit() else str(whole)
