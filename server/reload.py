"""The configuration file of a running ToolScore: read again when it changes, and only what changed is touched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..tools.errors import LibraryError
from ..tools.reconcile import Reconciler
from ..tools.reconcile_plan import Plan
from . import models as m
from .settings import Loaded, SettingsError
from .settings_hot import Applied, Setter, SettingChange, apply, compare
from .settings_model import options

logger = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks at the file; nothing but its status is read."""

SETTLE = 0.2
"""Seconds it must stay as it is before it is read: editors write in several steps."""

PATIENCE = 1.0
"""Seconds a file that is invalid, or gone, has to become a better one before anything is said or done about it."""

_Stamp = tuple[int, int, int] | None


class Reloader:
    """Keeps a running ToolScore as its configuration file says.

    An invalid file changes nothing: what was read last goes on to hold.

    Args:
        loaded: What ToolScore was started with.
        reconciler: Adds, changes and removes servers.
        setters: What takes changed settings over; see `settings_hot.HOT`.
        on_change: Told of every change that was made, and of every file that is invalid.
    """

    def __init__(
        self,
        loaded: Loaded,
        reconciler: Reconciler,
        setters: Mapping[str, Setter],
        on_change: Callable[[m.ReloadResult], None],
    ) -> None:
        self._loaded = loaded
        self._settings = loaded.settings
        self._reconciler = reconciler
        self._setters = setters
        self._on_change = on_change
        self.also: Callable[[bool], Sequence[str]] = lambda _check: ()
        """Reads what has a file of its own too, or with `True` only looks at it; gives what is wrong with it."""
        self._alone = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: _Stamp | str = "nothing yet"
        self._told: tuple[str, ...] = ()
        self._hung_up = False

    def begin(self) -> None:
        """Bring the servers in line with the file that ToolScore was started with, and watch it from now on."""
        self._spawn(self._follow())

    def hang_up(self) -> None:
        """Do what SIGHUP asks for: read the file again, without waiting for the next look at it."""
        if self._hung_up:
            return  # the reading that has not begun yet will see what this one would
        self._hung_up = True
        logger.info("reading the configuration again, as asked for by SIGHUP")
        self._spawn(self._guarded(self._reload_hung_up()))

    async def _reload_hung_up(self) -> None:
        async with self._alone:
            self._hung_up = False
            await self._reload(check=False)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Watch no more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._reconciler.close()

    async def reload(self, check: bool = False) -> m.ReloadResult:
        """Read the file now.

        Args:
            check: Only tell what would change.
        """
        async with self._alone:
            return await self._reload(check=check)

    async def _reload(self, *, check: bool) -> m.ReloadResult:
        self.also(check)  # first, so that what is added is under what it says
        result = await self._reloaded(check=check)
        said = self.also(True)  # it may be another file by now
        result.remarks, result.policy_valid = [*result.remarks, *said], not said
        return result

    async def _reloaded(self, *, check: bool) -> m.ReloadResult:
        stamp = _stamp(self._loaded.config_file)
        loaded = await self._load()
        if isinstance(loaded, SettingsError):
            return self._invalid(loaded, check=check)
        if check:
            return await self._checked(loaded)
        self._seen = stamp
        return await self._done(loaded)

    async def _load(self) -> Loaded | SettingsError:
        assert self._loaded.again is not None
        try:
            return await asyncio.to_thread(self._loaded.again)
        except SettingsError as error:
            return error

    async def _follow(self) -> None:
        async with self._alone:
            await self._guarded(self._done(self._loaded))
        while True:
            await self._look()
            await asyncio.sleep(POLL)

    async def _look(self) -> None:
        """Look whether the file has changed, and if it has and stays so, do what it asks for."""
        path = self._loaded.config_file
        patience = SETTLE
        while (stamp := _stamp(path)) != self._seen:
            await asyncio.sleep(patience)
            if _stamp(path) != stamp:
                patience = SETTLE
                continue
            async with self._alone:
                if stamp == self._seen:
                    return  # read meanwhile, as somebody asked for it
                loaded = await self._load()
                bad = stamp is None or isinstance(loaded, SettingsError)
                if _stamp(path) != stamp or (bad and patience < PATIENCE):
                    patience = PATIENCE
                    continue
                self._seen = stamp
                if isinstance(loaded, SettingsError):
                    self._invalid(loaded)
                else:
                    await self._guarded(self._done(loaded))

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        """Go on looking at the file, whatever went wrong with it once."""
        try:
            await work
        except LibraryError as error:
            logger.error("the configuration cannot be taken over: %s", error)
        except Exception:
            logger.exception("bug while taking over the configuration")

    async def _checked(self, loaded: Loaded) -> m.ReloadResult:
        changes = compare(self._settings, loaded.settings)
        applied = apply(self._settings, loaded.settings, dict.fromkeys(self._setters, lambda _settings: None))
        assert len(changes) == len(applied.applied) + len(applied.deferred)
        return self._result(loaded, await self._reconciler.plan(loaded.declared), applied)

    async def _done(self, loaded: Loaded) -> m.ReloadResult:
        """Do what a file asks for that is in order."""
        applied = apply(self._settings, loaded.settings, self._setters)
        self._settings, self._loaded = applied.settings, loaded
        done = await self._reconciler.apply(await self._reconciler.plan(loaded.declared))
        result = self._result(loaded, done, applied)
        result.done = True
        self._tell(result)
        return result

    def _invalid(self, error: SettingsError, *, check: bool = False) -> m.ReloadResult:
        result = m.ReloadResult(
            file=str(self._loaded.config_file), valid=False, done=False, problems=list(error.problems)
        )
        if not check:
            self._tell(result)
        return result

    def _tell(self, result: m.ReloadResult) -> None:
        """Log what is new; what was refused or put off the last time, too, is no news."""
        lines = tuple(result.lines())
        news = [line for line in lines if line not in self._told] if result.valid else lines
        if lines != self._told and news:
            level = logging.INFO if result.valid else logging.ERROR
            if not result.valid:
                logger.error("the configuration file is invalid, so all stays as it was:")
            for line in news:
                logger.log(level, "configuration: %s", line)
            self._on_change(result)
        self._told = tuple(line for line in lines if not line.startswith(("added:", "changed:", "removed:")))

    def _result(self, loaded: Loaded, plan: Plan, applied: Applied) -> m.ReloadResult:
        remarks = list(loaded.remarks)
        if plan.removed and not loaded.config_exists:
            remarks.append(f"there is no file {loaded.config_file} any more, so that it declares nothing")
        result = outlined(loaded, plan)
        result.failed = [
            m.RefusedServer(name=name, reason=reason)
            for name, reason in sorted(self._reconciler.failures.items())
        ]
        result.settings = [
            *(changed_setting(change, "now") for change in applied.applied),
            *(changed_setting(change, "next start") for change in applied.deferred),
        ]
        result.remarks = remarks
        return result


def outlined(loaded: Loaded, plan: Plan) -> m.ReloadResult:
    """Tell what a valid file means for the servers, of which nothing is done yet.

    Args:
        loaded: The file.
        plan: What is to be done.
    """
    return m.ReloadResult(
        file=str(loaded.config_file),
        valid=True,
        done=False,
        added=[entry.name for entry in plan.added],
        changed=[m.ChangedServer(name=entry.name, what=list(what)) for entry, what in plan.changed],
        removed=list(plan.removed),
        refused=[m.RefusedServer(name=name, reason=reason) for name, reason in plan.refused],
    )


def changed_setting(change: SettingChange, when: m.When) -> m.ChangedSetting:
    """Tell of a setting that has another value now."""
    option = options()[change.key]
    return m.ChangedSetting(
        name=change.key,
        before=option.written(option.shown(change.before)),
        after=option.written(option.shown(change.after)),
        effective=when,
    )


def _stamp(path: Path) -> _Stamp:
    """Tell whether a file is the same without reading it; `None` where there is none, or none to be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
