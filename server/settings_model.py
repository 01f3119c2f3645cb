"""What can be set: frozen models, and the same as a flat list of options for loader, template and help."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from ..tools.database import masked
from ..tools.shorten import LEAST
from .settings_base import Group, setting
from .settings_catalog import CatalogSettings
from .settings_database import DatabaseSettings
from .settings_docker import DockerSettings
from .settings_gateway import GatewaySettings
from .settings_journal import JournalSettings
from .settings_memory import MemorySettings
from .settings_policy import PolicySettings
from .settings_process import ProcessSettings
from .settings_ray import RaySettings
from .settings_sandbox import SandboxSettings
from .settings_trust import TrustSettings

LogLevel = Literal["debug", "info", "warning", "error"]
Kind = Literal["integer", "number", "text", "list", "boolean"]
Right = Literal["call", "manage", "register"]

_HOST = r"^(\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|[A-Za-z0-9._-]+)$"
_ORIGIN = r"^[A-Za-z][A-Za-z0-9+.-]*://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?$"


class LogSettings(Group):
    """What is logged."""

    level: Annotated[LogLevel, BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v)] = setting(
        "info", "debug, info, warning or error", "The least important messages that are logged."
    )
    max_size: int = setting(
        4,
        "a whole number of MiB from 1 to 1024",
        "MiB of one file of a log, ToolScore's own or a server's; a full one becomes NAME.log.1, and so on.",
        ge=1,
        le=1024,
    )
    files: int = setting(
        2, "a whole number from 1 to 100", "Files of each log, the newest included.", ge=1, le=100
    )


class InstallSettings(Group):
    """How servers are installed."""

    timeout: float = setting(
        900.0,
        "a number of seconds above 0",
        "Seconds the download and build of one server may take.",
        gt=0,
    )
    python: str = setting(
        "",
        "a text: a path, or a version such as 3.12",
        "Interpreter for Python servers, a path or a version such as 3.12; empty is ToolScore's own.",
    )
    node: str = setting(
        "", "a text: the path of node", "Path of the node program for Node servers; empty is the one found."
    )


class ToolsSettings(Group):
    """How tools are listed."""

    page_size: int = setting(
        50, "a whole number from 1 to 1000", "Tools on one page of a list.", ge=1, le=1000
    )
    semantic: Literal["auto", "off"] = setting(
        "auto",
        "auto or off",
        "Whether tools are searched by meaning too: auto is where toolscore[semantic] is installed.",
    )
    expose: tuple[Annotated[str, Field(pattern=r"^\S+$")], ...] = setting(
        ("own",),
        "a list of own, all or patterns such as time__*, or server:NAME and nothing else",
        "Which tools clients are shown: own (ToolScore's own), all (every server's, as server__tool, beside its "
        "own), server:NAME (one server's alone, under their own names), or patterns over server__tool such as "
        "time__*.",
        min_length=1,
    )

    result_limit: int = setting(
        0,
        "a whole number of tokens: 0 for no limit, or 200 and more",
        "Tokens (4 bytes of JSON each) a tool's result may have; of a longer one models get the beginning, and a "
        "handle to the rest. 0 is no limit.",
        ge=0,
        le=10_000_000,
    )

    @field_validator("result_limit")
    @classmethod
    def _room_for_a_note(cls, limit: int) -> int:
        if 0 < limit < LEAST:
            raise PydanticCustomError("result_limit", "must be 0 or at least 200")
        return limit

    @field_validator("expose")
    @classmethod
    def _one_server_alone(cls, expose: tuple[str, ...]) -> tuple[str, ...]:
        alone = [entry for entry in expose if entry.startswith("server:")]
        if alone and (len(expose) > 1 or not alone[0].removeprefix("server:")):
            raise PydanticCustomError("expose_alone", "server:NAME must stand alone")
        return expose


class NetworkSettings(Group):
    """How clients come in over the network. Times in seconds."""

    listen: tuple[str, ...] = setting(
        (),
        "a list of addresses such as ws://127.0.0.1:8765/mcp, http://127.0.0.1:8000/mcp or unix:/PATH",
        "Addresses to serve on, besides standard input and output and the home's own socket.",
    )
    max_message: int = setting(
        64, "a whole number of MiB from 1 to 1024", "MiB one message may have.", ge=1, le=1024
    )
    max_connections: int = setting(
        5000, "a whole number, 1 or more", "Clients one listener has at the same time, at the most.", ge=1
    )
    idle_timeout: float = setting(
        0.0,
        "a number of seconds, 0 for no limit",
        "Seconds without a message in either direction, and with nothing in flight, after which a client is "
        "closed; 0 is never.",
        ge=0,
    )
    ping_interval: float = setting(
        20.0, "a number of seconds, 0 for none", "Seconds between two keep-alive pings; 0 sends none.", ge=0
    )
    ping_timeout: float = setting(
        20.0, "a number of seconds above 0", "Seconds within which a ping must be answered.", gt=0
    )
    slow_timeout: float = setting(
        30.0,
        "a number of seconds above 0",
        "Seconds a client has that does not read what it is sent, before it is closed.",
        gt=0,
    )
    rights: tuple[Right, ...] = setting(
        ("call",),
        "a list of call, manage or register",
        "What the generated token allows, and clients without a token under --no-token: call (tools), manage "
        "(install, remove, start and stop servers), register (dial in as a server).",
    )
    allowed_hosts: tuple[Annotated[str, Field(pattern=_HOST)], ...] = setting(
        (),
        "a list of host names without a port, such as tools.example",
        "Further host names, as in the Host header without its port, under which listeners are reached.",
    )
    allowed_origins: tuple[Annotated[str, Field(pattern=_ORIGIN)], ...] = setting(
        (),
        "a list of origins such as https://app.example",
        "Further origins browsers may come from.",
    )
    tls_cert: str = setting(
        "", "a text: the path of a PEM file", "Certificate file (PEM) of wss:// and https:// listeners."
    )
    tls_key: str = setting("", "a text: the path of a PEM file", "Key file (PEM) of that certificate.")

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


class SharedSettings(Group):
    """The ToolScore that several clients share. Times in seconds."""

    linger: float = setting(
        60.0,
        "a number of seconds, 0 or more",
        "Seconds a ToolScore that was started for its clients stays after the last of them is gone.",
        ge=0,
    )
    drain: float = setting(
        5.0,
        "a number of seconds from 0 to 3600",
        "Seconds that calls in flight have to finish when ToolScore is stopped; one that a client started for "
        "itself alone does not wait.",
        ge=0,
        le=3600,
    )


class Settings(Group):
    """Every setting of a ToolScore."""

    home: Path
    log: LogSettings = LogSettings()
    process: ProcessSettings = ProcessSettings()
    install: InstallSettings = InstallSettings()
    tools: ToolsSettings = ToolsSettings()
    network: NetworkSettings = NetworkSettings()
    shared: SharedSettings = SharedSettings()
    sandbox: SandboxSettings = SandboxSettings()
    ray: RaySettings = RaySettings()
    catalog: CatalogSettings = CatalogSettings()
    docker: DockerSettings = DockerSettings()
    policy: PolicySettings = PolicySettings()
    trust: TrustSettings = TrustSettings()
    journal: JournalSettings = JournalSettings()
    memory: MemorySettings = MemorySettings()
    database: DatabaseSettings = DatabaseSettings()
    gateway: GatewaySettings = GatewaySettings()


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
            if _LIST.fullmatch(text) and not _HOSTS.fullmatch(text):
                return _json_list(text)
            return [part.strip() for part in text.split(",") if part.strip()]
        if self.kind == "text":
            return text
        if self.kind == "boolean":
            return _BOOLEANS.get(text.lower(), text)
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
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) else str(value)

    def shown(self, value: Any) -> Any:
        """Give a value as it may be shown: without the password it may hold."""
        return masked(value) if self.key == "database.url" and isinstance(value, str) else value


_KINDS: dict[Any, Kind] = {bool: "boolean", int: "integer", float: "number", str: "text"}
_LIST = re.compile(r"""\[(.*\]|\s*["'].*)""", re.DOTALL)
_HOSTS = re.compile(r"\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\](?:\s*,.*)?", re.DOTALL)
"""What begins with an address such as `[::1]`, which is no list."""
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def _json_list(text: str) -> Any:
    """Read a list as files have it, `["a", "b"]`; a text that is none comes back as it is, and is refused."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


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
