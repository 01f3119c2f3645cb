"""Where containers run."""

from __future__ import annotations

from .settings_base import Group, setting


class DockerSettings(Group):
    """Where containers run."""

    host: str = setting(
        "",
        "a text: the engine's address",
        "Address of the Docker engine, such as unix:///var/run/docker.sock or tcp://HOST:2376; DOCKER_HOST or one of "
        "the usual sockets when empty.",
    )
