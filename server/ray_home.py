"""The runner of a Ray cluster for a home; nothing of it is imported before a server is to run on one."""

from __future__ import annotations

import logging
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

logger = logging.getLogger(__name__)


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

        options = ray_options(settings.ray)
        # The others count from its last sign of life, which may be a quarter of their time older than its end.
        if settings.database.url and options.fence > settings.gateway.timeout * 0.75:
            logger.warning(
                "when this gateway's machine is lost, its servers on nodes may still run for a moment while another "
                "gateway starts them: set gateway.timeout to %.1f or more, or ray.lease lower",
                options.fence / 0.75 + 0.05,
            )
        runner = RayRunner(means, options, process.guard)
        runner.on_room = start
        return runner

    return made
