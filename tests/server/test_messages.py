"""Every message of a client reaches the server it concerns, and every message of a server the right client."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import LoggingMessageNotification
from mcp_types import PromptReference, ResourceTemplateReference, ToolListChangedNotification

from several import MODES, RICH, SUBSCRIPTION, Callbacks, Line, Message, Serving, serving, structured
from toolscore_client import TOOLSCORE, Mode, execute, text

EVERY = pytest.mark.parametrize("mode", MODES)
BEHIND = pytest.mark.parametrize("server", ["r", "z"])
"""A server of each era."""


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(
        tmp_path_factory.mktemp("messages"),
        *("--no-token", "--set", "tools.expose=all"),
        r=["-S", RICH, "label=r"],
        s=["-S", RICH, "label=s", "many-tools=250", "many-resources=250"],
        z=["-S", RICH, "label=z", "modern-only"],
    ) as one:
        yield one


def shown(server: str, uri: str) -> str:
    """The first server by name has the plain uri."""
    return uri if server == "r" else f"toolscore://resource/{server}/{uri}"


# --- resources


@EVERY
async def test_all_pages_of_a_server_with_many_tools_and_resources_are_listed(
    toolscore: Serving, mode: Mode
) -> None:
    async with toolscore.client(mode) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        assert [f"s__extra{number}" in tools for number in range(250)] == [True] * 250
        uris = [resource.uri for resource in (await client.list_resources()).resources]
        assert [f"rich://many/{number}" in uris for number in range(250)] == [True] * 250
        assert len(uris) == len(set(uris))


@EVERY
@BEHIND
async def test_a_uri_that_two_servers_use_is_read_from_the_one_that_is_meant(
    toolscore: Serving, mode: Mode, server: str
) -> None:
    async with toolscore.line(mode) as line:
        for uri in ("rich://note", "rich://item/7"):
            asked = shown(server, uri)
            answer = await line.request("resources/read", uri=asked)
            assert answer["result"]["contents"] == [
                {"uri": asked, "text": f"{server}: {uri}", "x-unknown": 2}
            ]
            assert answer["result"]["x-unknown"] is True
        listed = (await line.request("resources/list"))["result"]["resources"]
        assert {"uri": shown(server, "rich://note"), "name": "rich://note", "x-unknown": 1} in listed
        templates = (await line.request("resources/templates/list"))["result"]["resourceTemplates"]
        assert shown(server, "rich://item/{id}") in [template["uriTemplate"] for template in templates]


@EVERY
async def test_a_resource_that_only_a_tool_result_spoke_of_can_be_read(
    toolscore: Serving, mode: Mode
) -> None:
    async with toolscore.client(mode) as client:
        for server in ("s", "z"):
            uri = f"hidden://{server}/{mode}"
            await client.call_tool(f"{server}__link", {"uri": uri})
            assert (await client.read_resource(uri)).contents[0].model_dump()["text"] == f"{server}: {uri}"
            uri = f"hidden://through/{server}/{mode}"
            await execute(client, f"{server}__link", uri=uri)
            assert (await client.read_resource(uri)).contents[0].model_dump()["text"] == f"{server}: {uri}"


@EVERY
async def test_what_nobody_has_is_an_error_that_says_how_to_ask(toolscore: Serving, mode: Mode) -> None:
    code = -32602 if mode == "auto" else -32002
    async with toolscore.line(mode) as line:
        error = (await line.request("resources/read", uri="nobodys://thing"))["error"]
        assert error["code"] == code
        assert "toolscore://resource/SERVER/" in error["message"]
        assert error["data"] == {"uri": "nobodys://thing"}
        # A server's own error is handed on as it is, whichever its era.
        for server, its_code in (("r", -32002), ("z", -32602)):
            answer = await line.request("resources/read", uri=f"toolscore://resource/{server}/rich://missing")
            assert answer["error"] == {
                "code": its_code,
                "message": "no such page",
                "data": {"uri": "rich://missing"},
            }
        for uri in ("toolscore://resource/nobody/x://y", "toolscore://resource/r", "toolscore://else", ""):
            assert (await line.request("resources/read", uri=uri))["error"]["code"] == code


@BEHIND
async def test_a_client_of_the_handshake_era_is_told_of_what_it_subscribed_to_and_nobody_else(
    toolscore: Serving, server: str
) -> None:
    uri = shown(server, "rich://note")
    async with toolscore.line() as line, toolscore.line() as other:
        assert (await line.request("resources/subscribe", uri=uri))["result"] == {}
        # A modern server takes it without an answer.
        await line.until(lambda now: "rich://note" in now["uris"], f"{server}__subscribed")
        await line.call(f"{server}__touch", uri="rich://note")
        assert await line.told("notifications/resources/updated") == {"uri": uri}
        # One that belongs to it may be named instead (MCP: a sub-resource).
        await line.call(f"{server}__touch", uri="rich://note/part", about="rich://note")
        assert await line.told("notifications/resources/updated") == {"uri": f"{uri}/part"}
        assert (await line.request("resources/unsubscribe", uri=uri))["result"] == {}
        await line.call(f"{server}__touch", uri="rich://note")
        assert await line.settled() == []
        assert await other.settled() == []
        await line.until(lambda now: not now["uris"], f"{server}__subscribed")


@BEHIND
async def test_a_client_of_the_modern_era_hears_in_its_stream_of_what_it_listens_for(
    toolscore: Serving, server: str
) -> None:
    uri = shown(server, "rich://note")
    async with toolscore.line("auto") as line:
        stream = await line.ask(
            "subscriptions/listen", notifications={"resourceSubscriptions": [uri, "nobodys://thing"]}
        )
        await line.told("notifications/subscriptions/acknowledged")
        await line.until(lambda now: "rich://note" in now["uris"], f"{server}__subscribed")
        await line.call(f"{server}__touch", uri="rich://note")
        told = await line.told("notifications/resources/updated")
        assert told == {"uri": uri, "_meta": {SUBSCRIPTION: stream}}
        await line.send(method="notifications/cancelled", params={"requestId": stream})
        await line.until(lambda now: not now["uris"], f"{server}__subscribed")


async def test_a_subscription_that_the_server_refuses_is_refused_for_everybody(toolscore: Serving) -> None:
    uri = "toolscore://resource/s/rich://missing"
    async with toolscore.line() as line:
        first = await line.ask("resources/subscribe", uri=uri)
        second = await line.ask("resources/subscribe", uri=uri)
        for identity in (first, second):
            assert (await line.answer(identity))["error"]["message"] == "no such page"


# --- prompts and completion


@EVERY
@BEHIND
async def test_a_prompt_is_got_by_its_full_name_untouched(
    toolscore: Serving, mode: Mode, server: str
) -> None:
    async with toolscore.line(mode) as line:
        params: Message = {"name": f"{server}__greet", "arguments": {"who": "Ann"}}
        result = (await line.request("prompts/get", {"mine": 1}, **params))["result"]
        said = result["messages"][0]
        assert said["content"]["text"] == "greet {'who': 'Ann'} None"
        assert said["x-unknown"] == 3
        assert result["_meta"]["rich/params"]["_meta"]["mine"] == 1
        error = (await line.request("prompts/get", name="greet"))["error"]
        assert error["code"] == -32602
        names = [prompt["name"] for prompt in (await line.request("prompts/list"))["result"]["prompts"]]
        assert {"r__greet", "s__greet", "z__greet"} <= set(names)


@EVERY
@BEHIND
async def test_arguments_of_prompts_and_templates_are_completed(
    toolscore: Serving, mode: Mode, server: str
) -> None:
    async with toolscore.client(mode) as client:
        about = {"name": "who", "value": "A"}
        done = await client.complete(PromptReference(name=f"{server}__greet"), about)
        ref, argument = json.loads(done.completion.values[0])
        assert (ref, argument) == ({"type": "ref/prompt", "name": "greet"}, about)
        template = shown(server, "rich://item/{id}")
        done = await client.complete(ResourceTemplateReference(uri=template), {"name": "id", "value": "7"})
        assert json.loads(done.completion.values[0])[0] == {"type": "ref/resource", "uri": "rich://item/{id}"}
        for wrong in ("toolscore://resource/nobody/rich://item/{id}", "nobodys://{x}"):
            with pytest.raises(MCPError) as refused:
                await client.complete(ResourceTemplateReference(uri=wrong), {"name": "id", "value": "7"})
            assert refused.value.code == -32602


# --- logging, progress, cancellation, ping


async def test_only_the_client_being_served_hears_a_servers_log_from_its_own_level_on(
    toolscore: Serving,
) -> None:
    async with toolscore.line() as line, toolscore.line() as other:
        assert (await line.request("logging/setLevel", level="warning"))["result"] == {}
        assert (await other.request("logging/setLevel", level="debug"))["result"] == {}
        levels = await line.call("r__heard", method="logging/setLevel")
        # The server logs as much as the one that wants most.
        assert levels["structuredContent"]["heard"][-1]["params"] == {"level": "debug"}
        await line.call("r__log", levels=["debug", "info", "warning", "error"])
        told = [message["params"] for message in await line.settled()]
        assert [message["level"] for message in told] == ["warning", "error"]
        assert told[0] == {"level": "warning", "logger": "r/mine", "data": {"said": "warning"}}
        assert await other.settled() == []
        assert (await line.request("logging/setLevel", level="loud"))["error"]["code"] == -32602


@BEHIND
async def test_a_modern_client_hears_a_servers_log_only_where_its_request_says_so(
    toolscore: Serving, server: str
) -> None:
    async with toolscore.line("auto") as line:
        await line.call(f"{server}__log", levels=["error"])
        assert await line.settled() == []
        meta = {"io.modelcontextprotocol/logLevel": "warning"}
        await line.call(f"{server}__log", meta, levels=["info", "error"])
        assert [message["params"]["level"] for message in await line.settled()] == ["error"]


@EVERY
@BEHIND
@pytest.mark.parametrize("token", ["a token", 4711, 0, ""])
@pytest.mark.parametrize("through", [False, True])
async def test_progress_comes_under_the_callers_own_token(
    toolscore: Serving, mode: Mode, server: str, token: Any, through: bool
) -> None:
    async with toolscore.line(mode) as line:
        tool, arguments = f"{server}__progress", {"count": 2}
        if through:
            result = await line.call("execute_tool", {"progressToken": token}, tool=tool, arguments=arguments)
        else:
            result = await line.call(tool, {"progressToken": token}, **arguments)
        assert result["content"][0]["text"] != json.dumps(token)
        assert line.inbox == [
            {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {
                    "progressToken": token,
                    "progress": number,
                    "total": 2,
                    "message": f"step {number}",
                },
            }
            for number in (1, 2)
        ]


@EVERY
@BEHIND
async def test_a_server_is_told_when_its_client_cancels(toolscore: Serving, mode: Mode, server: str) -> None:
    async with toolscore.line(mode) as line:
        meta = {"progressToken": 1}
        identity = await line.ask("tools/call", meta, name=f"{server}__hold", arguments={"key": mode})
        await line.told("notifications/progress")
        before = len((await line.call(f"{server}__cancelled"))["structuredContent"]["ids"])
        await line.send(method="notifications/cancelled", params={"requestId": identity, "reason": "enough"})
        await line.until(lambda now: len(now["ids"]) > before, f"{server}__cancelled")
        await line.call(f"{server}__release", key=mode)
        assert all(message.get("id") != identity for message in await line.settled())


@BEHIND
async def test_each_side_is_answered_when_it_pings(toolscore: Serving, server: str) -> None:
    async with toolscore.line() as line:
        assert (await line.request("ping"))["result"] == {}
        answer = (await line.call(f"{server}__ping"))["structuredContent"]
        assert answer["result"] == {}
        assert await line.settled() == []


# --- what requests and results carry


@EVERY
@BEHIND
async def test_requests_and_results_keep_what_is_in_them(toolscore: Serving, mode: Mode, server: str) -> None:
    trace: Message = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b",
    }
    trace |= {"io.modelcontextprotocol/related-task": {"taskId": "t"}}
    meta = {**trace, "example.com/mine": {"deep": [1, None]}, "toolscore/principal": "root"}
    async with toolscore.line(mode) as line:
        for result in (
            await line.call(f"{server}__echo", meta, big=2**70, text="日本"),
            await line.call(
                "execute_tool", meta, tool=f"{server}__echo", arguments={"big": 2**70, "text": "日本"}
            ),
        ):
            seen = result["structuredContent"]
            assert seen["arguments"] == {"big": 2**70, "text": "日本"}
            assert seen["meta"].items() >= trace.items()
            assert seen["meta"]["example.com/mine"] == {"deep": [1, None]}
            assert "toolscore/principal" not in seen["meta"]
            assert result["x-unknown"] == {"kept": [1, 2.5, None]}
            assert result["_meta"]["faulty/kept"] is True
            assert result["content"][0]["x-unknown"] == 1


# --- lists that change


@BEHIND
@pytest.mark.parametrize("kind", ["tools", "resources", "prompts"])
async def test_both_eras_are_told_when_a_servers_list_changes(
    toolscore: Serving, server: str, kind: str
) -> None:
    name = f"{kind}-{server}"
    key = {"tools": "name", "resources": "uri", "prompts": "name"}[kind]
    async with toolscore.line() as line, toolscore.line("auto") as modern, toolscore.line("auto") as deaf:
        stream = await modern.ask("subscriptions/listen", notifications={f"{kind}ListChanged": True})
        await modern.told("notifications/subscriptions/acknowledged")
        await line.call(f"{server}__change", kind=kind, name=name)
        method = f"notifications/{kind}/list_changed"
        assert await line.told(method) == {}
        assert await modern.told(method) == {"_meta": {SUBSCRIPTION: stream}}
        expected = name if kind == "resources" else f"{server}__{name}"
        for client in (line, modern):
            listed = (await client.request(f"{kind}/list"))["result"][kind]
            assert expected in [item[key] for item in listed]
        assert await deaf.settled() == []


@EVERY
async def test_the_sdks_client_is_told_when_a_tool_is_added(toolscore: Serving, mode: Mode) -> None:
    callbacks = Callbacks()
    async with toolscore.client(mode, **callbacks.options) as client:
        if mode == "auto":
            async with client.listen(tools_list_changed=True) as changes:
                await client.call_tool("r__change", {"kind": "tools", "name": f"added_{mode}"})
                async with asyncio.timeout(20):
                    await anext(aiter(changes))
        else:
            await client.call_tool("r__change", {"kind": "tools", "name": f"added_{mode}"})
            await callbacks.until(lambda: callbacks.of(ToolListChangedNotification))
        assert not callbacks.of(LoggingMessageNotification)
        result = await client.call_tool(f"r__added_{mode}", {"a": 1})
        assert structured(result)["arguments"] == {"a": 1}, text(result)


# --- tasks of 2025-11-25


async def test_a_task_is_begun_followed_and_ended_by_its_client_alone(tmp_path: Path) -> None:
    with serving(tmp_path, "--set", "tools.expose=all", r=["-S", RICH, "label=r"]) as one:
        ann, bob = (token(one.home, name) for name in ("ann", "bob"))
        async with one.line(token=ann) as line, one.line(token=bob) as other:
            begun = await begin(line, name="r__echo", arguments={"a": 1})
            through = await begin(
                line, name="execute_tool", arguments={"tool": "r__echo", "arguments": {"a": 2}}
            )
            got = (await line.request("tasks/get", taskId=begun))["result"]
            assert (got["taskId"], got["status"]) == (begun, "working")
            pending = await line.ask("tasks/result", taskId=begun)
            await line.call("r__finish", task=begun)
            assert (await line.told("notifications/tasks/status"))["status"] == "completed"
            result = (await line.answer(pending))["result"]
            assert result["content"][0]["text"] == f"{begun} is completed"
            assert result["_meta"]["io.modelcontextprotocol/related-task"] == {"taskId": begun}
            cancelled = (await line.request("tasks/cancel", taskId=through))["result"]
            assert cancelled["status"] == "cancelled"
            listed = (await line.request("tasks/list"))["result"]["tasks"]
            assert {task["taskId"]: task["status"] for task in listed} == {
                begun: "completed",
                through: "cancelled",
            }
            for method in ("tasks/get", "tasks/result", "tasks/cancel"):
                assert (await other.request(method, taskId=begun))["error"]["code"] == -32602
            assert (await other.request("tasks/list"))["result"]["tasks"] == []
            assert await other.settled() == []


async def begin(line: Line, **params: Any) -> str:
    answer = await line.request("tools/call", task={"ttl": 60000}, **params)
    identity: str = answer["result"]["task"]["taskId"]
    assert answer["result"]["_meta"]["rich/params"]["task"] == {"ttl": 60000}
    return identity


def token(home: Path, name: str) -> str:
    done = subprocess.run(
        [TOOLSCORE, "--home", str(home), "token", "create", name],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip().splitlines()[-1].split()[-1]
