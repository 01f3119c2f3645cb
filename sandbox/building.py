"""How an environment of packages is made: in a folder of its own, which gets its name when all of it is there.

Only wheels are installed: building a source distribution runs the package's own code out of any box. No code of a
package runs here; what fills its caches runs in a box.

References: flock(2), rename(2), https://docs.astral.sh/uv/pip/compile/.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import uv
from .claims import held
from .errors import BoxError, LayerError, SandboxRefusedError
from .nursery import Environment

logger = logging.getLogger(__name__)

CACHES = ".caches"
"""Folder beside the packages with what they would work out anew in every box: by package, as files."""

PREFIX = "building-"
"""How the name of a folder begins in which one is being made."""

# Looking through a system's fonts takes seconds; matplotlib keeps what it found, if it can write.
_FILLED_BY = {
    "matplotlib": "import matplotlib.font_manager, shutil, os, glob\n"
    "for name in glob.glob(os.environ['MPLCONFIGDIR'] + '/fontlist-*.json'): shutil.copy(name, '.')"
}


@dataclass(slots=True)
class Building:
    """One that is being made.

    Attributes:
        place: Its folder.
        python: The interpreter it is for.
        deadline: When it has taken too long, on the monotonic clock.
        tell: Told what is being done, a line at a time.
    """

    place: Path
    python: str
    deadline: float
    tell: uv.Tell | None
    _descriptor: int

    @classmethod
    @contextmanager
    def begun(cls, folder: Path, python: str, timeout: float, tell: uv.Tell | None) -> Iterator[Building]:
        """Make one; what is not settled at the end of the block is removed.

        As long as its descriptor is open, here or in uv, nobody sweeps it away.

        Raises:
            OSError: If it cannot be.
        """
        deadline = time.monotonic() + timeout
        place, descriptor = _claimed(folder)
        try:
            yield cls(place, python, deadline, tell, descriptor)
        finally:
            shutil.rmtree(place, ignore_errors=True)
            os.close(descriptor)

    async def lock(self, wanted: Sequence[str], known: str | None) -> str:
        """Give the versions and hashes that requirements come to.

        Args:
            wanted: The requirements.
            known: What they came to before, if that is to hold.
        """
        lock = self.place / "lock.txt"
        if known is not None:
            lock.write_text(known, encoding="utf-8")
            return known
        asked = self.place / "asked.txt"
        asked.write_text("".join(f"{line}\n" for line in wanted), encoding="utf-8")
        arguments = ["pip", "compile", "--python", self.python, "--only-binary", ":all:"]
        arguments += ["--generate-hashes", "--no-header", "--no-annotate", "--output-file", str(lock)]
        await self._uv([*arguments, "--", str(asked)])
        return lock.read_text(encoding="utf-8")

    async def install(self) -> int:
        """Install what the lock names, and give its bytes."""
        site = self.place / "site"
        arguments = ["pip", "install", "--python", self.python, "--target", str(site)]
        arguments += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--compile-bytecode"]
        # Hard links would be the very files of uv's cache: their modes could not be set, and whoever changes one
        # there changes it for every box. Where the file system can, a copy takes no space.
        arguments += ["--link-mode", "copy", "-r", str(self.place / "lock.txt")]
        await self._uv(arguments)
        return await asyncio.to_thread(_opened, site)

    async def _uv(self, arguments: Sequence[str]) -> None:
        await uv.run(arguments, self.deadline - time.monotonic(), self._descriptor, self.tell)

    async def fill(self) -> None:
        """Have packages work out in a box what they would work out in every box, and keep it."""
        site = self.place / "site"
        for package, code in _FILLED_BY.items():
            if not (site / package).is_dir():
                continue
            if self.tell is not None:
                self.tell(f"Preparing {package}")
            try:
                files = await _run_in_box(code, Environment(site), self.place / "state")
            except (BoxError, LayerError, SandboxRefusedError, OSError, ImportError) as error:
                logger.warning("sandbox: %s starts slowly, its cache could not be made: %s", package, error)
                continue
            cache = site / CACHES / package
            cache.mkdir(parents=True)
            for name, data in files:
                (cache / Path(name).name).write_bytes(data)
            _opened(site / CACHES)

    def settle(self, target: Path) -> bool:
        """Give it its name, by which it counts. `False` if something of that name is there already."""
        for leftover in self.place.iterdir():
            if leftover.is_dir() and leftover.name != "site":
                shutil.rmtree(leftover, ignore_errors=True)
        self.place.chmod(0o755)
        try:
            self.place.rename(target)
        except OSError:
            return False
        return True


def _claimed(folder: Path) -> tuple[Path, int]:
    for _ in range(10):  # a sweeper may be faster than the lock
        place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        descriptor = held(place, shared=False)
        if descriptor is not None:
            return place, descriptor
        shutil.rmtree(place, ignore_errors=True)
    raise OSError("folders cannot be locked there (flock(2)); use another file system")


def _opened(folder: Path) -> int:
    """Let everybody read what is in a folder, whatever our umask is: boxes run as other users. Give its bytes."""
    size = 0
    for base, _, files in os.walk(folder):
        os.chmod(base, 0o755)  # noqa: PTH101, S103 - a path object for each file takes a second
        for name in files:
            path = os.path.join(base, name)  # noqa: PTH118
            found = os.lstat(path)
            size += found.st_size
            if stat.S_ISREG(found.st_mode):
                os.chmod(path, 0o755 if found.st_mode & 0o100 else 0o644)  # noqa: PTH101
    return size


async def _run_in_box(code: str, environment: Environment, state: Path) -> list[tuple[str, bytes]]:
    """Run code with an environment that nobody else has yet, and give the files it made."""
    from .execution import Job
    from .limits import Limits
    from .pool import Pool, PoolConfig

    limits = Limits(memory=1 << 30, wall=120.0, cpu=120.0)
    async with Pool(PoolConfig(state, limits, warm=0, most=1, environment=environment)) as pool:
        execution = await pool.run(Job(code, limits))
    files = [(file.path, file.data) for file in execution.files if file.data is not None]
    if not files:
        raise BoxError(
            execution.message or execution.stderr.decode(errors="replace")[-300:] or "it made no file"
        )
    return files
