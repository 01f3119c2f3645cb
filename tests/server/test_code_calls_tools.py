"""Code in the sandbox that calls tools, through a real ToolScore: in its caller's name, for its caller's client."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitResult

from helpers import until
from journaled import read
from several import MODES, RICH, Callbacks, Message, Serving, serving, structured
from toolscore.server.home import Home
from toolscore.server.tokens import Tokens
from toolscore.tools.caller import CALL
from toolscore_client import BARE, Mode, at_work, execute, text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

EVERY = pytest.mark.parametrize("mode", MODES)
PYTHON = "python-executor__python_execute"
FORM: Message = {
    "message": "Who are you?",
    "requestedSchema": {"type": "object", "properties": {"who": {"type": "string"}}},
}


@pytest.fixture(scope="module", params=["separate", "embedded"])
def toolscore(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One in which code may call tools, and has but one box to run in."""
    settings = {"mode": request.param, "tools": "*", "most": "1"}
    words = [word for key, value in settings.items() for word in ("--set", f"sandbox.{key}={value}")]
    with pytest.MonkeyPatch.context() as patch:
        for name in BARE:
            patch.delenv(name)
        with serving(
            tmp_path_factory.mktemp("nested"),
            *words,
            old=["-S", RICH, "old"],
            new=["-S", RICH, "modern-only"],
        ) as one:
            yield one


def token(toolscore: Serving, name: str) -> str:
    """A new token for somebody of that name."""
    tokens = Tokens(Home.at(toolscore.home), frozenset({CALL}))
    if name in tokens.names():
        tokens.revoke(name)
    return tokens.create(name, frozenset({CALL}))


def calling(tool: str, **arguments: Any) -> str:
    """Code that calls a tool, and whose value is the result's structured part."""
    return f"from toolscore_tools import call_tool\ncall_tool({tool!r}, {json.dumps(arguments)})"


async def value(client: Any, code: str) -> Any:
    return structured(await client.call_tool(PYTHON, {"code": code}))["value"]


def answering(name: str) -> Callbacks:
    async def elicit(_params: Any) -> Any:
        return ElicitResult(action="accept", content={"who": name})

    return Callbacks({"elicitation": elicit})


QUESTIONS = {
    "old": calling("old__question", method="elicitation/create", params=FORM) + "['result']['content']",
    "new": calling("new__need", requests={"who": {"method": "elicitation/create", "params": FORM}})
    + "['came'][-1]['who']['content']",
}


@EVERY
@pytest.mark.parametrize("server", QUESTIONS)
async def test_what_a_called_tool_asks_is_put_to_the_client_that_had_the_code_run(
    toolscore: Serving, mode: Mode, server: str
) -> None:
    ann, bob = answering("ann"), answering("bob")
    key = token(toolscore, "ann")
    async with (
        toolscore.client(mode, token=key, **ann.options) as client,
        toolscore.client(mode, token=key, **bob.options),
    ):
        assert await value(client, QUESTIONS[server]) == {"who": "ann"}
        assert len(ann.asked) == 1
        assert bob.asked == []


@EVERY
@pytest.mark.parametrize("server", QUESTIONS)
async def test_where_its_client_cannot_be_asked_the_code_is_told_so(
    toolscore: Serving, mode: Mode, server: str
) -> None:
    async with toolscore.client(mode, token=token(toolscore, "mute")) as client:
        result = await client.call_tool(
            PYTHON, {"code": QUESTIONS[server].removesuffix("['result']['content']")}
        )
        assert "elicitation" in text(result), result


async def test_a_question_never_goes_to_another_client_that_has_a_call_in_flight(toolscore: Serving) -> None:
    ann, bob = answering("ann"), answering("bob")
    key = token(toolscore, "both")
    async with (
        toolscore.client("legacy", token=key, **ann.options) as first,
        toolscore.client("legacy", token=key, **bob.options) as other,
    ):
        begun = asyncio.Event()

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            begun.set()

        held = asyncio.create_task(other.call_tool("old__hold", {"key": "theirs"}, progress_callback=heard))
        await asyncio.wait_for(begun.wait(), 60)
        code = calling("old__question", method="elicitation/create", params=FORM) + "['error']['message']"
        assert "several clients" in await value(first, code)
        await first.call_tool("old__release", {"key": "theirs"})
        await held
        assert bob.asked == []


