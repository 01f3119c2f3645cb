"""What a container is given of the machine it runs on: closed by default, each opening asked for by name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .service import Service, as_service

NO_NETWORK = "none"
"""The network of a container that asks for none."""

OWN = "@"
"""How the names of networks and volumes begin that ToolScore makes for this home alone."""

INTERNAL = ":internal"
"""How the name of a network of ToolScore's own ends that does not reach the outside."""

SHARED_NETWORKS = (NO_NETWORK, "host", "bridge")
"""Networks that every engine has. Containers do not find each other by name there."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_OWN_NAME = re.compile(r"@[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_SIZE = re.compile(r"(?P<number>[0-9]+)(?P<unit>[kmgt]?)(?:i?b)?", re.IGNORECASE)
_MIB = {"": 1.0, "k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024}
_CAPABILITY = re.compile(r"(?:CAP_)?[A-Z_]{3,40}")
_NUMBER = r"[0-9]{1,5}"
_PORT = re.compile(
    rf"(?:(?P<address>[0-9.]+|\[[0-9A-Fa-f:]+\]):)?(?P<here>{_NUMBER}):(?P<inside>{_NUMBER})(?:/(?P<kind>tcp|udp))?"
)
_ENGINES = ("docker.sock", "podman.sock", "containerd.sock")
_ABOVE = frozenset(
    {"/", "/run", "/var", "/var/run", "/proc", "/run/docker", "/run/podman", "/run/containerd"}
)
"""Folders an engine's socket is usually somewhere below of, or that are as much as that."""


class Container(BaseModel):
    """A container: its image, and what it may use and reach. Texts are templates, as in a `ServerSpec`.

    What is never given: privileges over the machine, its devices, its namespaces, and new privileges by programs
    that have them.

    Attributes:
        image: What it is made from: the id of an image that is there (`sha256:...`); empty until it is installed.
        network: `none`, `bridge` (the engine's own network, which reaches the outside), `host`, a network's name, or
            `@NAME[:internal]`: a network of this home's own, made when it is first needed, on which containers find
            each other by name.
        aliases: Further names it is found by on its network, besides the server's.
        volumes: `SOURCE:TARGET[:rw]`: folders and files of the engine's machine by their path, named volumes, or
            `@NAME`: a volume of this home's own, made when it is first needed; read-only without `:rw`.
        ports: `[ADDRESS:]PORT:PORT_INSIDE[/udp]`, published on loopback where no address says otherwise.
        tmpfs: `PATH[:OPTIONS]`: folders in memory, besides /tmp.
        user: Whom it runs as, `USER[:GROUP]`; when `None` the image's own user, or nobody (65534) if that is root.
        read_only: Whether its root file system is.
        capabilities: Those of root's powers it keeps, such as `NET_BIND_SERVICE`; all others are dropped.
        memory: MiB it may use; 0 is no limit. When `None`, what is set by `max_memory`.
        cpus: Processors it may keep busy; 0 is no limit. When `None`, what is set by `max_cpu`.
        pids: Processes and threads it may have; 0 is no limit. When `None`, what is set by `max_processes`, or 512.
        log_size: MiB of its output that the engine keeps.
        init: Whether the engine's own small init is its first process: it passes signals on and buries what is left.
        platform: Such as `linux/arm64`; the engine's own when `None`.
        stdin_once: Whether the end of the line to it ends its input, as with `docker run -i`. It then ends by itself
            when ToolScore dies, and does not outlive a restart of the engine.
        service: What makes it a plain service, which speaks no MCP; a server when `None`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = ""
    network: str = NO_NETWORK
    aliases: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    user: str | None = None
    read_only: bool = True
    capabilities: tuple[str, ...] = ()
    memory: int | None = Field(default=None, ge=0)
    cpus: float | None = Field(default=None, ge=0)
    pids: int | None = Field(default=None, ge=0)
    log_size: int = Field(default=10, ge=1)
    init: bool = True
    platform: str | None = None
    stdin_once: bool = False
    service: Service | None = None

    @field_validator("service", mode="before")
    @classmethod
    def _service(cls, value: Any) -> Any:
        return as_service(value)

    @field_validator("aliases")
    @classmethod
    def _aliases(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in names if not _NAME.fullmatch(name)]:
            raise ValueError(f"alias {wrong[0][:80]!r} is no name of a machine on a network")
        return names

    @field_validator("network", mode="before")
    @classmethod
    def _network(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return "bridge" if value else NO_NETWORK
        if isinstance(value, str) and "${" not in value:
            own = _OWN_NAME.fullmatch(value.removesuffix(INTERNAL))
            if not own and not _NAME.fullmatch(value):
                raise ValueError(
                    f"network {value[:80]!r} is no name of a network: none, bridge, host, a name, or @NAME for one "
                    "of ToolScore's own"
                )
        return value

    @field_validator("memory", mode="before")
    @classmethod
    def _memory(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            raise ValueError(
                f"memory {value[:80]!r} is no size: write MiB as a number, or such as 512m or 2g"
            )
        return round(int(found["number"]) * _MIB[found["unit"].lower()])

    @field_validator("capabilities")
    @classmethod
    def _capabilities(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in names if not _CAPABILITY.fullmatch(name) or name in ("ALL", "CAP_ALL")]
        if wrong:
            raise ValueError(
                f"{wrong[0][:80]!r} is no capability such as NET_BIND_SERVICE; name each by itself"
            )
        return tuple(name.removeprefix("CAP_") for name in names)

    @field_validator("volumes")
    @classmethod
    def _volumes(cls, volumes: tuple[str, ...]) -> tuple[str, ...]:
        for text in volumes:
            volume(text)
        return volumes

    @field_validator("tmpfs")
    @classmethod
    def _tmpfs(cls, folders: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [text for text in folders if not text.startswith("/")]:
            raise ValueError(
                f"tmpfs {wrong[0][:80]!r} is no absolute path, such as /cache or /cache:size=64m"
            )
        return folders

    @model_validator(mode="after")
    def _ports_need_network(self) -> Container:
        for text in self.ports:
            port(text)
        if self.ports and self.network.endswith(INTERNAL):
            raise ValueError(
                f"ports are published from a network that reaches the outside, and network is {self.network}: write "
                f"{self.network.removesuffix(INTERNAL)}"
            )
        if self.aliases and self.network in SHARED_NETWORKS:
            raise ValueError(
                f"aliases are for a network with names, such as @NAME, and network is {self.network}"
            )
        if self.ports and self.network in (NO_NETWORK, "host"):
            raise ValueError(
                f'ports are published from a network, and network is {self.network}: write network = "bridge", or '
                "the name of one"
            )
        return self

    def each(self, change: Callable[[str, str], str]) -> Container:
        """Give the same with every text changed; the function is told where it stands."""
        values = self.model_dump()
        for name in ("volumes", "ports", "tmpfs"):
            values[name] = tuple(
                change(text, f"container.{name}[{index}]") for index, text in enumerate(getattr(self, name))
            )
        values["network"] = change(self.network, "container.network")
        values["service"] = self.service and self.service.each(change)
        return Container.model_validate(values)

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts in it that are templates."""
        probe = (self.service.command if self.service is not None else None) or ()
        return (*self.volumes, *self.ports, *self.tmpfs, self.network, *probe)

    @property
    def own_volumes(self) -> tuple[str, ...]:
        """The names of the volumes of this home's own, without their mark."""
        sources = (volume(text)[0] for text in self.volumes)
        return tuple(source.removeprefix(OWN) for source in sources if source.startswith(OWN))


