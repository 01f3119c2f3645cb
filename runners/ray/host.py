"""What an agent does on its node: takes one ToolScore at a time on its line, and keeps servers for it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ... import __version__
from ..guard import Guard
from ..ledger import Ledger
from ..sampler import Sampler
from .fuse import now
from .hosted import Hosted
from .options import BEATS
from .tls import agents_side
from .visit import Visit

_ROOT = str(Path(__file__).absolute().parents[3])
_FUSE = f"import sys; sys.path.append({_ROOT!r}); from toolscore.runners.ray.fuse import main; main()"

FOREVER = float("inf")

ENDED_WITHIN = 0.25
"""Seconds an agent has to see its servers ended, before its fuse does it."""


@dataclass(frozen=True, slots=True)
class Charter:
    """What ToolScore tells its agents through Ray.

    Attributes:
        life: Number of ToolScore's life: agents serve none with a lower one than they knew.
        secret: What both sides of a line prove to know.
        folder: Where the node keeps what is ToolScore's.
        port: Port to listen on; any free one when 0.
        lease: Seconds servers are kept without a word of ToolScore.
        orphaned: Seconds an agent stays without one.
    """

    life: int
    secret: str
    folder: str
    port: int
    lease: float
    orphaned: float


class Host:
    """An agent's work, on an event loop of its own.

    Args:
        charter: What ToolScore told.
        address: Address of the node to listen on.
        leave: Called when no ToolScore came for long.
    """

    def __init__(self, charter: Charter, address: str, leave: Callable[[], None]) -> None:
        self.charter = charter
        self._address = address
        self._leave = leave
        self.guard = Guard()
        self.folder, self._held = _folder(Path(charter.folder).expanduser())
        self.ledger = Ledger(self.folder / "processes.jsonl")
        self.sampler = Sampler()
        """Measures what servers use, and ends those over their limits."""
        self.visit: Visit | None = None
        self.rank = (0, 0)
        """Life and number of the visit that was let in last."""
        self.due = FOREVER
        """When the lease of what runs here is over."""
        self._server: asyncio.Server | None = None
        self._fuse: subprocess.Popen[bytes] | None = None
        self._alone_since = now()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._entering = asyncio.Lock()
        self._turns: dict[str, asyncio.Lock] = {}

    async def open(self) -> dict[str, Any]:
        """Begin to listen.

        Returns:
            Where, and what listens there.
        """
        await asyncio.to_thread(self.ledger.sweep)  # what an agent that was killed left in this folder
        self._fuse = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _FUSE],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        loop = asyncio.get_running_loop()
        try:
            context, certificate = await asyncio.to_thread(agents_side, self.folder)
        except OSError as exc:
            raise OSError(f"the folder {self.folder} (ray.folder) cannot be written there: {exc}") from None
        listening = _listening(self._address, self.charter.port)
        self._server = await loop.create_server(lambda: Visit(self), sock=listening, ssl=context)
        self.spawn(self._keep_time())
        return {
            "host": self._address,
            "port": listening.getsockname()[1],
            "pid": os.getpid(),
            "version": __version__,
            "python": sys.version.split()[0],
            "folder": str(self.folder),
            "certificate": certificate,
        }

    async def aclose(self) -> None:
        """End everything, and let go of the folder."""
        if self._server is not None:
            self._server.close()
        visit = self.visit
        if visit is not None:
            visit.close()
            await visit.ended()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.guard.close()
        await self.sampler.aclose()
        if self._fuse is not None and self._fuse.stdin is not None:
            self._fuse.stdin.close()
            await asyncio.to_thread(self._fuse.wait)
        self._held.close()

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Have something done, and held until it is."""
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def enter(self, visit: Visit, rank: tuple[int, int]) -> bool:
        """Let a visit in, once everything of those before it has ended.

        Args:
            visit: The visit.
            rank: Life of ToolScore, and number of the visit in it.

        Returns:
            Whether it was let in: one with a lower rank than another before it is not.
        """
        async with self._entering:
            if rank <= self.rank or rank[0] < self.charter.life:
                return False
            self.rank = rank
            old, self.visit = self.visit, visit
            if old is not None:
                old.close()
                await old.ended()
            self.extend(now())
            return True

    def left(self, visit: Visit) -> None:
        """Note that a visit is over."""
        if self.visit is visit:
            self.visit = None
            self._alone_since = now()
            self._set_due(now() + ENDED_WITHIN)
            self.spawn(self._clear(visit))

    async def _clear(self, visit: Visit) -> None:
        await visit.ended()
        if self.visit is None:
            self._set_due(FOREVER)

    def extend(self, beat: float) -> None:
        """Keep what runs here for another lease, from when the beat was sent that was answered."""
        self._set_due(beat + self.charter.lease)

    def _set_due(self, due: float) -> None:
        self.due = due
        if self._fuse is not None and self._fuse.stdin is not None:
            with contextlib.suppress(OSError):
                self._fuse.stdin.write(f"{due}\n".encode())
                self._fuse.stdin.flush()

    async def _keep_time(self) -> None:
        while True:
            # Up to the very end of the lease, and not to the next beat after it: the fuse is not patient.
            await asyncio.sleep(max(0.0, min(self.charter.lease / BEATS, self.due - now())))
            visit = self.visit
            if visit is not None:
                if now() >= self.due:
                    visit.close("nothing was heard of ToolScore for the time of its lease")
                else:
                    visit.beat()
            elif now() - self._alone_since > self.charter.orphaned:
                self._leave()
                return

    @contextlib.asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Be the only one who changes what is installed under a name."""
        async with self._turns.setdefault(name, asyncio.Lock()):
            yield

    def place(self, name: str) -> Path:
        """Give the working folder of a server that is not installed here, made if need be."""
        path = self.folder / "homes" / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    async def start(self, hosted: Hosted, request: Mapping[str, Any]) -> dict[str, Any]:
        """Start a server as ToolScore asks; see `starting.start`."""
        from .starting import start

        return await start(self, hosted, request)


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family)
    except OSError as exc:
        raise OSError(f"it cannot listen at {address}, port {port} (ray.port): {exc}") from None


def _folder(base: Path) -> tuple[Path, IO[bytes]]:
    """Take the first folder that no other agent of this machine has; it is held for as long as this process lives."""
    try:
        return _first_free(base)
    except OSError as exc:
        raise OSError(f"the folder {base} (ray.folder) cannot be used there: {exc}") from None


def _first_free(base: Path) -> tuple[Path, IO[bytes]]:
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = 0
    while True:
        folder = base / str(number)
        folder.mkdir(mode=0o700, exist_ok=True)
        held = (folder / "lock").open("wb")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            number += 1
            continue
        return folder, held
