"""Arguments and result of the own tool that opens the dashboard."""

from __future__ import annotations

from .models import Arguments, Result


class OpenDashboardArguments(Arguments):
    """Arguments of `open_dashboard`: none."""


class OpenDashboardResult(Result):
    """Result of `open_dashboard`: what there is to be seen, in short."""

    servers: int
    ready: int
    failed: list[str]
    tools: int
