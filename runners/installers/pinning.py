"""Making the pin of what was just installed, or of what is there already."""

from __future__ import annotations

import hashlib
from pathlib import Path

import anyio.to_thread

from ..pin import FILES, Pin
from ..programs import find_program
from ..spec import Candidate, ServerSpec
from .entry import Entry
from .file_list import file_hash, list_files
from .record import DamagedError, damaged_files
from .run import Job

_SCRIPTS = frozenset({".py", ".js", ".mjs", ".cjs", ".ts", ".sh", ".rb", ".pl", ".php", ".lua", ".jar"})
_LARGEST = 256 << 20
"""Bytes of a program that is hashed."""


async def pin_installed(job: Job, directory: Path, candidate: Candidate, entry: Entry) -> Pin:
    """Pin what a job has installed, and list its files.

    Args:
        job: The job, which is at its end.
        directory: The server's own folder.
        candidate: What was asked for.
        entry: How it is started.

    Raises:
        OSError: If the list cannot be written.
        DamagedError: If files are not what the packages they came in say of them.
    """
    listed = await anyio.to_thread.run_sync(list_files, directory, job.directory)
    if damaged := await anyio.to_thread.run_sync(damaged_files, job.directory, listed):
        raise DamagedError(damaged)
    job.keep(FILES, listed)
    files = job.locks.pop(FILES)
    return Pin(
        source=candidate.source,
        content=job.content,
        python=_python(job.directory),
        locks=dict(sorted(job.locks.items())),
        unhashed=tuple(job.unhashed),
        files=files,
        place=candidate.place,
        words=len(entry.args),
        own_env=tuple(sorted(entry.env.keys() - candidate.env.keys())),
        given={key: value for key, value in sorted(candidate.env.items()) if key in entry.consumed},
        sha256=candidate.sha256,
    )


def pin_command(spec: ServerSpec, source: str = "", words: int = 0) -> Pin:
    """Pin a server that was not installed: the program on its command line, and the scripts.

    Args:
        spec: How it is started or reached.
        source: Where it came from.
        words: See `Pin`.
    """
    programs: dict[str, str] = {}
    if spec.command is not None:
        found = None if "${" in spec.command else find_program(spec.command)
        paths = [Path(found)] if found else []
        paths += [path for word in spec.args if "${" not in word and (path := Path(word)).suffix in _SCRIPTS]
        for path in paths:
            if path.is_absolute() and (hashed := program_hash(path)) is not None:
                programs[str(path)] = hashed
    return Pin(source=source, programs=programs, words=words)


def program_hash(path: Path) -> str | None:
    """Hash a program; `None` where there is no such file, or none that can be read."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        return file_hash(path)
    except OSError:
        return None


def fingerprint(pin: Pin) -> str:
    """Give one hash of all that was fetched, to tell two installations apart that say they are one version."""
    parts = (pin.content or "", *(f"{name}={value}" for name, value in sorted(pin.locks.items())))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _python(place: Path) -> str | None:
    try:
        lines = (place / "venv" / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() in ("version_info", "version"):
            return value.strip()
    return None
