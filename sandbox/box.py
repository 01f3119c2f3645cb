"""A box as the server sees it: a line to its init, a handle to end it, and what is watched from outside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable

from . import harvest, link, watch
from .cgroup import Cgroup
from .errors import BoxError, InputRefusedError, TierError
from .execution import (
    Execution,
    Job,
    OnOutput,
    Tools,
)
from .isolation import Isolation
from .limits import Limits
from .nursery import Newborn
from .running import SETUP, Running

logger = logging.getLogger(__name__)

SETTLE = 1.0
"""Seconds in which everything in a session has to stand still after a job."""

LOOKS = 250
"""Looks that it has at the least: seconds pass also while the machine does nothing of it."""

IDLE_LOOK = 0.5
"""Seconds between two looks at a session in which no job runs."""

TICKS = 0.02
"""Seconds of processor time that what is ending may still need."""

RESTLESS = "The session was ended: what its code left running did not stand still between two executions."


class Box:
    """One box.

    Args:
        newborn: What the zygote made.
        limits: The operator's limits.
        isolation: What confines it.
        group: Its control group, where there can be one.
        on_close: Told when it is closed.
    """

    def __init__(
        self,
        newborn: Newborn,
        limits: Limits,
        isolation: Isolation,
        group: Cgroup | None,
        on_close: Callable[[Box], None],
    ) -> None:
        self.alive = True
        """Whether it can run a job."""
        self.pid = newborn.pid
        self.zygote = newborn.zygote
        self._folder = newborn.folder
        self.isolation = isolation
        self._line = newborn.line
        self._handle = newborn.handle
        self._limits = limits
        self.group = group
        self._on_close = on_close
        self.before = watch.Seen()
        """What it used when it was ready."""
        self.fresh = True
        """Whether no job has run in it."""
        self._frames = link.Frames()
        self._busy = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._unsent = 0
        self._closing: asyncio.Task[None] | None = None
        self._idle: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Wait until code can run in it.

        Raises:
            BoxError: If it cannot be made; it is closed then.
        """
        try:
            async with asyncio.timeout(SETUP):
                kind, body = await self._next()
            if kind != link.READY:
                raise TierError(f"a box could not be set up: {body.decode(errors='replace')}")
            if self.group is not None:
                # Its init stays outside: it must live on to tell what happened to the others.
                inner = watch.tree(self.pid)[1:]
                if not inner:
                    raise TierError(
                        "a box could not be set up: this kernel does not tell the children of a process"
                    )
                for pid in inner:
                    self.group.add(pid)
            self.before = watch.usage(self.pid)
        except (OSError, TimeoutError, EOFError) as error:
            await self.close()
            raise BoxError(f"a box could not be set up: {error or 'it ended'}") from error
        except BaseException:
            await self.close()
            raise

    async def run(
        self, job: Job, *, on_output: OnOutput | None = None, tools: Tools | None = None
    ) -> Execution:
        """Run a job. When cancelled, everything in the box is ended first.

        Args:
            job: What to run.
            on_output: Told of output while it runs.
            tools: The tools it may call, if `job.tools`.

        Raises:
            BoxError: If the box is closed.
        """
        async with self._busy:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            if not self.alive:
                raise BoxError("this box has ended")
            running = Running(self, job, on_output, tools)
            try:
                execution = await running.run()
                if execution.alive and not await self._stands_still():
                    execution.alive = False
                    execution.message = RESTLESS
            except InputRefusedError:
                self._rest(job.keep and self.alive)
                raise
            except BaseException:
                await self.close()
                raise
            self._rest(execution.alive)
            return execution

    def _rest(self, goes_on: bool) -> None:
        """Wait for the next job, or end."""
        if goes_on:
            self._idle = asyncio.get_running_loop().create_task(self._look_after())
        else:
            self._begin_closing()  # the caller need not wait until the kernel has taken it apart

    async def _stands_still(self) -> bool:
        """Wait until nothing runs in it any more: its init has stopped all, but some may have been waking others."""
        deadline = time.monotonic() + SETTLE
        quiet = looks = 0
        while True:
            restless = watch.awake(self.pid)
            quiet = 0 if restless else quiet + 1
            looks += 1
            if quiet == 2:
                return True
            if restless and looks >= LOOKS and time.monotonic() > deadline:
                return False
            for pid in restless:
                _stop(pid, self.pid)
            if restless or quiet == 1:
                await asyncio.sleep(0.002)

    async def _look_after(self) -> None:
        """End it if something in it runs between two jobs: nobody counts what that uses."""
        used = watch.usage(self.pid).cpu
        while True:
            await asyncio.sleep(IDLE_LOOK)
            if watch.awake(self.pid) or watch.usage(self.pid).cpu > used + TICKS:
                logger.warning("sandbox: a session was ended: %s", RESTLESS)
                self._idle = None
                self._begin_closing()
                return

    def lost(self) -> bool:
        """Tell whether its init ended."""
        return bool(select.select([self._handle], [], [], 0)[0])

    def end(self) -> None:
        """Kill everything in it, now."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        if self.group is not None:
            self.group.kill()

    async def close(self) -> None:
        """End it, and wait until it is gone. Whoever waits may be cancelled: it is ended all the same."""
        await asyncio.shield(self._begin_closing())

    def _begin_closing(self) -> asyncio.Task[None]:
        self.alive = False
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._closing is None:
            self.end()
            self._closing = asyncio.get_running_loop().create_task(self._close())
        return self._closing

    async def _close(self) -> None:
        try:
            await self._gone()
            if self._folder is not None:
                await asyncio.to_thread(harvest.remove, self._folder)
        finally:
            # Only now: whoever still reads from the line sees its end, which a closed descriptor would hide.
            self._line.close()
            os.close(self._handle)
            if self.group is not None:
                self.group.remove()
            self._on_close(self)

    async def _gone(self) -> None:
        """Wait for the end of its init, after which nothing is left in it; see pid_namespaces(7)."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def end() -> None:
            if not ended.done():
                ended.set_result(None)

        loop.add_reader(self._handle, end)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended, 5.0)
        finally:
            loop.remove_reader(self._handle)

    async def _next(self) -> tuple[bytes, bytes]:
        """Read the next frame, of which there is one at a time before a job."""
        while True:
            for found in await self.more():
                return found

    async def more(self) -> list[tuple[bytes, bytes]]:
        """Wait for frames of its init.

        Raises:
            EOFError: If there will be none.
            LineError: If what comes is none.
        """
        data = await asyncio.get_running_loop().sock_recv(self._line, 1 << 18)
        if not data:
            raise EOFError("its line is closed")
        return self._frames.feed(data)

    async def send(self, *frames: bytes) -> None:
        """Send frames, whole: also when this is cancelled, as the next ones could not be read after half of one.

        Raises:
            OSError: If the box has ended.
        """
        data = b"".join(frames)
        if self._unsent == 0:
            with contextlib.suppress(BlockingIOError):
                data = data[self._line.send(data) :]
        if data:
            self._unsent += 1
            problem = await asyncio.shield(asyncio.ensure_future(self._sent(data)))
            if problem is not None:
                raise problem

    async def _sent(self, data: bytes) -> OSError | None:
        async with self._sending:
            try:
                await asyncio.get_running_loop().sock_sendall(self._line, data)
            except OSError as error:
                return error  # raised, it would be nobody's where the sender was cancelled
            finally:
                self._unsent -= 1
        return None


def _stop(pid: int, box: int) -> None:
    """Stop a process of a box, and nobody who has its number by now."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if pid in watch.tree(box):
                signal.pidfd_send_signal(handle, signal.SIGSTOP)
        finally:
            os.close(handle)
