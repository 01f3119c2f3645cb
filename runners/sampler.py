"""What servers use of the machine: memory, processors, open files and processes of their whole trees, and limits."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import psutil

from .environment import MARKER

logger = logging.getLogger(__name__)

WINDOW = 10.0
"""Seconds over which the use of processors is averaged, so that a short burst is no breach."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server uses with all it started.

    Memory is the sum of resident set sizes (RSS): what `top` shows, and one small file to read. Pages that processes
    share count for each of them; the proportional figure (PSS) would not do that, but costs the kernel a walk through
    all page tables, milliseconds a process, and a right over the process.

    Attributes:
        memory: Resident bytes.
        cpu: Processors busy, on average over `window`. What ended children used is included.
        files: Open descriptors: files, sockets, pipes. 0 where the system does not tell.
        processes: Processes, those included that ended and were not waited for.
        window: Seconds `cpu` is the average of: `WINDOW` or a little more, less while the server is younger, more if
            it was looked at less often.
    """

    memory: int
    cpu: float
    files: int
    processes: int
    window: float = WINDOW


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may use; 0 is no limit.

    Attributes:
        memory: Bytes.
        cpu: Processors busy on average over `WINDOW`.
        files: Open descriptors.
        processes: Processes.
    """

    memory: int = 0
    cpu: float = 0.0
    files: int = 0
    processes: int = 0

    def __bool__(self) -> bool:
        return bool(self.memory or self.cpu or self.files or self.processes)


def exceeded(usage: Usage, limits: Limits) -> str | None:
    """Say which limit is exceeded, as what the server did, or `None`. Processors count from a full `WINDOW` on."""
    if 0 < limits.memory < usage.memory:
        used, limit = -(-usage.memory >> 20), limits.memory >> 20
        return f"it used {used} MiB of memory, over its limit of {limit} MiB (max_memory)"
    if 0 < limits.processes < usage.processes:
        return f"it had {usage.processes} processes, over its limit of {limits.processes} (max_processes)"
    if 0 < limits.files < usage.files:
        return f"it had {usage.files} files and sockets open, over its limit of {limits.files} (max_files)"
    if 0 < limits.cpu < usage.cpu and usage.window >= WINDOW:
        return (
            f"it kept {usage.cpu:.2f} processors busy over the last {usage.window:.0f} s, over its limit of "
            f"{limits.cpu:g} (max_cpu)"
        )
    return None


class Tree:
    """The processes of one server, as far as they were ever seen below its root.

    Args:
        root: Its first process.
    """

    def __init__(self, root: psutil.Process | None) -> None:
        self.members: dict[int, psutil.Process] = {}
        self.ancestors: set[int] = set()
        """Who inherits its processes when their parents die."""
        self.root = 0
        self.marker = ""
        self.usage: Usage | None = None
        self._busy = self._total = 0.0
        self._past: deque[tuple[float, float]] = deque()
        if root is not None:
            self.members[root.pid] = root
            self.root = root.pid
            self.marker = _marker(root.pid)
            # It has used nothing when it was born, so its whole life is known from the first look on.
            self._past.append((time.monotonic() - max(0.0, time.time() - root.create_time()), 0.0))

    def find(self, parents: dict[int, int], children: dict[int, list[int]]) -> None:
        """Find who lives: the ones known from before, whoever is their parent now, and what descends from them."""
        found: dict[int, psutil.Process] = {}
        for pid, known in self.members.items():
            process = _process(pid) if pid in parents else None
            if process == known:  # a recycled id is nobody's
                found[pid] = known
        if self.root in found:
            self.ancestors.clear()
            above = parents.get(self.root, 0)
            while above and above not in self.ancestors:
                self.ancestors.add(above)
                above = parents.get(above, 0)
        self.members = found
        for pid in list(found):
            self.adopt_below(pid, children)

    def adopt_below(self, pid: int, children: dict[int, list[int]]) -> None:
        """Add all that descends from a member."""
        pending = [pid]
        while pending:
            above = pending.pop()
            for below in children.get(above, ()):
                if below not in self.members and (process := _process(below)) and _is_child(process, above):
                    self.members[below] = process
                    pending.append(below)

    def measure(self) -> None:
        """Sum up what the members use."""
        memory = files = 0
        total = 0.0
        for process in self.members.values():
            try:
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
                memory += process.memory_info().rss
                files += process.num_fds() if psutil.POSIX else 0
            except (psutil.Error, OSError):
                continue  # it ended meanwhile, or is somebody else's; what was added up until then is true
        now = time.monotonic()
        # A child's time goes over to its parent, which waits for it. Where nobody of the tree does, the sum falls.
        self._busy += max(0.0, total - self._total)
        self._total = total
        self._past.append((now, self._busy))
        while len(self._past) > 2 and self._past[1][0] <= now - WINDOW:
            self._past.popleft()
        began, before = self._past[0]
        window = now - began
        cpu = (self._busy - before) / window if window > 0 else 0.0
        self.usage = Usage(memory, cpu, files, len(self.members), window) if self.members else None


