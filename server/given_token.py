"""The token that is given instead of generated: by whoever starts ToolScore as a service, in a variable or a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, MutableMapping
from pathlib import Path

from ..tools.passphrase import overwrite
from .private_file import PrivateFile, PrivateFileError
from .tokens import read_token

VARIABLE = "TOOLSCORE_TOKEN"
"""Environment variable with the token."""

FILE_VARIABLE = "TOOLSCORE_TOKEN_FILE"
"""Environment variable with the path of a file that holds it; the file may change while ToolScore runs."""

_kept: dict[str, str] = {}


def take(environ: MutableMapping[str, str] | None = None) -> None:
    """Take the token out of the environment, so that no program that is started from here gets it.

    Args:
        environ: The environment; the process's own when `None`.
    """
    own = environ is None
    environ = os.environ if environ is None else environ
    text = environ.pop(VARIABLE, "").strip()
    if text:
        _kept[VARIABLE] = text
    if own:
        overwrite(VARIABLE)


def given(environ: MutableMapping[str, str] | None = None) -> Callable[[], str] | None:
    """Give what gives the token; `None` where none is given, and one is to be generated.

    Args:
        environ: The environment; the process's own when `None`.

    Returns:
        What reads it anew when its file has changed. It raises `PrivateFileError` where that cannot be used.
    """
    environ = os.environ if environ is None else environ
    if VARIABLE in environ:
        take(environ if environ is not os.environ else None)
    if (token := _kept.get(VARIABLE)) is not None:
        return lambda: read_token(Path(f"${VARIABLE}"), token.encode())
    path = environ.get(FILE_VARIABLE, "").strip()
    if not path:
        return None
    file = PrivateFile(Path(path).expanduser(), read_token, trusted=_not_for_all)

    def read() -> str:
        token = file.read()
        if token is None:
            raise PrivateFileError(
                f"The file {file.path} ({FILE_VARIABLE}) does not exist. Put the token there."
            )
        return token

    return read


def for_own_process() -> dict[str, str]:
    """Give what another process of ToolScore's own is to be started with, so that the same token is good there."""
    if VARIABLE in os.environ:
        take()
    handed = dict(_kept)
    if (path := os.environ.get(FILE_VARIABLE)) and not handed:
        handed[FILE_VARIABLE] = str(Path(path).expanduser().absolute())
    return handed


def _not_for_all(path: Path, status: os.stat_result) -> None:
    """Refuse a file that everybody can read; service managers give one that is another's, and a group's."""
    if not stat.S_ISREG(status.st_mode):
        raise PrivateFileError(f"{path} ({FILE_VARIABLE}) is not a file.")
    if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o007:
        raise PrivateFileError(
            f"The file {path} ({FILE_VARIABLE}) is open to every user, so it is not used. Run `chmod o= {path}`, "
            "or give its volume a default mode of 0440."
        )
