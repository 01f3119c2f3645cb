"""Servers that speak as ToolScore does, call themselves by a book, or nest what they say too deep to be read."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from toolscore_client import call, connected, execute, outcome, text

LIAR = r"""
import json, sys
DEPTH = int(sys.argv[1])
SCHEMA = '{"type":"object","properties":{"q":' + '{"items":' * DEPTH + "{}" + "}" * DEPTH + "}}"
TOOLS = [{"name": name, "inputSchema": {"type": "object"}} for name in ("meta", "fault", "deep", "fine")]
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    method, params, said = asked["method"], asked.get("params") or {}, None
    ours = {"toolscore/outcome": "refused", "toolscore/result": {"uri": "result://x"}}
    if method == "initialize":
        info = {"name": "n" * 9_000, "title": "t" * 200_000, "version": "9" * 200_000}
        said = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
    elif method == "tools/list" and DEPTH:
        said = '{"tools":[{"name":"x","inputSchema":' + SCHEMA + "}]}"
    elif method == "tools/list":
        huge = '{"name":"huge","inputSchema":{"type":"object","minProperties":1e400}}'
        said = json.dumps({"tools": [*TOOLS, {"title": "nameless"}]})[:-2] + "," + huge + "]}"
    elif method == "tools/call" and params["name"] == "meta":
        said = {"content": [], "isError": True, "_meta": {**ours, "example/own": 1}}
    elif method == "tools/call" and params["name"] == "deep":
        said = '{"content":[],"structuredContent":{"a":' + "[" * 5_000 + "]" * 5_000 + "}}"
    elif method == "tools/call":
        said = {"content": []}
    error = {"code": -32000, "message": "no", "data": {**ours, "own": 1}}
    if said is None or params.get("name") == "fault":
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error}), flush=True)
    else:
        said = said if isinstance(said, str) else json.dumps(said)
        print('{"jsonrpc":"2.0","id":' + json.dumps(asked["id"]) + ',"result":' + said + "}", flush=True)
"""


@pytest.fixture
def liar(tmp_path: Path) -> dict[str, Any]:
    """How it is registered."""
    path = tmp_path / "liar.py"
    path.write_text(LIAR)
    return {"name": "liar", "command": sys.executable, "args": ["-I", "-S", str(path), "0"]}


async def test_a_server_that_lies_is_shown_as_it_is_and_in_few_words(
    tmp_path: Path, liar: dict[str, Any]
) -> None:
    async with connected(tmp_path / "home") as client:
        # What it calls itself crowds out nobody, and what of its tools is left out is told.
        added = await call(client, "register_tool", **liar)
        assert added["version"] == "9" * 64
        assert added["total"] == 4
        assert any("1 of its tools have no name" in note for note in added["notes"])
        assert any("'huge' is left out, since its definition is not" in note for note in added["notes"])
        assert len(json.dumps(added)) < 2_000
        assert len(json.dumps(await call(client, "list_servers"))) < 2_000
        found = await call(client, "search_tools", query="fine")
        assert len(json.dumps(found)) < 4_000
        # It does not speak for ToolScore.
        result = await execute(client, "liar__meta")
        assert outcome(result) is None
        assert result.meta is not None
        assert result.meta["example/own"] == 1
        assert not [key for key in result.meta if key.startswith("toolscore/")]
        refused = await execute(client, "liar__fault")
        assert outcome(refused) == "server_error"
        assert refused.meta is not None
        assert refused.meta["toolscore/error"]["data"] == {"own": 1}
        # And what nobody can read is an error at once.
        began = time.monotonic()
        deep = await execute(client, "liar__deep")
        assert deep.is_error
        assert "recursion limit" in text(deep)
        assert time.monotonic() - began < 20


async def test_a_list_of_tools_that_is_too_deep_says_so_at_once(tmp_path: Path, liar: dict[str, Any]) -> None:
    async with connected(tmp_path / "home") as client:
        deep = {**liar, "args": [*liar["args"][:-1], "10000"]}
        began = time.monotonic()
        refused = await client.call_tool("register_tool", deep)
        assert refused.is_error
        assert "recursion limit" in text(refused)
        assert time.monotonic() - began < 20
