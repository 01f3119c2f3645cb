"""Boxes that confine nothing: plain subprocesses, for tests of what is around the boxes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolscore.sandbox.errors import SandboxRefusedError
from toolscore.sandbox.execution import CodeError, Execution, Job, OnOutput, OutputFile, Status, Tools, Usage
from toolscore.sandbox.isolation import Isolation, Layer, Tier

PROGRAM = r"""
import ast, json, os, sys, traceback
space = {"__name__": "__main__"}
jobs, results = os.fdopen(int(sys.argv[1]), "r"), os.fdopen(int(sys.argv[2]), "w")
for line in jobs:
    code = json.loads(line)
    result = {"status": "ok", "value": None, "repr": None, "error": None, "exit_code": None}
    try:
        tree = ast.parse(code)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<code>", "exec"), space)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<code>", "eval"), space)
            if value is not None:
                result["repr"] = repr(value)
                try: json.dumps(value)
                except (TypeError, ValueError): pass
                else: result["value"] = value
    except SystemExit as exc:
        result |= {"status": "exited", "exit_code": exc.code or 0}
    except BaseException as exc:
        result |= {"status": "error", "error": [type(exc).__name__, str(exc), traceback.format_exc()]}
    sys.stdout.flush(); sys.stderr.flush()
    print(json.dumps(result), file=results, flush=True)
"""

ISOLATION = Isolation(Tier.NONE, (Layer("namespaces", False, "these are the tests"),))


class PlainBox:
    """A subprocess with a folder, killed with its group."""

    def __init__(self, pool: PlainBoxes) -> None:
        self._pool = pool
        self._folder = tempfile.TemporaryDirectory()
        self._process: asyncio.subprocess.Process | None = None
        self.alive = True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def _start(self) -> None:
        theirs, self._jobs = os.pipe()
        ours, results = os.pipe()
        self._results = os.fdopen(ours, "rb")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", PROGRAM, str(theirs), str(results),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            pass_fds=[theirs, results], cwd=self._folder.name, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        os.close(results)

    async def run(
        self, job: Job, *, on_output: OnOutput | None = None, tools: Tools | None = None
    ) -> Execution:
        if self._process is None:
            await self._start()
        process, folder = self._process, Path(self._folder.name)
        assert process is not None
        self._pool.jobs.append(job)
        for file in job.files:
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.path).write_bytes(file.data)
        before = _stamps(folder)
        taken = {"stdout": bytearray(), "stderr": bytearray()}

        async def pump(name: str, stream: asyncio.StreamReader) -> None:
            while data := await stream.read(65536):
                taken[name] += data
                if on_output is not None:
                    on_output(name, data)

        assert process.stdout is not None
        assert process.stderr is not None
        pumps = [
            asyncio.ensure_future(pump("stdout", process.stdout)),
            asyncio.ensure_future(pump("stderr", process.stderr)),
        ]
        began = time.monotonic()
        os.write(self._jobs, json.dumps(job.code).encode() + b"\n")
        execution = Execution(Status.LOST, ISOLATION, message="its process was ended")
        try:
            async with asyncio.timeout(job.limits.wall):
                line = await asyncio.to_thread(self._results.readline)
            if line:
                execution = _execution(json.loads(line))
        except TimeoutError:
            execution = Execution(Status.TIMEOUT, ISOLATION, limit="wall", message="it took too long")
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            if execution.status not in (Status.OK, Status.ERROR) or not job.keep:
                self._kill()
                await asyncio.wait(pumps)
            else:
                await asyncio.sleep(0.05)  # the output of a process that goes on has no end to wait for
                for task in pumps:
                    task.cancel()
                await asyncio.wait(pumps)
        execution.stdout, execution.stderr = bytes(taken["stdout"]), bytes(taken["stderr"])
        after = _stamps(folder)
        changed = [name for name, stamp in sorted(after.items()) if before.get(name) != stamp]
        execution.files = [
            OutputFile(name, (folder / name).stat().st_size, (folder / name).read_bytes()) for name in changed
        ]
        execution.usage = Usage(time.monotonic() - began, 0.0)
        execution.alive = self.alive
        if not job.keep:
            await self.close()
        return execution

    def _kill(self) -> None:
        self.alive = False
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        self._kill()
        if self._process is not None:
            await self._process.wait()
            self._results.close()
            with suppress(OSError):
                os.close(self._jobs)
                self._jobs = -1
        self._folder.cleanup()
        self._pool.open_boxes.discard(self)


class PlainBoxes:
    """Has no limits, no warm boxes and no isolation."""

    def __init__(self, environment: Any = None, refusal: str | None = None) -> None:
        self.environment = environment
        self.refusal = refusal
        self.jobs: list[Job] = []
        self.open_boxes: set[PlainBox] = set()
        self.closed = False

    async def __aenter__(self) -> PlainBoxes:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.closed = True
        for box in [*self.open_boxes]:
            await box.close()

    async def isolation(self) -> Isolation:
        return ISOLATION

    async def run(
        self, job: Job, *, on_output: OnOutput | None = None, tools: Tools | None = None
    ) -> Execution:
        if self.refusal is not None:
            raise SandboxRefusedError(self.refusal)
        box = await self.open()
        return await box.run(job, on_output=on_output, tools=tools)

    async def open(self) -> PlainBox:
        if self.refusal is not None:
            raise SandboxRefusedError(self.refusal)
        box = PlainBox(self)
        self.open_boxes.add(box)
        return box

    def stats(self) -> dict[str, Any]:
        return {"busy": len(self.open_boxes)}


def _execution(said: dict[str, Any]) -> Execution:
    return Execution(
        Status(said["status"]),
        ISOLATION,
        value=said["value"],
        repr=said["repr"],
        error=CodeError(*said["error"]) if said["error"] else None,
        exit_code=said["exit_code"],
        message=None if said["status"] == "ok" else "the code failed",
    )


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }
