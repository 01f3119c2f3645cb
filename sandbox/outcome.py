"""What is made of what a box said: the observations of its init are trusted, the words of the code are not."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import signal
from typing import Any

from .execution import CodeError, Execution, Image, Status
from .limits import Limits
from .values import DEPTH, ELEMENTS

LIMIT_STATUS = {
    "wall": Status.TIMEOUT,
    "cpu": Status.CPU,
    "memory": Status.MEMORY,
    "output": Status.OUTPUT_LIMIT,
    "result": Status.OUTPUT_LIMIT,
    "unread": Status.OUTPUT_LIMIT,
    "disk": Status.OUTPUT_LIMIT,
}


SLACK = 8
"""Levels of nesting that a message has around a value."""

AROUND = 1_000_000
"""Commas and brackets that a message may have besides its value: in the repr, and in what a traceback quotes."""


class _UnfitError(ValueError):
    """What was said is nothing that can be passed on."""


def said(line: bytes) -> dict[str, Any]:
    """Read a line of the code's.

    Returns:
        What it says; nothing if it is not a JSON object, or holds what could not be passed on to a client: numbers
        that are not finite, halves of surrogate pairs, a nesting deeper or more elements than values may have.
    """
    if sum(map(line.count, (b"[", b"{", b","))) > ELEMENTS + AROUND:
        return {}
    try:
        found = json.loads(line, parse_constant=_unfit, parse_float=_finite)
        if line.count(b"[") + line.count(b"{") > DEPTH:
            _shallow(found)
        # JSON from elsewhere may have such a half in an escape only: as bytes it is not UTF-8.
        if b"\\ud" in line or b"\\uD" in line:
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _unfit(text: str) -> Any:
    raise _UnfitError(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _UnfitError(text)
    return number


def _shallow(value: Any) -> None:
    """Refuse what is nested too deep, level by level, as recursion would meet its own end first."""
    level = [value]
    for _ in range(DEPTH + SLACK):
        level = [
            inner
            for one in level
            if isinstance(one, list | dict)
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return
    raise _UnfitError("nested too deep")


def ended(execution: Execution, wait: int | None, cpu: float, limits: Limits) -> None:
    """Tell from how the process ended how the execution did, where no result says so."""
    if wait is None:
        return
    if os.WIFSIGNALED(wait):
        number = os.WTERMSIG(wait)
        if number == signal.SIGXCPU or (number == signal.SIGKILL and cpu >= limits.cpu):
            execution.status, execution.limit = Status.CPU, "cpu"
        else:
            execution.status, execution.signal = Status.CRASHED, _name(number)
    elif os.WIFEXITED(wait) and os.WEXITSTATUS(wait):
        execution.status, execution.exit_code = Status.EXITED, os.WEXITSTATUS(wait)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal between the first and the last has none
        return f"SIG{number}"


def take(execution: Execution, said: dict[str, Any]) -> None:
    """Take over what the code says of its result, and nothing that is not the code's to say."""
    status = said.get("status")
    execution.status = Status(status) if status in ("ok", "error", "exited") else Status.OK
    execution.value = said.get("value")
    if isinstance(said.get("repr"), str):
        execution.repr = said["repr"]
    code = said.get("exit_code")
    if isinstance(code, int) and abs(code) < 1 << 31:
        execution.exit_code = code
    error = said.get("error")
    if isinstance(error, dict):
        execution.error = CodeError(*(str(error.get(key, "")) for key in ("type", "message", "traceback")))
    images = said.get("images")
    for image in images if isinstance(images, list) else ():
        with contextlib.suppress(Exception):
            execution.images.append(Image(str(image["mime"]), base64.b64decode(image["data"], validate=True)))
    cut = said.get("truncated")
    if isinstance(cut, list):
        execution.truncated |= {name for name in cut if name in ("value", "repr", "images")}


def sentence(status: Status, limit: str | None, limits: Limits, name: str | None = None) -> str:
    """Say in words how an execution ended that has no result."""
    match status:
        case Status.TIMEOUT:
            return f"The code was ended after {limits.wall:g} s, its limit."
        case Status.CPU:
            return f"The code was ended after {limits.cpu:g} s of processor time, its limit."
        case Status.MEMORY:
            return f"The code was ended: it used more than {limits.memory >> 20} MiB of memory, its limit."
        case Status.OUTPUT_LIMIT if limit == "result":
            return "The code was ended: what it says of its result is larger than a result may be."
        case Status.OUTPUT_LIMIT if limit == "disk":
            most = f"{limits.disk >> 20} MiB, or {limits.inodes} files and folders"
            return f"The code was ended: it kept more in files than {most}, its limits."
        case Status.OUTPUT_LIMIT if limit == "unread":
            return "The code was ended: it called tools without waiting for their answers."
        case Status.OUTPUT_LIMIT:
            return f"The code was ended: it wrote more than {limits.output} bytes, of which those are kept."
        case Status.CRASHED if name == "SIGKILL":
            return (
                "The interpreter was killed (SIGKILL): by its own code, or by the machine for want of memory."
            )
        case Status.CRASHED if name not in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP"):
            return f"The interpreter was ended by a signal ({name}) that its code sent or asked for."
        case Status.CRASHED:
            return f"The interpreter crashed ({name}): a broken pointer, a C stack that was too deep, or an abort."
        case _:
            return "The code ended without a result: it closed its descriptors or ended its own process."
