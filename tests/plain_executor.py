"""The executor process of the tests: everything as it is, but for boxes that confine nothing."""

from __future__ import annotations

import asyncio
import os
import signal

from plain_boxes import PlainBoxes
from toolscore.sandbox.executor import Executor
from toolscore.sandbox.settings import SandboxSettings
from toolscore.sandbox.stdio import serve


def stray(*_: object) -> None:
    print("stray", flush=True)
    os.write(1, b"stray too\n")


async def main() -> None:
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, stray)
    boxes = PlainBoxes()
    await serve(Executor(SandboxSettings(), lambda _environment: boxes), "0")


if __name__ == "__main__":
    asyncio.run(main())