@EVERY
async def test_code_that_runs_code_runs_where_there_is_one_box_at_a_time(
    toolscore: Serving, mode: Mode
) -> None:
    inner = calling(PYTHON, code="20 + 1") + "['value']"
    outer = calling(PYTHON, code=inner) + "['value'] * 2"
    async with toolscore.client(mode, token=token(toolscore, "deep")) as client:
        assert await asyncio.wait_for(value(client, outer), 60) == 42


async def test_no_code_is_run_deeper_than_three_calls(toolscore: Serving) -> None:
    code = "'the bottom'"
    for _ in range(5):
        code = calling(PYTHON, code=code)
    async with toolscore.client(token=token(toolscore, "deeper")) as client:
        result = await client.call_tool(PYTHON, {"code": code})
        assert "3 calls deep" in text(result) + json.dumps(result.structured_content)


async def test_cancelling_the_call_cancels_what_its_code_has_called(toolscore: Serving) -> None:
    async with toolscore.client("legacy", token=token(toolscore, "hasty")) as client:
        before = len(await _cancelled(client))
        running = asyncio.create_task(client.call_tool(PYTHON, {"code": calling("old__hold", key="mine")}))
        await at_work(client, "old")
        running.cancel()
        await asyncio.wait([running])
        async with asyncio.timeout(60):
            while len(await _cancelled(client)) == before:
                await asyncio.sleep(0.02)  # nothing signals it
        assert await value(client, "1 + 1") == 2
        await client.call_tool("old__release", {"key": "mine"})


async def _cancelled(client: Any) -> list[Any]:
    told = structured(await client.call_tool("old__heard", {"method": "notifications/cancelled"}))
    heard: list[Any] = told["heard"]
    return heard


@EVERY
@pytest.mark.parametrize("through", [False, True])
async def test_a_created_file_can_be_read_later_and_by_its_caller_alone(
    toolscore: Serving, mode: Mode, through: bool
) -> None:
    code = "open('big.txt', 'w').write('x' * 200_000)"

    async def made(client: Any) -> CallToolResult:
        if through:
            return await execute(client, PYTHON, code=code)
        result: CallToolResult = await client.call_tool(PYTHON, {"code": code})
        return result

    key = token(toolscore, "maker")
    async with toolscore.client(mode, token=key) as client:
        result = await made(client)
        (link,) = [block for block in result.content if block.type == "resource_link"]
        uri = str(link.uri)
        assert structured(result)["files"][0]["uri"] == uri
        for _ in range(3):
            assert await value(client, "1") == 1
        read = await client.read_resource(uri)
        assert getattr(read.contents[0], "text", "") == "x" * 200_000
        assert uri not in [str(one.uri) for one in (await client.list_resources()).resources]
    async with toolscore.client(mode, token=key) as client:  # on another connection too
        assert len(getattr((await client.read_resource(uri)).contents[0], "text", "")) == 200_000
    async with toolscore.client(mode, token=token(toolscore, "thief")) as client:
        assert await value(client, "1") == 1
        for asked in (uri, f"toolscore://resource/python-executor/{uri}"):
            with pytest.raises(MCPError, match="there is no file"):
                await client.read_resource(asked)
        assert uri not in [str(one.uri) for one in (await client.list_resources()).resources]


async def test_a_server_that_lists_its_resources_is_told_of_no_caller(toolscore: Serving) -> None:
    """Lists are ToolScore's own, for all clients: what is one caller's must not get into them."""
    async with toolscore.client(token=token(toolscore, "lister")) as client:
        await client.call_tool(PYTHON, {"code": "open('a.txt', 'w').write('x' * 200_000)"})
        listed = (await client.list_resources()).resources
        assert not [one for one in listed if str(one.uri).startswith("sandbox:")]
        templates = (await client.list_resource_templates()).resource_templates
        assert "sandbox://executions/{execution}/{+path}" in [one.uri_template for one in templates]


async def test_the_journal_has_a_called_tool_under_the_code_that_called_it(toolscore: Serving) -> None:
    ann = answering("ann")
    async with toolscore.client(token=token(toolscore, "noted"), **ann.options) as client:
        assert await value(client, QUESTIONS["old"]) == {"who": "ann"}
    folder = toolscore.home / "journal"
    await until(lambda: len(read(folder, clients=("noted",), kinds=("call",))) == 2, 60)
    called, ran = read(folder, clients=("noted",), kinds=("call",))
    assert (called["tool"], ran["tool"]) == ("old__question", PYTHON)
    assert (called["trace"], called["parent"], called["depth"]) == (ran["trace"], ran["span"], 1)
    assert called["session"] == ran["session"]
