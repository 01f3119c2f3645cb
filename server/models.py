"""Arguments and results of ToolScore's own tools; the schemas a model sees are made from these."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _object_from_text(value: Any) -> Any:
    """Accept an object that arrives as JSON text, as some models send it."""
    if isinstance(value, str):
        try:
            return json.loads(value) if value.strip() else {}
        except ValueError:
            return value
    return {} if value is None else value


def _list_from_text(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return [] if value is None else value


JsonObject = Annotated[dict[str, Any], BeforeValidator(_object_from_text)]
StringMap = Annotated[dict[str, str], BeforeValidator(_object_from_text)]
Strings = Annotated[list[str], BeforeValidator(_list_from_text)]


class Arguments(BaseModel):
    """Base of the arguments: an unknown one is an error that names it, not a silent loss."""

    model_config = ConfigDict(extra="forbid")


class ListToolsArguments(Arguments):
    """Arguments of `list_tools`."""

    server: str | None = Field(None, description="Only this server's tools.")
    cursor: str | None = Field(None, description="nextCursor of the page before.")


class DescribeToolArguments(Arguments):
    """Arguments of `describe_tool`."""

    tool: str = Field(description="Name as in list_tools: server__tool.")


class ExecuteToolArguments(Arguments):
    """Arguments of `execute_tool`."""

    tool: str = Field(description="Name as in list_tools: server__tool.")
    arguments: JsonObject = Field(default_factory=dict, description="The tool's own arguments.")
    timeout: float | None = Field(
        None,
        gt=0,
        le=86400,
        description="Seconds without an answer or progress until the call is cancelled.",
    )


class RegisterToolArguments(Arguments):
    """Arguments of `register_tool`."""

    name: str = Field(description="Name for the server; its tools become name__tool.")
    command: str | None = Field(None, description="Program to start; it speaks MCP on stdin and stdout.")
    args: Strings = Field(default_factory=list, description="Its arguments.")
    env: StringMap = Field(
        default_factory=dict, description="Its environment; ${NAME} is looked up at start."
    )
    url: str | None = Field(
        None,
        description="ws://, wss://, http:// or https:// endpoint. With a command it is started first; "
        "${PORT} is a free port.",
    )
    headers: StringMap = Field(default_factory=dict, description="HTTP headers for url.")


class NameArguments(Arguments):
    """Arguments of `unregister_tool` and `uninstall_server`."""

    name: str = Field(description="The server's name.")


class InstallServerArguments(Arguments):
    """Arguments of `install_server`."""

    source: str = Field(
        description="pypi:NAME[@VERSION], npm:NAME[@VERSION], git+URL[@REF], a folder, a .mcpb file, or "
        "'command: PROGRAM ARGS'. #SCRIPT picks one of several entry points."
    )
    name: str | None = Field(None, description="Name for the server; by default from the source.")
    args: Strings = Field(default_factory=list, description="Arguments for the server.")
    env: StringMap = Field(
        default_factory=dict, description="Its settings and secrets; ${NAME} is looked up at start."
    )


class ListServersArguments(Arguments):
    """Arguments of `list_servers`: none."""


class ManageServerArguments(Arguments):
    """Arguments of `manage_server`."""

    name: str = Field(description="The server's name.")
    action: Literal["start", "stop", "restart", "enable", "disable"] = Field(
        description="A stopped server starts again at its next call; a disabled one does not."
    )


class ServerLogsArguments(Arguments):
    """Arguments of `server_logs`."""

    name: str = Field(description="The server's name.")
    lines: int = Field(50, ge=1, le=5000, description="How many of the last lines.")


class Result(BaseModel):
    """Base of the results. Fields are named as MCP names them on the wire."""


class ListedTool(Result):
    """One line of `list_tools`."""

    name: str
    description: str
    server: str


class ListToolsResult(Result):
    """Result of `list_tools`."""

    tools: list[ListedTool]
    total: int
    nextCursor: str | None = None


class DescribeToolResult(Result):
    """Result of `describe_tool`."""

    name: str
    server: str
    title: str | None = None
    description: str
    inputSchema: dict[str, Any]
    outputSchema: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None
    digest: str


class AddedResult(Result):
    """Result of `install_server` and `register_tool`."""

    name: str
    source: str
    kind: str
    package: str | None
    version: str | None
    tools: list[str]
    seconds: float
    notes: list[str]


class RemovedResult(Result):
    """Result of `unregister_tool` and `uninstall_server`."""

    name: str
    removed: bool


class ListedServer(Result):
    """One server of `list_servers`."""

    name: str
    state: str
    enabled: bool
    origin: str
    kind: str
    source: str
    version: str | None
    tools: int
    pid: int | None
    restarts: int
    reason: str | None


class ListServersResult(Result):
    """Result of `list_servers`."""

    servers: list[ListedServer]


class ManageServerResult(Result):
    """Result of `manage_server`."""

    name: str
    action: str
    state: str


class ServerLogsResult(Result):
    """Result of `server_logs`."""

    name: str
    lines: list[str]
