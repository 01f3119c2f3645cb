"""The own tool that opens the dashboard, as clients see it that show MCP Apps."""

from __future__ import annotations

from . import models_dashboard as m
from .dashboard.app import TOOL, URI
from .own_tool import READS, OwnTool

DASHBOARD = OwnTool(
    TOOL,
    "Open the dashboard",
    "Show the person the dashboard: servers, tools, calls and logs. Gives how many there are and which failed.",
    m.OpenDashboardArguments,
    m.OpenDashboardResult,
    READS,
    listed=False,
    meta={"ui": {"resourceUri": URI}},
)

TOOLS: tuple[OwnTool, ...] = (DASHBOARD,)
