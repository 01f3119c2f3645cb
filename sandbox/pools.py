"""Which pool runs a call: one for each environment of packages, few at the same time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from .refusal import CallRefusedError
from .requirements import compact, name_of, versions
from .settings import SandboxSettings
from .supplies import Boxes, Packages, Tell

logger = logging.getLogger(__name__)

MOST = 3
"""Pools at the same time besides the one all code has; each has a process of its own and its warm boxes."""

EACH = MOST - 1
"""Of these, what one principal can hold: nobody shuts the others out."""

BEAT = 5.0
"""Seconds after which those who wait for packages are told that it goes on."""


class InstallingError(CallRefusedError):
    """Packages are still being installed.

    Args:
        doing: What is being done, in a sentence.
    """

    def __init__(self, doing: str) -> None:
        super().__init__("installing", f"Nothing was run yet. {doing} Call again in a while.")
        self.doing = doing


class _Entry:
    """A pool, or what there is of it."""

    def __init__(self, packages: tuple[str, ...], principal: str) -> None:
        self.packages = packages
        self.principal = principal  # for whom it is started
        self.users: Counter[str] = Counter()  # by principal
        self.environment: Any = None
        self.boxes: Boxes | None = None
        self.installed: tuple[str, ...] = ()
        self.starting: asyncio.Task[None] | None = None
        self.waiting: list[Tell] = []
        self.began = time.monotonic()
        self.step = ""

    @property
    def idle(self) -> bool:
        return not self.users and self.starting is None

    def held_by(self, principal: str) -> bool:
        """Tell whether it is there for a principal: who has it started holds it until that is done."""
        return principal in self.users or (self.starting is not None and self.principal == principal)

    def leave(self, principal: str) -> None:
        self.users[principal] -= 1
        if not self.users[principal]:
            del self.users[principal]

    def doing(self) -> str:
        """Say what is being done."""
        seconds = time.monotonic() - self.began
        names = ", ".join(self.packages) or "the sandbox"
        step = f" Last step: {self.step}." if self.step else ""
        return f"Getting {names} ready, for {seconds:.0f} s so far.{step}"

    def tell(self, text: str) -> None:
        for tell in [*self.waiting]:
            tell(text)


class Pools:
    """The pools of all environments.

    Args:
        settings: The operator's.
        make: Makes a pool for an environment, without starting it.
        packages: Makes environments; without it there are only the standard library's modules.
    """

    def __init__(
        self, settings: SandboxSettings, make: Callable[[Any], Boxes], packages: Packages | None = None
    ) -> None:
        self._settings = settings
        self._make = make
        self._packages = packages
        self._entries: dict[tuple[str, ...], _Entry] = {}  # least recently used first
        self._default = tuple(sorted(set(settings.packages)))
        self._names = {name_of(requirement) for requirement in settings.packages}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def chosen(self, asked: Sequence[str]) -> tuple[str, ...]:
        """Tell which packages a call gets that asks for some: those all have, and what it asks for beyond them.

        Raises:
            CallRefusedError: If one of them is not allowed.
        """
        more = set()
        allowed = {name if name == "*" else name_of(name) for name in self._settings.allow_packages}
        for requirement in asked:
            wanted = compact(requirement)
            asked_versions = versions(wanted)
            if asked_versions is None:
                raise CallRefusedError(
                    "invalid_arguments",
                    f"Nothing was run. packages: {requirement[:100]!r} is not a package's name with versions, such "
                    "as numpy or 'pandas>=2'. Correct it and call again.",
                )
            name = name_of(wanted)
            if wanted in self._default or (name in self._names and not asked_versions):
                continue
            if "*" not in allowed and name not in allowed:
                have = (
                    ", ".join(sorted([*self._default, *(allowed - self._names)]))
                    or "the standard library only"
                )
                raise CallRefusedError(
                    "refused",
                    f"Nothing was run. The package {requirement!r} is not available here. Available: {have}. Do "
                    "without it, or ask the operator to add it to the setting sandbox.allow_packages (calls may "
                    "ask for it) or sandbox.packages (all code has it).",
                )
            more.add(wanted)
        replaced = {name_of(requirement) for requirement in more}
        kept = {requirement for requirement in self._default if name_of(requirement) not in replaced}
        return tuple(sorted(kept | more))

    @asynccontextmanager
    async def using(
        self,
        packages: tuple[str, ...],
        principal: str,
        tell: Tell | None = None,
        patience: float | None = None,
    ) -> AsyncIterator[Boxes]:
        """Hold the pool with these packages while it is needed.

        Packages that are being installed are so for all who wait for them: none of them ends it by going away.

        Args:
            packages: As `chosen` gave them.
            principal: For whom.
            tell: Told how the installation goes on, a line at a time.
            patience: Seconds to wait for packages to be installed; `None` waits to the end.

        Raises:
            CallRefusedError: If its environment cannot be made, or not in that time, or too many others are in use.
        """
        entry, ending = self._entry(packages, principal)
        entry.users[principal] += 1
        try:
            if ending is not None:
                await asyncio.wait({ending})  # which does not cancel it
            if entry.boxes is None:
                await self._awaited(entry, principal, tell, patience)
            assert entry.boxes is not None
            yield entry.boxes
        finally:
            entry.leave(principal)
            self._forget(entry)

    async def _awaited(
        self, entry: _Entry, principal: str, tell: Tell | None, patience: float | None
    ) -> None:
        if self._closed:
            raise CallRefusedError("unavailable", "Nothing was run: the sandbox is being closed.")
        if entry.starting is None:
            entry.principal = principal
            entry.began = time.monotonic()
            entry.starting = asyncio.get_running_loop().create_task(self._start(entry))
            entry.starting.add_done_callback(lambda _task: self._started(entry))
        starting = entry.starting
        if tell is not None:
            entry.waiting.append(tell)
        try:
            await asyncio.wait({starting}, timeout=patience)  # which does not cancel it
        finally:
            if tell is not None:
                entry.waiting.remove(tell)
        if not starting.done():
            raise InstallingError(entry.doing())
        if starting.cancelled():
            raise CallRefusedError("unavailable", "Nothing was run: the sandbox is being closed.")
        match starting.exception():
            case None:
                return
            case CallRefusedError() as refused:  # one of its own for each who waits: they collect tracebacks
                raise CallRefusedError(refused.outcome, refused.message)
            case error:
                raise error

    def _started(self, entry: _Entry) -> None:
        if entry.starting is not None and not entry.starting.cancelled():
            entry.starting.exception()  # nobody may be left who waits for it
        entry.starting = None
        self._forget(entry)

    def _forget(self, entry: _Entry) -> None:
        if entry.boxes is None and entry.idle and self._entries.get(entry.packages) is entry:
            del self._entries[entry.packages]

    def _entry(self, packages: tuple[str, ...], principal: str) -> tuple[_Entry, asyncio.Task[None] | None]:
        """Give what there is with these packages, and the ending of another one that makes room for it."""
        entry = self._entries.get(packages)
        ending = None
        if packages != self._default and not (entry is not None and entry.held_by(principal)):
            ending = self._room(principal, new=entry is None)
        if entry is None:
            entry = _Entry(packages, principal)
        self._entries.pop(packages, None)
        self._entries[packages] = entry
        return entry, ending

    def _room(self, principal: str, *, new: bool) -> asyncio.Task[None] | None:
        others = {key: other for key, other in self._entries.items() if key != self._default}
        mine = [key for key, other in others.items() if other.held_by(principal)]
        if len(mine) >= EACH:
            sets = "; ".join(", ".join(key)[:200] for key in mine)
            raise CallRefusedError(
                "limit",
                f"Nothing was run. You use {len(mine)} other sets of packages at the same time ({sets}), and {EACH} "
                "are the most. Wait for those executions or end those sessions (session_end), ask for one of these "
                "sets, or leave packages out.",
            )
        if not new or len(others) < MOST:
            return None
        idle = next((other for other in others.values() if other.idle), None)
        if idle is None:
            raise CallRefusedError(
                "limit",
                f"Nothing was run. {MOST} other sets of packages are in use, the most there can be at the same time. "
                "Try again when executions or sessions with them have ended, or leave packages out.",
            )
        del self._entries[idle.packages]
        ending = asyncio.get_running_loop().create_task(self._end(idle))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending

    async def _end(self, entry: _Entry) -> None:
        try:
            if entry.boxes is not None:
                await entry.boxes.__aexit__(None, None, None)
        except Exception:
            logger.exception("a pool did not end well")
        finally:
            self._release(entry)

    def _release(self, entry: _Entry) -> None:
        if self._packages is not None and entry.environment is not None:
            self._packages.release(entry.environment)
        entry.environment = None

    async def _start(self, entry: _Entry) -> None:
        environment = entry.environment = await self._environment(entry)
        try:
            boxes = self._make(environment)
            await boxes.__aenter__()
        except BaseException:
            self._release(entry)
            raise
        entry.installed = tuple(getattr(environment, "names", ()))
        entry.boxes = boxes

    async def _environment(self, entry: _Entry) -> Any:
        packages = entry.packages
        if self._packages is None:
            if packages:
                raise CallRefusedError(
                    "refused", f"Nothing was run. There are no packages here: {', '.join(packages)}."
                )
            return None

        def stepped(text: str) -> None:
            entry.step = text
            entry.tell(text)

        beating = asyncio.get_running_loop().create_task(_beat(entry))
        try:
            return await self._packages.environment(packages, stepped)
        except Exception as exc:
            whose = (
                "All code has these packages by the settings sandbox.packages and sandbox.preload: the operator can "
                "correct those, or see that the package index can be reached."
                if packages == self._default
                else "Correct packages, or do without them, and call again."
            )
            raise CallRefusedError("install_failed", f"Nothing was run: {exc}\n{whose}") from exc
        finally:
            beating.cancel()

    def installed(self, packages: tuple[str, ...]) -> tuple[str, ...]:
        """Tell what packages came to, as `name==version`; nothing while there is no pool with them."""
        entry = self._entries.get(packages)
        return entry.installed if entry is not None else ()

    def stats(self) -> list[dict[str, Any]]:
        """Tell of each pool which packages it has, and its own figures."""
        return [
            {"packages": list(packages), **entry.boxes.stats()}
            for packages, entry in self._entries.items()
            if entry.boxes is not None
        ]

    @property
    def default(self) -> tuple[str, ...]:
        """The packages all code has."""
        return self._default

    async def close(self) -> None:
        """End every pool."""
        self._closed = True
        entries = list(self._entries.values())
        self._entries.clear()
        starting = [entry.starting for entry in entries if entry.starting is not None]
        for task in starting:
            task.cancel()
        if starting:
            await asyncio.wait(starting)
        await asyncio.gather(*(self._end(entry) for entry in entries))
        if self._ending:
            await asyncio.wait({*self._ending})


async def _beat(entry: _Entry) -> None:
    """Tell those who wait that it goes on: a client that hears nothing for long gives up."""
    while True:
        await asyncio.sleep(BEAT)
        entry.tell(entry.doing())
