"""Environments of packages: made once by uv, then read-only for every box.

The folder has `locks/` (what a set of requirements came to: versions and hashes), an environment per lock, named by
its digest, and `building-…` while one is made (`building`).

References: flock(2), https://docs.astral.sh/uv/concepts/resolution/.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from . import uv
from .building import PREFIX, Building
from .claims import drop, held, turn
from .nursery import Environment

_TELL = (
    "import sys, sysconfig, json, os;"
    "name = 'CS_GNU_LIBC_VERSION';"
    "libc = os.confstr(name) if name in getattr(os, 'confstr_names', ()) else '';"
    "print(json.dumps([sys.implementation.cache_tag, sys.version.split()[0], sysconfig.get_platform(), libc]))"
)


LASTS = 30 * 86400.0
"""Seconds after which an environment that nobody asked for is removed; never the operator's own."""

MOST = 16
"""Environments that are kept besides; more, and the one that was asked for longest ago goes."""


class PackagesError(Exception):
    """An environment cannot be made. Says why, in uv's own words where it was uv that failed."""


@dataclass(frozen=True, slots=True)
class Built:
    """An environment that is there.

    Attributes:
        folder: Where.
        names: What is in it, as `name==version`.
        size: Its bytes.
        made: When, in seconds since the epoch.
    """

    folder: Path
    names: tuple[str, ...]
    size: int
    made: float

    @property
    def site(self) -> Path:
        """The folder its packages are in."""
        return self.folder / "site"


