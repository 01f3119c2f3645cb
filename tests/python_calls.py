"""Running code through a ToolScore, as its clients do."""

from __future__ import annotations

from typing import Any

from mcp.client.client import Client
from mcp_types import CallToolResult

from toolscore_client import execute, text


async def python(client: Client, code: str, **arguments: Any) -> CallToolResult:
    return await execute(client, "python-executor__python_execute", code=code, **arguments)


async def value(client: Client, code: str, **arguments: Any) -> Any:
    result = await python(client, code, **arguments)
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    return result.structured_content["value"]