def volume(text: str) -> tuple[str, str, bool]:
    """Take a volume apart: where it comes from, where it is seen, and whether it can be written.

    Raises:
        ValueError: If it is none, or would give the container the engine itself.
    """
    body, mode, writable = text, "", False
    for end in (":rw", ":ro"):
        if text.endswith(end):
            body, mode = text.removesuffix(end), end
    writable = mode == ":rw"
    source, colon, target = body.rpartition(":")
    if not colon or not source or not target.startswith("/") or "\0" in text:
        raise ValueError(f"volume {text[:120]!r} is not SOURCE:/TARGET[:rw]")
    path = posixpath.normpath(source) if source.startswith("/") else source
    if path.endswith(_ENGINES) or (path if path[:2] != "//" else path[1:]) in _ABOVE:
        raise ValueError(
            f"volume {text[:120]!r} would give the container the engine, and with it the whole machine"
        )
    if not source.startswith(("/", "~", "${", ".")) and not (
        _NAME.fullmatch(source) or _OWN_NAME.fullmatch(source)
    ):
        raise ValueError(f"volume {text[:120]!r} begins with neither a path nor a volume's name")
    return source, target, writable


def port(text: str) -> tuple[str, str, str]:
    """Take a port apart: the address and port it is published at, and the one inside with its protocol.

    Raises:
        ValueError: If it is none.
    """
    if "${" in text:
        return "", "", ""  # once it is filled in
    found = _PORT.fullmatch(text)
    numbers = () if found is None else (int(found["here"]), int(found["inside"]))
    if found is None or not all(0 < number < 65536 for number in numbers):
        raise ValueError(f"port {text[:80]!r} is not [ADDRESS:]PORT:PORT_INSIDE")
    address = (found["address"] or "127.0.0.1").strip("[]")
    return address, found["here"], f"{found['inside']}/{found['kind'] or 'tcp'}"
