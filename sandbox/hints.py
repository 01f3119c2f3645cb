"""What code ran into that the sandbox is the reason of: a sentence for whoever wrote it, found by its error alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .execution import CodeError, Execution

LOOKED_AT = 50_000
"""Characters of an error's text, and of its traceback, that are looked at."""

SHOWN_PACKAGES = 12

NETWORK = "there is no network in the sandbox: data comes in with the arguments `files` and `stdin`"
MEMORY = "that is the limit `memory` (sandbox_status has all limits): work on the data in parts"
DISK = "/workspace and /tmp hold no more than the limits `disk` and `inodes` say (sandbox_status has them)"
READ_ONLY = "files can be written in /workspace and /tmp only"
PROCESSES = "that is the limit `processes`, which counts threads too: have fewer at the same time"
OPEN_FILES = "that is the limit `open_files`: close files after use"
FORK = (
    "there are no sockets in the sandbox, which Manager and forkserver need: "
    'multiprocessing.get_context("fork") has processes, pools and queues without them'
)
NO_LOOP = (
    "an event loop runs only in code that has an `await` outside of functions: "
    "have it there, or use asyncio.run"
)
LOOP = "code with an `await` outside of functions is in an event loop: await there instead of a second loop"
COROUTINE = "the value is a coroutine that never ran: put `await` before it"

_MODULE = re.compile(r"No module named '([A-Za-z]\w*)'")
_PIP = re.compile(r"\bpip3?\b.*\binstall\b|No module named pip\b|directory: 'pip3?'", re.DOTALL)
_UNKNOWN_NAME = re.compile(
    r"\[Errno (-[23]|101)\]|Name or service not known|failure in name resolution|Failed to resolve"
)


def hint(execution: Execution, allowed: Sequence[str] | None) -> str | None:
    """Say what an execution ran into, where that is the sandbox's doing.

    Args:
        execution: What came of it.
        allowed: Packages that calls may ask for, `*` for any; `None` if that is not known.
    """
    if execution.error is not None:
        return _of(execution.error, allowed)
    if (execution.repr or "").startswith(
        ("<coroutine object ", "[<coroutine object ", "(<coroutine object ")
    ):
        return COROUTINE
    return None


def _of(error: CodeError, allowed: Sequence[str] | None) -> str | None:
    kind = error.type.rpartition(".")[2]
    message, trace = error.message[:LOOKED_AT], error.traceback[-LOOKED_AT:]
    if kind == "ModuleNotFoundError":
        found = _MODULE.fullmatch(message)
        return found and _packages(f"there is no package {found[1][:80]}", allowed)
    if kind.endswith("MemoryError"):
        return MEMORY
    if kind == "RuntimeError":
        return _of_runtime(message)
    if kind in ("CalledProcessError", "FileNotFoundError") and _PIP.search(message):
        return _packages("code cannot install packages", allowed)
    if kind == "gaierror" or _UNKNOWN_NAME.search(message):
        return NETWORK
    if kind == "EOFError" and "multiprocessing/managers.py" in trace:
        return FORK
    if "[Errno 1] " in message and "socket" in f"{message}{trace}":
        return FORK if "/multiprocessing/" in trace else NETWORK
    if kind == "BlockingIOError" and "fork" in trace:  # of a pipe it is something else
        return PROCESSES
    for number, told in ((27, DISK), (28, DISK), (122, DISK), (30, READ_ONLY), (24, OPEN_FILES)):
        if message.startswith(f"[Errno {number}] "):
            return told
    return None


def _of_runtime(message: str) -> str | None:
    if message.startswith("can't start new thread"):
        return PROCESSES
    if message == "no running event loop":
        return NO_LOOP
    if "from a running event loop" in message or message == "This event loop is already running":
        return LOOP
    return None


def _packages(problem: str, allowed: Sequence[str] | None) -> str:
    if allowed is None:
        return f"{problem}: sandbox_status lists those there are, and those that `packages` can ask for"
    if not allowed:
        return f"{problem}: there are the operator's only, which sandbox_status lists"
    if "*" in allowed:
        return f"{problem}: the argument `packages` (in a session, that of session_start) asks for more"
    names = ", ".join(allowed[:SHOWN_PACKAGES]) + (", …" if len(allowed) > SHOWN_PACKAGES else "")
    return f"{problem}: the argument `packages` (in a session, that of session_start) can ask for {names}"
