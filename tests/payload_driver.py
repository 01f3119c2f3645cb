"""Plays init for an interpreter in a bare `python -I -S`, over real pipes and without any layer around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import toolscore

SOURCES = Path(toolscore.__file__).parents[1]

PROGRAM = """
import json, os, sys
jobs, results, *paths = sys.argv[1:]
sys.path[:0] = paths
from toolscore.sandbox import interpreter
file = os.fdopen(int(jobs), "rb")

def receive():
    line = file.readline()
    return json.loads(line) if line else None

def send(data):
    view = memoryview(data)
    while view:
        view = view[os.write(int(results), view):]

worker = interpreter.Interpreter(send, receive)
worker.prepare()
interpreter.forget_ours()
worker.start()
worker.warm()
while (job := worker.next_job()) is not None:
    worker.send(worker.run(job))
"""

Answer = Callable[[str, dict[str, Any]], Any]


class Payload:
    """One interpreter in a process of its own; a context manager.

    Args:
        answer: Answers what the code asks for; raises what it is to be told.
        stdin: What it can read.
        site: A folder of packages.
        python: The interpreter.
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        stdin: bytes = b"",
        site: Path | None = None,
        python: str = sys.executable,
    ) -> None:
        self._answer = answer
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        (folder / "stdin").write_bytes(stdin)
        read, self._jobs = os.pipe()
        results, write = os.pipe()
        self._out, self._err = folder / "stdout", folder / "stderr"
        paths = [str(SOURCES), *([str(site)] if site else [])]
        with (
            (folder / "stdin").open("rb") as source,
            self._out.open("wb") as out,
            self._err.open("wb") as err,
        ):
            self.process = subprocess.Popen(
                [python, "-I", "-S", "-c", PROGRAM, str(read), str(write), *paths],
                stdin=source,
                stdout=out,
                stderr=err,
                pass_fds=(read, write),
                cwd=folder,
                env={"LANG": "C.UTF-8", "MPLBACKEND": "Agg", "HOME": str(folder)},
            )
        os.close(read)
        os.close(write)
        self._results = os.fdopen(results, "rb")
        self._count = 0

    def __enter__(self) -> Payload:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._jobs)
        self.process.kill()
        self.process.wait()
        self._results.close()
        self._folder.cleanup()

    @property
    def stdout(self) -> bytes:
        """What it wrote so far."""
        return self._out.read_bytes()

    @property
    def stderr(self) -> bytes:
        """Likewise."""
        return self._err.read_bytes()

    def tell(self, message: dict[str, Any]) -> None:
        """Send it a line."""
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._jobs, data) :]

    def hear(self) -> dict[str, Any]:
        """Wait for its next line."""
        line = self._results.readline()
        assert line, f"it ended: {self.stderr.decode(errors='replace')}"
        message: dict[str, Any] = json.loads(line)
        message["size"] = len(line)
        return message

    def run(
        self, code: str, *, keep: bool = False, tools: bool = False, limit: int = 8 << 20
    ) -> dict[str, Any]:
        """Run code, answer its calls, and give the result message."""
        self._count += 1
        job = {"type": "job", "id": self._count, "code": code, "tools": tools, "keep": keep}
        self.tell({**job, "result_limit": limit})
        while (message := self.hear())["type"] == "call":
            reply: dict[str, Any] = {"type": "reply", "call": message["call"]}
            try:
                assert self._answer is not None
                reply["result"] = self._answer(message["method"], message["params"])
            except LookupError as error:
                reply["error"] = {"type": type(error).__name__, "message": str(error)}
            self.tell(reply)
        assert message["type"] == "result"
        assert message["id"] == self._count
        assert message["size"] <= max(limit, 4096)
        return message


def run(code: str, *, stdin: bytes = b"", limit: int = 8 << 20) -> dict[str, Any]:
    """Run code in an interpreter of its own; the result has `stdout` and `stderr` as text besides."""
    with Payload(stdin=stdin) as payload:
        result = payload.run(code, limit=limit)
        result |= {"stdout": payload.stdout.decode(), "stderr": payload.stderr.decode()}
        return result
