"""The front of a cluster's executors put together, from the settings."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ... import __version__
from ...runners.base import Message
from ...runners.kinds import Runners
from ...runners.placement import OWN_PYTHON, Placement
from ...runners.spec import Installation, ServerSpec, SourceKind
from ...sandbox.settings import SandboxSettings
from ...tools.functions.names import EXECUTOR
from ..home import Home
from ..settings_sandbox import MIB
from ..settings_sandbox import SandboxSettings as Given
from .front import ClusterFront
from .grounds import Wants
from .posts import Posts

if TYPE_CHECKING:
    from ...tools.nested import Grant


@asynccontextmanager
async def opened(
    given: Given,
    settings: SandboxSettings,
    home: Home,
    index: Mapping[str, str],
    runners: Runners,
    send: Callable[[Message], None],
    find: Callable[[object], Grant | None],
) -> AsyncIterator[ClusterFront]:
    """Have executors on all nodes, and a front for them, for as long as the block runs.

    Args:
        given: What the operator set.
        settings: The same as executors take it.
        home: Where the executor on this machine has its folders.
        index: Variables with which executors reach the package index, as templates.
        runners: Run them.
        send: Takes the front's messages to ToolScore.
        find: Gives the grant of a token, while it is good.

    Raises:
        InstallError: If Ray is not installed.
    """
    from ...runners.ray.runner import RayRunner

    ray = runners.of("ray")
    assert isinstance(ray, RayRunner)

    def made(key: str, places: int, node: Placement | None) -> Installation:
        words = [
            "-P",
            "-m",
            "toolscore.sandbox",
            "--node",
            "--settings",
            replace(settings, most=places).to_json(),
        ]
        # On a node both are in the folder that is this server's there.
        state, packages = ("state", "packages") if node else (home.sandbox_dir, home.packages_dir)
        return Installation(
            server_id=key,
            kind=SourceKind.BUILTIN,
            source="toolscore",
            spec=ServerSpec(
                command=OWN_PYTHON if node else sys.executable,
                args=(*words, "--state", str(state), "--environments", str(packages)),
                cwd=None if node else str(home.path),
                env=dict(index),
                cluster=node,
            ),
            runtime="python",
            version=__version__,
        )

    front = ClusterFront(settings, send, find)
    wants = Wants(
        cpu=given.cluster_cpu,
        memory=settings.limits.memory // MIB,
        labels=dict(label.split("=", 1) for label in given.cluster_labels),
        most=settings.most,
    )
    process = runners.process if given.cluster_fallback else None
    posts = Posts(ray, process, wants, made, front, front.lost)
    front.open(posts)
    posts.open()
    runners.spread[EXECUTOR] = posts.usage
    try:
        yield front
    finally:
        del runners.spread[EXECUTOR]
        posts.choosing.close()
        await front.close()
        await posts.aclose()
