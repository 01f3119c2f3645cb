"""A job while it runs in a box, as the server sees it: output, files, calls of tools, and a look from outside."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from . import link, watch
from .calls import number_of
from .errors import BoxError, InputRefusedError
from .execution import Execution, Job, OnOutput, OutputFile, Status, Tools, Usage
from .limits import Limits
from .outcome import LIMIT_STATUS, ended, said, sentence, take

if TYPE_CHECKING:
    from .box import Box
    from .cgroup import Cgroup

logger = logging.getLogger(__name__)

SETUP = 20.0
"""Seconds a box has to get ready, on a machine that has much else to do."""

SLACK = 20.0
"""Seconds over the wall limit after which the box is ended from outside. Its init should have done so long before,
but it also hands over the files, and the machine may have much else to do."""

BUFFER = 212_992
"""Bytes the kernel keeps for one open end of a pair of sockets, unless told to keep more: which code cannot."""

OPEN_FILES = 48
"""Open files that a process needs at the least."""

LOOK = 0.05
"""Seconds between two looks at a running box."""

_FORKING = 5
"""Looks in a row at what a box shares that its forking may spoil."""

GROUP_SLACK = 16 << 20
"""Bytes the cgroup of a box has over its limit: a single process meets its own limit first, as a MemoryError."""


class Running:
    """A job while it runs.

    Args:
        box: The box it runs in.
        job: What to run.
        on_output: Told of output.
        tools: The tools it may call, if `job.tools`.
    """

    def __init__(self, box: Box, job: Job, on_output: OnOutput | None, tools: Tools | None) -> None:
        self._box = box
        self._job = job
        self._on_output = on_output
        self._tools = tools if job.tools else None
        self._out = {link.STDOUT: bytearray(), link.STDERR: bytearray()}
        self._value: bytes | None = None
        self._files: list[OutputFile] = []
        self._left_out = False
        self._calls: set[asyncio.Task[None]] = set()
        self._limit: str | None = None
        self._peak = 0
        self._spoilt = 0
        self._cpu = 0.0
        self._counted_before = 0.0

    async def run(self) -> Execution:
        """Have it run, and tell how it ended.

        When this is cancelled, the box is in the middle of something and has to be ended.
        """
        box, job = self._box, self._job
        group = box.group
        if group is not None:
            self._set_limits(group)
        oom = group.oom_kills() if group is not None else 0
        self._counted_before = (group.cpu() if group is not None else None) or 0.0
        began = time.monotonic()
        watching = asyncio.get_running_loop().create_task(self._watch(oom))
        try:
            head = {"code": job.code, "limits": asdict(self._held()), "tools": self._tools is not None}
            head["keep"] = job.keep
            async with asyncio.timeout(job.limits.wall + SLACK):
                await box.send(
                    link.frame(link.JOB, json.dumps(head).encode()),
                    *(
                        link.frame(link.FILE, json.dumps({"path": file.path}).encode() + b"\n" + file.data)
                        for file in job.files
                    ),
                    link.frame(link.INPUT, job.stdin),
                )
                done = await self._until_done()
        except (EOFError, OSError, TimeoutError, link.LineError) as error:
            return self._lost(error, time.monotonic() - began, oom)
        finally:
            for task in (watching, *self._calls):
                task.cancel()
            await asyncio.wait([watching, *self._calls])
            if not watching.cancelled() and (problem := watching.exception()) is not None:
                logger.error("sandbox: a box was not watched to its end", exc_info=problem)
        if "refused" in done:
            self._box.alive = bool(done["alive"])
            raise InputRefusedError(
                f"Nothing was run. A file cannot be put into the workspace: {done['refused']}."
            )
        return self._done(done, oom)

    def _set_limits(self, group: Cgroup) -> None:
        """Set the limits of the job on its group, unless what earlier jobs of the session left is above them."""
        limits = self._job.limits
        most = limits.memory + GROUP_SLACK
        problem: OSError | None = None
        if group.current() <= most:
            try:
                group.limit(most, limits.processes)
                return
            except OSError as error:  # version 1 says so itself
                if error.errno != errno.EBUSY:
                    raise BoxError(f"the limits of a box cannot be set: {error}") from error
                problem = error
        held = f"{group.current() >> 20} MiB"
        raise InputRefusedError(
            f"Nothing was run. The session holds {held} already, so its memory cannot be limited to "
            f"{limits.memory >> 20} MiB: ask for more, or end it with session_end."
        ) from problem

    def _held(self) -> Limits:
        """Give the limits that hold: nobody but a control group counts what the kernel keeps in sockets and pipes."""
        limits = self._job.limits
        if self._box.group is not None:
            return limits
        fits = limits.memory // (limits.processes * BUFFER)
        return replace(limits, open_files=min(limits.open_files, max(fits, OPEN_FILES)))

    async def _until_done(self) -> dict[str, Any]:
        while True:
            for kind, body in await self._box.more():
                match kind:
                    case link.STDOUT | link.STDERR:
                        self._out[kind] += body
                        if self._on_output is not None:
                            self._on_output("stdout" if kind == link.STDOUT else "stderr", body)
                    case link.VALUE:
                        self._value = body
                    case link.FILE:
                        head, _, data = body.partition(b"\n")
                        told = json.loads(head)
                        self._left_out |= told["left_out"]
                        self._files.append(
                            OutputFile(told["path"], told["size"], None if told["left_out"] else data)
                        )
                    case link.CALL:
                        self._call(body)
                    case link.FAILED:
                        raise EOFError(body.decode(errors="replace"))
                    case link.DONE:
                        done: dict[str, Any] = json.loads(body)
                        return done

    def _call(self, body: bytes) -> None:
        """Have a tool called; what the code wrote is checked here, as nothing before it did."""
        number = number_of(body)  # as its init counts it, whatever the rest says
        if number is None or self._tools is None:
            return
        message = said(body)
        method, params = message.get("method", "unreadable"), message.get("params")
        task = asyncio.get_running_loop().create_task(self._answer(number, str(method), params))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, number: int, method: str, params: Any) -> None:
        assert self._tools is not None
        answer: dict[str, Any] = {"type": "reply", "call": number}
        try:
            params = params if isinstance(params, dict) else {}
            match method:
                case "servers":
                    answer["result"] = await self._tools.servers()
                case "tools":
                    answer["result"] = await self._tools.tools(str(params.get("server")))
                case "call":
                    arguments = params.get("arguments")
                    answer["result"] = await self._tools.call(
                        str(params.get("name")), arguments if isinstance(arguments, dict) else {}
                    )
                case "unreadable":
                    raise ValueError(
                        "these arguments cannot be passed on: they hold a number that is not finite, half of a "
                        "surrogate pair, too many elements, or are nested too deep"
                    )
                case _:
                    raise LookupError(f"there is no method {method!r}")
        except Exception as error:
            answer["error"] = {"type": type(error).__name__, "message": str(error)}
        with contextlib.suppress(OSError):
            await self._box.send(link.frame(link.REPLY, b"%d\n%s" % (number, json.dumps(answer).encode())))

    def _counted(self) -> float:
        """Give the seconds of processor time its control group has counted, where there is one that does."""
        group = self._box.group
        counted = group.cpu() if group is not None else None
        return 0.0 if counted is None else counted - self._counted_before

    async def _watch(self, oom: int) -> None:
        """Look at what nobody in the box can see: the memory and processor time of all of it."""
        box, limits, group = self._box, self._job.limits, self._box.group
        began = box.before.cpu if box.fresh else watch.usage(box.pid).cpu
        box.fresh = False
        while True:
            await asyncio.sleep(LOOK)
            seen = watch.usage(box.pid)
            self._cpu = max(self._cpu, seen.cpu - began, self._counted())
            # What it was forked with is not its own doing, and in memory once.
            memory = seen.memory - box.before.memory
            self._peak = max(self._peak, memory)
            reason = None
            if group is not None:
                if group.oom_kills() > oom:
                    reason = "memory"
            elif memory > limits.memory and self._holds(limits.memory):
                reason = "memory"
            if self._cpu > limits.cpu:
                reason = "cpu"
            if reason is not None:
                self._limit = reason
                with contextlib.suppress(OSError):  # it has ended by itself
                    await box.send(link.frame(link.END, reason.encode()))
                return

    def _holds(self, most: int) -> bool:
        """Look again, exactly: what processes share after a fork counts once."""
        before = watch.tree(self._box.pid)
        shared = watch.shared_memory(self._box.pid)
        if shared is not None and shared <= most:
            self._spoilt = 0
            return False
        # One process is looked at after the other: what forks meanwhile is counted whole first, and then in parts.
        if shared is not None and watch.tree(self._box.pid) != before:
            self._spoilt += 1
            return self._spoilt >= _FORKING
        return True

    def _lost(self, error: BaseException, wall: float, oom: int) -> Execution:
        """Say what is known of a box that was gone before its execution was done."""
        box = self._box
        group = box.group
        if group is not None and group.oom_kills() > oom:
            self._limit = "memory"
        status = Status.MEMORY if self._limit == "memory" else Status.LOST
        if self._limit is None:
            logger.warning("sandbox: a box was lost: %s", error or type(error).__name__)
        if isinstance(error, TimeoutError):
            status, self._limit = Status.TIMEOUT, "wall"
        message = "The box was ended from outside while the code ran; run it again."
        if status is not Status.LOST:
            message = sentence(status, self._limit, self._job.limits)
        return Execution(
            status,
            box.isolation,
            stdout=bytes(self._out[link.STDOUT]),
            stderr=bytes(self._out[link.STDERR]),
            usage=self._usage(wall, self._cpu, 0),
            limit=self._limit,
            message=message,
        )

    def _usage(self, wall: float, cpu: float, peak: int) -> Usage:
        group = self._box.group
        whole = group.peak() if group is not None else None
        if whole:
            return Usage(wall, cpu, whole, "cgroup")
        most = max(peak, self._peak)
        return Usage(wall, cpu, most or None, "process" if most else None)

    def _done(self, done: dict[str, Any], oom: int) -> Execution:
        job = self._job
        limit = done["limit"]
        group = self._box.group
        if limit is None and not done["alive"] and group is not None and group.oom_kills() > oom:
            limit = "memory"
        cpu = max(float(done["cpu"]), self._cpu, self._counted())
        found = said(self._value) if self._value is not None else {}
        execution = Execution(
            Status.NO_RESULT,
            self._box.isolation,
            stdout=bytes(self._out[link.STDOUT]),
            stderr=bytes(self._out[link.STDERR]),
            files=self._files,
            skipped=[str(name) for name in done["skipped"]],
            usage=self._usage(float(done["wall"]), cpu, int(done["peak"])),
            alive=bool(done["alive"]),
        )
        if self._left_out:
            execution.truncated.add("files")
        if limit is not None:
            execution.status, execution.limit = LIMIT_STATUS.get(limit, Status.LOST), limit
        elif found:
            take(execution, found)
        elif self._value is None:  # else it was ended for having said something, if nothing of use
            ended(execution, done["wait"], cpu, job.limits)
        if execution.limit is not None or execution.status in (Status.CRASHED, Status.NO_RESULT):
            execution.message = sentence(execution.status, execution.limit, job.limits, execution.signal)
        if limit == "output":
            execution.truncated |= {
                name
                for name, kept in (("stdout", execution.stdout), ("stderr", execution.stderr))
                if len(kept) >= job.limits.output
            }
        return execution
