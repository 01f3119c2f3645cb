"""The secrets file: literal values that somebody gave, kept out of the store, the logs and the lists."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from . import passphrase
from .errors import SecretsError
from .replace import next_step, replace_file
from .seal import Seal, SealedError, seal, sealed_part, unseal

_Stamp = tuple[int, int, int]

_SETTLED = 100_000_000
"""Nanoseconds after which a further change of a file surely shows in its times: a few ticks of the kernel's."""


NO_SERVER = "@"
"""How keys begin that belong to no server, whose name no server can have."""


class Secrets:
    """Secret values by name, in a JSON file that only its owner can read.

    A change by another hand is seen at the next look. Writing is atomic: the file is the old or the new one,
    never half. Safe for several threads of one process, and for several processes where the system can lock a
    folder: a command may write while another process owns the home. No value is ever part of an error or of
    `repr`. A file that is sealed stays so: it is read and written with the passphrase of this process.

    Args:
        path: The file, which may be absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._values: dict[str, str] = {}
        self._stamp: _Stamp | None = None
        self._seal: Seal | None = None

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

    def values(self) -> dict[str, str]:
        """Give all values by their keys.

        Raises:
            SecretsError: As in `get`.
        """
        with self._lock:
            return dict(self._fresh())

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

    def delete(self, key: str) -> bool:
        """Forget one value.

        Returns:
            Whether there was one.

        Raises:
            SecretsError: As in `set`.
        """
        with self._alone():
            values = dict(self._fresh())
            if values.pop(key, None) is None:
                return False
            self._write(values)
            return True

    @property
    def sealed(self) -> bool:
        """Whether the file is sealed; also told without the passphrase.

        Raises:
            SecretsError: If the file cannot be read.
        """
        try:
            return sealed_part(json.loads(self._path.read_bytes())) is not None
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._failed("read", error) from error
        except (ValueError, RecursionError):
            return False  # which reading it in earnest complains of

    def seal(self, phrase: str) -> bool:
        """Encrypt the file with a passphrase, from now on.

        Returns:
            Whether it was not sealed yet; one that was is left as it is.

        Raises:
            SecretsError: If the file cannot be read or written; it is then as it was.
        """
        with self._alone():
            if self.sealed:
                return False
            values = self._fresh()
            passphrase.remember(phrase)
            self._seal = Seal.new(phrase)
            try:
                self._write(values)
            except SecretsError:
                self._seal = None
                raise
            return True

    def unseal(self) -> bool:
        """Write the file unencrypted, from now on.

        Returns:
            Whether it was sealed.

        Raises:
            SecretsError: If the passphrase is missing or wrong, or the file cannot be written; it is then as it was.
        """
        with self._alone():
            values = self._fresh()
            if self._seal is None:
                return False
            before, self._seal = self._seal, None
            try:
                self._write(values)
            except SecretsError:
                self._seal = before
                raise
            return True

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
                    self._stamp = None
                    self._values = self._parsed(file.read())
                    # A second change within the same tick of the clock would not show.
                    self._stamp = stamp if time.time_ns() - status.st_mtime_ns > _SETTLED else None
        except FileNotFoundError:
            self._values, self._stamp, self._seal = {}, None, None
        except OSError as error:
            raise self._failed("read", error) from error
        return self._values

    def _parsed(self, content: bytes) -> dict[str, str]:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):  # without a cause: it would quote the text
            found = None
        if (part := sealed_part(found)) is not None:
            found = json.loads(self._unsealed(part))
        else:
            self._seal = None
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            return found
        raise SecretsError(
            f"The secrets file {self._path} is not a JSON object whose values are all strings. Correct it, "
            "or move it away and install the servers that need secrets anew."
        )

    def _unsealed(self, part: dict[str, Any]) -> bytes:
        phrase = passphrase.given()
        if phrase is None:
            raise SealedError(
                f"The secrets file {self._path} is sealed, and there is no passphrase: set "
                f"{passphrase.FILE_VARIABLE} to a file that holds it (or {passphrase.VARIABLE} to the passphrase "
                "itself) for ToolScore, and start it again. `toolscore secret unseal` undoes the seal."
            )
        content, self._seal = unseal(part, phrase, f"the secrets file {self._path}")
        return content

    def _write(self, values: dict[str, str]) -> None:
        content = json.dumps(values, indent=2, sort_keys=True).encode() + b"\n"
        if self._seal is not None:
            phrase = passphrase.given() or ""  # with which it was read a moment ago
            content = seal(content, phrase, self._seal, f"the secrets file {self._path}")
        try:
            replace_file(self._path, content)
        except OSError as error:
            raise self._failed("written", error) from error
        self._values, self._stamp = values, None

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
