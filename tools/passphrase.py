"""The passphrase of sealed secrets: from the environment, a file or a person, and handed to no server."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from pathlib import Path

from .errors import SecretsError

VARIABLE = "TOOLSCORE_PASSPHRASE"
"""Environment variable with the passphrase."""

FILE_VARIABLE = "TOOLSCORE_PASSPHRASE_FILE"
"""Environment variable with the path of a file that holds it."""

_LONGEST = 4096
"""Bytes of a file with a passphrase."""

Ask = Callable[[], "str | None"]
"""Asks a person; `None` where nobody answers."""


class _Kept:
    """What this process knows."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.ask: Ask | None = None
        self.lock = threading.Lock()


_kept = _Kept()


def take(environ: MutableMapping[str, str] | None = None) -> None:
    """Take the passphrase out of the environment, so that no program that is started from here gets it.

    Where the system shows the environment a process was started with (`/proc/PID/environ`), it is overwritten
    there, too: every program of the same user could read that.

    Args:
        environ: The environment; the process's own when `None`.
    """
    own = environ is None
    environ = os.environ if environ is None else environ
    if VARIABLE not in environ:
        return
    text = environ.pop(VARIABLE)
    if text:
        _kept.text = text
    if own:
        overwrite(VARIABLE)


def given(*, ask: bool = True) -> str | None:
    """Give the passphrase, or `None` where there is none; a person is asked where one can be.

    Args:
        ask: Whether a person may be asked.

    Raises:
        SecretsError: If the file that should hold it cannot be read, or is open to others.
    """
    take()
    with _kept.lock:
        if _kept.text is None and (path := os.environ.get(FILE_VARIABLE)):
            _kept.text = _read(Path(path).expanduser())
        if ask and _kept.text is None and _kept.ask is not None:
            _kept.text = _kept.ask() or None
    return _kept.text


def remember(text: str | None) -> None:
    """Keep a passphrase for the rest of this process; `None` forgets it."""
    _kept.text = text


def ask_with(ask: Ask | None) -> None:
    """Ask a person from now on, once something sealed is to be opened."""
    _kept.ask = ask


def for_own_process() -> dict[str, str]:
    """Give what another process of ToolScore's own is to be started with, so that it can open the same secrets."""
    take()
    handed = {} if _kept.text is None else {VARIABLE: _kept.text}
    if (path := os.environ.get(FILE_VARIABLE)) and not handed:
        handed[FILE_VARIABLE] = str(Path(path).expanduser().absolute())
    return handed


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if os.name == "posix" and stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077:
                raise SecretsError(
                    f"The file {path} with the passphrase ({FILE_VARIABLE}) is open to other users, so it is not "
                    f"used. Run `chmod 600 {path}`."
                )
            text = file.read(_LONGEST).decode().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise SecretsError(
            f"The file {path} with the passphrase ({FILE_VARIABLE}) cannot be read: {why}."
        ) from None
    if not text:
        raise SecretsError(f"The file {path} with the passphrase ({FILE_VARIABLE}) is empty.")
    return text


def overwrite(variable: str) -> None:
    """Overwrite a variable where the kernel shows it as this process's environment. Does nothing elsewhere.

    Args:
        variable: Its name.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, ValueError, IndexError, ImportError):
        import ctypes

        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        begin, end = int(fields[47]), int(fields[48])  # env_start and env_end of proc(5)
        if not 0 < begin < end:
            return
        block = ctypes.string_at(begin, end - begin)
        mark = f"{variable}=".encode()
        at = 0 if block.startswith(mark) else block.find(b"\0" + mark) + 1
        if at == 0 and not block.startswith(mark):
            return
        stop = block.find(b"\0", at)
        ctypes.memset(begin + at + len(mark), ord("*"), (stop if stop >= 0 else len(block)) - at - len(mark))
