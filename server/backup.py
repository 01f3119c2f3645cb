"""A backup of a home: one archive, consistent also while a ToolScore is at work in it.

The store is copied as one transaction sees it; of servers, what that copy knows. A server that was installed, removed
or installed anew meanwhile is left out, so that what is in the archive fits together.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import posixpath
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from .. import __version__
from ..runners.template import is_template
from ..tools.named import IN_FILE, IN_RING
from ..tools.secrets import NO_SERVER, Secrets
from .folders import HomeError
from .home import Home

FORMAT = 1
"""Of the archive; a later ToolScore that writes another one counts it up."""

MANIFEST = "manifest.json"
"""The archive's last member: what is in it, and the digest of each file."""

STORE = "toolscore.db"
SECRETS = "secrets.json"
CONFIG = "config.toml"
POLICY = "policy.toml"
MEMORY = "memory.db"
TOKENS = ("token", "tokens.json")
TOP = frozenset({STORE, SECRETS, CONFIG, POLICY, MEMORY, *TOKENS})
"""The files that lie in the home itself; all others lie in servers' folders."""

_COMPRESSION = 4
"""Of zlib: nearly as small as more would be, in half the time."""

_IN_MEMORY = 1 << 24
_BUSY = 30.0
"""Seconds to wait for who is writing the store."""


class BackupError(HomeError):
    """A backup cannot be made or used. The text says why and what to do next."""


