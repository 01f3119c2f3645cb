"""What can be set: frozen models, and the same as a flat list of options for loader, template and help."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

LogLevel = Literal["debug", "info", "warning", "error"]
Kind = Literal["integer", "number", "text", "list"]
Right = Literal["call", "manage", "register"]

_HOST = r"^(\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[A-Za-z0-9._-]+)$"
_ORIGIN = r"^[A-Za-z][A-Za-z0-9+.-]*://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?$"


def _setting(default: Any, expects: str, description: str, *also: str, **limits: Any) -> Any:
    """Declare one setting.

    Args:
        default: Its default.
        expects: What a value must be, to follow the words "must be".
        description: What it does.
        *also: Environment variables it may come from besides its own `TOOLSCORE_*` one.
        **limits: Limits for pydantic.
    """
    extra: dict[str, Any] = {"expects": expects, "also": list(also)}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class _Group(BaseModel):
    # Strict, because a file's `timeout = true` or `"300"` is a slip; texts of the environment are read first.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class LogSettings(_Group):
    """What is logged."""

    level: Annotated[LogLevel, BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v)] = _setting(
        "info", "debug, info, warning or error", "The least important messages that are logged."
    )


class ProcessSettings(_Group):
    """How servers run that are processes on this machine. Times in seconds."""

    timeout: float = _setting(
        300.0,
        "a number of seconds above 0",
        "Seconds a call to a server may take, unless the call says otherwise.",
        "PROCESS_TIMEOUT",
        gt=0,
    )
    start_timeout: float = _setting(
        30.0,
        "a number of seconds above 0",
        "Seconds a server has, from its start, to answer the MCP handshake.",
        gt=0,
    )
    stop_grace: float = _setting(
        2.0,
        "a number of seconds, 0 or more",
        "Seconds a server has to end by itself, once its input is closed, before it is ended by force.",
        ge=0,
    )
    max_memory: int = _setting(
        0,
        "a whole number of MiB, 0 for no limit",
        "Memory in MiB a server may use together with all it started; 0 is no limit.",
        "PROCESS_MAX_MEMORY",
        ge=0,
    )
    port_range_start: int = _setting(
        41000,
        "a port number from 1024 to 65535",
        "First port of the range given to servers that listen on one.",
        "PROCESS_PORT_RANGE_START",
        ge=1024,
        le=65535,
    )
    port_range_end: int = _setting(
        41999,
        "a port number from 1024 to 65535",
        "Last port of that range.",
        "PROCESS_PORT_RANGE_END",
        validate_default=True,  # a start above the default end must be noticed
        ge=1024,
        le=65535,
    )
    start_concurrency: int = _setting(
        8, "a whole number, 1 or more", "Servers that are started at the same time, at the most.", ge=1
    )
    restart_limit: int = _setting(
        5,
        "a whole number, 0 or more",
        "Restarts in a row, after crashes, before a server is given up; 0 never restarts one.",
        ge=0,
    )
    pass_env: tuple[Annotated[str, Field(pattern=r"^[^\s=\x00]+$")], ...] = _setting(
        (),
        "a list of names of environment variables",
        "Names of environment variables that every server receives besides the white list.",
    )

    roots: tuple[Annotated[str, Field(pattern=r"^(/|~|file://)")], ...] = _setting(
        (),
        "a list of absolute folders or file:// addresses",
        "Folders servers are told of as roots, where they do not ask on behalf of a client that has its own.",
    )

    @field_validator("port_range_end")
    @classmethod
    def _in_order(cls, end: int, info: ValidationInfo) -> int:
        start = info.data.get("port_range_start")
        if start is not None and end < start:
            raise PydanticCustomError(
                "port_order",
                "must not be below process.port_range_start, which is {start}",
                {"start": start, "other": "process.port_range_start"},
            )
        return end


class InstallSettings(_Group):
    """How servers are installed."""

    timeout: float = _setting(
        900.0,
        "a number of seconds above 0",
        "Seconds the download and build of one server may take.",
        gt=0,
    )
    python: str = _setting(
        "",
        "a text: a path, or a version such as 3.12",
        "Interpreter for Python servers, a path or a version such as 3.12; empty is ToolScore's own.",
    )
    node: str = _setting(
        "", "a text: the path of node", "Path of the node program for Node servers; empty is the one found."
    )


class ToolsSettings(_Group):
    """How tools are listed."""

    page_size: int = _setting(
        50, "a whole number from 1 to 1000", "Tools on one page of a list.", ge=1, le=1000
    )
    expose: tuple[Annotated[str, Field(pattern=r"^\S+$")], ...] = _setting(
        ("own",),
        "a list of own, all or patterns such as time__*, or server:NAME and nothing else",
        "Which tools clients are shown: own (ToolScore's own), all (every server's, as server__tool, beside its "
        "own), server:NAME (one server's alone, under their own names), or patterns over server__tool such as "
        "time__*.",
        min_length=1,
    )

    @field_validator("expose")
    @classmethod
    def _one_server_alone(cls, expose: tuple[str, ...]) -> tuple[str, ...]:
        alone = [entry for entry in expose if entry.startswith("server:")]
        if alone and (len(expose) > 1 or not alone[0].removeprefix("server:")):
            raise PydanticCustomError("expose_alone", "server:NAME must stand alone")
        return expose


class NetworkSettings(_Group):
    """How clients come in over the network. Times in seconds."""

    listen: tuple[str, ...] = _setting(
        (),
        "a list of addresses such as ws://127.0.0.1:8765/mcp, http://127.0.0.1:8000/mcp or unix:/PATH",
        "Addresses to serve on, besides standard input and output and the home's own socket.",
    )
    max_message: int = _setting(
        64, "a whole number of MiB from 1 to 1024", "MiB one message may have.", ge=1, le=1024
    )
    max_connections: int = _setting(
        5000, "a whole number, 1 or more", "Clients one listener has at the same time, at the most.", ge=1
    )
    idle_timeout: float = _setting(
        0.0,
        "a number of seconds, 0 for no limit",
        "Seconds without a message in either direction, and with nothing in flight, after which a client is "
        "closed; 0 is never.",
        ge=0,
    )
    ping_interval: float = _setting(
        20.0, "a number of seconds, 0 for none", "Seconds between two keep-alive pings; 0 sends none.", ge=0
    )
    ping_timeout: float = _setting(
        20.0, "a number of seconds above 0", "Seconds within which a ping must be answered.", gt=0
    )
    slow_timeout: float = _setting(
        30.0,
        "a number of seconds above 0",
        "Seconds a client has that does not read what it is sent, before it is closed.",
        gt=0,
    )
    rights: tuple[Right, ...] = _setting(
        ("call",),
        "a list of call, manage or register",
        "What the generated token allows, and clients without a token under --no-token: call (tools), manage "
        "(install, remove, start and stop servers), register (dial in as a server).",
    )
    allowed_hosts: tuple[Annotated[str, Field(pattern=_HOST)], ...] = _setting(
        (),
        "a list of host names without a port, such as tools.example",
        "Further host names, as in the Host header without its port, under which listeners are reached.",
    )
    allowed_origins: tuple[Annotated[str, Field(pattern=_ORIGIN)], ...] = _setting(
        (),
        "a list of origins such as https://app.example",
        "Further origins browsers may come from.",
    )
    tls_cert: str = _setting(
        "", "a text: the path of a PEM file", "Certificate file (PEM) of wss:// and https:// listeners."
    )
    tls_key: str = _setting("", "a text: the path of a PEM file", "Key file (PEM) of that certificate.")

    @field_validator("listen")
    @classmethod
    def _addresses(cls, listen: tuple[str, ...]) -> tuple[str, ...]:
        from .endpoint import EndpointError, parse_endpoint

        for text in listen:
            try:
                parse_endpoint(text)
            except EndpointError as error:
                raise PydanticCustomError("endpoint", "{why}", {"why": str(error)}) from error
        return listen


class Settings(_Group):
    """Every setting of a ToolScore."""

    home: Path
    log: LogSettings = LogSettings()
    process: ProcessSettings = ProcessSettings()
    install: InstallSettings = InstallSettings()
    tools: ToolsSettings = ToolsSettings()
    network: NetworkSettings = NetworkSettings()


@dataclass(frozen=True, slots=True)
class Option:
    """One setting, apart from the home.

    Attributes:
        key: Its dotted name, such as `process.timeout`.
        kind: How a text is read into a value of it.
        default: Its default.
        expects: What a value must be, to follow the words "must be".
        description: What it does.
        environment: Environment variables it may come from, the strongest first.
    """

    key: str
    kind: Kind
    default: Any
    expects: str
    description: str
    environment: tuple[str, ...]

    @property
    def group(self) -> str:
        """The table it lies in."""
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        """Its name within the table."""
        return self.key.partition(".")[2]

    def read(self, text: str) -> Any:
        """Read a text of the environment or the command line; one that does not fit comes back as it is."""
        text = text.strip()
        if self.kind == "list":
            return [part.strip() for part in text.split(",") if part.strip()]
        if self.kind == "text":
            return text
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
        return text

    def written(self, value: Any) -> str:
        """Write a value the way the environment and the command line take it."""
        if isinstance(value, tuple):
            return ",".join(value)
        return f"{value:g}" if isinstance(value, float) else str(value)


_KINDS: dict[Any, Kind] = {int: "integer", float: "number", str: "text"}


@cache
def options() -> dict[str, Option]:
    """Give every setting by its dotted name, in the order of the models; the home is not among them."""
    found: dict[str, Option] = {}
    for group, holder in Settings.model_fields.items():
        model = holder.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        for name, field in model.model_fields.items():
            extra = field.json_schema_extra
            assert isinstance(extra, dict)
            also = extra["also"]
            assert isinstance(also, list)
            found[f"{group}.{name}"] = Option(
                key=f"{group}.{name}",
                kind="list" if isinstance(field.default, tuple) else _KINDS.get(field.annotation, "text"),
                default=field.default,
                expects=str(extra["expects"]),
                description=field.description or "",
                environment=(f"TOOLSCORE_{group}_{name}".upper(), *map(str, also)),
            )
    return found
