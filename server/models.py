"""Arguments and results of ToolScore's own tools; the schemas a model sees are made from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from ..runners.confinement import Confinement, as_profile
from ..runners.container import Container
from ..runners.placement import Placement, as_placement
from ..tools.shorten import LEAST
from ..tools.written_out import written_out

MOST_TOKENS = 1_000_000
"""The largest size a call may ask for its result."""


def _object_from_text(value: Any) -> Any:
    """Accept an object that arrives as JSON text, as some models send it."""
    if isinstance(value, str) and value.strip() == "null":
        return None
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    return written_out(value)


def _list_from_text(value: Any) -> Any:
    return [] if value is None else written_out(value)


def _confinement(value: Any) -> Any:
    """Accept a profile as it stands in the configuration file, also as text."""
    return as_profile(None if value is None else _object_from_text(value))


JsonObject = Annotated[dict[str, Any], BeforeValidator(_object_from_text)]
StringMap = Annotated[dict[str, str], BeforeValidator(_object_from_text)]
# Without a description: what is listed for every model is kept small, and a wrong one is answered with its fields.
Confine = Annotated[
    Confinement | None,
    BeforeValidator(_confinement),
    WithJsonSchema({"type": ["boolean", "object"]}),
]
Contained = Annotated[
    Container | None,
    BeforeValidator(lambda value: None if value is None else _object_from_text(value)),
    WithJsonSchema({"type": "object"}),
]
Cluster = Annotated[
    Placement | None,
    BeforeValidator(lambda value: as_placement(None if value is None else _object_from_text(value))),
    WithJsonSchema({"type": ["boolean", "object"]}),
]
Strings = Annotated[list[str], BeforeValidator(_list_from_text)]


FORCE = "Even if it is in use."


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
    form: Literal["full", "compact"] = Field("full", description="compact: the arguments in few words.")


class ExecuteToolArguments(Arguments):
    """Arguments of `execute_tool`."""

    tool: str = Field(description="Name as in list_tools: server__tool.")
    arguments: JsonObject = Field(default_factory=dict, description="The tool's own arguments.")
    timeout: float | None = Field(
        None,
        gt=0,
        le=86400,
        description="Seconds without answer or progress until it is cancelled.",
    )
    lease: str | None = Field(None, description="The lease it is made in, for a server used by lease.")
    max_tokens: int | None = Field(
        None, ge=LEAST, le=MOST_TOKENS, description="Cut a longer result; a handle gives the rest."
    )


class RegisterToolArguments(Arguments):
    """Arguments of `register_tool`."""

    name: str = Field(
        description="Name for the server; its tools become name__tool. Of a function: it becomes functions__NAME."
    )
    command: str | None = Field(None, description="Program to start; it speaks MCP on stdin and stdout.")
    args: Strings = Field(default_factory=list, description="Its arguments.")
    env: StringMap = Field(
        default_factory=dict, description="Its environment; ${NAME} is looked up at start."
    )
    url: str | None = Field(
        None,
        description="ws(s):// or http(s):// endpoint. With a command it is started first; "
        "${PORT} is a free port.",
    )
    headers: StringMap = Field(default_factory=dict, description="HTTP headers for url.")
    confine: Confine = None
    cluster: Cluster = None
    source: str | None = Field(
        None,
        description="Instead of a server: a Python function with types and docstring, run in the sandbox. The same "
        "name again makes a new version.",
    )
    packages: Strings = Field(default_factory=list, description="Packages source needs.")
    annotations: JsonObject = Field(default_factory=dict, description="MCP annotations of the function.")


class NameArguments(Arguments):
    """Arguments of `unregister_tool`."""

    name: str = Field(description="The server's name, or that of a registered function.")
    force: bool = Field(False, description=FORCE)


class UninstallArguments(NameArguments):
    """Arguments of `uninstall_server`."""

    volumes: bool = Field(False, description="Delete its volumes too, with all data.")


class InstallServerArguments(Arguments):
    """Arguments of `install_server`."""

    source: str = Field(
        description="pypi:NAME[@VERSION], npm:NAME[@VERSION], git+URL[@REF], a folder, a .mcpb file, or "
        "docker:IMAGE, 'command: PROGRAM ARGS'. #SCRIPT picks one of several entry points. registry:NAME is from "
        "search_servers."
    )
    name: str | None = Field(None, description="Name for the server; by default from the source.")
    args: Strings = Field(default_factory=list, description="Arguments for the server.")
    env: StringMap = Field(
        default_factory=dict, description="Its settings and secrets; ${NAME} is looked up at start."
    )
    settings: JsonObject = Field(
        default_factory=dict, description="Values a registry: entry asks for, by name."
    )
    confine: Confine = None
    container: Contained = None
    url: str | None = Field(None, description="Where a docker: image listens; ${PORT} is published.")
    cluster: Cluster = None


class ListServersArguments(Arguments):
    """Arguments of `list_servers`: none."""


class ManageServerArguments(Arguments):
    """Arguments of `manage_server`."""

    name: str = Field(description="The server's name, @GROUP, or * for all.")
    action: Literal["start", "stop", "restart", "enable", "disable"] = Field(
        description="A stopped server starts again at its next call; a disabled one does not."
    )
    force: bool = Field(False, description=FORCE)


class AcquireServerArguments(Arguments):
    """Arguments of `acquire_server`."""

    name: str | None = Field(None, description="The server's name.")
    ttl: float | None = Field(
        None, gt=0, le=86400, description="Seconds the lease lasts; the server's own time when left out."
    )
    wait: float = Field(0, ge=0, le=3600, description="Seconds to wait for an instance, where all are taken.")
    lease: str | None = Field(None, description="A lease to renew, instead of a name.")


class ReleaseServerArguments(Arguments):
    """Arguments of `release_server`."""

    lease: str = Field(description="The lease.")


class LeaseResult(BaseModel):
    """Result of `acquire_server` and `release_server`."""

    lease: str
    name: str
    instance: str
    ttl: float
    ends: str


class ServerStateArguments(Arguments):
    """Arguments of `server_state`."""

    name: str = Field(description="The server's name.")


class ConfigureServerArguments(Arguments):
    """Arguments of `configure_server`."""

    name: str = Field(description="The server's name.")
    settings: JsonObject = Field(
        description="What to set; null gives a setting back to what holds for all servers. Texts: start (boot or "
        "use), isolation (shared, per-client or per-lease), reset. Seconds: timeout, start_timeout, idle_timeout, "
        "lease_ttl. Numbers: restart_limit, max_parallel, max_queue, max_instances, spares, max_memory (MiB), "
        "max_cpu (processors), max_files, max_processes. Lists: depends_on (servers that must be ready first), "
        "groups."
    )


class ServerLogsArguments(Arguments):
    """Arguments of `server_logs`."""

    name: str = Field(
        description="The server's name, toolscore for its own log, @GROUP, or * for all in time order."
    )
    lines: int = Field(50, ge=1, le=5000, description="How many of the last lines.")
    level: Literal["debug", "info", "warning", "error"] | None = Field(
        None, description="Only lines of this level and above."
    )


class ReloadArguments(Arguments):
    """Arguments of `reload_configuration`."""

    check: bool = Field(False, description="Only tell what would change.")


class Result(BaseModel):
    """Base of the results. Fields are named as MCP names them on the wire."""


class ListedTool(Result):
    """One line of `list_tools`."""

    name: str
    description: str
    server: str
    quarantined: str | None = None


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
    inputSchema: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = None
    outputSchema: dict[str, Any] | None = None
    annotations: dict[str, Any] | None = None
    digest: str | None = None
    quarantined: str | None = None
    findings: list[str] | None = None


ADDED_TOOLS = 30
"""Tools that are named of a server that was added; it may have thousands."""


class AddedResult(Result):
    """Result of `install_server` and `register_tool`: the first of its tools, and how many there are."""

    name: str
    source: str
    kind: str
    package: str | None
    version: str | None
    tools: list[str]
    total: int
    seconds: float
    notes: list[str]


class RemovedResult(Result):
    """Result of `unregister_tool` and `uninstall_server`."""

    name: str
    removed: bool
    notes: list[str] = Field(default=[], exclude_if=lambda notes: not notes)


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
    groups: list[str]
    # Most have none, and models read this.
    quarantined: int = Field(0, exclude_if=lambda count: count == 0)
    # Most are not, and models read this.
    confined: str | None = Field(None, exclude_if=lambda confined: confined is None)
    # Which of several gateways runs it; most stand alone.
    gateway: str | None = Field(default=None, exclude_if=lambda gateway: gateway is None)


class ListedGateway(Result):
    """One of several ToolScores that share a store, and what it runs for all of them."""

    name: str
    here: bool
    state: str
    version: str
    url: str
    seconds: float
    servers: list[str]
    unable: dict[str, str] = Field({}, exclude_if=lambda unable: not unable)


class ListServersResult(Result):
    """Result of `list_servers`. What is being installed, or is declared and could not be, is among `missing`."""

    servers: list[ListedServer]
    missing: list[ManagedServer] = []
    gateways: list[ListedGateway] = Field(default=[], exclude_if=lambda gateways: not gateways)
    database: str | None = Field(default=None, exclude_if=lambda database: database is None)


class ManagedServer(Result):
    """One server of `manage_server`, or one that is still being installed, or could not be."""

    name: str
    state: str
    reason: str | None


class ManageServerResult(Result):
    """Result of `manage_server`. The state of several servers is `MIXED` where it is not one and the same."""

    name: str
    action: str
    state: str
    servers: list[ManagedServer]


class ConfigureServerResult(Result):
    """Result of `configure_server`."""

    name: str
    changed: list[str]
    settings: dict[str, Any]
    notes: list[str]


class ServerLogsResult(Result):
    """Result of `server_logs`. Where several are read, each line begins with `SERVER | `."""

    name: str
    servers: list[str]
    lines: list[str]


When = Literal["now", "next start"]


class ChangedServer(Result):
    """A server that the configuration file declares otherwise than before."""

    name: str
    what: list[str]


class RefusedServer(Result):
    """A server that the configuration file declares and that could not be as declared."""

    name: str
    reason: str


class ChangedSetting(Result):
    """A setting that has another value in the configuration file."""

    name: str
    before: str
    after: str
    effective: When


class ReloadResult(Result):
    """Result of `reload_configuration`."""

    file: str
    valid: bool
    done: bool
    added: list[str] = Field(default_factory=list)
    changed: list[ChangedServer] = Field(default_factory=list)
    removed: list[str] = Field(default_factory=list)
    refused: list[RefusedServer] = Field(default_factory=list)
    failed: list[RefusedServer] = Field(default_factory=list)
    settings: list[ChangedSetting] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    remarks: list[str] = Field(default_factory=list)
    policy_valid: bool = True

    def lines(self) -> list[str]:
        """Give it as lines for people: one for each thing."""
        lines = [f"problem: {problem}" for problem in self.problems]
        lines += [f"added: {name}" for name in self.added]
        lines += [f"changed: {server.name} ({', '.join(server.what)})" for server in self.changed]
        lines += [f"removed: {name}" for name in self.removed]
        lines += [f"refused: {server.name}: {server.reason}" for server in self.refused]
        lines += [f"not installed yet: {server.name}: {server.reason}" for server in self.failed]
        for setting in self.settings:
            later = "" if setting.effective == "now" else ": takes effect at the next start"
            before, after = setting.before or '""', setting.after or '""'
            lines.append(f"setting: {setting.name} = {after} (was {before}){later}")
        return lines + [f"remark: {remark}" for remark in self.remarks]
