"""The process ledger: who was started by whom, so that what a killed ToolScore left can be ended later.

One JSON line a child, written before its handshake. A sweep touches only the children of owners that are gone,
and ends only processes that carry the child's random marker in their environment; one that merely got a recycled
pid never does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil

from .environment import MARKER


class Ledger:
    """The children of every ToolScore that used this home.

    Args:
        path: The file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._me = {"owner": os.getpid(), "owner_started": psutil.Process().create_time()}

    def add(self, server_id: str, pid: int, marker: str) -> None:
        """Write down a child that was just started."""
        try:
            started = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            return
        row = {**self._me, "server": server_id, "pid": pid, "started": started, "marker": marker}
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(json.dumps(row).encode() + b"\n")

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
        ended = {left[marker] for marker in _kill(marked(*left))} if left else set()
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


def kill_marked(marker: str) -> int:
    """End every process that carries a marker in its environment, wherever it moved to.

    Returns:
        How many were ended.
    """
    return len(_kill(marked(marker)))


def _kill(found: list[tuple[str, psutil.Process]]) -> list[str]:
    killed = []
    for marker, process in found:
        try:
            process.kill()
            killed.append(marker)
        except psutil.Error:
            continue
    return killed


def marked(*markers: str) -> list[tuple[str, psutil.Process]]:
    """Give the living processes that carry one of some markers, in one look at all processes."""
    found = []
    proofs = {f"{MARKER}={marker}".encode(): marker for marker in markers}
    proc = Path("/proc/self").is_dir()
    for pid in psutil.pids():
        try:
            if proc:
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            else:
                variables = [f"{MARKER}={psutil.Process(pid).environ().get(MARKER)}".encode()]
            marker = next((proofs[variable] for variable in variables if variable in proofs), None)
            if marker is not None and pid != os.getpid():
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append((marker, process))
        except (OSError, psutil.Error):
            continue
    return found


def _is(pid: int, started: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        # One that was killed but that nobody has reaped yet still has its pid.
        alive = process.status() != psutil.STATUS_ZOMBIE
        return process if alive and abs(process.create_time() - started) < 0.05 else None
    except psutil.Error:
        return None
