"""The system's keyring (Secret Service, macOS Keychain, Windows Credential Manager), through the library `keyring`.

An extra: `toolscore[keyring]`. Where the library is not there, or finds no keyring (on a machine without a desktop),
there is none, and it is said why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from .errors import SecretsError

PATIENCE = 60.0
"""Seconds a keyring may take: it may ask its owner to unlock it."""

_REAL = 1.0
"""Priority from which on the library recommends a backend; those below keep values in plain files, or nowhere."""

_T = TypeVar("_T")


class Ring(Protocol):
    """Keeps values by service and name."""

    label: str

    def get(self, service: str, name: str) -> str | None:
        """Give a value.

        Raises:
            SecretsError: If the keyring cannot be used now.
        """
        ...

    def set(self, service: str, name: str, value: str) -> None:
        """Keep a value.

        Raises:
            SecretsError: If it could not be kept.
        """
        ...

    def delete(self, service: str, name: str) -> None:
        """Forget a value; one that is not there is no error.

        Raises:
            SecretsError: If the keyring cannot be used now.
        """
        ...


class NoRingError(Exception):
    """There is no keyring here. The text says why, as part of a sentence."""


def system_ring() -> Ring:
    """Find the system's keyring.

    Raises:
        NoRingError: If there is none.
    """
    try:
        import keyring
        from keyring.backends.fail import Keyring as Nothing
    except ImportError:
        raise NoRingError("the extra toolscore[keyring] is not installed") from None
    try:
        backend = _within(keyring.get_keyring)
        priority = float(getattr(backend, "priority", 0))
    except Exception as error:  # each system has its own ways to fail
        raise NoRingError(f"this machine's keyring cannot be used ({_said(error)})") from None
    if isinstance(backend, Nothing) or priority < _REAL:
        raise NoRingError("this machine has no keyring that is running")
    return _System(backend, str(getattr(backend, "name", type(backend).__name__)))


class _System:
    """The keyring that the library found."""

    def __init__(self, backend: Any, label: str) -> None:
        self._backend = backend
        self.label = label

    def get(self, service: str, name: str) -> str | None:
        found = self._use("read", lambda: self._backend.get_password(service, name))
        return found if isinstance(found, str) else None

    def set(self, service: str, name: str, value: str) -> None:
        self._use("written", lambda: self._backend.set_password(service, name, value))

    def delete(self, service: str, name: str) -> None:
        from keyring.errors import PasswordDeleteError

        def delete() -> None:
            try:
                self._backend.delete_password(service, name)
            except PasswordDeleteError:
                if self._backend.get_password(service, name) is not None:
                    raise

        self._use("changed", delete)

    def _use(self, done: str, work: Callable[[], _T]) -> _T:
        try:
            return _within(work)
        except Exception as error:  # each system has its own ways to fail
            raise SecretsError(
                f"The system's keyring ({self.label}) cannot be {done}: {_said(error)}. Unlock it and try again."
            ) from None


def _within(work: Callable[[], _T]) -> _T:
    """Do something in a thread that can be left behind: a keyring may hang with a dialog nobody sees."""
    done: list[_T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(work())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="toolscore-keyring", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"it did not answer within {PATIENCE:g} s")
    return done[0]


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text or type(error).__name__
