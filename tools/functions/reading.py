"""What a source says of its tool, asked of a `reader`: ToolScore's own process parses nothing that it was sent."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from subprocess import PIPE

from ..outcome import Outcome, RefusalError
from .bounds import bounded
from .errors import FunctionError
from .reader import CPU, MEMORY, NESTED, WALL
from .signature import Signature

logger = logging.getLogger(__name__)

_ROOT = str(Path(__file__).absolute().parents[3])
_PROGRAM = (
    f"import sys; sys.path.append({_ROOT!r}); from toolscore.tools.functions.reader import main; main()"
)
"""Without `site`, which takes most of the time of a start; the folder comes last and shadows nothing."""

_PASSED = ("LD_", "DYLD_", "SYSTEMROOT")
"""Beginnings of the variables that an interpreter may need to start at all."""


async def signature_of(text: str, name: str) -> Signature:
    """Derive it in a process of its own, which is gone when this returns, however that is.

    Args:
        text: The source, which nobody vouches for.
        name: The tool's name.

    Raises:
        FunctionError: If the source is no Python, or has no function that a tool could be made of, or is more than
            Python can read.
        RefusalError: If there is no answer, for a reason that is not the source's.
    """
    asked = json.dumps({"source": bounded(text), "name": name}).encode()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _PROGRAM),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={key: value for key, value in os.environ.items() if key.upper().startswith(_PASSED)},
            cwd=Path(sys.executable).anchor,
            start_new_session=True,  # a Ctrl-C is for ToolScore
        )
    except OSError as error:
        raise RefusalError(
            Outcome.UNAVAILABLE,
            f"Nothing was registered: no process could be started to read the source ({error}). Try again later.",
        ) from error
    try:
        async with asyncio.timeout(WALL):
            answer, said = await process.communicate(asked)
    except TimeoutError:
        raise _late() from None
    finally:
        await _end(process)
    assert process.returncode is not None
    return _understood(answer, said, process.returncode)


def _understood(answer: bytes, said: bytes, status: int) -> Signature:
    if status == 0 and answer:
        told = json.loads(answer)
        if "refused" in told:
            raise FunctionError(told["refused"])
        return Signature(**told["signature"])
    if status == -_signal("SIGALRM"):
        raise _late()
    if status == -_signal("SIGXCPU"):
        raise FunctionError(f"the source takes more than {CPU} s to read: make it shorter, or less nested")
    if status == -_signal("SIGKILL") or b"MemoryError" in said:
        raise FunctionError(f"the source takes more than {MEMORY >> 20} MiB to read: make it shorter")
    if status < 0 or b"RecursionError" in said or (sys.platform == "win32" and status != 1):
        raise FunctionError(NESTED)  # it crashed
    words = said.decode(errors="replace").strip()
    logger.error("reading the source of a function failed with status %s: %s", status, words[-2000:])
    raise RefusalError(
        Outcome.UNAVAILABLE,
        "Nothing was registered: reading the source failed inside ToolScore; its log has the details.",
    )


def _late() -> RefusalError:
    return RefusalError(
        Outcome.TIMED_OUT,
        f"Nothing was registered: the source was not read within {WALL} s. Make it shorter, or try again when less "
        "else runs.",
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    try:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended by itself meanwhile
    await asyncio.shield(process.wait())


def _signal(name: str) -> int:
    return int(getattr(signal, name, 10_000))
