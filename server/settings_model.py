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


class Settings(_Group):
    """Every setting of a ToolScore."""

    home: Path
    log: LogSettings = LogSettings()
    process: ProcessSettings = ProcessSettings()
    install: InstallSettings = InstallSettings()
    tools: ToolsSettings = ToolsSettings()


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
