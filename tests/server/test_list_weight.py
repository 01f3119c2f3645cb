"""What ToolScore costs a model before it has done anything: the same, whatever is installed."""

from __future__ import annotations

import json
from pathlib import Path

from toolscore.server.own_tools import OWN_TOOLS
from toolscore_client import call, connected, execute, register_faulty

TOKENS = 3000
"""The house's limit for `tools/list`, in bytes of compact JSON / 4."""


async def test_the_list_is_small_with_five_hundred_tools_installed(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        for name in ("one", "two"):
            await register_faulty(client, name, "many-tools=250")
        assert (await call(client, "list_tools"))["total"] > 500
        tools = (await client.list_tools()).tools
        listed = [tool.model_dump(by_alias=True, exclude_none=True) for tool in tools]
        assert len(json.dumps(listed, separators=(",", ":"))) / 4 < TOKENS
        assert len(tools) <= 10
        # What is not listed can be called all the same, in both ways, and found.
        assert (await call(client, "server_logs", name="one", lines=1))["servers"] == ["one"]
        result = await execute(client, "toolscore__server_logs", name="one", lines=1)
        assert result.structured_content is not None
        found = await call(client, "search_tools", query="server_logs")
        assert found["tools"][0]["name"] == "toolscore__server_logs"


async def test_every_listed_result_fits_the_outline_of_its_schema(tmp_path: Path) -> None:
    for tool in OWN_TOOLS:
        full, shown = tool.definition.get("outputSchema"), tool.shown.get("outputSchema")
        assert (full is None) == (shown is None)
        if full is not None and shown is not None:
            assert shown["properties"].keys() == full.get("properties", {}).keys()
    # The SDK's client looks at every structured result with the schema it was shown.
    async with connected(tmp_path / "home") as client:
        await client.list_tools()
        await register_faulty(client, "faulty")
        for name in ("list_tools", "list_servers"):
            assert await call(client, name)
        assert await call(client, "describe_tool", tool="faulty__add")
        assert await call(client, "search_tools", query="add")
        described = await call(client, "describe_tool", tool="toolscore__list_servers")
        assert "$defs" in described["outputSchema"]
