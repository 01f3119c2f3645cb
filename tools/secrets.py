"""The secrets file: literal values that somebody gave, kept out of the store, the logs and the lists."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import SecretsError
from .replace import next_step, replace_file

_Stamp = tuple[int, int, int]


class Secrets:
    """Secret values by name, in a JSON file that only its owner can read.

    A change by another hand is seen at the next look. Writing is atomic: the file is the old or the new one,
    never half. Safe for several threads of one process, and for several processes where the system can lock a
    folder: a command may write while another process owns the home. No value is ever part of an error or of
    `repr`.

    Args:
        path: The file, which may be absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._values: dict[str, str] = {}
        self._stamp: _Stamp | None = None

    def __repr__(self) -> str:
        return f"Secrets({str(self._path)!r})"

    def get(self, key: str) -> str | None:
        """Give a value, or `None` where there is none.

        Raises:
            SecretsError: If the file cannot be read, or others can read it too.
        """
        with self._lock:
            return self._fresh().get(key)

    def names(self) -> list[str]:
        """Give the keys, sorted.

        Raises:
            SecretsError: As in `get`.
        """
        with self._lock:
            return sorted(self._fresh())

    def set(self, key: str, value: str) -> None:
        """Keep a value.

        Raises:
            SecretsError: If the file cannot be read or written; it is then as it was.
        """
        self.set_many({key: value})

    def set_many(self, values: Mapping[str, str]) -> None:
        """Keep several values, all or none.

        Raises:
            SecretsError: As in `set`.
        """
        with self._alone():
            self._write({**self._fresh(), **values})

    def delete_prefix(self, prefix: str) -> int:
        """Forget every value whose key begins so.

        Returns:
            How many there were.

        Raises:
            SecretsError: As in `set`.
        """
        with self._alone():
            values = self._fresh()
            kept = {key: value for key, value in values.items() if not key.startswith(prefix)}
            if len(kept) < len(values):
                self._write(kept)
            return len(values) - len(kept)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other thread or process write between a look and what is written after it."""
        with self._lock, _locked(self._path.parent):
            yield

    def _fresh(self) -> dict[str, str]:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
                    raise SecretsError(
                        f"The secrets file {self._path} is open to other users, so it is not read. Run "
                        f"`chmod 600 {self._path}`, and change the secrets in it if others use this machine."
                    )
                stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
                if stamp != self._stamp:
                    self._values = self._parsed(file.read())
                    self._stamp = stamp
        except FileNotFoundError:
            self._values, self._stamp = {}, None
        except OSError as error:
            raise self._failed("read", error) from error
        return self._values

    def _parsed(self, content: bytes) -> dict[str, str]:
        try:
            found = json.loads(content)
        except ValueError:  # without a cause: it would quote the text
            found = None
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            return found
        raise SecretsError(
            f"The secrets file {self._path} is not a JSON object whose values are all strings. Correct it, "
            "or move it away and install the servers that need secrets anew."
        )

    def _write(self, values: dict[str, str]) -> None:
        content = json.dumps(values, indent=2, sort_keys=True).encode() + b"\n"
        try:
            status = replace_file(self._path, content)
        except OSError as error:
            raise self._failed("written", error) from error
        self._values = values
        self._stamp = (status.st_ino, status.st_size, status.st_mtime_ns)

    def _failed(self, done: str, error: OSError) -> SecretsError:
        return SecretsError(
            f"The secrets file {self._path} cannot be {done}: {error.strerror}. {next_step(error)}"
        )


if sys.platform == "win32":

    @contextmanager
    def _locked(folder: Path) -> Iterator[None]:
        """Do nothing: here the home's lock alone keeps two writers apart."""
        yield

else:
    import fcntl

    @contextmanager
    def _locked(folder: Path) -> Iterator[None]:
        """Hold the lock of the folder, which leaves no file behind; nobody holds it for more than a write."""
        descriptor = -1
        with suppress(OSError):  # what is wrong with the folder, reading and writing tell
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if descriptor >= 0:
                os.close(descriptor)
