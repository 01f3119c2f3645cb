"""The files of a home: who can read them, what a killed ToolScore left, and whether there is room."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from ..home import Home, HomeError
from ..owner import HomeLock, current_owner
from .finding import Check, Fix, MendError

_FILES = (
    "secrets.json",
    "secrets.common",
    "token",
    "tokens.json",
    "toolscore.db",
    "cluster.json",
    "connected.json",
)
_FOLDERS = ("run", "servers", "logs", "journal")
_JOURNAL_ROOM = 64 << 20
"""Free bytes below which the journal may soon not be written."""
_FEW_FILES = 4096
"""Open files below which many clients and servers may not fit; each needs some."""


def look(home: Home) -> Iterator[Check]:
    """Look at them; nothing is changed, and nothing is said of a home that is not there."""
    if os.name == "posix" and home.path.is_dir():
        yield _permissions(home)
    yield from _left(home)
    yield from _journal(home)
    yield from _open_files()


def _permissions(home: Home) -> Check:
    open_to_others: list[tuple[Path, int, int]] = []
    foreign: list[Path] = []
    for name in (*_FILES, *_FOLDERS):
        path = home.path / name
        try:
            status = path.stat(follow_symlinks=False)
        except OSError:
            continue
        if status.st_uid not in (os.geteuid(), home.path.stat().st_uid):
            foreign.append(path)
        elif stat.S_IMODE(status.st_mode) & 0o077 and not stat.S_ISLNK(status.st_mode):
            wanted = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
            open_to_others.append((path, stat.S_IMODE(status.st_mode), wanted))
    if foreign:
        shown = ", ".join(map(str, foreign))
        advice = f"sudo chown {os.geteuid()} {shlex.join(map(str, foreign))}"
        return Check("permissions", "warn", f"{shown} belong to another user", advice)
    if not open_to_others:
        return Check("permissions", "ok", "what is private in the home is for its owner only")
    shown = ", ".join(f"{path.name} ({mode:o})" for path, mode, _ in open_to_others)
    return Check(
        "permissions",
        "warn",
        f"other users of this machine may read {shown}",
        "make them their owner's alone; what was secret in them may be known by now",
        broken=True,
        fix=Fix(f"make {shown} readable by their owner only", lambda: _closed(open_to_others), safe=True),
    )


def _closed(found: list[tuple[Path, int, int]]) -> str:
    for path, _, wanted in found:
        try:
            path.chmod(wanted)
        except OSError as error:
            raise MendError(f"{path} cannot be changed: {error.strerror}. Its owner or root can.") from error
    undo = "; ".join(f"chmod {mode:o} {shlex.quote(str(path))}" for path, mode, _ in found)
    return f"they are their owner's alone (undo: {undo})"


def _left(home: Home) -> Iterator[Check]:
    """Look for what a ToolScore that was killed left; nothing is, while one runs."""
    try:
        if current_owner(home) is not None:
            return
        socket = home.socket_path
    except HomeError:
        return
    if socket.is_socket():
        yield Check(
            "stale socket",
            "warn",
            f"{socket} is left of a ToolScore that was killed",
            "the next start replaces it",
            broken=True,
            fix=Fix(f"delete {socket}", lambda: _unlinked(home, socket), safe=True),
        )
    from ...runners.ledger import Ledger

    ledger = home.path / "processes.jsonl"
    if left := Ledger.left(ledger):
        shown = ", ".join(f"{server} (process {pid})" for server, pid in left)
        yield Check(
            "orphans",
            "warn",
            f"servers of a ToolScore that was killed still run: {shown}",
            "the next start ends them",
            broken=True,
            fix=Fix(f"end {shown}", lambda: _swept(home, ledger), safe=True),
        )


def _unlinked(home: Home, socket: Path) -> str:
    with alone(home):
        try:
            socket.unlink(missing_ok=True)
        except OSError as error:
            raise MendError(f"{socket} cannot be deleted: {error.strerror}.") from error
    return f"{socket} is gone; the next start makes its own"


def _swept(home: Home, ledger: Path) -> str:
    from ...runners.ledger import Ledger

    with alone(home):
        ended = Ledger(ledger).sweep()
    return f"ended: {', '.join(ended) or 'nothing, as they had ended by themselves'}"


def alone(home: Home) -> HomeLock:
    """Keep others out of the home meanwhile."""
    from ... import __version__

    try:
        return HomeLock.acquire(home, "command", __version__)
    except HomeError as error:
        raise MendError(str(error)) from error


def _journal(home: Home) -> Iterator[Check]:
    try:
        free = shutil.disk_usage(home.journal_dir).free
    except OSError:
        return  # there is none
    if free < _JOURNAL_ROOM:
        held = sum(file.stat().st_size for file in home.journal_dir.iterdir() if file.is_file())
        yield Check(
            "journal",
            "warn",
            f"{free >> 20} MiB are free where the journal is, and it holds {held >> 20} MiB",
            "free some space, or let the journal keep less with journal.max_size and journal.max_age in config.toml; "
            "`toolscore journal export` keeps what is worth it",
        )


def _open_files() -> Iterator[Check]:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most >= _FEW_FILES:
        yield Check("open files", "ok", "no limit" if most == resource.RLIM_INFINITY else f"up to {most}")
    else:
        yield Check(
            "open files",
            "warn",
            f"up to {most} at once, which is few for many clients and servers",
            "raise it with `ulimit -Hn 65536` before ToolScore is started, `LimitNOFILE=65536` in its unit, or "
            "a line such as `* hard nofile 65536` in /etc/security/limits.conf",
        )
