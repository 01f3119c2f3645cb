"""What a server is made of, as plain values: a spec, a candidate for installation, an installation."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .confinement import Confinement, as_profile
from .container import INTERNAL, NO_NETWORK, Container
from .keeping import Keeping
from .pin import Locked, Pin
from .placement import Placement, as_placement

Report = Callable[[float, float | None, str], Awaitable[None]]
"""Receives progress: how far, out of how much (`None` where unknown), and what is being done."""


async def silent(_progress: float, _total: float | None, _message: str) -> None:
    """Be the `Report` that tells nobody."""


EMBEDDED = "embedded:"
"""How the url begins of a server that lives in ToolScore's own process."""

Engine = Literal["process", "docker", "ray"]
"""What a server runs on: processes of this machine (an endpoint, which runs anywhere, counts as one), containers of
a Docker engine, or the nodes of a Ray cluster."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What the name of a header is (RFC 9110, 5.6.2)."""

_URLS = ("ws://", "wss://", "http://", "https://", "register:", EMBEDDED)


class SourceKind(StrEnum):
    """Where an installation comes from."""

    PYPI = "pypi"
    NPM = "npm"
    GIT = "git"
    FOLDER = "folder"
    MCPB = "mcpb"
    COMMAND = "command"
    DOCKER = "docker"
    REGISTERED = "registered"
    BUILTIN = "builtin"


