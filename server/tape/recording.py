"""Where to record to, as the command line says it, and the recorder that does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .cover import Cover
from .place import opened
from .recorder import Recorder
from .writer import Writer

if TYPE_CHECKING:
    from ..front import Front
    from ..home import Home


@dataclass(frozen=True, slots=True)
class Record:
    """What is to be recorded to.

    Attributes:
        path: The file.
        overwrite: Whether a file that is there is replaced.
        append: Whether it is gone on with.
    """

    path: Path
    overwrite: bool = False
    append: bool = False


def recorder(record: Record, front: Front, home: Home) -> Recorder:
    """Begin a recording.

    Args:
        record: Where to.
        front: Whose clients.
        home: Whose token must not be in it.

    Raises:
        TapeError: If the file cannot be written, or is there already.
    """
    descriptor = opened(record.path, overwrite=record.overwrite, append=record.append)
    cover = Cover(_tokens(home))
    return Recorder(Writer(descriptor, record.path, cover), cover, front)


def recording(record: Record, front: Front, home: Home) -> Recorder:
    """Begin a recording of all clients; see `recorder`."""
    front.recorder = recorder(record, front, home)
    return front.recorder


def _tokens(home: Home) -> list[str]:
    """Give the home's own token, if it has one already: it may be in what a client says of its configuration."""
    try:
        return [(home.path / "token").read_text("utf-8").strip()]
    except (OSError, ValueError):
        return []
