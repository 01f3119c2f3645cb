"""The runner of a Ray cluster for a home; nothing of it is imported before a server is to run on one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..runners.base import BaseRunner
from ..runners.kinds import Maker
from ..runners.lifecycle import State
from ..runners.means import Means
from ..runners.process import ProcessRunner
from ..runners.supervisor import Supervisor
from .settings_ray import ray_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from .settings import Settings


def start_again(supervisor: Supervisor, key: str) -> None:
    """Start a server that found no node, unless somebody stopped it meanwhile."""
    unit = supervisor.find(key)
    if unit is not None and unit.enabled and unit.life.state in (State.FAILED, State.BACKOFF):
        unit.start()


def ray_maker(settings: Settings, process: ProcessRunner, start: Callable[[str], None]) -> Maker:
    """Give what makes the runner when the first server needs it.

    Args:
        settings: How the cluster is used.
        process: The runner of this machine, whose guardian starts the bridge.
        start: Starts a server that found no node, once there is one.
    """

    def made(means: Means) -> BaseRunner:
        from ..runners.ray.runner import RayRunner

        runner = RayRunner(means, ray_options(settings.ray), process.guard)
        runner.on_room = start
        return runner

    return made