@dataclass(eq=False, slots=True)
class Watched:
    """A server that is looked at.

    Attributes:
        tree: Its processes.
        limits: What it may use.
        on_exceeded: Told once when it uses more.
        told: Whether that was done.
    """

    tree: Tree
    limits: Limits
    on_exceeded: Callable[[str], None]
    told: bool = False


class Sampler:
    """Looks at all servers' processes in one pass, in a worker thread.

    A server's processes are its root, what descends from it, also in sessions of their own, and what was seen below
    it once and has another parent now. A process that lost its parent before the first look at it is known by the
    marker in its environment, if the server was started by ToolScore.

    While something with limits is watched, a task looks at it every `interval` seconds; all else is looked at on
    demand.

    Args:
        interval: Seconds between two looks.
    """

    def __init__(self, interval: float = 0.5) -> None:
        self._interval = interval
        self._watched: dict[Hashable, Watched] = {}
        self._task: asyncio.Task[None] | None = None
        self._looking = threading.Lock()
        self._markers: dict[int, str] = {}

    def watch(self, key: Hashable, pid: int, limits: Limits, on_exceeded: Callable[[str], None]) -> None:
        """Watch a server; one that was watched under the key before is forgotten.

        Args:
            key: What to call it.
            pid: Its first process, which was just started.
            limits: What it may use.
            on_exceeded: Called on the event loop, once, with what it did, as in `exceeded`.
        """
        self._watched[key] = Watched(Tree(_process(pid)), limits, on_exceeded)
        self._begin_or_end()

    def unwatch(self, key: Hashable) -> None:
        """Forget a server."""
        self._watched.pop(key, None)
        self._begin_or_end()

    def usage(self, key: Hashable) -> Usage | None:
        """Give what the last look saw; `None` if there was none, or nothing lives."""
        watched = self._watched.get(key)
        return watched.tree.usage if watched is not None else None

    async def look(self, keys: Iterable[Hashable]) -> dict[Hashable, Usage]:
        """Look at some servers now.

        Args:
            keys: Which; those that are not watched are left out.

        Returns:
            What they use; those of which nothing lives are left out.
        """
        seen = {key: self._watched[key].tree for key in keys if key in self._watched}
        if seen:
            await asyncio.to_thread(self._look, list(seen.values()))
        return {key: tree.usage for key, tree in seen.items() if tree.usage is not None}

    async def aclose(self) -> None:
        """Forget all servers, and wait for the end of the task."""
        task = self._task
        self._watched.clear()
        self._begin_or_end()
        if task is not None:
            await asyncio.wait([task])

    def _begin_or_end(self) -> None:
        needed = any(watched.limits for watched in self._watched.values())
        if needed and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif not needed and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            limited = {key: watched for key, watched in self._watched.items() if watched.limits}
            try:
                await self.look(limited)
            except Exception:
                logger.exception("bug while looking at the processes of servers")
                continue
            for key, watched in limited.items():
                usage = watched.tree.usage
                if watched.told or usage is None or self._watched.get(key) is not watched:
                    continue
                if reason := exceeded(usage, watched.limits):
                    watched.told = True
                    try:
                        watched.on_exceeded(reason)
                    except Exception:
                        logger.exception("bug while telling that %s", reason)

    def _look(self, trees: list[Tree]) -> None:
        with self._looking:
            parents = _parents()
            children: dict[int, list[int]] = {}
            for pid, parent in parents.items():
                children.setdefault(parent, []).append(pid)
            for tree in trees:
                tree.find(parents, children)
            self._find_orphans(trees, parents, children)
            for tree in trees:
                tree.measure()

    def _find_orphans(
        self, trees: list[Tree], parents: dict[int, int], children: dict[int, list[int]]
    ) -> None:
        """Find whoever carries a tree's marker among those that its ancestors may have inherited."""
        self._markers = {pid: marker for pid, marker in self._markers.items() if pid in parents}
        marked = {tree.marker: tree for tree in trees if tree.marker}
        members = {pid for tree in trees for pid in tree.members}
        for above in {pid for tree in marked.values() for pid in tree.ancestors}:
            for pid in children.get(above, ()):
                if pid in members:
                    continue
                if pid not in self._markers:
                    self._markers[pid] = _marker(pid)
                tree = marked.get(self._markers[pid])
                process = _process(pid) if tree is not None else None
                if tree is not None and process is not None:
                    tree.members[pid] = process
                    tree.adopt_below(pid, children)


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except (psutil.Error, OSError):
        return None


def _is_child(process: psutil.Process, parent: int) -> bool:
    """Make sure of a process that is new: its id may be another's since the list was made."""
    try:
        return process.ppid() == parent
    except (psutil.Error, OSError):
        return False


def _marker(pid: int) -> str:
    try:
        return psutil.Process(pid).environ().get(MARKER, "")
    except (psutil.Error, OSError):
        return ""


def _parents() -> dict[int, int]:
    """Give every process's parent. psutil has that inside, at a third of the price of asking process by process."""
    inside: Callable[[], dict[int, int]] | None = getattr(psutil, "_ppid_map", None)
    if inside is not None:
        return inside()
    return {process.pid: process.info["ppid"] for process in psutil.process_iter(["ppid"])}
