"""The process ledger: who was started by whom, so that what a killed ToolScore left can be ended later.

One JSON line a child, written before its handshake. A sweep touches only the children of owners that are gone,
and ends only processes that carry the child's random marker in their environment; one that merely got a recycled
pid never does.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from .environment import MARKER

LOOKS = 3
"""How often a process without any environment is looked at."""

PASSES = 50
"""How often new processes are looked at, so that those that start each other come to an end."""

COMPACT_EVERY = 500
"""Children after which those that are over are forgotten, some 170 bytes each."""


class Ledger:
    """The children of every ToolScore that used this home.

    Args:
        path: The file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._me = {"owner": os.getpid(), "owner_started": psutil.Process().create_time()}
        self._added = 0

    def add(self, server_id: str, pid: int, marker: str, guardian: int | None = None) -> None:
        """Write down a child that was just started.

        Args:
            server_id: The server it is.
            pid: Its process id.
            marker: The value of `environment.MARKER` in its environment.
            guardian: Process id of the guardian that started it, for whoever looks for it.
        """
        try:
            started = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            return
        row = {**self._me, "guardian": guardian, "server": server_id}
        row |= {"pid": pid, "started": started, "marker": marker}
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(json.dumps(row).encode() + b"\n")
        self._added += 1
        if self._added % COMPACT_EVERY == 0:
            self._compact()

    def _compact(self) -> None:
        """Forget those of this owner's children that are over: in a month there are many."""
        rows = []
        for line in self._path.read_text("utf-8", "replace").splitlines():
            try:
                row = json.loads(line)
                if row["owner"] == os.getpid() and _is(row["pid"], row["started"]) is None:
                    continue
            except (ValueError, KeyError, TypeError):
                continue  # a line cut short by a crash
            rows.append(line)
        self._write(rows)

    @staticmethod
    def left(path: Path) -> list[tuple[str, int]]:
        """Give the servers of dead owners whose first process still runs, with its id; nothing is changed.

        Args:
            path: The file, which need not be there.
        """
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                row = json.loads(line)
                if _is(row["owner"], row["owner_started"]) is None and _is(row["pid"], row["started"]):
                    found.append((str(row["server"]), int(row["pid"])))
            except (ValueError, KeyError, TypeError):
                continue  # a line cut short by a crash
        return found

    def sweep(self) -> list[str]:
        """End what dead owners left, and forget what is over.

        Returns:
            Names of the servers whose processes were ended.
        """
        if not self._path.exists():
            return []
        rows, left = [], {}
        for line in self._path.read_text("utf-8", "replace").splitlines():
            try:
                row = json.loads(line)
                owner_alive = _is(row["owner"], row["owner_started"]) is not None
                marker, server = str(row["marker"]), str(row["server"])
            except (ValueError, KeyError, TypeError):
                continue  # a line cut short by a crash
            if owner_alive:
                rows.append(line)
            else:
                left[marker] = server
        ended = {left[marker] for marker in end_marked(left)} if left else set()
        self._write(rows)
        return sorted(ended)

    def close(self) -> None:
        """Forget this owner's children: all of them have ended."""
        if self._path.exists():
            mine = f'"owner": {os.getpid()},'
            lines = self._path.read_text("utf-8", "replace").splitlines()
            self._write([line for line in lines if mine not in line])

    def _write(self, rows: list[str]) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text("".join(f"{line}\n" for line in rows), "utf-8")
        temporary.chmod(0o600)
        temporary.replace(self._path)


def kill_marked(*markers: str) -> int:
    """End every process that carries one of some markers in its environment, wherever it moved to.

    Looks at all processes of the machine: not for the event loop.

    Returns:
        How many were ended.
    """
    return len(end_marked(markers))


def end_marked(markers: Collection[str]) -> list[str]:
    """Do the same, and give the marker of each that was ended."""
    proofs = {f"{MARKER}={marker}".encode(): marker for marker in markers}
    ended: list[str] = []
    seen = {os.getpid()}
    blank: Counter[int] = Counter()
    for _ in range(PASSES):
        # One that starts another and ends is a new process in each pass, and a pass over the new ones is short.
        fresh = [pid for pid in psutil.pids() if pid not in seen]
        missed = False
        for pid in fresh:
            try:
                found = _end_if_marked(pid, proofs)
            except (OSError, psutil.Error):
                missed = missed or not psutil.pid_exists(pid)
                continue
            if found == "":  # it has just ended, or becomes another program, or is one of the kernel's
                blank[pid] += 1
                missed = True
                if blank[pid] < LOOKS:
                    continue
            elif found is not None:
                ended.append(found)
                missed = True
            seen.add(pid)
        if not missed:
            break
    return ended


def _end_if_marked(pid: int, proofs: Mapping[bytes, str]) -> str | None:
    """Kill a process if it carries one of some markers, without ever hitting a later one of the same id.

    Returns:
        The marker, or nothing; an empty text where the environment cannot be seen now.

    Raises:
        OSError: If it has gone, or is none of this user's.
        psutil.Error: For the same reasons.
    """
    if not (hasattr(os, "pidfd_open") and Path("/proc/self").is_dir()):
        process = psutil.Process(pid)
        marker = proofs.get(f"{MARKER}={process.environ().get(MARKER)}".encode())
        if marker is not None and process.status() != psutil.STATUS_ZOMBIE:
            process.kill()
            return marker
        return None
    environment = Path(f"/proc/{pid}/environ")
    variables = environment.read_bytes()
    if not _marker_in(variables, proofs):
        return None if variables else ""
    held = os.pidfd_open(pid)
    try:
        marker = _marker_in(environment.read_bytes(), proofs)  # once more: now it cannot be another
        if marker is not None:
            signal.pidfd_send_signal(held, signal.SIGKILL)
    finally:
        os.close(held)
    return marker


def _marker_in(environment: bytes, proofs: Mapping[bytes, str]) -> str | None:
    return next((proofs[variable] for variable in environment.split(b"\0") if variable in proofs), None)


def _is(pid: int, started: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        # One that was killed but that nobody has reaped yet still has its pid.
        alive = process.status() != psutil.STATUS_ZOMBIE
        return process if alive and abs(process.create_time() - started) < 0.05 else None
    except psutil.Error:
        return None
