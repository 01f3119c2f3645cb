"""The program that reads a source: Python's parser meets what nobody vouches for in a process of its own.

There are texts that crash the parser, keep it busy for minutes, or leave it broken for whatever it parses next.
`reading` starts this, writes on its standard input what is asked, and takes the answer from its standard output, both
as JSON; an end without an answer is one too. It runs nothing of the source.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress

CPU = 5
"""Seconds of processor time; what people write takes a fraction of one."""

MEMORY = 1 << 30
"""Bytes of address space."""

WALL = 30
"""Seconds after which it ends, also if nobody is there any more to end it."""

LONGEST_ANSWER = 64 << 10
"""Bytes of what a source says of its tool: every client gets all of it with the list of tools."""

NESTED = "the source is nested too deep or too large for Python to read: make its expressions shorter"


def main() -> None:
    """Read one source, answer and end."""
    _limit()
    asked = json.loads(sys.stdin.buffer.read())
    try:
        data = _read(asked["source"], asked["name"])
    except (RecursionError, MemoryError, SystemError):
        data = json.dumps({"refused": NESTED}).encode()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    os._exit(0)  # taking a deep tree apart can crash as well, and nobody needs that done


def _read(text: str, name: str) -> bytes:
    from dataclasses import asdict

    from .deriving import derive
    from .errors import FunctionError

    try:
        answer = {"signature": asdict(derive(text, name))}
        # An escape in the source can make half of a surrogate pair, which cannot be sent to anybody.
        data = json.dumps(answer, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        if len(data) > LONGEST_ANSWER:
            raise FunctionError(
                f"its description and schemas have {len(data)} bytes, more than {LONGEST_ANSWER}: say less in "
                "docstrings and annotations"
            )
    except ValueError as error:
        told = error if isinstance(error, FunctionError) else f"what it says has no form in JSON: {error}"
        data = json.dumps({"refused": str(told)}).encode()
    return data


def _limit() -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(WALL)  # ends it even inside of the parser, which heeds nothing else
    with suppress(ImportError):  # Windows has none
        import resource

        for kind, most in (
            (resource.RLIMIT_CPU, CPU),
            (resource.RLIMIT_AS, MEMORY),
            (resource.RLIMIT_CORE, 0),
        ):
            with suppress(
                OSError, ValueError
            ):  # what it began with may be less, and macOS knows no RLIMIT_AS
                resource.setrlimit(kind, (most, most))
