"""The built-in server `python-executor`: how it is started as the settings have it, and how its code calls tools."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..runners.base import Message
from ..runners.embedded import Handle, Opened
from ..runners.environment import ALWAYS, MARKER
from ..runners.keeping import Keeping
from ..runners.spec import EMBEDDED, Installation, ServerSpec, SourceKind
from ..tools.builtin import Builtin
from ..tools.functions.names import EXECUTOR
from ..tools.nested import Grants
from .home import Home, HomeError
from .settings import Settings
from .settings_sandbox import KIB, MIB

if TYPE_CHECKING:
    from ..runners.kinds import Runners
    from ..sandbox.execution import Tools
    from ..sandbox.settings import SandboxSettings
    from ..tools.nested import Grant
    from ..tools.router import Router
    from .toolset import ToolSet

logger = logging.getLogger(__name__)

BARE = "TOOLSCORE_TEST_BARE"
"""Environment variable of ToolScore's own tests: a new home is empty then."""


MOST_AT_ONCE = 1024
"""Calls that the executors of a cluster are given together, those that wait for a place included."""


def sandbox_settings(settings: Settings) -> SandboxSettings:
    """Give the sandbox's own settings, in its own units."""
    from ..sandbox.isolation import Tier
    from ..sandbox.limits import Limits
    from ..sandbox.settings import SandboxSettings

    given = settings.sandbox
    return SandboxSettings(
        limits=Limits(
            wall=given.wall,
            cpu=given.cpu,
            memory=given.memory * MIB,
            processes=given.processes,
            open_files=given.open_files,
            disk=given.disk * MIB,
            output=given.output * KIB,
        ),
        packages=given.packages,
        preload=given.preload,
        allow_packages=given.allow_packages,
        warm=given.warm,
        most=given.most,
        minimum=Tier(given.minimum),
        session_ttl=given.session_ttl,
        session_idle=given.session_idle,
        sessions=given.sessions,
    )


def builtins_of(
    settings: Settings, home: Home, environ: Mapping[str, str] = os.environ
) -> dict[str, Builtin]:
    """Give the servers that are part of this ToolScore, by name."""
    if not settings.sandbox.enabled or environ.get(BARE):
        return {}
    wanted = sandbox_settings(settings)
    arguments: tuple[str, ...] = ("--settings", wanted.to_json())
    keeping = Keeping(start="use")
    if settings.sandbox.mode == "embedded":
        spec = ServerSpec(url=EMBEDDED + EXECUTOR, args=arguments)
    elif settings.sandbox.mode == "cluster":
        spec = ServerSpec(url=EMBEDDED + EXECUTOR, args=("--cluster", *arguments))
        keeping = Keeping(start="use", max_parallel=MOST_AT_ONCE)
    else:
        # -P: nothing that lies in the working directory is taken for a module.
        arguments += ("--state", str(home.sandbox_dir), "--environments", str(home.packages_dir))
        spec = ServerSpec(
            command=sys.executable,
            args=("-P", "-m", "toolscore.sandbox", *arguments),
            cwd=str(home.path),
            env=_index(wanted, environ),
        )
    installation = Installation(
        server_id=EXECUTOR,
        kind=SourceKind.BUILTIN,
        source="toolscore",
        spec=spec,
        runtime="python",
        version=__version__,
        keeping=keeping,
    )

    def definitions() -> list[dict[str, Any]]:
        from ..sandbox.executor import Executor

        return Executor(wanted, _unmade).tools()

    return {EXECUTOR: Builtin(installation, definitions)}


def _index(wanted: SandboxSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Refer to what the executor's process needs to reach the package index: nothing, where it has no packages.

    None of it gets into a box.
    """
    if not (wanted.packages or wanted.allow_packages):
        return {}
    from ..sandbox import uv

    return {name: f"${{{name}}}" for name in uv.names(environ) if name not in ALWAYS | {MARKER}}


def _unmade(_environment: object) -> Any:
    raise AssertionError("only its tools are asked for")


@asynccontextmanager
async def calling_tools(settings: Settings, home: Home, toolset: ToolSet) -> AsyncIterator[None]:
    """Let code call tools meanwhile, where the settings allow it to anybody.

    In a process of its own the executor reaches them over a socket; without one, they are handed to it.
    """
    if EXECUTOR not in toolset.servers.builtins or not settings.sandbox.tools:
        yield
        return
    from .nested import ToolSocket
    from .reading_tools import ReadingTools

    router, own = toolset.router, ReadingTools(toolset)
    grants = Grants(toolset.library, router.call, own, settings.sandbox.tools)
    if settings.sandbox.mode != "separate":
        router.carrier.nested = grants
        yield
        return
    listening = ToolSocket(grants)
    try:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("this system has no Unix sockets")
        path = home.tools_socket_path
        await listening.open(path)
        grants.place = str(path)
        router.carrier.nested = grants
    except (OSError, HomeError) as exc:
        # Code runs all the same; `sandbox_status` says that it cannot call tools.
        logger.error("code in the sandbox cannot call tools, although sandbox.tools allows it: %s", exc)
    try:
        yield
    finally:
        router.carrier.nested = None
        await listening.close()


def embedded(settings: Settings, home: Home, router: Router, runners: Runners) -> Opened:
    """Give what makes the executor live in this process; its code runs in boxes all the same."""
    if settings.sandbox.mode == "cluster":
        return _on_cluster(settings, home, router, runners)

    @asynccontextmanager
    async def opened(send: Callable[[Message], None]) -> AsyncIterator[Handle]:
        compose, face = [
            await asyncio.to_thread(importlib.import_module, f"toolscore.sandbox.{name}")
            for name in ("compose", "face")
        ]

        def tools(caller: Mapping[str, Any]) -> Tools | None:
            grant = caller.get("tools")
            token = grant.get("token") if isinstance(grant, Mapping) else None
            return router.carrier.nested.find(token) if router.carrier.nested is not None else None

        async with compose.composed(
            sandbox_settings(settings), home.sandbox_dir, home.packages_dir, "embedded"
        ) as executor:
            one = face.Face(executor, send, __version__, tools)
            try:
                yield one.handle
            finally:
                await one.close()

    return opened


def _on_cluster(settings: Settings, home: Home, router: Router, runners: Runners) -> Opened:
    """Give what makes the front of the executors of a cluster live in this process."""

    def find(token: object) -> Grant | None:
        return router.carrier.nested.find(token) if router.carrier.nested is not None else None

    @asynccontextmanager
    async def opened(send: Callable[[Message], None]) -> AsyncIterator[Handle]:
        module = await asyncio.to_thread(importlib.import_module, "toolscore.server.boxes.opening")
        wanted = sandbox_settings(settings)
        index = _index(wanted, os.environ)
        async with module.opened(settings.sandbox, wanted, home, index, runners, send, find) as front:
            yield front.handle

    return opened
