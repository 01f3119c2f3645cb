"""What happened to tools and servers is a resource that can be followed without missing anything."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.shared.subscriptions import ResourceUpdated
from mcp_types import ResourceUpdatedNotification

from several import MODES, RICH, Callbacks, Line, Message, Serving, serving
from toolscore.server.events import KEPT, PAGE, Events
from toolscore_client import Mode, call, connected

EVERY = pytest.mark.parametrize("mode", MODES)
EVENTS = "toolscore://events"
MANAGE = ("--no-token", "--set", "tools.expose=all", "--set", "network.rights=call,manage")


async def read(line: Line, cursor: str = "") -> Message:
    uri = f"{EVENTS}?after={cursor}" if cursor else EVENTS
    [content] = (await line.request("resources/read", uri=uri))["result"]["contents"]
    assert (content["uri"], content["mimeType"]) == (uri, "application/json")
    body: Message = json.loads(content["text"])
    return body


async def register(line: Line, name: str, *words: str) -> None:
    arguments: Message = {"name": name, "command": sys.executable, "args": ["-S", RICH, *words]}
    result = await line.call("register_tool", **arguments)
    assert not result.get("isError"), result


async def until(line: Line, cursor: str, kind: str, tool: str | None = None, **members: Any) -> Message:
    """Wait by the subscription until an event has come; give it. Several tools may be told of in one."""
    while True:
        body = await read(line, cursor)
        for event in body["events"]:
            told_of = tool is None or tool in event.get("tools", ())
            if event["event"] == kind and told_of and members.items() <= event.items():
                found: Message = event
                return found
        assert await line.told("notifications/resources/updated") == {"uri": EVENTS}


@asynccontextmanager
async def following(one: Serving) -> AsyncIterator[Line]:
    async with one.line() as line:
        assert (await line.request("resources/subscribe", uri=EVENTS))["result"] == {}
        yield line


async def test_what_happens_to_tools_and_servers_is_told_and_can_be_read(tmp_path: Path) -> None:
    with serving(tmp_path, *MANAGE, "--set", "trust.changed_tools=allow", r=["-S", RICH]) as one:
        async with following(one) as line:
            begun = await read(line)
            assert [event["number"] for event in begun["events"]] == list(range(1, len(begun["events"]) + 1))
            assert (begun["more"], begun["missed"]) == (False, False)
            [installed] = [event for event in begun["events"] if event["event"] == "tool_installed"]
            assert installed["server"] == "r"
            assert "r__echo" in installed["tools"]
            cursor = begun["cursor"]
            await register(line, "s")
            event = await until(line, cursor, "tool_installed", server="s")
            assert {"number", "at", "event", "server", "tools"} == event.keys()
            await line.call("s__change", kind="tools", name="fresh")
            assert (await until(line, event_cursor(cursor, event), "tool_installed", tool="s__fresh"))["at"]
            await line.call("s__describe", name="fresh", description="Another one")
            await until(line, cursor, "tool_updated", server="s", tool="s__fresh")
            await line.call("s__undo", name="fresh")
            await until(line, cursor, "tool_removed", server="s", tool="s__fresh")
            await line.call("manage_server", name="s", action="stop")
            await until(line, cursor, "server_state", server="s", state="STOPPED")
            await line.call("manage_server", name="s", action="start")
            await until(line, cursor, "server_state", server="s", state="READY")
            await line.call("s__exit")
            down = await until(line, cursor, "server_state", server="s", state="BACKOFF")
            assert "last words" in down["reason"]
            await line.call("unregister_tool", name="s")
            gone = await until(line, event_cursor(cursor, down), "tool_removed", server="s")
            assert "s__echo" in gone["tools"]


def event_cursor(cursor: str, event: Message) -> str:
    """The cursor after an event."""
    return f"{cursor.rpartition('-')[0]}-{event['number']}"


async def test_whoever_comes_back_with_the_cursor_has_missed_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, *MANAGE) as one:
        async with following(one) as line:
            cursor = (await read(line))["cursor"]
        async with one.line() as other:
            await register(other, "r")
            await other.call("r__change", kind="tools", name="one")
            await other.call("r__change", kind="tools", name="two")
        async with following(one) as line:
            await until(line, cursor, "tool_installed", tool="r__two")
            body = await read(line, cursor)
            numbers = [event["number"] for event in body["events"]]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            first = int(cursor.rpartition("-")[2])
            assert numbers[0] == first + 1
            # Nothing has happened since.
            assert (await read(line, body["cursor"]))["events"] == []
            assert (await read(line, body["cursor"]))["cursor"] == body["cursor"]


async def test_a_cursor_of_an_earlier_run_says_that_something_may_be_missed(tmp_path: Path) -> None:
    with serving(tmp_path, *MANAGE) as one:
        async with one.line() as line:
            cursor = (await read(line))["cursor"]
            for foreign in ("nonsense", "0-0", f"x{cursor}"):
                assert (await read(line, foreign))["missed"] is True
    with serving(tmp_path, *MANAGE) as one:
        async with one.line() as line:
            assert (await read(line, cursor))["missed"] is True


def test_many_events_are_read_a_page_at_a_time_and_the_oldest_are_forgotten() -> None:
    events = Events()
    cursor = events.cursor
    for number in range(KEPT + 2):
        events.append("server_state", "r", state=str(number))
    numbers: list[int] = []
    missed, more = [], True
    while more:
        [content] = events.read(f"{EVENTS}?after={cursor}")["contents"]
        body = json.loads(content["text"])
        assert len(body["events"]) <= PAGE
        numbers += [event["number"] for event in body["events"]]
        missed.append(body["missed"])
        cursor, more = body["cursor"], body["more"]
    assert numbers == list(range(3, KEPT + 3))
    assert missed == [True] + [False] * (len(missed) - 1)
    assert cursor == events.cursor


@pytest.mark.parametrize("words", [[], ["modern-only"]])
async def test_lists_that_a_server_changes_right_after_its_start_are_not_missed(
    tmp_path: Path, words: list[str]
) -> None:
    """It says so while its lists are still being fetched for the first time."""
    with serving(tmp_path, *MANAGE, r=["-S", RICH, "late-tool", *words]) as one:
        async with following(one) as line:
            while (await line.call("r__late"))["_meta"].get("toolscore/outcome") == "unknown_tool":
                await line.told("notifications/tools/list_changed")


@EVERY
async def test_the_sdks_client_is_told_of_events_in_its_era(tmp_path: Path, mode: Mode) -> None:
    callbacks = Callbacks()

    async def something(client: Client) -> None:
        await call(client, "register_tool", name="r", command=sys.executable, args=["-S", RICH])

    with serving(tmp_path, *MANAGE) as one:
        async with one.client(mode, **callbacks.options) as client:
            listed = await client.list_resources()
            assert EVENTS in [resource.uri for resource in listed.resources]
            templates = (await client.list_resource_templates()).resource_templates
            assert f"{EVENTS}{{?after}}" in [template.uri_template for template in templates]
            if mode == "auto":
                for uri in (EVENTS, f"{EVENTS}?after=x"):
                    async with client.listen(resource_subscriptions=[uri]) as changes:
                        await something(client)
                        async with asyncio.timeout(20):
                            assert await anext(aiter(changes)) == ResourceUpdated(uri=uri)
                        await call(client, "unregister_tool", name="r")
            else:
                with pytest.warns(MCPDeprecationWarning, match="resources/subscribe"):
                    await client.subscribe_resource(EVENTS)
                await something(client)
                await callbacks.until(lambda: callbacks.of(ResourceUpdatedNotification))


async def test_events_are_followed_over_standard_streams_too(tmp_path: Path) -> None:
    async with connected(tmp_path / "home", mode="auto") as client:
        async with client.listen(resource_subscriptions=[EVENTS]) as changes:
            await call(client, "register_tool", name="r", command=sys.executable, args=["-S", RICH])
            async with asyncio.timeout(20):
                assert await anext(aiter(changes)) == ResourceUpdated(uri=EVENTS)
        body = json.loads((await client.read_resource(EVENTS)).contents[0].model_dump()["text"])
        assert "tool_installed" in [event["event"] for event in body["events"]]
