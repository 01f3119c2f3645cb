"""Secrets that a person named, which any spec may refer to as `${NAME}`; in the keyring or in the secrets file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import SecretsError
from .ring import NoRingError, Ring, system_ring
from .secrets import NO_SERVER, Secrets

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
"""What a named secret may be called. Only one that is a variable's name, too, can be meant by `${NAME}`."""

LONGEST = 65_536
"""Characters of a value."""

IN_FILE = f"{NO_SERVER}named/"
IN_RING = f"{NO_SERVER}keyring/"
"""How keys of the secrets file begin: of values, and of notes that a value is in the keyring."""

Where = Literal["keyring", "file", "sealed file"]


class UnknownSecretError(SecretsError):
    """There is no secret of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no secret named '{name[:128]}'. `toolscore secret list` shows those there are."
        )


@dataclass(frozen=True, slots=True)
class Put:
    """Where a secret was put.

    Attributes:
        where: The place.
        why: Why it is not in the keyring, as part of a sentence; empty where it is, or was not to be.
    """

    where: Where
    why: str = ""


class NamedSecrets:
    """The named secrets of one home.

    The secrets file knows all names, also of those whose values are in the keyring, which cannot be asked for a list.

    Args:
        secrets: The secrets file.
        home: The home, by whose path its values are told apart in the keyring from those of others.
        ring: Finds the keyring.
    """

    def __init__(self, secrets: Secrets, home: Path, ring: Callable[[], Ring] = system_ring) -> None:
        self._secrets = secrets
        self._service = f"toolscore-{hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:12]}"
        self._find = ring

    def names(self) -> dict[str, Where]:
        """Give all names, sorted, and where their values are.

        Raises:
            SecretsError: If the secrets file cannot be read.
        """
        in_file: Where = "sealed file" if self._secrets.sealed else "file"
        found: dict[str, Where] = {}
        for key in self._secrets.names():
            if key.startswith(IN_FILE):
                found[key.removeprefix(IN_FILE)] = in_file
            elif key.startswith(IN_RING):
                found[key.removeprefix(IN_RING)] = "keyring"
        return dict(sorted(found.items()))

    def get(self, name: str) -> str | None:
        """Give a value, or `None` where there is none. A keyring may ask its owner first: not for an event loop.

        Raises:
            SecretsError: If the secrets file or the keyring cannot be read.
        """
        if (value := self._secrets.get(IN_FILE + name)) is not None:
            return value
        service = self._secrets.get(IN_RING + name)
        if service is None:
            return None
        try:
            ring = self._find()
        except NoRingError as error:
            raise SecretsError(
                f"The secret {name} is in the system's keyring, but {error}. Make the keyring available, or run "
                f"`toolscore secret set {name} --keep file`."
            ) from None
        return ring.get(service, name)

    def set(self, name: str, value: str, keep: Literal["keyring", "file"] | None = None) -> Put:
        """Keep a value under a name, in place of the one there was.

        Args:
            name: See `NAME`.
            value: The value.
            keep: Where; in the keyring if there is one, otherwise in the file, when `None`.

        Raises:
            SecretsError: If the name or value cannot be, or it could not be kept; what was kept is kept.
        """
        if NAME.fullmatch(name) is None:
            raise SecretsError(
                f"A secret cannot be named {name[:80]!r}: a name has letters, digits, '_', '-' and '.', and begins "
                "with a letter or '_'."
            )
        if not value:
            raise SecretsError(f"No value was given for {name}; nothing was changed.")
        if len(value) > LONGEST or "\0" in value or not _is_text(value):
            raise SecretsError(
                f"The value of {name} is longer than {LONGEST} characters, or no text. Nothing was changed."
            )
        why = ""
        if keep != "file":
            try:
                ring = self._find()
            except NoRingError as error:
                if keep == "keyring":
                    raise SecretsError(
                        f"{name} cannot be kept in the keyring: {error}. Nothing was changed."
                    ) from None
                why = str(error)
            else:
                self._secrets.names()  # before anything is changed: it may not be readable
                ring.set(self._service, name, value)
                self._secrets.set(IN_RING + name, self._service)
                self._secrets.delete(IN_FILE + name)
                return Put("keyring")
        self._secrets.set(IN_FILE + name, value)
        self._forget(name)
        return Put("sealed file" if self._secrets.sealed else "file", why)

    def delete(self, name: str) -> None:
        """Forget a secret.

        Raises:
            UnknownSecretError: If there is none of that name.
            SecretsError: If it could not be deleted.
        """
        in_ring = self._secrets.get(IN_RING + name) is not None
        if in_ring:
            self._forget(name, must=True)
        if not self._secrets.delete(IN_FILE + name) and not in_ring:
            raise UnknownSecretError(name)

    def rename(self, old: str, new: str) -> Put:
        """Give a secret another name; specs still refer to the old one.

        Raises:
            UnknownSecretError: If there is none of the old name.
            SecretsError: If there is one of the new name already, or it could not be done; nothing is lost then.
        """
        names = self.names()
        if old not in names:
            raise UnknownSecretError(old)
        if new in names:
            raise SecretsError(
                f"There is already a secret named '{new}'. Delete it first, if it is not wanted."
            )
        value = self.get(old)
        if value is None:
            raise SecretsError(f"The keyring has no value for '{old}' any more. Set it anew, or delete it.")
        put = self.set(new, value, "keyring" if names[old] == "keyring" else "file")
        self.delete(old)
        return put

    def _forget(self, name: str, *, must: bool = False) -> None:
        """Take a value out of the keyring, and then the note of it."""
        service = self._secrets.get(IN_RING + name)
        if service is None:
            return
        try:
            self._find().delete(service, name)
        except (NoRingError, SecretsError) as error:
            if must and not isinstance(error, NoRingError):
                raise
        self._secrets.delete(IN_RING + name)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