class Environments:
    """The environments of one interpreter.

    Several processes can share the folder.

    Args:
        folder: Where they are kept; made if it is missing.
        python: The interpreter of the boxes.
        own: The operator's own packages, which all code has.
        preload: Modules of them, or of the standard library, that are imported before a box is made.
        timeout: Seconds that making one may take.
    """

    def __init__(
        self,
        folder: Path,
        python: str = sys.executable,
        own: Sequence[str] = (),
        preload: Sequence[str] = (),
        timeout: float = 600.0,
    ) -> None:
        self.folder = folder
        self.python = python
        self._own = set(own)
        self._preload = tuple(preload)
        self._timeout = timeout
        self._identity: list[str] | None = None
        self._used: dict[Path, list[int]] = {}  # descriptors with a shared lock: what we gave out stays

    async def environment(self, packages: Sequence[str], tell: uv.Tell | None = None) -> Environment | None:
        """Give the environment with these packages; `None` for none, and nothing that is preloaded.

        Modules are preloaded in the operator's own only. They run in the zygote, before a box confines them, and a
        package that a caller chose can bring a module of any name.

        Args:
            packages: Requirements.
            tell: Told what is being done while one is made, a line at a time.

        Raises:
            PackagesError: If it cannot be made.
        """
        preload = self._preload if set(packages) == self._own else ()
        # `release` takes it back.
        if packages:
            return await self.get(packages, preload, tell=tell)
        _check_preload(preload, None)
        return Environment(None, preload) if preload else None

    async def get(
        self,
        requirements: Sequence[str],
        preload: Sequence[str] = (),
        *,
        refresh: bool = False,
        tell: uv.Tell | None = None,
    ) -> Environment:
        """Give an environment with these packages, made now if there is none.

        One that was made before is given without asking an index. Which versions it has is decided at the first
        time, and again with `refresh`.

        Args:
            requirements: Names with extras and versions; no addresses.
            preload: Modules that are imported before a box is made.
            refresh: Whether to look for newer versions; uv believes what an index said some minutes ago.
            tell: Told what is being done while one is made, a line at a time.

        Raises:
            PackagesError: If it cannot be made.
        """
        wanted = tuple(sorted({_checked(requirement) for requirement in requirements}))
        if not wanted:
            raise PackagesError("no package is named")
        try:
            built = await self._get(wanted, refresh, tell)
        except uv.UvError as error:
            raise PackagesError(self._explained(wanted, str(error))) from None
        except TimeoutError:
            raise PackagesError(
                f"installing {', '.join(wanted)} took longer than {self._timeout:g} seconds and was stopped; "
                "what was downloaded is cached, so try again"
            ) from None
        except OSError as error:
            raise PackagesError(self._explained(wanted, str(error))) from error
        try:
            _check_preload(preload, built)
        except PackagesError:
            self._release(built.folder)
            raise
        return Environment(built.site, tuple(preload), built.names)

    def release(self, environment: Environment) -> None:
        """Take back an environment, as often as it was given: then it may be swept."""
        if environment.site is not None:
            self._release(environment.site.parent)

    def _release(self, folder: Path) -> None:
        descriptors = self._used.get(folder)
        if descriptors:
            os.close(descriptors.pop())
            if not descriptors:
                del self._used[folder]

    def _explained(self, wanted: Sequence[str], words: str) -> str:
        subject = ", ".join(wanted)
        if "no usable wheels" in words:
            reason = "only wheels are, as building a package runs its code out of any box"
            return f"{subject} cannot be installed: {reason}. {words}"
        if os.strerror(errno.ENOSPC) in words:
            return f"{subject} cannot be installed: the disk of {self.folder}, or of uv's cache, is full. {words}"
        return f"{subject} cannot be installed. {words}"

    def built(self) -> list[Built]:
        """List the environments that are there."""
        found = [
            _read(path)
            for path in self.folder.glob("*/about.json")
            if not path.parent.name.startswith(PREFIX)
        ]
        return sorted((built for built in found if built is not None), key=lambda built: built.made)

    def sweep(self) -> int:
        """Remove what nobody can be given or uses: builds whose builder is gone, environments without a lock.

        Before, the locks are removed of environments that nobody asked for in a long time.

        Returns:
            How many folders.
        """
        if not self.folder.is_dir():
            return 0
        self._forget()
        removed = 0
        for path in self.folder.iterdir():
            if path.name == "locks" or not path.is_dir():
                continue
            descriptor = held(path, shared=False)
            if descriptor is None:
                continue
            try:
                if path.name in self._named():  # looked up now that nobody can be about to name it
                    continue
                if not path.name.startswith(PREFIX):  # never half of one under its name
                    path = path.rename(path.with_name(f"{PREFIX}gone-{path.name}"))  # noqa: PLW2901
                shutil.rmtree(path, ignore_errors=True)
                removed += 1
            finally:
                os.close(descriptor)
        return removed

    def _forget(self) -> None:
        own: list[str] = []
        with suppress(PackagesError):
            own = sorted({_checked(requirement) for requirement in self._own})
        asked = []
        for path in (self.folder / "locks").glob("*.json"):
            with suppress(OSError, ValueError, KeyError):
                wanted = json.loads(path.read_text(encoding="utf-8"))["requirements"]
                if wanted != own:
                    asked.append((path.with_suffix(".lock").stat().st_mtime, path))
        asked.sort(reverse=True)
        for place, (when, path) in enumerate(asked):
            if place >= MOST or when < time.time() - LASTS:
                path.unlink(missing_ok=True)
        for path in (self.folder / "locks").glob("*.lock"):  # of failed and forgotten ones
            drop(path, path.with_suffix(".json"))

    def _named(self) -> set[str]:
        """Give the environments that a lock names."""
        named = set()
        for lock in (self.folder / "locks").glob("*.json"):
            with suppress(OSError, ValueError, KeyError):
                named.add(json.loads(lock.read_text(encoding="utf-8"))["environment"])
        return named

    def close(self) -> None:
        """Let go of what was given out: no box uses it any more."""
        for folder in [*self._used]:
            while folder in self._used:
                self._release(folder)

    async def _get(self, wanted: tuple[str, ...], refresh: bool, tell: uv.Tell | None) -> Built:
        identity = await self._asked()
        key = _digest([*wanted, "", *identity])
        locks = self.folder / "locks"
        locks.mkdir(mode=0o755, parents=True, exist_ok=True)
        remembered = locks / f"{key}.json"
        if not refresh and (built := self._remembered(remembered)):
            return built
        # Two who want the same: the second waits, and finds what the first made.
        asked = time.time()
        async with turn(locks / f"{key}.lock"):
            fresh = remembered.exists() and remembered.stat().st_mtime >= asked
            if (not refresh or fresh) and (built := self._remembered(remembered)):
                return built
            try:
                os.utime(remembered.with_suffix(".lock"))
                built = await self._build(wanted, identity, remembered, refresh, tell)
            finally:
                if not remembered.exists():
                    remembered.with_suffix(".lock").unlink(missing_ok=True)
        try:
            await asyncio.to_thread(self.sweep)
        except BaseException:
            self._release(built.folder)
            raise
        return built

    def _remembered(self, path: Path) -> Built | None:
        """Give the environment these requirements came to before, if it is there."""
        try:
            name = json.loads(path.read_text())["environment"]
            os.utime(path.with_suffix(".lock"))  # by which it is known when it was last asked for
        except (OSError, ValueError, KeyError):
            return None
        return self._use(self.folder / name)

    def _use(self, folder: Path) -> Built | None:
        descriptor = held(folder, shared=True)
        if descriptor is None:
            return None
        built = _read(folder / "about.json")
        if built is None:
            os.close(descriptor)
        else:
            self._used.setdefault(folder, []).append(descriptor)
        return built

    async def _asked(self) -> list[str]:
        """Ask the interpreter which wheels fit it."""
        if self._identity is None:
            try:
                told = await asyncio.to_thread(
                    subprocess.run,
                    [self.python, "-I", "-S", "-c", _TELL],
                    check=True,
                    capture_output=True,
                    timeout=30,
                    env={},
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise PackagesError(f"the interpreter {self.python} does not work: {error}") from None
            identity: list[str] = json.loads(told.stdout)
            self._identity = identity
        return self._identity

    async def _build(
        self,
        wanted: tuple[str, ...],
        identity: list[str],
        remembered: Path,
        refresh: bool,
        tell: uv.Tell | None,
    ) -> Built:
        known: str | None = None
        if not refresh:
            with suppress(OSError, ValueError, KeyError):  # of one that was lost, the same versions as before
                known = str(json.loads(remembered.read_text())["lock"])
        with Building.begun(self.folder, self.python, self._timeout, tell) as building:
            lock = await building.lock(wanted, known)
            target = self.folder / _digest([lock, *identity])
            built = self._use(target)
            if built is None:
                size = await building.install()
                _write(building.place / "about.json", {"names": _names(lock), "size": size})
                await building.fill()
                if not building.settle(target) and (built := self._use(target)) is None:
                    # Something of that name that is no environment: somebody removed files of it.
                    shutil.rmtree(target, ignore_errors=True)
                    building.place.rename(target)
            try:
                _write(remembered, {"requirements": wanted, "environment": target.name, "lock": lock})
            except OSError:
                if built is not None:
                    self._release(target)
                raise
        built = built or self._use(target)  # what was made here is locked by its building until now
        if built is None:
            raise OSError(f"{target} was removed just now")
        return built


def _checked(requirement: str) -> str:
    """Give a requirement as uv shall read it: it comes to stand in a file that could hold options, too."""
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement:
        parsed = None
    if parsed is None or parsed.url or "\n" in requirement:
        raise PackagesError(
            f"{requirement[:100]!r} is not a package's name with versions, such as numpy or 'pandas>=2'"
        )
    parsed.name = canonicalize_name(parsed.name)
    return str(parsed)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _read(path: Path) -> Built | None:
    try:
        told = json.loads(path.read_text())
        if not (path.parent / "site").is_dir():
            return None
        return Built(path.parent, tuple(told["names"]), told["size"], path.stat().st_mtime)
    except (OSError, ValueError, KeyError):
        return None


def _names(lock: str) -> list[str]:
    return [line.split()[0] for line in lock.splitlines() if line[:1].isalnum() and "==" in line]


def _check_preload(preload: Sequence[str], built: Built | None) -> None:
    """Refuse a module that nothing has, before a zygote ends with it."""
    for module in preload:
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names:
            continue
        if built is None or PathFinder.find_spec(top, [str(built.site)]) is None:
            there = (
                "the standard library"
                if built is None
                else f"the standard library or {', '.join(built.names)}"
            )
            raise PackagesError(
                f"the module {module!r} shall be preloaded, but it is none of {there}; add the package it is in to "
                "the setting sandbox.packages, or correct sandbox.preload"
            )


def _write(path: Path, value: Any) -> None:
    """Write it so that it is there as a whole, or not at all."""
    new = path.with_name(f".{path.name}-{os.getpid()}")
    new.write_text(json.dumps(value), encoding="utf-8")
    new.replace(path)
