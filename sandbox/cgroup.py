"""Control groups: one for each box, with a limit on the memory and the processes of all it holds.

Used by the server, from outside of the box. Both versions are known: 2, where a group is delegated to this user,
and 1, where memory and pids are hierarchies of their own.

References: cgroups(7), https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/memory.html.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .probe import own_groups

_NAME = "toolscore-box"
_numbers = itertools.count(1)
"""Of the groups of this process, whatever pool they belong to."""
_MEMORY_FILES = {2: "memory.max", 1: "memory.limit_in_bytes"}


class Cgroup:
    """The group of one box."""

    def __init__(self, version: int, memory: Path, pids: Path, cpu: Path | None, owner: Cgroups) -> None:
        self._version = version
        self._memory = memory
        self._pids = pids
        self._cpu = cpu
        self._owner = owner
        self._limits: tuple[int, int] | None = None

    def add(self, pid: int) -> None:
        """Move a process into it; what it starts from then on is born in it.

        Raises:
            OSError: If the process is gone, or may not be moved.
        """
        for folder in self._folders:
            _write(folder / "cgroup.procs", pid)

    def limit(self, memory: int, processes: int) -> None:
        """Set what all of it together may use. There is no swap for it, where the kernel has a switch for that.

        Args:
            memory: Bytes, page cache and files in memory included. At the limit the kernel kills one of its
                processes: see `oom_kills`.
            processes: Processes and threads; more cannot be started (EAGAIN).

        Raises:
            OSError: If the kernel refuses, such as a limit far below what is in use (version 1: EBUSY).
        """
        if self._limits == (memory, processes):
            return
        self._limits = None
        if self._version == 2:
            _write(self._memory / "memory.max", memory)
            with suppress(FileNotFoundError):  # a kernel without swap accounting
                _write(self._memory / "memory.swap.max", 0)
        else:
            # Memory with swap can never be limited below memory alone: which goes first depends on the direction.
            both = self._memory / "memory.memsw.limit_in_bytes"
            with suppress(OSError):
                _write(both, memory)
            _write(self._memory / "memory.limit_in_bytes", memory)
            with suppress(FileNotFoundError):
                _write(both, memory)
            with suppress(OSError):
                _write(self._memory / "memory.swappiness", 0)
        _write(self._pids / "pids.max", processes)
        self._limits = (memory, processes)

    def oom_kills(self) -> int:
        """Count the processes the kernel has killed in it for the memory limit."""
        name = "memory.events" if self._version == 2 else "memory.oom_control"
        for line in _read(self._memory / name).splitlines():
            word, _, value = line.partition(" ")
            if word == "oom_kill":
                return int(value)
        return 0

    def current(self) -> int:
        """Give the bytes it uses now."""
        text = _read(self._memory / ("memory.current" if self._version == 2 else "memory.usage_in_bytes"))
        return int(text) if text.strip().isdigit() else 0

    def peak(self) -> int | None:
        """Give the most bytes it used at once; `None` where the kernel does not keep it (version 2 before 5.19)."""
        text = _read(self._memory / ("memory.peak" if self._version == 2 else "memory.max_usage_in_bytes"))
        return int(text) if text.strip().isdigit() else None

    def cpu(self) -> float | None:
        """Give the seconds of processor time it has used; `None` where nobody counts them.

        Also what nobody sees who looks at processes: those that lived shorter than from one look to the next, and
        whose parents did not wait for them.
        """
        if self._cpu is None:
            return None
        if self._version == 1:
            text = _read(self._cpu / "cpuacct.usage").strip()
            return int(text) / 1e9 if text.isdigit() else None
        for line in _read(self._cpu / "cpu.stat").splitlines():
            word, _, value = line.partition(" ")
            if word == "usage_usec":
                return int(value) / 1e6
        return None

    def pids(self) -> list[int]:
        """List its processes, as this process sees them."""
        found = {int(line) for folder in self._folders for line in _read(folder / "cgroup.procs").split()}
        return sorted(found - {0})  # which stands for those of a namespace we cannot see into

    def kill(self) -> None:
        """Kill all that is in it, and let nothing be started in it any more. Does not wait for their end."""
        with suppress(OSError):
            _write(self._pids / "pids.max", 0)
        if self._version == 2:
            with suppress(OSError):  # the file came with 5.14
                _write(self._memory / "cgroup.kill", 1)
                return
        killed: set[int] = set()
        while new := set(self.pids()) - killed:
            for pid in new:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            killed |= new

    def remove(self) -> bool:
        """Remove it, or have it removed later if something in it is still ending.

        Returns:
            Whether it is gone now.
        """
        for folder in self._folders:
            with suppress(OSError):
                folder.rmdir()
        gone = not any(folder.exists() for folder in self._folders)
        self._owner.keep(self, leaving=not gone)
        return gone

    @property
    def _folders(self) -> dict[Path, None]:
        return dict.fromkeys(folder for folder in (self._memory, self._pids, self._cpu) if folder is not None)


class Cgroups:
    """The place where this process can make groups.

    Attributes:
        version: Of the control groups, 1 or 2.
    """

    def __init__(self, version: int, memory: Path, pids: Path, cpu: Path | None) -> None:
        self.version = version
        self._memory = memory
        self._pids = pids
        self._cpu = cpu
        self._leaving: set[Cgroup] = set()
        self._prefix = f"{_NAME}-{os.getpid()}-{_start_time(os.getpid())}-{_namespace()}"

    def __str__(self) -> str:
        return f"cgroup v{self.version}"

    @classmethod
    def find(cls) -> Cgroups | None:
        """Find a place where groups with limits on memory and processes can be made, by making one.

        Returns:
            The place; `None` where there is none, as for most users without a delegated group.
        """
        if not sys.platform.startswith("linux"):
            return None
        try:
            groups = own_groups()
        except OSError:
            return None
        for version, memory, pids, cpu in _places(groups):
            place = cls(version, memory, pids, cpu)
            try:
                trial = place.make("trial", 64 << 20, 16)
                held = _read(trial._memory / _MEMORY_FILES[version]).strip() == str(64 << 20)
                if trial.remove() and held:
                    return place
            except OSError:
                continue
        return None

    def make(self, name: str | int, memory: int, processes: int) -> Cgroup:
        """Make a group.

        Args:
            name: What it is for; several can have the same.
            memory: As `Cgroup.limit` has it.
            processes: Likewise.

        Raises:
            OSError: If it cannot be made.
        """
        for group in list(self._leaving):
            group.remove()
        full = f"{self._prefix}-{name}-{next(_numbers)}"
        group = self._group(full)
        try:
            for folder in group._folders:
                folder.mkdir()
            group.limit(memory, processes)
        except OSError:
            group.remove()
            raise
        return group

    def _group(self, name: str) -> Cgroup:
        cpu = None if self._cpu is None else self._cpu / name
        return Cgroup(self.version, self._memory / name, self._pids / name, cpu, self)

    def keep(self, group: Cgroup, *, leaving: bool) -> None:
        """Remember a group that is to be removed later, or forget it."""
        if leaving:
            self._leaving.add(group)
        else:
            self._leaving.discard(group)

    def close(self, seconds: float = 0.5) -> None:
        """Remove what was left to be removed later, waiting that long at most for what is still ending."""
        deadline = time.monotonic() + seconds
        while True:
            for group in list(self._leaving):
                group.remove()
            if not self._leaving or time.monotonic() > deadline:
                return
            time.sleep(0.002)

    def sweep(self) -> int:
        """Kill and remove what processes that are dead have left here; try again with what is our own to remove.

        Returns:
            How many groups of dead ones were found.
        """
        for group in list(self._leaving):
            group.remove()
        names = set()
        for folder in {self._memory, self._pids}:
            with suppress(OSError):
                names |= {entry.name for entry in folder.iterdir() if entry.name.startswith(f"{_NAME}-")}
        found = 0
        for name in names:
            parts = name.split("-")
            if len(parts) < 6 or not all(part.isdigit() for part in parts[2:5]):
                continue
            pid, start, namespace = map(int, parts[2:5])
            # Of a process in another pid namespace nobody here knows whether it lives.
            if namespace == _namespace() and _start_time(pid) != start:
                found += 1
                group = self._group(name)
                group.kill()
                group.remove()
        return found


def _places(groups: list[tuple[str, Path]]) -> Iterator[tuple[int, Path, Path, Path | None]]:
    """Give version and folders for memory, pids and processor time of where groups may be possible, 2 first."""
    for version, folder in groups:
        if version == "v2":
            for place in _delegated(folder):
                yield 2, place, place, place
    ones = [folder for version, folder in groups if version == "v1"]
    memory = [folder for folder in ones if (folder / "memory.limit_in_bytes").exists()]
    # The root of a hierarchy has no limit itself, but it lists its processes; the name tells the rest.
    pids = [folder for folder in ones if (folder / "pids.current").exists() or "pids" in folder.parts]
    if memory and pids:
        cpu = [folder for folder in ones if (folder / "cpuacct.usage").exists() and _is_writable(folder)]
        yield 1, memory[0], pids[0], next(iter(cpu), None)


def _is_writable(folder: Path) -> bool:
    # The mode of a folder says little to root; a mount that is read-only does.
    return os.access(folder / "cgroup.procs", os.W_OK) and os.access(folder, os.W_OK)


def _delegated(folder: Path) -> Iterator[Path]:
    """Give our own group and those above it that are ours to use, if they hand memory and pids down.

    A group that holds processes cannot hand anything down (EBUSY): systemd's `DelegateSubgroup=` puts the service
    into a group below the delegated one, which is then the next above ours.
    """
    for place in (folder, *folder.parents):
        if not (place / "cgroup.controllers").exists() or not os.access(place / "cgroup.procs", os.W_OK):
            return
        # Root can write everywhere, also where systemd expects to be the only one.
        if place != folder and os.geteuid() == 0 and not _is_delegated(place):
            return
        with suppress(OSError):
            if {"memory", "pids"} - set(_read(place / "cgroup.subtree_control").split()):
                _write(place / "cgroup.subtree_control", "+memory +pids")
            yield place


def _is_delegated(place: Path) -> bool:
    """Tell whether systemd has marked a group as somebody else's to divide."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(place, name) == b"1":
                return True
    return False


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _start_time(pid: int) -> int | None:
    """Give when a process started, in ticks since boot: with its number it is unique. `None` if there is none."""
    text = _read(Path(f"/proc/{pid}/stat"))
    return int(text.rpartition(")")[2].split()[19]) if text else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, value: int | str) -> None:
    # Not created where the kernel does not have it.
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)
