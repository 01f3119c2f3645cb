"""Errors say what a caller sent only in part: a name of a megabyte would fill the context of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.client.client import Client
from mcp.client.context import ClientRequestContext
from mcp.shared.exceptions import MCPError

from listening import serving
from toolscore.client import websocket
from toolscore.server.own_tools import OWN_TOOLS, OwnTool
from toolscore.tools.errors import NameTakenError, UnknownServerError, echoed
from toolscore_client import connected, text

LONG = "n" * 300_000
_PLAIN: dict[str, Any] = {
    "string": "x",
    "object": {},
    "array": [],
    "integer": 1,
    "number": 1,
    "boolean": False,
}


def properties(tool: OwnTool) -> dict[str, Any]:
    found: dict[str, Any] = tool.definition["inputSchema"].get("properties", {})
    return found


def takes_text(schema: dict[str, Any]) -> bool:
    kinds = [one.get("type") for one in (schema, *schema.get("anyOf", ()))]
    return "enum" not in schema and any(kind == "string" or "string" in (kind or ()) for kind in kinds)


def asked(tool: OwnTool, name: str) -> dict[str, Any]:
    """Arguments of which one is far too long, and the others are what is required beside it."""
    others = tool.definition["inputSchema"].get("required", ())
    return {
        **{one: _PLAIN.get(properties(tool)[one].get("type", "string"), "x") for one in others},
        name: LONG,
    }


def test_what_is_short_is_said_whole_and_the_rest_is_cut() -> None:
    assert echoed("time") == "time"
    assert echoed(LONG) == "n" * 200 + "… (300000 characters)"
    assert len(str(UnknownServerError(LONG))) < 400
    assert len(str(NameTakenError(LONG))) < 400


async def test_no_own_tool_says_back_the_whole_of_a_text_that_is_far_too_long(tmp_path: Path) -> None:
    said = {}
    async with connected(tmp_path / "home") as client:
        for tool in OWN_TOOLS:
            for name in (name for name, schema in properties(tool).items() if takes_text(schema)):
                result = await client.call_tool(f"toolscore__{tool.name}", asked(tool, name))
                said[f"{tool.name}({name}=)"] = len(text(result))
        for other, arguments in (
            ("list_tools", {"server": LONG}),
            ("execute_tool", {"tool": f"time__{LONG}", "arguments": {}}),
            ("configure_server", {"name": "x", "settings": {LONG: 1}}),
        ):
            said[f"{other} {list(arguments)}"] = len(text(await client.call_tool(other, arguments)))
    assert len(said) > 25
    # The words of the operating system for a program of such a name are as long as a refusal may be.
    assert 2_000 < said.pop("register_tool(command=)") < 8_100
    assert {place: length for place, length in said.items() if length > 2_000} == {}


async def test_no_request_for_a_name_that_is_far_too_long_is_answered_with_all_of_it(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        for request in (
            client.get_prompt(LONG),
            client.read_resource(f"file:///{LONG}"),
            client.call_tool(LONG, {}),
        ):
            try:
                said = text(await request)  # type: ignore[arg-type]
            except MCPError as exc:
                said = str(exc)
            assert LONG[:20] in said
            assert len(said) < 2_000


async def test_what_a_client_says_to_why_it_cannot_be_asked_is_cut(tmp_path: Path) -> None:
    async def broken(context: ClientRequestContext, params: Any) -> types.ErrorData:
        return types.ErrorData(code=-1, message=LONG)

    with serving(tmp_path / "home", options=()) as one:
        async with Client(
            websocket(one.url, token=one.token), mode="legacy", elicitation_callback=broken
        ) as client:
            result = await client.call_tool("uninstall_server", {"name": "x"})
    assert result.is_error
    assert "could not be asked: nnn" in text(result)
    assert len(text(result)) < 2_000
