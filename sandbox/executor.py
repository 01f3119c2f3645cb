"""The tools of the python-executor: what they are and what they do, without any protocol around them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifacts import Artifacts, unlinked
from .definitions import MODES, definitions
from .errors import BoxError, InputRefusedError, LayerError, SandboxRefusedError
from .execution import Execution, Job, OnOutput, Tools
from .intake import Intake
from .pools import InstallingError, Pools
from .refusal import CallRefusedError
from .results import result
from .sessions import Session, Sessions
from .settings import SandboxSettings
from .supplies import Boxes, OpenBox, Packages, Tell
from .telling import plain, told_lines

if TYPE_CHECKING:
    from .arguments import ExecuteArguments

logger = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that `sandbox_status` waits for packages; after them it says that they are being installed."""

LOCAL = "(local)"
"""The principal where nobody says who calls."""


class UnknownToolError(LookupError):
    """There is no tool of this name."""


class Executor:
    """Runs code for callers, and keeps their sessions and files apart.

    Args:
        settings: The operator's.
        make: Makes the pool of boxes for an environment of packages, without starting it.
        packages: Makes environments of packages.
        folder: Where temporary files are made; the system's place when `None`.
        mode: How this executor runs, as `sandbox_status` tells it.
        now: The clock.
    """

    def __init__(
        self,
        settings: SandboxSettings,
        make: Callable[[Any], Boxes],
        packages: Packages | None = None,
        folder: Path | None = None,
        mode: str = "separate",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.mode = mode
        self.pools = Pools(settings, make, packages)
        self._packages = packages
        self._sweeping: asyncio.Task[None] | None = None
        self.sessions = Sessions(
            settings.session_ttl, settings.session_idle, settings.sessions, settings.sessions_in_all, now
        )
        self.artifacts = Artifacts(settings.keep_bytes, settings.keep_seconds, folder, now)
        self._intake = Intake()
        self._definitions: list[dict[str, Any]] | None = None
        self._warming: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Executor:
        if self._packages is not None:
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep(self._packages))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _sweep(self, packages: Packages) -> None:
        try:
            await asyncio.to_thread(packages.sweep)
        except OSError as exc:
            logger.warning("what is left of packages cannot be removed: %s", exc)

    def warm(self) -> None:
        """Begin what the first execution would have to wait for; failures are told by that one."""
        if self._warming is None:
            self._warming = asyncio.get_running_loop().create_task(self._warm())

    async def _warm(self) -> None:
        try:
            self.tools()
            async with self.pools.using(self.pools.default, LOCAL) as boxes:
                await boxes.isolation()
        except Exception as exc:
            logger.warning("no code can be run at present: %s", exc)

    async def close(self) -> None:
        """End all sessions and boxes."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait({self._warming})
        async with AsyncExitStack() as stack:  # whatever fails, the others are ended too
            if self._packages is not None:
                stack.callback(self._packages.close)
            if self._sweeping is not None:
                stack.push_async_callback(asyncio.wait, {self._sweeping})
            stack.callback(self.artifacts.close)
            stack.push_async_callback(self.pools.close)
            stack.push_async_callback(self.sessions.close)

    def tools(self) -> list[dict[str, Any]]:
        """Give the tools (MCP `Tool`); not to be changed."""
        if self._definitions is None:
            self._definitions = definitions(self.settings)
        return self._definitions

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        principal: str = LOCAL,
        on_output: OnOutput | None = None,
        on_step: Tell | None = None,
        tools: Tools | None = None,
    ) -> dict[str, Any]:
        """Call a tool.

        Args:
            name: `python_execute`, `session_start`, `session_end` or `sandbox_status`.
            arguments: As they came.
            principal: Who calls: sessions and files are theirs.
            on_output: Told of output while code runs.
            on_step: Told what is done before it runs, where that takes long, a line at a time.
            tools: The tools that the code may call; `None` if it may not.

        Returns:
            MCP `CallToolResult`; refusals and failures too.

        Raises:
            UnknownToolError: If there is no such tool.
        """
        try:
            match name:
                case "python_execute":
                    executing = self._execute(arguments, principal, on_output, on_step, tools)
                    del arguments  # which may be large, and it is taken over
                    return await executing
                case "session_start":
                    return await self._start(arguments, principal, on_step)
                case "session_end":
                    return await self._end(arguments, principal)
                case "sandbox_status":
                    return await self._status(arguments, principal, tools)
        except CallRefusedError as exc:
            return exc.result()
        except InputRefusedError as exc:
            return CallRefusedError("invalid_arguments", str(exc)).result()
        except SandboxRefusedError as exc:
            return CallRefusedError("refused", f"Nothing was run. {exc}").result()
        except (BoxError, LayerError, OSError) as exc:
            logger.warning("%s failed: %s", name, exc)
            text = f"The sandbox could not do it: {exc}. Try again; sandbox_status tells what works."
            return CallRefusedError("unavailable", text).result()
        raise UnknownToolError(
            f"there is no tool {name!r}; {', '.join(tool['name'] for tool in self.tools())}"
        )

    async def _execute(
        self,
        raw: Mapping[str, Any],
        principal: str,
        on_output: OnOutput | None,
        on_step: Tell | None,
        tools: Tools | None,
    ) -> dict[str, Any]:
        from .arguments import ExecuteArguments, parsed

        given = parsed(ExecuteArguments, "python_execute", raw)
        job, notes = self._job(given, principal, tools)
        wanted, packages = given.session, given.packages
        del raw, given  # while it waits, its input is held once
        with self._intake.holding(job):
            if wanted is None:
                chosen = self.pools.chosen(packages or ())
                async with self.pools.using(chosen, principal, on_step) as boxes:
                    execution = await boxes.run(job, on_output=on_output, tools=tools)
                return await self._answer(execution, job, notes)
            if packages:
                raise CallRefusedError(
                    "invalid_arguments",
                    "Nothing was run. packages: a session has those it was started with. Leave them out, or give "
                    "them to session_start.",
                )
            async with self.sessions.turn(principal, wanted) as session:
                execution = await session.run(job, on_output=on_output, tools=tools)
                remark = await self.sessions.judge(session, execution)
        if remark is not None:
            notes.append(remark)
        return await self._answer(execution, job, notes, None if remark else session.id)

    def _job(self, given: ExecuteArguments, principal: str, tools: Tools | None) -> tuple[Job, list[str]]:
        limits, notes = self.settings.limits.lowered(given.limits.asked() if given.limits else {})
        job = Job(
            code=given.code,
            limits=limits,
            stdin=given.input_bytes(limits.disk),
            files=given.input_files(limits.disk),
            tools=tools is not None,
            keep=given.session is not None,
            owner=principal,
        )
        return job, notes

    async def _answer(
        self, execution: Execution, job: Job, notes: list[str], session: str | None = None
    ) -> dict[str, Any]:
        files = await self.artifacts.keep(job.owner, execution.files)
        return result(
            execution,
            files,
            embed_limit=self.settings.embed_limit,
            embed_total=self.settings.embed_total,
            notes=[*notes, *unlinked(files, job.limits.files, self.artifacts.share)],
            session=session,
        )

    async def _start(self, raw: Mapping[str, Any], principal: str, on_step: Tell | None) -> dict[str, Any]:
        from .arguments import StartArguments, parsed

        given = parsed(StartArguments, "session_start", raw)
        packages = self.pools.chosen(given.packages or ())

        async def opened(stack: AsyncExitStack) -> OpenBox:
            boxes = await stack.enter_async_context(self.pools.using(packages, principal, on_step))
            return await boxes.open()

        session, notes = await self.sessions.start(principal, opened, ttl=given.ttl, idle=given.idle)
        told = {**self._described(session), "notes": notes}
        text = (
            f"session: {session.id}\nPass it to python_execute; it ends {told['idle_limit']:g} seconds after its "
            f"last use, and in {told['ends_in']:g} seconds at the latest."
        )
        return _result("\n".join([text, *(f"note: {note}" for note in notes)]), told)

    async def _end(self, raw: Mapping[str, Any], principal: str) -> dict[str, Any]:
        from .arguments import EndArguments, parsed

        given = parsed(EndArguments, "session_end", raw)
        session = await self.sessions.end(principal, given.session)
        return _result(
            f"Session {session.id} has ended.",
            {"session": session.id, "ended": True, "executions": session.runs},
        )

    async def _status(self, raw: Mapping[str, Any], principal: str, tools: Tools | None) -> dict[str, Any]:
        from .arguments import StatusArguments, parsed

        parsed(StatusArguments, "sandbox_status", raw)
        settings = self.settings
        isolation: dict[str, Any] = {"tier": "none", "layers": {}}
        default = self.pools.default
        problem: str | None = None
        unready = "no code can be run"
        try:
            async with self.pools.using(self.pools.default, principal, patience=PATIENCE) as boxes:
                found = await boxes.isolation()
            isolation = found.to_json()
            if found.tier.rank < settings.minimum.rank:
                missing = "; ".join(f"{layer.name}: {layer}" for layer in found.layers if not layer.active)
                problem = f"what protects is '{found.tier}', and sandbox.minimum is '{settings.minimum}' ({missing})"
        except InstallingError as exc:
            problem, unready = exc.doing, "packages are being made ready" if default else "being made ready"
        except (SandboxRefusedError, BoxError, LayerError, CallRefusedError, OSError) as exc:
            problem = str(exc).removeprefix("Nothing was run").lstrip(":. ")
        told: dict[str, Any] = {
            "ready": problem is None,
            "problem": problem,
            "mode": self.mode,
            "isolation": isolation,
            **plain(settings),
            "installed": list(self.pools.installed(default)),
            "tools": tools is not None,
            "sessions": [self._described(session) for session in self.sessions.of(principal)],
            "pools": self.pools.stats(),
        }
        at_once = f"{settings.most} executions; the executor is {MODES[self.mode]}"
        return _result("\n".join(told_lines(told, unready, at_once)), told)

    def _described(self, session: Session) -> dict[str, Any]:
        ends, _ = self.sessions.remaining(session)
        return {"session": session.id, "ends_in": round(ends, 1), "idle_limit": session.idle}


def _result(text: str, structured: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "structuredContent": structured, "isError": False}
