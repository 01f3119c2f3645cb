"""ToolScore's own MCP tools as clients see them: names, descriptions, schemas and annotations."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel

from ..tools.state import ServerState
from . import models as m

OWN_SERVER = "toolscore"
"""Server name under which these tools can be found and called through `execute_tool`."""


@dataclass(frozen=True)
class OwnTool:
    """One of ToolScore's own tools.

    Attributes:
        name: Its name.
        title: Its name for people.
        description: What it does, for a model.
        arguments: Model of its arguments.
        result: Model of its structured result; `None` where it passes a server's result through, because
            clients reject a result that does not fit a declared schema.
        hints: Its annotations (MCP `ToolAnnotations`).
        listed: Whether clients are shown it by default; any other is found and called like a server's tool.
    """

    name: str
    title: str
    description: str
    arguments: type[m.Arguments]
    result: type[BaseModel] | None
    hints: dict[str, bool] = field(default_factory=dict)
    listed: bool = True

    @cached_property
    def definition(self) -> dict[str, Any]:
        """The tool object a client sees (MCP `Tool`)."""
        definition: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": _schema(self.arguments, "validation"),
            "annotations": self.hints,
        }
        if self.result is not None:
            definition["outputSchema"] = _schema(self.result, "serialization")
        return definition


def _schema(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    """Make a compact JSON Schema: no titles, no class docstrings, no nulls a caller need not know of."""
    schema: dict[str, Any] = _pruned(model.model_json_schema(mode=mode))
    return schema


def _pruned(node: Any, *, names: bool = False) -> Any:
    if isinstance(node, list):
        return [_pruned(item) for item in node]
    if not isinstance(node, dict):
        return node
    pruned = {}
    for key, value in node.items():
        if not names and (key == "title" or (key == "description" and "properties" in node)):
            continue
        if not names and key == "default" and (value is False or value in (None, [], {})):
            continue
        if not names and key == "additionalProperties" and value is True:
            continue  # as it is without
        pruned[key] = _pruned(value, names=key in ("properties", "$defs"))
    if not names and "anyOf" in pruned:
        options = [option for option in pruned["anyOf"] if option != {"type": "null"}]
        if len(options) == 1 and len(options) < len(pruned["anyOf"]) and "type" in options[0]:
            # Optional and nullable: clients read a list of types more easily than an anyOf.
            del pruned["anyOf"]
            option = dict(options[0])
            option["type"] = [option["type"], "null"]
            pruned = {**option, **pruned}
    return pruned


READS = {"readOnlyHint": True, "openWorldHint": False}

OWN_TOOLS: tuple[OwnTool, ...] = (
    OwnTool(
        "list_tools",
        "List tools",
        "List the tools of all installed servers, one line each. Then describe_tool shows how to call one, "
        "and execute_tool calls it.",
        m.ListToolsArguments,
        m.ListToolsResult,
        READS,
    ),
    OwnTool(
        "describe_tool",
        "Describe a tool",
        "Show a tool's whole description and the schema of its arguments. Read it before the first call.",
        m.DescribeToolArguments,
        m.DescribeToolResult,
        READS,
    ),
    OwnTool(
        "execute_tool",
        "Execute a tool",
        "Call a tool of an installed server and return its result unchanged. A server that is not running "
        "is started first.",
        m.ExecuteToolArguments,
        None,
        {"destructiveHint": True, "openWorldHint": True},
    ),
    OwnTool(
        "register_tool",
        "Register a server",
        "Add an MCP server that is already there, by its command line or its endpoint, and make its tools "
        "callable at once. To fetch one from a package index use install_server.",
        m.RegisterToolArguments,
        m.AddedResult,
        {"destructiveHint": False, "openWorldHint": True},
    ),
    OwnTool(
        "unregister_tool",
        "Unregister a server",
        "Remove a registered server and its tools. Nothing is deleted outside ToolScore.",
        m.NameArguments,
        m.RemovedResult,
        {"destructiveHint": True, "openWorldHint": False},
    ),
    OwnTool(
        "install_server",
        "Install a server",
        "Fetch an MCP server into an environment of its own, start it and make its tools callable at once. "
        "Takes seconds to minutes and reports progress.",
        m.InstallServerArguments,
        m.AddedResult,
        {"destructiveHint": False, "openWorldHint": True},
    ),
    OwnTool(
        "uninstall_server",
        "Uninstall a server",
        "Stop an installed server and delete it with its environment, secrets and logs.",
        m.NameArguments,
        m.RemovedResult,
        {"destructiveHint": True, "openWorldHint": False},
    ),
    OwnTool(
        "list_servers",
        "List servers",
        "List the servers: state, version, number of tools, and the reason where one is not ready.",
        m.ListServersArguments,
        m.ListServersResult,
        READS,
    ),
    OwnTool(
        "manage_server",
        "Manage a server",
        "Start, stop, restart, enable or disable a server or a group, each in the order of its needs.",
        m.ManageServerArguments,
        m.ManageServerResult,
        {"destructiveHint": False, "idempotentHint": True, "openWorldHint": False},
    ),
    OwnTool(
        "server_logs",
        "Read a server's log",
        "Read the last lines a server wrote on standard error, with time and level: why it fails.",
        m.ServerLogsArguments,
        m.ServerLogsResult,
        READS,
    ),
    OwnTool(
        "reload_configuration",
        "Reload the configuration",
        "Read the configuration file again, touch only what changed in it, and tell what that was. An invalid file "
        "changes nothing.",
        m.ReloadArguments,
        m.ReloadResult,
        {"destructiveHint": True, "idempotentHint": True, "openWorldHint": False},
        listed=False,
    ),
    OwnTool(
        "server_state",
        "State of a server",
        "Tell what a server is doing and since when, how often it restarted, why it failed and what to do next, what "
        "it uses, whom it needs and who needs it, and how it is kept.",
        m.ServerStateArguments,
        ServerState,
        READS,
        listed=False,
    ),
    OwnTool(
        "configure_server",
        "Configure a server",
        "Change how one server is kept, without a restart: its limits and times, whether clients share it, which "
        "servers it needs, and its groups.",
        m.ConfigureServerArguments,
        m.ConfigureServerResult,
        {"destructiveHint": False, "idempotentHint": True, "openWorldHint": False},
        listed=False,
    ),
    OwnTool(
        "acquire_server",
        "Acquire a server",
        "Take an instance of a server for yourself (an episode), with a time to live, or renew that time. Name the "
        "lease in execute_tool, or as toolscore/lease in the _meta of a call.",
        m.AcquireServerArguments,
        m.LeaseResult,
        {"destructiveHint": False, "openWorldHint": False},
        listed=False,
    ),
    OwnTool(
        "release_server",
        "Release a server",
        "Give an acquired instance back; the next one to acquire it finds it as new.",
        m.ReleaseServerArguments,
        m.LeaseResult,
        {"destructiveHint": False, "openWorldHint": False},
        listed=False,
    ),
)
