"""A home made of a backup: looked at as a whole beside its place first, then put there in one step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from .. import __version__
from .backup import FORMAT, MANIFEST, STORE, TOP, Backup, BackupError, allowed
from .folders import explained
from .home import Home
from .owner import HomeLock, current_owner
from .relocate import relocate

_DAMAGED = "Nothing was changed. Use another backup."

_LARGEST_MANIFEST = 1 << 28
"""Bytes; it is read as a whole, and a home of a million files needs less."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a backup.

    Attributes:
        backup: What was in it.
        aside: Where the home that was there before is now; `None` if there was none.
        remarks: What does not work before somebody does something about it.
    """

    backup: Backup
    aside: Path | None
    remarks: tuple[str, ...]


def restore(archive: Path, home: Home, *, force: bool = False) -> Restored:
    """Make a home of a backup, also at another path than that of the home it was made of.

    Every checksum is verified before anything is touched, and what was there is moved aside, not deleted.

    Args:
        archive: What `back_up` wrote.
        home: Where it is to be.
        force: Whether a home that is there is moved aside.

    Raises:
        BackupError: If the archive cannot be used, or the home is in use or not empty. Nothing was changed.
        HomeError: If the home cannot be used.
    """
    _refuse(home, force=force)
    try:
        home.path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{home.path.name}.restore-", dir=home.path.parent))
    except OSError as error:
        raise explained(home.path, error) from error
    try:
        made = beside / "home"
        made.mkdir(mode=0o700)
        backup = _extracted(archive, made)
        _check_store(made / STORE)
        relocate(made, backup.home, str(home.path), backup.links)
        aside = _put(made, home, beside, force=force)
    except OSError as error:
        raise BackupError(
            f"The backup cannot be restored to {home.path}: {error}. Nothing was changed. See to that, or use "
            "another backup, or another home with --home."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Restored(backup, aside, tuple(_missing(home, backup)))


def _refuse(home: Home, *, force: bool) -> None:
    owner = current_owner(home)
    if owner is not None:
        raise BackupError(
            f"A ToolScore (process {owner.pid}) is at work in {home.path}. Stop it with `toolscore stop`, or choose "
            "another home with --home."
        )
    if home.path.is_symlink():
        raise BackupError(f"{home.path} is a link. Name the folder itself with --home.")
    if _has_content(home) and not force:
        raise BackupError(
            f"{home.path} is not empty. Choose another home with --home, or use --force to have it moved aside."
        )


def _has_content(home: Home) -> bool:
    """Tell whether there is anything that somebody might miss; folders ToolScore made for nothing are none."""
    if not home.path.exists():
        return False
    if not home.path.is_dir():
        return True
    mere = {"owner.lock", "logs", "run", "servers", "tokens.lock"}
    return any(path.name not in mere for path in home.path.iterdir()) or (
        home.servers_dir.is_dir() and any(home.servers_dir.iterdir())
    )


def _extracted(archive: Path, folder: Path) -> Backup:
    """Unpack into an empty folder, and compare it with the manifest.

    Links and everything else that is no plain file come from the manifest alone, where they can be looked at before
    anything could be written through them.
    """
    digests: dict[str, str] = {}
    manifest: dict[str, Any] | None = None
    try:
        with tarfile.open(archive, mode="r:gz") as tar:
            for member in tar:
                if (
                    not member.isreg()
                    or member.name in digests
                    or not (member.name == MANIFEST or _fine(member.name))
                ):
                    raise BackupError(f"{archive} holds {member.name!r}, which no backup does. {_DAMAGED}")
                source = tar.extractfile(member)
                assert source is not None
                if member.name == MANIFEST:
                    if member.size > _LARGEST_MANIFEST:
                        raise ValueError(f"its {MANIFEST} is too large")
                    manifest = json.loads(source.read())
                    continue
                digests[member.name] = _written(source, folder / member.name, member)
    except FileNotFoundError:
        raise BackupError(f"There is no file {archive}.") from None
    except (tarfile.TarError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise BackupError(f"{archive} is no backup, or damaged: {error}. {_DAMAGED}") from error
    backup = _understood(archive, manifest)
    wrong = [name for name, digest in backup.files.items() if digests.get(name) != digest]
    if wrong or STORE not in backup.files:
        raise BackupError(f"{archive} is damaged: {(wrong or [STORE])[0]} is not what it was. {_DAMAGED}")
    for name in digests.keys() - backup.files.keys():  # of a server that changed while the backup was made
        (folder / name).unlink()
    for name in backup.folders:
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, target in backup.links.items():
        environment = f"{PurePosixPath(name).parent.parent}/pyvenv.cfg" in backup.files
        if not allowed(name, target, backup.home, is_environment=environment):
            raise BackupError(
                f"{archive} holds the link {name} to {target}, outside of its folder. {_DAMAGED}"
            )
    for name, target in backup.links.items():
        place = folder / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.symlink_to(target)
    return backup


def _fine(name: str) -> bool:
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        return False
    return name in TOP or (parts[0] == "servers" and len(parts) > 1)


def _written(source: Any, place: Path, member: tarfile.TarInfo) -> str:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    mode = 0o600 if member.name in TOP else (member.mode & 0o755) | 0o600
    with open(place, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        while chunk := source.read(1 << 20):
            file.write(chunk)
            digest.update(chunk)
    place.chmod(mode)
    os.utime(place, (member.mtime, member.mtime))
    return digest.hexdigest()


def _understood(archive: Path, manifest: Any) -> Backup:
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise BackupError(f"{archive} is no backup of a ToolScore: it has no {MANIFEST}. {_DAMAGED}")
    if manifest["format"] > FORMAT:
        raise BackupError(
            f"{archive} was made by ToolScore {manifest.get('version')}, in a form that this one ({__version__}) "
            "does not know. Install that version or a later one."
        )
    try:
        backup = Backup(**{name: manifest[name] for name in Backup.__dataclass_fields__})
        for held in (backup.files, backup.links):
            _expect_texts(one for pair in held.items() for one in pair)
        for listed in (backup.servers, backup.without_secrets, backup.folders, backup.remarks):
            if not isinstance(listed, list):
                raise TypeError("no list")
            _expect_texts(listed)
        _expect_texts((backup.home, backup.made, backup.version))
        if len(PurePosixPath(backup.home).parts) < 2 or not PurePosixPath(backup.home).is_absolute():
            raise ValueError("no path of a home")
        inside = [*backup.links, *backup.folders]
        if not all(_fine(name) and name not in TOP for name in inside):
            raise ValueError("a name leads out")
        # What lies below a link would be written through it, to wherever it leads.
        if any(str(above) in backup.links for name in inside for above in PurePosixPath(name).parents):
            raise ValueError("something lies below a link")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BackupError(f"{archive} is damaged: its {MANIFEST} cannot be understood. {_DAMAGED}") from error
    return backup


def _expect_texts(values: Iterable[object]) -> None:
    if not all(isinstance(value, str) and "\0" not in value for value in values):
        raise TypeError("not texts")


def _check_store(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("PRAGMA quick_check").fetchone()
            connection.execute("SELECT name, installation FROM server LIMIT 1").fetchall()
    except sqlite3.Error as error:
        raise BackupError(f"The store in the backup cannot be read: {error}. {_DAMAGED}") from error
    if found != ("ok",):
        raise BackupError(f"The store in the backup is damaged. {_DAMAGED}")


def _put(made: Path, home: Home, beside: Path, *, force: bool) -> Path | None:
    """Put the new home in its place; if that fails, the old one is there as it was."""
    if not home.path.exists():
        made.rename(home.path)
        return None
    with HomeLock.acquire(home, "command", __version__):
        _refuse_changed(home, force=force)
        missed = _has_content(home)
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        aside = home.path.with_name(f"{home.path.name}.before-{stamp}") if missed else beside / "before"
        home.path.rename(aside)
        try:
            made.rename(home.path)
        except BaseException:
            with suppress(OSError):
                aside.rename(home.path)
            raise
    return aside if missed else None


def _refuse_changed(home: Home, *, force: bool) -> None:
    if _has_content(home) and not force:
        raise BackupError(f"{home.path} came into use meanwhile. Nothing was changed.")


def _missing(home: Home, backup: Backup) -> list[str]:
    """Tell what a restored server needs that is not here."""
    remarks = [
        f"server {name} has no secrets in this backup: install it again, or write them into the file that declares it"
        for name in backup.without_secrets
    ]
    servers = set()
    for name in backup.links:
        if not (home.path / name).exists():
            servers.add(name.split("/")[1])
    remarks += [
        f"server {name} was made with a Python that is not on this machine: install it again"
        for name in sorted(servers)
    ]
    return remarks
