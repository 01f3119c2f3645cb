"""Long results as clients see them: cut where that was asked for, and read on in by handle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ResourceLink, TextContent, TextResourceContents

from toolscore_client import Mode, call, connected, execute, outcome, register_faulty, text

both_eras = pytest.mark.parametrize("mode", ["legacy", "auto"])
LONG = "".join(f"{n}: a line of it\n" for n in range(2_000))


async def echo(client: Client, said: str, **more: Any) -> CallToolResult:
    return await client.call_tool(
        "execute_tool", {"tool": "faulty__echo", "arguments": {"as": "text", "text": said}, **more}
    )


def handle(result: CallToolResult) -> str:
    # What the faulty server gives as structure is no twin of its text, so that it has a handle of its own behind.
    link = next(item for item in result.content if isinstance(item, ResourceLink))
    return str(link.uri)


def weight(result: CallToolResult) -> float:
    wire = result.model_dump(by_alias=True, exclude_none=True, mode="json")
    return len(json.dumps(wire["content"], ensure_ascii=False, separators=(",", ":")).encode()) / 4


@both_eras
async def test_a_long_result_is_cut_and_read_on_in(tmp_path: Path, mode: Mode) -> None:
    async with connected(tmp_path / "home", mode=mode) as client:
        await register_faulty(client, "faulty")
        whole = await echo(client, LONG)
        assert weight(whole) > 8_000
        short = await echo(client, LONG, max_tokens=400)
        assert weight(short) <= 400
        assert short.meta is not None
        uri = handle(short)
        # By the tool, in parts.
        read = ""
        offset: int | None = 0
        while offset is not None:
            part = await call(client, "read_result", handle=uri, offset=offset, length=20_000)
            read, offset = read + part["text"], part.get("next")
        assert len(read) == part["total"] == short.meta["toolscore/result"]["total"]
        assert json.loads(read)["text"] == LONG
        # As a resource, whole and in part.
        (contents,) = (await client.read_resource(uri)).contents
        assert isinstance(contents, TextResourceContents)
        assert contents.text == read
        (contents,) = (await client.read_resource(f"{uri}?offset=100&length=50")).contents
        assert isinstance(contents, TextResourceContents)
        assert contents.text == read[100:150]
        # And what is looked for in it.
        found = await execute(client, "toolscore__read_result", handle=uri, pattern="1234: a LINE")
        assert found.structured_content is not None
        assert "structured" in short.meta["toolscore/result"]
        assert read[found.structured_content["matches"][0]["offset"] :].startswith("1234: a line")


async def test_the_template_of_results_is_told(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        templates = (await client.list_resource_templates()).resource_templates
        assert "result://{id}{?offset,length}" in [template.uri_template for template in templates]


async def test_without_a_limit_nothing_is_cut_and_with_room_nothing_is_changed(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        await register_faulty(client, "faulty")
        # The faulty server tells what it was sent in `meta`, which is another at each call.
        for said, room in (("short", 5_000), (LONG, 100_000)):
            whole, limited = await echo(client, said), await echo(client, said, max_tokens=room)
            assert limited.content == whole.content
            assert limited.meta == whole.meta
            assert limited.structured_content is not None


async def test_the_setting_holds_for_all_and_a_call_can_ask_for_more(tmp_path: Path) -> None:
    async with connected(tmp_path / "home", "--set", "tools.result_limit=300") as client:
        await register_faulty(client, "faulty")
        assert weight(await echo(client, LONG)) <= 300
        direct = await client.call_tool("faulty__echo", {"as": "text", "text": LONG})
        assert weight(direct) <= 300
        assert weight(await echo(client, LONG, max_tokens=100_000)) > 8_000
        # ToolScore's own keep the shape they promise, and what reads on is not cut again.
        await register_faulty(client, "more", "many-tools=100")
        assert len((await call(client, "list_tools"))["tools"]) == 50
        part = await call(client, "read_result", handle=handle(direct), length=20_000)
        assert len(part["text"]) == 20_000
        part_by = await execute(client, "toolscore__read_result", handle=handle(direct), length=20_000)
        assert part_by.structured_content is not None
        assert part_by.structured_content["text"] == part["text"]


async def test_a_handle_that_is_none_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        unknown = "result://ts-" + "a" * 22
        result = await client.call_tool("read_result", {"handle": unknown})
        assert outcome(result) == "invalid_arguments"
        assert "call its tool again" in text(result)
        with pytest.raises(MCPError, match="call its tool again"):
            await client.read_resource(unknown)
        with pytest.raises(MCPError):
            await client.read_resource("result://somebody-elses/thing")


async def test_a_limit_too_small_for_a_note_is_refused(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        result = await echo(client, "x", max_tokens=10)
        assert outcome(result) == "invalid_arguments"
        assert isinstance(result.content[0], TextContent)


async def test_what_reads_on_and_what_searches_keep_to_the_limit_of_their_call(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        await register_faulty(client, "faulty", "many-tools=40")
        said = "".join(f'{n}: "quoted" 汉\n' for n in range(2_000))
        uri, read, offset = handle(await echo(client, said, max_tokens=300)), "", 0
        whole = (await call(client, "read_result", handle=uri, length=100_000))["text"]
        for _ in range(20):
            page = await client.call_tool(
                "execute_tool",
                {
                    "tool": "toolscore__read_result",
                    "arguments": {"handle": uri, "offset": offset},
                    "max_tokens": 300,
                },
            )
            assert weight(page) <= 300
            assert page.structured_content is not None
            read, offset = read + page.structured_content["text"], page.structured_content["next"]
        assert offset == len(read) > 4_000
        assert whole.startswith(read)
        places, offset = list[int](), 0
        for _ in range(5):
            found = await client.call_tool(
                "execute_tool",
                {
                    "tool": "toolscore__read_result",
                    "arguments": {"handle": uri, "pattern": "QUOTED", "offset": offset},
                    "max_tokens": 300,
                },
            )
            assert weight(found) <= 300
            assert found.structured_content is not None
            places += [match["offset"] for match in found.structured_content["matches"]]
            offset = found.structured_content["next"]
        assert places == [match.start() for match in re.finditer("quoted", whole)][: len(places)]
        assert len(places) >= 5
        search = {"tool": "search_tools", "arguments": {"query": "tool number", "limit": 20}}
        loose = await client.call_tool("execute_tool", search)
        tight = await client.call_tool("execute_tool", {**search, "max_tokens": 200})
        assert tight.structured_content is not None
        assert len(json.dumps(tight.structured_content, separators=(",", ":"))) / 4 <= 200
        assert weight(tight) < weight(loose)


async def test_a_part_that_a_handle_names_is_read_by_the_tool_too_and_none_is_empty(tmp_path: Path) -> None:
    async with connected(tmp_path / "home") as client:
        await register_faulty(client, "faulty")
        uri = handle(await echo(client, LONG, max_tokens=300))
        whole = (await call(client, "read_result", handle=uri, length=100_000))["text"]
        part = await call(client, "read_result", handle=f"{uri}?offset=100&length=50")
        assert (part["text"], part["next"]) == (whole[100:150], 150)
        part = await call(client, "read_result", handle=f"{uri}?offset=100&length=50", offset=7)
        assert (part["text"], part["next"]) == (whole[7:57], 57)
        for wrong, said in (
            ("length=0", "one character"),
            ("length=-1", "a number"),
            ("offset=x", "a number"),
        ):
            with pytest.raises(MCPError, match=said):
                await client.read_resource(f"{uri}?{wrong}")
            result = await client.call_tool("read_result", {"handle": f"{uri}?{wrong}"})
            assert outcome(result) == "invalid_arguments"
            assert said in text(result)
        (contents,) = (await client.read_resource(f"{uri}?length={'9' * 100}")).contents
        assert isinstance(contents, TextResourceContents)
        assert contents.text == whole