@dataclass(slots=True)
class Backup:
    """What a backup holds, as its manifest says.

    Attributes:
        home: Path of the home it was made of.
        made: When, in UTC (ISO 8601).
        version: The ToolScore that made it.
        servers: The servers in it.
        without_secrets: Those among them that have secrets which are not in it.
        files: Digest (SHA-256) of each file.
        links: Target of each link.
        folders: Folders with nothing in them.
        remarks: What is not in it, and why.
    """

    home: str
    made: str
    version: str
    servers: list[str] = field(default_factory=list)
    without_secrets: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def back_up(home: Home, target: Path, *, secrets: bool = True) -> Backup:
    """Write a backup, readable by its owner only. It is there as a whole or not at all.

    Args:
        home: The home; a ToolScore may run in it.
        target: The archive, which must not be there yet.
        secrets: Whether secrets and tokens are part of it.

    Raises:
        BackupError: If it cannot be made.
    """
    if not home.store_file.is_file():
        raise BackupError(
            f"There is nothing to back up: {home.path} is no home of a ToolScore that ever ran."
        )
    if target.exists():
        raise BackupError(f"{target} is there already. Name another file, or delete it.")
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    made = Backup(str(home.path), datetime.now(UTC).isoformat(timespec="seconds"), __version__)
    try:
        with open(partial, "xb", opener=_private) as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=_COMPRESSION) as tar:
                _Writing(home, tar, made, secrets=secrets).write()
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(
            f"The backup {target} cannot be written: {error}. Name a file in a folder that is there, with room for "
            "it and yours to write to; if the home itself cannot be read, see to that."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return made


class _Writing:
    """One backup while it is written."""

    def __init__(self, home: Home, tar: tarfile.TarFile, made: Backup, *, secrets: bool) -> None:
        self._home = home
        self._tar = tar
        self._made = made
        self._secrets = secrets

    def write(self) -> None:
        with tempfile.TemporaryDirectory(prefix="toolscore-backup-") as scratch:
            copy = Path(scratch) / STORE
            rows = self._copied(copy)
            kept = {name for name, (directory, _) in rows.items() if self._folder(directory)}
            now = _rows(self._home.store_file)
            for name in sorted(rows.keys() - kept | {name for name in kept if now.get(name) != rows[name]}):
                self._leave_out(name, copy)
                kept.discard(name)
            self._made.servers = sorted(kept)
            with copy.open("rb") as file:
                self._add(STORE, file, 0o600)
            if self._home.memory_file.is_file():
                memory = Path(scratch) / MEMORY
                _copied(self._home.memory_file, memory)
                with memory.open("rb") as file:
                    self._add(MEMORY, file, 0o600)
        self._private_files()
        if _has_entries(self._home.catalog_file):
            self._made.remarks.append(
                "catalog.db is not in it: `toolscore catalog sync` fetches it again, and `toolscore catalog sync "
                "SOURCE` what came from other places than the settings name"
            )
        self._manifest()

    def _copied(self, copy: Path) -> dict[str, tuple[str | None, str]]:
        """Copy the store, and give its servers: the folder and the time of each row."""
        _copied(self._home.store_file, copy)
        return _rows(copy)

    def _folder(self, directory: str | None) -> bool:
        """Add a server's folder; tell whether it is still there after that."""
        if directory is None:
            return True
        folder = Path(directory)
        servers = self._home.servers_dir
        if not folder.is_dir() or not folder.parent.samefile(servers):
            return False
        if folder.parent != servers:
            self._made.home = str(
                folder.parent.parent
            )  # the same by another name, by which it is known in there
        for path in _below(folder):
            self._entry(f"servers/{folder.name}/{path.relative_to(folder).as_posix()}", path)
        return folder.is_dir()

    def _entry(self, name: str, path: Path) -> None:
        """Add a file, link or empty folder; servers delete files of their own at any time."""
        with suppress(FileNotFoundError):
            if path.is_symlink():
                target = str(path.readlink())
                if allowed(name, target, self._made.home, is_environment=_in_environment(path)):
                    self._made.links[name] = target
                else:
                    self._made.remarks.append(
                        f"{name} is a link to {target}, outside of its server's folder: left out"
                    )
            elif path.is_dir():
                self._made.folders.append(name)
            elif path.is_file():
                with path.open("rb") as file:
                    self._add(name, file, os.fstat(file.fileno()).st_mode & 0o777)

    def _add(self, name: str, file: IO[bytes], mode: int) -> None:
        """Add a file as it is now: it may grow or shrink while it is read, but not in the archive."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as held:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                held.write(chunk)
                digest.update(chunk)
            info = tarfile.TarInfo(name)
            info.size, info.mode = held.tell(), mode
            with suppress(OSError, ValueError):
                info.mtime = int(
                    os.fstat(file.fileno()).st_mtime
                )  # compiled Python files are checked against it
            held.seek(0)
            self._tar.addfile(info, held)
        self._made.files[name] = digest.hexdigest()

    def _leave_out(self, name: str, copy: Path) -> None:
        """Drop a server from the copy of the store, and what was written of it from the manifest."""
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("DELETE FROM server WHERE name = ?", (name,))
            connection.commit()
        prefix = f"servers/{name}/"
        made = self._made
        made.files = {key: value for key, value in made.files.items() if not key.startswith(prefix)}
        made.links = {key: value for key, value in made.links.items() if not key.startswith(prefix)}
        made.folders = [key for key in made.folders if not key.startswith(prefix)]
        made.remarks.append(f"server {name} was changed, or its folder was gone, meanwhile: left out")

    def _private_files(self) -> None:
        made = self._made
        sealed = Secrets(self._home.secrets_file).sealed
        if sealed:
            values = {}
            if not self._secrets:
                made.remarks.append(
                    "the secrets are sealed and not in it, and so it is not known which servers have some"
                )
        else:
            values = _secrets_of(self._home, made.servers)
        if self._secrets:
            if sealed:
                self._file(SECRETS)  # as it is, so that it takes no passphrase, and reading it does
            elif values:
                self._add(
                    SECRETS, io.BytesIO(json.dumps(values, indent=2, sort_keys=True).encode() + b"\n"), 0o600
                )
            for name in TOKENS:
                self._file(name)
        else:
            needed = {key.partition("/")[0] for key in values if not key.endswith("/declared")}
            made.without_secrets = sorted(name for name in needed if not name.startswith(NO_SERVER))
        self._named_remarks(values)
        if self._secrets or not _holds_values(self._home.config_file):
            self._file(CONFIG)
        else:
            made.remarks.append(f"{CONFIG} holds values of variables, headers or settings: left out")
        self._file(POLICY)  # without it, a restored home would allow what this one denies

    def _named_remarks(self, values: dict[str, str]) -> None:
        """Say which named secrets are not in it."""
        in_ring = [key.removeprefix(IN_RING) for key in values if key.startswith(IN_RING)]
        if in_ring:
            self._made.remarks.append(
                f"these secrets are in the system's keyring and not in it: {', '.join(in_ring)}"
            )
        in_file = [key.removeprefix(IN_FILE) for key in values if key.startswith(IN_FILE)]
        if in_file and not self._secrets:
            self._made.remarks.append(
                f"these secrets are not in it, set them anew with `toolscore secret set`: {', '.join(in_file)}"
            )

    def _file(self, name: str) -> None:
        with suppress(FileNotFoundError), (self._home.path / name).open("rb") as file:
            self._add(name, file, 0o600)

    def _manifest(self) -> None:
        made = self._made
        document: dict[str, Any] = {
            "format": FORMAT,
            **{name: getattr(made, name) for name in Backup.__dataclass_fields__},
        }
        content = json.dumps(document, indent=1, sort_keys=True).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode = len(content), 0o600
        self._tar.addfile(info, io.BytesIO(content))


def allowed(name: str, target: str, home: str, *, is_environment: bool) -> bool:
    """Tell whether a link in a server's folder may be: it stays in there, or is an environment's interpreter.

    Args:
        name: Its path in the home.
        target: What it points to.
        home: The home's path.
        is_environment: Whether its folder is the `bin` of a Python environment.
    """
    parts = name.split("/")
    own = "/".join(parts[:2])
    steps = [step for step in target.split("/") if step not in ("", ".")]
    climbs = next((at for at, step in enumerate(steps) if step != ".."), len(steps))
    if posixpath.isabs(target):
        climbs = 0
    if ".." in steps[climbs:]:
        return False  # above another link, that is somewhere else than it looks
    if posixpath.isabs(target):
        if is_environment and parts[-1].startswith("python"):
            return True
        inside = posixpath.relpath(target, home) if target.startswith(f"{home}/") else ".."
    else:
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    return inside == own or inside.startswith(f"{own}/")


def _in_environment(path: Path) -> bool:
    return path.parent.name == "bin" and (path.parent.parent / "pyvenv.cfg").is_file()


def _below(folder: Path) -> Iterator[Path]:
    """Give every file, link and empty folder below a folder."""
    for place, folders, files in os.walk(folder, onerror=_unless_gone):
        here = Path(place)
        yield from (here / name for name in files)
        yield from (here / name for name in folders if (here / name).is_symlink())
        if not folders and not files and here != folder:
            yield here


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _copied(path: Path, copy: Path) -> None:
    """Copy a SQLite file as one transaction sees it."""
    with closing(_opened(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # so that it is one file


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY)


def _rows(path: Path) -> dict[str, tuple[str | None, str]]:
    """Give the folder and the time of the row of each server; another time tells another installation."""
    with closing(_opened(path)) as connection:
        found = connection.execute("SELECT name, installation, created_at FROM server").fetchall()
    return {name: (json.loads(installation).get("directory"), made) for name, installation, made in found}


def _has_entries(catalog: Path) -> bool:
    """Tell whether a catalog was ever filled; one that cannot be read is its own affair."""
    if not catalog.is_file():
        return False
    with suppress(sqlite3.Error), closing(_opened(catalog)) as connection:
        return connection.execute("SELECT 1 FROM entries LIMIT 1").fetchone() is not None
    return False


def _secrets_of(home: Home, servers: list[str]) -> dict[str, str]:
    """Give the secrets of the servers that are in the backup, and the named ones."""
    secrets = Secrets(home.secrets_file)
    found = {
        key: secrets.get(key)
        for key in secrets.names()
        if key.startswith(NO_SERVER) or key.partition("/")[0] in servers
    }
    return {key: value for key, value in found.items() if value is not None}


def _holds_values(config: Path) -> bool:
    """Tell whether a settings file holds literal values of servers, or cannot be looked at."""
    from ..tools.declared import read as declared
    from ..tools.spec_secrets import extract
    from .settings_file import SERVERS, FileProblem, read

    try:
        table = read(config).get(SERVERS, {})
    except (FileNotFoundError, NotADirectoryError):
        return False
    except FileProblem:
        return True
    found = declared(table, config)
    return bool(found.problems) or any(
        extract(name, server.spec)[1] or any(map(_is_literal, server.settings.values()))
        for name, server in found.servers.items()
    )


def _is_literal(value: Any) -> bool:
    """Tell a value of `settings` that may be a secret: which ones are, only the server's entry says."""
    if isinstance(value, list):
        return any(map(_is_literal, value))
    return isinstance(value, str) and not is_template(value)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
