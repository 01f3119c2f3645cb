"""The dashboard as an MCP App (SEP-1865, 2026-01-26): a resource that hosts show in a frame, and who wants it."""

from __future__ import annotations

from typing import Any

from ...tools.names import OWN_PREFIX

EXTENSION = "io.modelcontextprotocol/ui"
"""How clients say that they show such resources, among the extensions of their capabilities."""

URI = "ui://toolscore/dashboard"
MIME_TYPE = "text/html;profile=mcp-app"

TOOL = "open_dashboard"
"""The own tool that hosts show the resource for."""

# Nothing is fetched from anywhere: what it shows comes through the host.
_UI: dict[str, Any] = {"csp": {"connectDomains": [], "resourceDomains": []}, "prefersBorder": False}

RESOURCE: dict[str, Any] = {
    "uri": URI,
    "name": "dashboard",
    "title": "ToolScore's dashboard",
    "description": "Servers, tools, calls and logs at a glance, as an MCP App.",
    "mimeType": MIME_TYPE,
    "_meta": {"ui": _UI},
}
"""The resource (MCP `Resource`)."""


def shows_apps(capabilities: dict[str, Any]) -> bool:
    """Tell whether a client with these capabilities shows MCP Apps of this kind."""
    extensions = capabilities.get("extensions")
    settings = extensions.get(EXTENSION) if isinstance(extensions, dict) else None
    kinds = settings.get("mimeTypes") if isinstance(settings, dict) else None
    return isinstance(kinds, list) and MIME_TYPE in kinds


def with_app(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the list of tools that a client which shows MCP Apps sees: the one that opens the dashboard is in it."""
    from ..own_dashboard import DASHBOARD

    if not any(tool.get("name") == "execute_tool" for tool in tools):
        return tools  # of its own tools, ToolScore shows none
    return [*tools, DASHBOARD.shown]


def full_name() -> str:
    """Give the name by which a policy may hide the tool."""
    return f"{OWN_PREFIX}{TOOL}"


def read_app() -> dict[str, Any]:
    """Give the result of reading the resource (MCP `ReadResourceResult`)."""
    from .page import built

    page = built("app", token=False)
    contents = {"uri": URI, "mimeType": MIME_TYPE, "text": page.text.decode(), "_meta": {"ui": _UI}}
    return {"contents": [contents]}
