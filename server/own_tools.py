"""All of ToolScore's own MCP tools."""

from __future__ import annotations

from ..tools.names import OWN_SERVER
from ..tools.state import ServerState
from . import models as m
from . import (
    own_approvals,
    own_catalog,
    own_dashboard,
    own_functions,
    own_gap,
    own_journal,
    own_pins,
    own_policy,
    own_scores,
    own_search,
)
from .own_tool import READS, OwnTool

__all__ = ["OWN_SERVER", "OWN_TOOLS", "OwnTool"]

_SERVERS: tuple[OwnTool, ...] = (
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
        "Call a tool of an installed server and return its result, unchanged unless that is longer than a limit. "
        "A server that is not running is started first.",
        m.ExecuteToolArguments,
        None,
        {"destructiveHint": True, "openWorldHint": True},
    ),
    OwnTool(
        "register_tool",
        "Register a server or a function",
        "Add an MCP server that is already there, by its command line or its endpoint, or a Python function by its "
        "source, and make it callable at once. To fetch a server from a package index use install_server.",
        m.RegisterToolArguments,
        m.AddedResult,
        {"destructiveHint": False, "openWorldHint": True},
    ),
    OwnTool(
        "unregister_tool",
        "Unregister a server",
        "Remove a registered server and its tools, or a registered function. Nothing is deleted outside ToolScore.",
        m.NameArguments,
        m.RemovedResult,
        {"destructiveHint": True, "openWorldHint": False},
        listed=False,
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
        "Remove an installed server: stop it, and delete it with its environment, secrets and logs.",
        m.UninstallArguments,
        m.RemovedResult,
        {"destructiveHint": True, "openWorldHint": False},
        listed=False,
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
        listed=False,
    ),
    OwnTool(
        "server_logs",
        "Read a server's log",
        "Read the last lines a server wrote on standard error, with time and level: why it fails.",
        m.ServerLogsArguments,
        m.ServerLogsResult,
        READS,
        listed=False,
    ),
    OwnTool(
        "reload_configuration",
        "Reload the configuration",
        "Take over what changed in the configuration file, and nothing else, and tell what that was. An invalid "
        "one changes nothing.",
        m.ReloadArguments,
        m.ReloadResult,
        {"destructiveHint": True, "idempotentHint": True, "openWorldHint": False},
        listed=False,
    ),
    OwnTool(
        "server_state",
        "State of a server",
        "Tell what a server is doing and since when, how often it came up anew, why it failed or does not start and "
        "what to do next, what it uses, whom it needs and who needs it, and how it is kept.",
        m.ServerStateArguments,
        ServerState,
        READS,
        listed=False,
    ),
    OwnTool(
        "configure_server",
        "Configure a server",
        "Change how one server is kept, also while it runs: its limits and timeouts, whether clients share it, which "
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

OWN_TOOLS: tuple[OwnTool, ...] = (
    *_SERVERS,
    *own_functions.TOOLS,
    *own_search.TOOLS,
    *own_catalog.TOOLS,
    *own_gap.TOOLS,
    *own_scores.TOOLS,
    *own_policy.TOOLS,
    *own_approvals.TOOLS,
    *own_journal.TOOLS,
    *own_pins.TOOLS,
    *own_dashboard.TOOLS,
)
"""In the order clients are shown them; at most ten are listed (decisions of the house)."""
