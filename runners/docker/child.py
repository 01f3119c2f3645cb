"""One server in a container: its line, its log and its end, also while the engine comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from collections import deque
from typing import Any

import anyio

from ..base import Channel, Child
from ..errors import MachineAwayError
from ..logs import ServerLog
from .attachment import AttachedChannel
from .engine import PATIENCE, Engine, EngineError
from .explain import explain_start
from .follower import Follower, joined, missed

KILL_WAIT = 10.0
"""Seconds a killed container may take to end."""

LAST_WORDS = 2.0
"""Seconds the end of the line or of the log may take once a container has ended."""

AWAY = 60.0
"""Seconds an engine may be away before the line to a container of it is given up."""

BRIEF = 2.0
"""The same where calls wait for answers that were lost with their line."""

SOON = 1.0
"""Seconds an engine has to notice that a container whose output ended has ended itself."""

_LOOK = (0.02, 0.05, 0.1, 0.25, 0.5)

RECENT = 200
"""Lines of standard error that are remembered, to tell what was missed once a line is there again."""

Json = dict[str, Any]


class ContainerChild(Child):
    """A container, from its making to its removal.

    Args:
        server_id: Name of the server.
        engine: The engine.
        log: Takes what it writes.
        spoken: Whether it is spoken to over its standard streams; otherwise its standard output is log, too.

    Attributes:
        exited: Set once it has ended, or the line to it is given up, and its last words are known.
        id: The container's id, once it was made.
        removed: Whether it was removed.
    """

    def __init__(self, server_id: str, engine: Engine, log: ServerLog, *, spoken: bool = True) -> None:
        self.server_id = server_id
        self.id: str | None = None
        self.line = AttachedChannel(self.epitaph, self._complained)
        self.exited = asyncio.Event()
        self.ended_because: str | None = None
        self.oom = False
        self.closes_input = False
        self.memory = 0
        self._engine = engine
        self._log = log
        self._spoken = spoken
        self._code: int | None = None
        self._lost: str | None = None
        self._dead = False
        self._follower: Follower | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._following: asyncio.Task[None] | None = None
        self._looking = asyncio.Event()
        self._recent: deque[tuple[float, str]] = deque(maxlen=RECENT)
        self._waiting: list[tuple[float, str]] | None = None
        self._gap = False
        self.removed = False

    @property
    def channel(self) -> Channel:
        """The line over its standard streams."""
        return self.line

    @property
    def pid(self) -> int | None:
        """Give none: its processes are the engine's to count."""
        return None

    @property
    def returncode(self) -> int | None:
        """Exit status; negative for a signal."""
        return self._code

    def stderr_tail(self) -> str:
        """Give the end of what it wrote."""
        return self._log.tail()

    def noise(self) -> str:
        """Give the end of what it printed that was no message."""
        return self.line.noise()

    def epitaph(self) -> str:
        """Say how it ended, in one clause."""
        who = f"server '{self.server_id}'"
        if self.ended_because:
            return f"{who} was ended: {self.ended_because}"
        if self.oom:
            limit = f" of {self.memory >> 20} MiB" if self.memory else ""
            return f"{who} needed more memory than its container's limit{limit} (memory), and was ended"
        if self.line.fault:
            return f"{who} {self.line.fault}"
        if self._code is None:
            return f"{who} was left: {self._lost}" if self._lost else f"{who} closed its output"
        if self._code < 0:
            try:
                name = signal.Signals(-self._code).name
            except ValueError:
                name = f"signal {-self._code}"
            return f"{who} was ended by {name}"
        return f"{who} exited with status {self._code}"

    async def launch(self, name: str, config: Json) -> None:
        """Make the container, join its line, and start it.

        Args:
            name: The container's name.
            config: What it is, as the engine wants it.

        Raises:
            StartError: If the engine cannot do that.
            MachineAwayError: If it cannot be reached.
        """
        self.closes_input = bool(config.get("StdinOnce"))
        self.memory = int(config["HostConfig"].get("Memory") or 0)
        # A start that is cancelled meanwhile must know what there is to be removed.
        making = asyncio.get_running_loop().create_task(self._make(name, config))
        try:
            await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait([making])
            raise
        self._log.mark()
        try:
            if self._spoken:
                await self.line.attach(self._engine, self._path)
            await self._engine.ask("POST", f"/containers/{self._path}/start")
        except EngineError as error:
            raise await explain_start(self._engine, self.server_id, config, error) from error
        loop = asyncio.get_running_loop()
        if not self._spoken:
            self._follower = Follower(
                self._engine,
                self._path,
                self._heard,
                ended=lambda: self._dead,
                note=lambda text: self._log.note("WARNING", text),
            )
            self._following = loop.create_task(self._follower.run())
        self._tasks.append(loop.create_task(self._watch()))

    async def _make(self, name: str, config: Json) -> None:
        try:
            made = await self._engine.ask("POST", "/containers/create", params={"name": name}, body=config)
        except EngineError as error:
            raise await explain_start(self._engine, self.server_id, config, error) from error
        self.id = made["Id"]

    @property
    def _path(self) -> str:
        assert self.id is not None
        return self.id

    def _heard(self, line: str, at: float, _stream: int) -> None:
        self._log.write(line, at)

    def _complained(self, line: str) -> None:
        if self._waiting is not None:
            self._waiting.append((time.time(), line))
            return
        self._recent.append((time.time(), line))
        self._log.write(line)

    def look(self) -> None:
        """Look at it now: somebody has heard that it may have ended."""
        self._looking.set()
        self.line.hurry()

    async def _watch(self) -> None:
        """Follow it to its end: join a line that was cut where that loses nothing, else let the line be over."""
        try:
            while not await self._over():
                self._gap = True
                if not self._spoken:
                    continue
                if not self.line.unheard:
                    self._lost = (
                        "its line was cut while it was in use, so that nobody knows what it still heard"
                    )
                    break
                try:
                    self._waiting = self._waiting or []  # what comes now stands behind what was missed
                    await self.line.attach(self._engine, self._path)
                except (EngineError, MachineAwayError):
                    await asyncio.sleep(_LOOK[-1])
                    continue
                await self._catch_up()
                self._log.note("WARNING", "the line to its container was cut, and is there again")
        except MachineAwayError as error:
            self._lost = error.message
        finally:
            await self._finish()

    async def _over(self) -> bool:
        """Wait until the line is cut or somebody says to look; tell whether the container has ended."""
        if self._spoken:
            cut = asyncio.ensure_future(self.line.cut.wait())
            told = asyncio.ensure_future(self._looking.wait())
            try:
                await asyncio.wait({cut, told}, return_when=asyncio.FIRST_COMPLETED)
                # Of one that has ended the line ends too, behind its last words.
                await asyncio.wait({cut}, timeout=LAST_WORDS)
            finally:
                cut.cancel()
                told.cancel()
            self._looking.clear()
            cut_off = self.line.cut.is_set()
            # Whoever waits for an answer that cannot come any more is not kept waiting for an engine that is away.
            if await self._inspected(
                SOON if cut_off else 0.0, AWAY if self.line.unheard or not cut_off else BRIEF
            ):
                return True
            return False if self.line.cut.is_set() else await self._over()
        with contextlib.suppress(EngineError, MachineAwayError):
            await self._engine.ask("POST", f"/containers/{self._path}/wait", patience=math.inf)
        return await self._inspected(SOON)

    async def _inspected(self, patience: float, away: float = AWAY) -> bool:
        """Tell whether it has ended, once the engine says so.

        Args:
            patience: Seconds in which a running one may still be found ended.
            away: Seconds the engine may be away.

        Raises:
            MachineAwayError: If the engine is away for too long.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        tries = 0
        while True:
            try:
                told = await self._engine.ask("GET", f"/containers/{self._path}/json", patience=10.0)
            except EngineError as error:
                if error.status == 404:
                    self._lost = "its container was removed by somebody else"
                    return True
                told = None
            except MachineAwayError:
                if loop.time() - began > away:
                    raise
                patience = 0.0  # an engine that comes back knows who lives
                told = None
            if told is not None:
                state = told["State"]
                if not state.get("Running"):
                    self._ended_as(state)
                    return True
                # By looks, too: on a machine that stood still the engine has had no time to notice anything.
                late = loop.time() - began >= patience and (not patience or tries >= len(_LOOK))
                if late or (tries > 2 and not self.line.cut.is_set()):
                    return False
            await asyncio.sleep(_LOOK[min(tries, len(_LOOK) - 1)])
            tries += 1

    async def _catch_up(self) -> None:
        """Write down what it wrote while its line was cut, from the engine's log."""
        found = await missed(self._engine, self._path, list(self._recent))
        waiting, self._waiting = self._waiting or [], None
        for at, line in joined(found, waiting):
            self._recent.append((at, line))
            self._log.write(line, at)

    def _ended_as(self, state: Json) -> None:
        code = int(state.get("ExitCode") or 0)
        self.oom = self.oom or bool(state.get("OOMKilled"))
        # As a shell tells it, and the engine's init, too.
        self._code = -(code - 128) if 128 < code < 128 + 65 else code

    async def _finish(self) -> None:
        """Gather the last words; then everybody may know."""
        self._dead = True
        try:
            if self._follower is not None and self._following is not None:
                self._follower.hurry()
                if self._code is not None:
                    await asyncio.wait([self._following], timeout=LAST_WORDS)
                self._following.cancel()
            self.line.ended()
            if self._spoken and self._gap and self._code is not None:
                await self._catch_up()
            self._log.close()
        finally:
            self.exited.set()

    async def stop(self, grace: float) -> None:
        """End it and remove it: close its input, ask it to end, end it by force.

        Args:
            grace: Seconds it has to end by itself.
        """
        if self.id is None:
            return
        patience = PATIENCE
        with anyio.CancelScope(shield=True):
            try:
                await self._stop(grace)
            except (EngineError, MachineAwayError) as error:
                self._lost = self._lost or error.message
                patience = BRIEF  # one that does not answer is not waited for again
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)
            if not self.exited.is_set():
                self.exited.set()
            self.line.abandon()
            await self._remove(patience)

    async def _stop(self, grace: float) -> None:
        if self.exited.is_set() or not self._tasks:
            return
        if self.closes_input:
            await self.line.aclose()
            if await self.ended_within(grace):
                return
        # The image may say which signal it wants; the engine knows, and kills what does not end.
        whole = max(1, math.ceil(grace))
        try:
            await self._engine.ask(
                "POST", f"/containers/{self._path}/stop", params={"t": whole}, patience=whole + KILL_WAIT
            )
        except EngineError as error:
            if error.status not in (304, 404):
                raise
        self._looking.set()
        await self.ended_within(KILL_WAIT)

    async def _remove(self, patience: float) -> None:
        if self.removed:
            return
        try:
            params = {"force": True, "v": True}
            await self._engine.ask("DELETE", f"/containers/{self._path}", params=params, patience=patience)
        except EngineError as error:
            # 404: somebody else removed it; 409: it is being removed.
            if error.status not in (404, 409):
                self._log.note("WARNING", f"its container {self._path[:12]} could not be removed: {error}")
                return
        except MachineAwayError:
            return
        self.removed = True

    def kill(self, reason: str) -> None:
        """End it at once, and remember why."""
        self.ended_because = reason
        if self.id is not None and not self.exited.is_set():
            self._tasks.append(asyncio.get_running_loop().create_task(self._kill()))

    async def _kill(self) -> None:
        try:
            await self._engine.ask("POST", f"/containers/{self._path}/kill", patience=KILL_WAIT)
        except (EngineError, MachineAwayError) as error:
            self._lost = self._lost or error.message
            self.line.give_up()  # so that nobody waits for it
        self._looking.set()

    def told(self, what: str, about: Json) -> None:
        """Take what the engine tells of it."""
        if what == "oom":
            self._log.note("ERROR", "the engine ended a process of it that needed more memory than its limit")
        elif what == "die":
            self.look()
        elif what.startswith("health_status"):
            healthy = "unhealthy" not in what
            self._log.note(
                "INFO" if healthy else "WARNING", f"its image's own check says: {what.partition(': ')[2]}"
            )

    async def ended_within(self, seconds: float) -> bool:
        """Wait for its end, so that its exit status and last words are known."""
        if not self._tasks:
            return True  # it never began
        with anyio.move_on_after(seconds):
            await self.exited.wait()
        return self.exited.is_set()
