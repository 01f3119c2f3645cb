"""What goes into a box and what comes out of it, as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from .isolation import Isolation
from .limits import Limits


class Status(StrEnum):
    """How an execution ended. Only `OK` and `EXITED` with code 0 are successes."""

    OK = "ok"
    ERROR = "error"
    """The code raised an exception, or could not be compiled."""
    EXITED = "exited"
    """It called `exit`, or its process ended with `os._exit`."""
    CRASHED = "crashed"
    """A signal ended its process: a broken pointer, an abort, an overflow of the C stack."""
    TIMEOUT = "timeout"
    CPU = "cpu"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    NO_RESULT = "no_result"
    """It ended normally without saying what came of it: it closed its descriptors, for one."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """The box was ended from outside: its zygote or the machine failed it."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to be put into `/workspace` before the code runs. Its path is relative and was checked."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file found in `/workspace` afterwards, new or changed.

    Attributes:
        path: Its path in `/workspace`.
        size: Its size in bytes.
        data: What it holds; `None` where a limit was reached before it.
    """

    path: str
    size: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Image:
    """A figure the code left open."""

    mime: str
    data: bytes


@dataclass(frozen=True, slots=True)
class CodeError:
    """An exception of the code, as the code itself tells it: nothing in it can be trusted."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What an execution used, as the runner and the server saw it, never as the code tells.

    Attributes:
        wall: Seconds.
        cpu: Seconds of processor time of all its processes. Where no control group counts them, those of children
            that nobody waited for are missing.
        peak_memory: Bytes at the most; `None` where nobody could measure it.
        peak_source: `cgroup` (the whole box) or `process` (its largest process).
    """

    wall: float
    cpu: float
    peak_memory: int | None = None
    peak_source: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One execution.

    Attributes:
        code: Python source.
        limits: What it may use.
        stdin: What it can read from standard input.
        files: Files put into `/workspace` first.
        tools: Whether it may call tools.
        keep: Whether the box and its state stay for another one (a session).
        owner: For whom: where many wait, everybody has a turn.
    """

    code: str
    limits: Limits
    stdin: bytes = b""
    files: tuple[InputFile, ...] = ()
    tools: bool = False
    keep: bool = False
    owner: str = ""


@dataclass(slots=True)
class Execution:
    """What came of a job.

    Attributes:
        status: How it ended.
        value: The last expression's value, as far as JSON can hold it; `None` also where there was none.
        repr: Its repr, cut where it is too long; `None` where the last statement was no expression or its value
            was `None`.
        error: The exception, if there was one.
        exit_code: With which code its process ended, where it did.
        signal: Name of the signal that ended it.
        stdout: What it wrote, cut at the limit.
        stderr: Likewise.
        truncated: Which of `stdout`, `stderr`, `repr`, `value`, `images`, `files` were cut.
        images: Figures of matplotlib it left open.
        files: Files it made or changed.
        skipped: Names of what was not taken out of the box, each with the reason.
        usage: What it used.
        limit: Name of the limit that was hit (a field of `Limits`).
        message: A sentence for whoever called, where the status is not `ok`.
        alive: Whether the box can run another job (sessions).
        isolation: What confined it.
    """

    status: Status
    isolation: Isolation
    value: Any = None
    repr: str | None = None
    error: CodeError | None = None
    exit_code: int | None = None
    signal: str | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: set[str] = field(default_factory=set)
    images: list[Image] = field(default_factory=list)
    files: list[OutputFile] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    usage: Usage = Usage(0.0, 0.0)
    limit: str | None = None
    message: str | None = None
    alive: bool = False


OnOutput = Callable[[str, bytes], None]
"""Told of output while code runs: `stdout` or `stderr`, and what was written."""


class Tools(Protocol):
    """The tools that code in a box may call, in the name of whoever had it run."""

    async def servers(self) -> list[dict[str, Any]]:
        """List the servers: each with `name`, and `description` where it has one."""
        ...

    async def tools(self, server: str) -> list[dict[str, Any]]:
        """List a server's tools as MCP `Tool` objects; `name` is the full one, `server__tool`.

        Raises:
            LookupError: If there is no such server.
        """
        ...

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool by its full name; gives its MCP `CallToolResult`. Never raises for the tool's own failures."""
        ...
