"""What comes of a job that was given to `boxes`."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Done:
    """What came of a job; see `Execution`."""

    status: str
    value: Any
    repr: str | None
    error: str | None
    """The type of the exception."""
    said: str
    """Its message."""
    exit_code: int | None
    signal: str | None
    stdout: bytes
    stderr: bytes
    truncated: list[str]
    files: dict[str, tuple[int, bytes | None]]
    skipped: list[str]
    wall: float
    cpu: float
    peak: int | None
    limit: str | None
    message: str | None
    alive: bool
    isolation: str
    took: float
    """Seconds as its caller saw it."""


class RaisedError(Exception):
    """What the pool raised instead of an answer: `kind` is the name of its type."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


@dataclass
class Running:
    """A job that was started."""

    future: Future[dict[str, Any]]
    cancel: Callable[[], None]
    """Cancels it, as a client does."""
    began: float = field(default_factory=time.monotonic)
    heard: int = 0
    """Bytes of output so far."""

    def done(self, timeout: float = 60.0) -> Done:
        """Wait for what comes of it."""
        told = self.future.result(timeout)
        if "raised" in told:
            raise RaisedError(told["raised"], told["text"])
        error = told["error"] or [None, "", ""]
        wall, cpu, peak = told["usage"]
        return Done(
            took=time.monotonic() - self.began,
            error=error[0],
            said=error[1],
            wall=wall,
            cpu=cpu,
            peak=peak,
            stdout=base64.b64decode(told["stdout"]),
            stderr=base64.b64decode(told["stderr"]),
            files={
                path: (size, None if data is None else base64.b64decode(data))
                for path, size, data in told["files"]
            },
            **{
                key: told[key]
                for key in (
                    "status",
                    "value",
                    "repr",
                    "exit_code",
                    "signal",
                    "truncated",
                    "skipped",
                    "limit",
                    "message",
                    "alive",
                    "isolation",
                )
            },
        )
