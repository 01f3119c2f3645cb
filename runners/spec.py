"""What a server is made of, as plain values: a spec, a candidate for installation, an installation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .keeping import Keeping

Report = Callable[[float, float | None, str], Awaitable[None]]
"""Receives progress: how far, out of how much (`None` where unknown), and what is being done."""


async def silent(_progress: float, _total: float | None, _message: str) -> None:
    """Be the `Report` that tells nobody."""


class SourceKind(StrEnum):
    """Where an installation comes from."""

    PYPI = "pypi"
    NPM = "npm"
    GIT = "git"
    FOLDER = "folder"
    MCPB = "mcpb"
    COMMAND = "command"
    REGISTERED = "registered"


class ServerSpec(BaseModel):
    """How one server is started or reached. Values are templates: `${NAME}` is expanded at each start.

    A spec with only `command` speaks over its standard streams; one with only `url` is an endpoint that is
    already there; one with both is started by ToolScore and then reached at `url`, where `${PORT}` stands for
    a free port of the configured range (the same one in `command`, `args`, `env` and `url`).

    Attributes:
        command: Program to start, looked up on `PATH` unless it is a path.
        args: Its arguments.
        env: Environment variables on top of the white list every child gets.
        cwd: Working directory; the server's own folder when `None`.
        url: `ws://`, `wss://`, `http://` or `https://` endpoint; `register:WHO` for a server that dials in.
        headers: HTTP headers sent to the endpoint.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way_in(self) -> ServerSpec:
        if not self.command and not self.url:
            raise ValueError("a server needs a command to start or a url to connect to")
        if self.url and not self.url.startswith(("ws://", "wss://", "http://", "https://", "register:")):
            raise ValueError(f"url must start with ws://, wss://, http:// or https://, not {self.url!r}")
        return self


class Candidate(BaseModel):
    """What somebody asked to install.

    Attributes:
        source: The source as given: `pypi:NAME[@VERSION][#SCRIPT]`, `npm:NAME[@VERSION][#BIN]`,
            `git+URL[@REF]`, a folder, an `.mcpb` file, or `command: PROGRAM ARGS...`.
        name: The server's name, already checked to be free and well-formed.
        args: Arguments after the entry point.
        env: Environment of the server; values may hold `${NAME}` references.
        constraints: Extra version constraints for a Python environment, such as `mcp<2`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    name: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    constraints: tuple[str, ...] = ()


class Installation(BaseModel):
    """A server made ready to start: its spec, and what was really installed.

    Attributes:
        server_id: The server's name, unique in a home.
        kind: Where it came from.
        source: The source as given.
        spec: How it is started or reached.
        directory: Folder that belongs to this server alone and goes with it; `None` where it has none.
        runtime: What runs it: `python`, `node`, `binary` (somebody's own program) or `remote`.
        package: The distribution's name, where there is one.
        version: The version really installed.
        constraints: Version constraints its environment was made with, kept for every later rebuild.
        candidates: Other entry points that were found, for the error that offers them.
        keeping: What is set for this server alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    server_id: str
    kind: SourceKind
    source: str
    spec: ServerSpec
    directory: str | None = None
    runtime: Literal["python", "node", "binary", "remote"] = "binary"
    package: str | None = None
    version: str | None = None
    constraints: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    keeping: Keeping = Keeping()

    @property
    def name(self) -> str:
        """The server's name, which several instances of it share: their ids are `NAME#NUMBER`."""
        return self.server_id.partition("#")[0]

    def instance(self, number: int) -> Installation:
        """Give the same for a further instance, whose process is its own."""
        return self.model_copy(update={"server_id": f"{self.name}#{number}"})