class ServerSpec(BaseModel):
    """How one server is started or reached. Values are templates: `${NAME}` is expanded at each start.

    A spec with only `command` speaks over its standard streams; one with only `url` is an endpoint that is
    already there; one with both is started by ToolScore and then reached at `url`, where `${PORT}` stands for
    a free port of the configured range (the same one in `command`, `args`, `env` and `url`). One with a `container`
    is started in that; its `command`, if it has one, is what is started there instead of what the image says.

    Attributes:
        command: Program to start, looked up on `PATH` unless it is a path.
        args: Its arguments.
        env: Environment variables on top of the white list every child gets.
        cwd: Working directory; the server's own folder when `None`.
        url: `ws://`, `wss://`, `http://` or `https://` endpoint; `register:WHO` for a server that dials in,
            `embedded:NAME` for a part of ToolScore that is spoken to without a process or a line between.
        headers: HTTP headers sent to the endpoint.
        sse: Whether an HTTP endpoint is spoken to by HTTP with SSE; when `None`, one whose url ends in `/sse` is.
        confine: What the process may reach of its machine; all its user may when `None`.
        container: The container it runs in; a process when `None`.
        cluster: What it needs of the node of a cluster it runs on; it runs on this machine when `None`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    sse: bool | None = None
    confine: Confinement | None = None
    container: Container | None = None
    cluster: Placement | None = None

    @field_validator("confine", mode="before")
    @classmethod
    def _profile(cls, value: Any) -> Any:
        return as_profile(value)

    @field_validator("cluster", mode="before")
    @classmethod
    def _placement(cls, value: Any) -> Any:
        return as_placement(value)

    @field_validator("headers")
    @classmethod
    def _names(cls, headers: dict[str, str]) -> dict[str, str]:
        # What writes them may not look: a line break in a name would begin a header of its own.
        if wrong := [name for name in headers if not _TOKEN.fullmatch(name)]:
            raise ValueError(f"{wrong[0][:80]!r} cannot be the name of a header")
        return headers

    @model_validator(mode="after")
    def _one_way_in(self) -> ServerSpec:
        if not self.command and not self.url and self.container is None:
            raise ValueError("a server needs a command to start or a url to connect to")
        if self.url and not self.url.startswith(_URLS):
            raise ValueError(f"url must start with ws://, wss://, http:// or https://, not {self.url!r}")
        try:
            urlsplit(self.url or "")
        except ValueError as error:  # brackets that hold no IPv6 address
            raise ValueError(f"url cannot be read: {error}") from error
        if self.confine is not None and (wrong := unconfinable(self.command, self.url, self.confine)):
            raise ValueError(f"confine {wrong}")
        if self.container is not None and (wrong := uncontainable(self.url, self.confine, self.container)):
            raise ValueError(wrong)
        if self.cluster is not None and (
            self.url is not None or self.command is None or self.container is not None
        ):
            raise ValueError(
                "cluster only goes with a command that speaks over its standard streams, without a url or a container"
            )
        return self

    @property
    def engine(self) -> Engine:
        """What it runs on."""
        if self.container is not None:
            return "docker"
        return "process" if self.cluster is None else "ray"

    @property
    def is_service(self) -> bool:
        """Whether it is a plain service, which speaks no MCP."""
        return self.container is not None and self.container.service is not None

    @property
    def started(self) -> bool:
        """Whether ToolScore starts something for it, instead of only reaching what is there."""
        return self.command is not None or self.container is not None


def unconfinable(command: str | None, url: str | None, confine: Confinement) -> str | None:
    """Say why a server cannot be confined as asked, or `None`."""
    if command is None:
        return "only goes with a command: what is reached by url is not started here"
    if url is not None and not confine.network:
        return "needs network = true here: ToolScore could not reach the url of a server that has no network"
    return None


def uncontainable(url: str | None, confine: Confinement | None, container: Container) -> str | None:
    """Say why a server cannot be put into a container as asked, or `None`."""
    if confine is not None:
        return "confine does not go with a container, which is closed by itself: open it with container's own options"
    if url is not None and container.service is not None:
        return "url does not go with a service, which is not spoken to: its probe tells whether it works"
    if url is not None and container.network.endswith(INTERNAL):
        return f"url needs a network that is reached from outside: {container.network.removesuffix(INTERNAL)}"
    if url is not None and container.network == NO_NETWORK:
        return (
            'container needs a network here, such as network = "bridge": ToolScore could not reach the url of a '
            "container that has none"
        )
    return None


class Candidate(BaseModel):
    """What somebody asked to install.

    Attributes:
        source: The source as given: `pypi:NAME[@VERSION][#SCRIPT]`, `npm:NAME[@VERSION][#BIN]`,
            `git+URL[@REF]`, a folder, an `.mcpb` file or its address with a checksum, or `command: PROGRAM ARGS...`.
        name: The server's name, already checked to be free and well-formed.
        args: Arguments after the entry point.
        env: Environment of the server; values may hold `${NAME}` references.
        constraints: Extra version constraints for a Python environment, such as `mcp<2`.
        confine: What it may reach of its machine once it is started; its installation is not confined.
        container: Options of its container, where the source is an image.
        cluster: What it needs of the node of a cluster it is to run on; it runs on this machine when `None`.
        url: Where it is reached once it is started, where that is not by its standard streams.
        headers: HTTP headers sent there.
        sse: Whether it speaks HTTP with SSE there; see `ServerSpec`.
        label: What is remembered as its source, where that says more than `source`.
        sha256: What the file of a package from an index must hash to; what it depends on is not checked by it.
        place: Folder inside of the server's own to install into, where it has an older version; see `Pin`.
        locked: What must come out of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    name: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    confine: Confinement | None = None
    container: Container | None = None
    cluster: Placement | None = None
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    sse: bool | None = None
    label: str | None = None
    sha256: str | None = None
    place: str = ""
    locked: Locked | None = None

    @property
    def engine(self) -> Engine:
        """What it is to run on."""
        if self.source.strip().startswith("docker:"):
            return "docker"
        return "process" if self.cluster is None else "ray"


class Installation(BaseModel):
    """A server made ready to start: its spec, and what was really installed.

    Attributes:
        server_id: The server's name, unique in a home.
        kind: Where it came from.
        source: The source as given.
        spec: How it is started or reached.
        directory: Folder that belongs to this server alone and goes with it; `None` where it has none.
        runtime: What runs it: `python`, `node`, `binary` (somebody's own program), `container` or `remote`.
        package: The distribution's name, where there is one.
        version: The version really installed.
        constraints: Version constraints its environment was made with, kept for every later rebuild.
        candidates: Other entry points that were found, for the error that offers them.
        keeping: What is set for this server alone.
        pin: What exactly was installed; `None` where an older ToolScore installed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    server_id: str
    kind: SourceKind
    source: str
    spec: ServerSpec
    directory: str | None = None
    runtime: Literal["python", "node", "binary", "container", "remote"] = "binary"
    package: str | None = None
    version: str | None = None
    constraints: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    keeping: Keeping = Keeping()
    pin: Pin | None = None

    @property
    def name(self) -> str:
        """The server's name, which several instances of it share: their ids are `NAME#NUMBER`."""
        return self.server_id.partition("#")[0]

    def instance(self, number: int) -> Installation:
        """Give the same for a further instance, whose process is its own."""
        return self.model_copy(update={"server_id": f"{self.name}#{number}"})
