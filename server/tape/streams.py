"""Events of listen streams and the notifications of the handshake era that say the same."""

from __future__ import annotations

from typing import Any

from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)


def as_notification(event: ServerEvent) -> tuple[str, dict[str, Any]]:
    """Give the method and the parameters in which a client of the handshake era is told of an event."""
    match event:
        case ToolsListChanged():
            return "notifications/tools/list_changed", {}
        case ResourcesListChanged():
            return "notifications/resources/list_changed", {}
        case PromptsListChanged():
            return "notifications/prompts/list_changed", {}
        case ResourceUpdated():
            return "notifications/resources/updated", {"uri": str(event.uri)}


def as_event(method: str, params: dict[str, Any]) -> ServerEvent | None:
    """Give the event of listen streams that a notification stands for; `None` if there is none."""
    match method:
        case "notifications/tools/list_changed":
            return ToolsListChanged()
        case "notifications/resources/list_changed":
            return ResourcesListChanged()
        case "notifications/prompts/list_changed":
            return PromptsListChanged()
        case "notifications/resources/updated" if isinstance(params.get("uri"), str):
            return ResourceUpdated(uri=params["uri"])
        case _:
            return None
