"""How a Ray cluster is used, for servers that are to run on its nodes."""

from __future__ import annotations

from ..runners.ray.options import RayOptions
from .settings_base import Group, setting

_USUAL = RayOptions()


class RaySettings(Group):
    """A Ray cluster, for servers with `cluster` (docs/cluster.md). Times in seconds."""

    address: str = setting(
        _USUAL.address,
        "auto, or HOST:PORT of the cluster's head",
        "The cluster: HOST:PORT of its head, or auto for the one this machine is a node of. This machine is one of "
        "its nodes in any case.",
        pattern=r"^(auto|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})$",
    )
    token: str = setting(
        _USUAL.token,
        "a text, such as ${RAY_AUTH_TOKEN}",
        "Ray's token, for a cluster with RAY_AUTH_MODE=token; a ${NAME} is filled in. Empty where Ray finds it "
        "itself.",
    )
    lease: float = setting(
        _USUAL.lease,
        "a number of seconds, 1 or more",
        "Seconds a node keeps servers running without a word of ToolScore. After a node is lost, its servers are "
        "started elsewhere one second later than that, when no copy can be alive any more.",
        ge=1,
    )
    connect_timeout: float = setting(
        _USUAL.connect_timeout,
        "a number of seconds above 0",
        "Seconds a start waits for the cluster to be reached, and for its nodes' agents.",
        gt=0,
    )
    folder: str = setting(
        _USUAL.folder,
        "the path of a folder on the nodes",
        "Where nodes keep installed servers and what else is ToolScore's; ~/.cache/toolscore/nodes when empty.",
    )
    port: int = setting(
        _USUAL.port,
        "a port number, or 0",
        "Port that agents listen on for ToolScore, one on each node; any free one when 0.",
        ge=0,
        le=65535,
    )


def ray_options(settings: RaySettings) -> RayOptions:
    """Give the options of the runner."""
    return RayOptions(**settings.model_dump())
