"""What the engine is told to make: a spec and its container's options, as the body of `POST /containers/create`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..container import SHARED_NETWORKS, Container, port, volume
from ..errors import SpecError
from ..keeping import Kept
from ..spec import ServerSpec

PIDS = 512
"""Processes and threads of a container for which nothing else is set: enough for any server, not for a fork bomb."""

NOBODY = "65534:65534"

HOME_LABEL = "org.toolscore.home"
SERVER_LABEL = "org.toolscore.server"
INSTANCE_LABEL = "org.toolscore.instance"
OWNER_LABEL = "org.toolscore.owner"

_TMP = "rw,nosuid,nodev,noexec,mode=1777,size=64m"
_MIB = 1 << 20


def create_body(
    spec: ServerSpec,
    *,
    image: Mapping[str, Any],
    kept: Kept,
    labels: Mapping[str, str],
    spoken: bool,
) -> dict[str, Any]:
    """Make the body.

    Args:
        spec: What is to be started, its templates replaced.
        image: What the engine says of the image.
        kept: How the server is kept; its limits hold where the container has none of its own.
        labels: Labels of the container.
        spoken: Whether it is spoken to over its standard streams.

    Raises:
        SpecError: If it asks for what cannot be.
    """
    container = spec.container
    assert container is not None
    own = image.get("Config") or {}
    user, forced = _user(container, own)
    env = dict(spec.env)
    given = {name.partition("=")[0] for name in own.get("Env") or ()}
    if forced and "HOME" not in given | env.keys():
        env["HOME"] = "/tmp"  # noqa: S108 - of the container: the only place nobody can write
    body: dict[str, Any] = {
        "Image": container.image,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": dict(labels),
        "Tty": False,
        "AttachStdout": spoken,
        "AttachStderr": False,
        "AttachStdin": spoken,
        "OpenStdin": spoken,
        "StdinOnce": spoken and container.stdin_once,
        "HostConfig": _host(container, kept),
    }
    if container.aliases and container.network not in SHARED_NETWORKS:
        ends = {container.network: {"Aliases": list(container.aliases)}}
        body["NetworkingConfig"] = {"EndpointsConfig": ends}
    if container.service is not None:
        body["Healthcheck"] = {"Test": ["NONE"]}  # it is probed from here
    if spec.command is not None:
        body["Entrypoint"] = [spec.command]
    if spec.args or spec.command is not None:
        body["Cmd"] = list(spec.args)
    if spec.cwd is not None:
        body["WorkingDir"] = spec.cwd
    if user is not None:
        body["User"] = user
    if container.ports:
        published: dict[str, list[dict[str, str]]] = {}
        for text in container.ports:
            address, here, inside = _port(text)
            published.setdefault(inside, []).append({"HostIp": address, "HostPort": here})
        body["ExposedPorts"] = {inside: {} for inside in published}
        body["HostConfig"]["PortBindings"] = published
    return body


def _user(container: Container, own: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Tell whom it runs as, and whether that is not the image's own choice."""
    if container.user is not None:
        return container.user, True
    said = str(own.get("User") or "").partition(":")[0]
    return (NOBODY, True) if said in ("", "root", "0") else (None, False)


def _host(container: Container, kept: Kept) -> dict[str, Any]:
    memory = (kept.max_memory if container.memory is None else container.memory) * _MIB
    cpus = kept.max_cpu if container.cpus is None else container.cpus
    pids = (kept.max_processes or PIDS) if container.pids is None else container.pids
    host: dict[str, Any] = {
        "NetworkMode": container.network,
        "ReadonlyRootfs": container.read_only,
        "CapDrop": ["ALL"],
        "CapAdd": list(container.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "Init": container.init,
        "PidsLimit": pids or -1,
        "Tmpfs": {"/tmp": _TMP, **_tmpfs(container)},  # noqa: S108
        "Mounts": [_mount(text) for text in container.volumes],
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": f"{max(1, container.log_size * 1024 // 2)}k", "max-file": "2"},
        },
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
    }
    if memory:
        # Without swap: a server that is over its limit is to end, not to make the machine slow.
        host |= {"Memory": memory, "MemorySwap": memory}
    if cpus:
        host["NanoCpus"] = int(cpus * 1_000_000_000)
    if kept.max_files:
        host["Ulimits"] = [{"Name": "nofile", "Soft": kept.max_files, "Hard": kept.max_files}]
    return host


def _tmpfs(container: Container) -> dict[str, str]:
    found = {}
    for text in container.tmpfs:
        path, _, options = text.partition(":")
        found[path] = ",".join(part for part in ("rw", "nosuid", "nodev", options) if part)
    return found


def _mount(text: str) -> dict[str, Any]:
    try:
        source, target, writable = volume(text)
    except ValueError as error:
        raise SpecError(f"The container cannot be made: {error}.") from None
    if source.startswith("~"):
        source = os.path.expanduser(source)  # noqa: PTH111 - also of a home that is not there
    if source.startswith(("/", ".")):
        if not Path(source).is_absolute():
            raise SpecError(f"The container cannot be made: volume {text!r} begins with no absolute path.")
        return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": not writable}
    return {"Type": "volume", "Source": source, "Target": target, "ReadOnly": not writable}


def _port(text: str) -> tuple[str, str, str]:
    try:
        return port(text)
    except ValueError as error:
        raise SpecError(f"The container cannot be made: {error}.") from None
