"""Clients and servers of different protocol eras do not notice that the other side is of another."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp_types import CreateMessageResult, ElicitResult, ListRootsResult, Root, TextContent

from several import (
    CAPABILITIES,
    CONFORMANCE,
    MODES,
    RICH,
    VERSION,
    Callbacks,
    Line,
    Message,
    Serving,
    serving,
    structured,
)
from toolscore_client import Mode, call, connected, execute, text

EVERY = pytest.mark.parametrize("mode", MODES)
ALL_ASKABLE: Message = {"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}}
FORM: Message = {
    "method": "elicitation/create",
    "params": {
        "message": "Who?",
        "requestedSchema": {"type": "object", "properties": {"who": {"type": "string"}}},
    },
}
ANSWER: Message = {"action": "accept", "content": {"who": "ann"}}


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(
        tmp_path_factory.mktemp("eras"),
        *("--no-token", "--set", "tools.expose=all"),
        h=["-S", RICH],
        old=["-S", RICH, "old"],
        m=["-S", RICH, "modern-only"],
        ch=[CONFORMANCE],
        cm=[CONFORMANCE, "--modern-only"],
    ) as one:
        yield one


def able() -> Callbacks:
    async def sample(_params: Any) -> Any:
        return CreateMessageResult(role="assistant", content=TextContent(text="Paris"), model="m")

    async def elicit(params: Any) -> Any:
        asked = params.requested_schema["properties"]
        values = {"boolean": True, "integer": 7, "number": 1.5, "array": [], "string": "ann"}
        return ElicitResult(action="accept", content={name: values[of["type"]] for name, of in asked.items()})

    async def roots(_params: Any) -> Any:
        return ListRootsResult(roots=[Root.model_validate({"uri": "file:///work"})])

    return Callbacks({"sampling": sample, "elicitation": elicit, "roots": roots})


# --- every client with every server, by the SDK's own parts on either side


@EVERY
@pytest.mark.parametrize("server", ["ch", "cm"])
@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("test_simple_text", "This is a simple text response for testing."),
        ("test_input_required_result_elicitation", "Hello, ann!"),
        ("test_input_required_result_sampling", "Paris"),
        ("test_input_required_result_list_roots", "file:///work"),
        ("test_input_required_result_request_state", "state-ok"),
        ("test_input_required_result_multiple_inputs", "Got client_roots, greeting, user_name."),
        ("test_input_required_result_multi_round", "Both are known."),
    ],
)
async def test_a_tool_that_needs_input_gets_it_whatever_the_eras(
    toolscore: Serving, mode: Mode, server: str, tool: str, said: str, through: bool
) -> None:
    async with toolscore.client(mode, **able().options) as client:
        if through:
            result = await execute(client, f"{server}__{tool}")
        else:
            result = await client.call_tool(f"{server}__{tool}", {})
        assert (result.is_error, text(result)) == (False, said)


@EVERY
@pytest.mark.parametrize("server", ["h", "old", "m", "ch", "cm"])
async def test_lists_resources_and_prompts_are_the_same_whatever_the_eras(
    toolscore: Serving, mode: Mode, server: str
) -> None:
    async with toolscore.client(mode, **able().options) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        if server in ("ch", "cm"):
            assert f"{server}__test_simple_text" in names
            assert f"{server}__test_simple_prompt" in prompts
            uri = f"toolscore://resource/{server}/test://static-text"
            assert "static text" in (await client.read_resource(uri)).contents[0].model_dump()["text"]
            prompt = await client.get_prompt(f"{server}__test_input_required_result_prompt")
            assert prompt.messages[0].content.model_dump()["text"] == "The context is {'context': 'ann'}."
        else:
            assert f"{server}__echo" in names
            uri = f"toolscore://resource/{server}/rich://note"
            assert (await client.read_resource(uri)).contents[0].model_dump()["text"] == "rich: rich://note"
            prompt = await client.get_prompt(f"{server}__greet", {"who": "ann"})
            assert prompt.messages[0].content.model_dump()["text"].startswith("greet")


@EVERY
async def test_the_same_over_standard_streams(tmp_path: Path, mode: Mode) -> None:
    async with connected(tmp_path / "home", "--set", "tools.expose=all", mode=mode) as client:
        for name, words in (("h", []), ("m", ["modern-only"])):
            await call(client, "register_tool", name=name, command=sys.executable, args=["-S", RICH, *words])
            result = structured(await client.call_tool(f"{name}__echo", {"a": 1}))
            assert result["arguments"] == {"a": 1}
        assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")


# --- a modern client and a server of the handshake era: its calls are parked while the client is asked


async def park(
    line: Line, tool: str = "h__question", meta: Message | None = None, /, **arguments: Any
) -> Message:
    """Make a call that asks for input; give the result, which says so."""
    result = await line.call(tool, meta, **(arguments or FORM))
    assert result["resultType"] == "input_required", result
    return result


def give(required: Message, answer: Message = ANSWER) -> Message:
    """What a client comes back with."""
    answers = dict.fromkeys(required["inputRequests"], answer)
    return {"requestState": required["requestState"], "inputResponses": answers}


async def come_back(
    line: Line, required: Message, tool: str = "h__question", arguments: Message = FORM, **more: Any
) -> Message:
    params = {**give(required), **more}
    return await line.request("tools/call", name=tool, arguments=arguments, **params)


async def test_parked_calls_of_one_client_get_their_own_answers(toolscore: Serving) -> None:
    async def elicit(params: Any) -> Any:
        return ElicitResult(action="accept", content={"who": params.message})

    async with toolscore.client("auto", **Callbacks({"elicitation": elicit}).options) as client:
        asked = [{**FORM, "params": {**FORM["params"], "message": str(number)}} for number in range(20)]
        results = await asyncio.gather(*(client.call_tool("h__question", one) for one in asked))
        answers = [structured(result)["result"]["content"]["who"] for result in results]
        assert answers == [str(number) for number in range(20)]


@pytest.mark.parametrize("first", ["first", None])
async def test_progress_goes_under_the_token_of_the_round_that_waits(
    toolscore: Serving, first: str | None
) -> None:
    async with toolscore.line("auto", **ALL_ASKABLE) as line:
        arguments = {**FORM, "key": f"round-{first}"}
        meta = {"progressToken": first} if first else None
        required = await park(line, "h__question_and_hold", meta, **arguments)
        params = {"name": "h__question_and_hold", "arguments": arguments, **give(required)}
        identity = await line.ask("tools/call", {"progressToken": "second"}, **params)
        assert (await line.told("notifications/progress"))["progressToken"] == "second"
        await line.call("h__release", key=arguments["key"])
        assert (await line.answer(identity))["result"]["structuredContent"]["result"] == ANSWER


async def test_a_state_is_good_for_its_own_request_only(toolscore: Serving) -> None:
    async with toolscore.line("auto", **ALL_ASKABLE) as line:
        required = await park(line)
        state = required["requestState"]
        wrong: list[Message] = [
            {"requestState": state[:-1] + ("A" if state[-1] != "A" else "B")},
            {"requestState": state + "x"},
            {"requestState": state.rsplit(".", 1)[0]},
            {"arguments": {**FORM, "id": "other"}},
            {"tool": "h__echo"},
        ]
        for one in wrong:
            error = (await come_back(line, required, **one))["error"]
            assert error["code"] == -32602, one
            assert error["data"]["reason"] == "invalid_state", one
        for nonsense in ("", "nonsense", "ts1.0.0"):
            error = (await come_back(line, required, requestState=nonsense))["error"]
            assert error["code"] == -32602, nonsense
        # None of that did it any harm.
        assert (await come_back(line, required))["result"]["structuredContent"]["result"] == ANSWER
        # And now it is used up.
        error = (await come_back(line, required))["error"]
        assert (error["code"], error["data"]["reason"]) == (-32602, "expired")


async def test_the_order_of_arguments_does_not_matter_when_coming_back(toolscore: Serving) -> None:
    async with toolscore.line("auto", **ALL_ASKABLE) as line:
        required = await park(line)
        turned = dict(reversed(FORM.items()))
        answer = await come_back(line, required, arguments=turned)
        assert answer["result"]["structuredContent"]["result"] == ANSWER


async def test_coming_back_without_the_answer_is_asked_again(toolscore: Serving) -> None:
    async with toolscore.line("auto", **ALL_ASKABLE) as line:
        required = await park(line)
        for answers in ({}, {"other": ANSWER}, dict.fromkeys(required["inputRequests"], "text")):
            again = (await come_back(line, required, inputResponses=answers))["result"]
            assert again["resultType"] == "input_required"
            assert again["inputRequests"] == required["inputRequests"]
            required = again
        assert (await come_back(line, required))["result"]["structuredContent"]["result"] == ANSWER


async def test_a_round_that_is_cancelled_ends_the_call_in_the_server(toolscore: Serving) -> None:
    async with toolscore.line("auto", **ALL_ASKABLE) as line:
        before = (await line.call("h__cancelled"))["structuredContent"]["ids"]
        arguments = {**FORM, "key": "cancelled"}
        required = await park(line, "h__question_and_hold", **arguments)
        params = {"name": "h__question_and_hold", "arguments": arguments, **give(required)}
        identity = await line.ask("tools/call", {"progressToken": 1}, **params)
        await line.told("notifications/progress")
        await line.send(method="notifications/cancelled", params={"requestId": identity})
        await line.until(lambda now: len(now["ids"]) == len(before) + 1, "h__cancelled")
        await line.call("h__release", key="cancelled")
        error = (await come_back(line, required, "h__question_and_hold", arguments))["error"]
        assert error["data"]["reason"] == "expired"
        assert await line.settled() == []


async def test_a_client_whose_very_first_request_needs_input_gets_it(toolscore: Serving) -> None:
    async with toolscore.line("auto", first=False, **ALL_ASKABLE) as line:
        required = await park(line)
        assert (await come_back(line, required))["result"]["structuredContent"]["result"] == ANSWER


# --- a client of the handshake era and a modern server


async def test_a_client_of_the_handshake_era_is_asked_for_all_that_a_modern_server_requires(
    toolscore: Serving,
) -> None:
    requests: Message = {"a": FORM, "b": {"method": "roots/list"}, "c": FORM}
    async with toolscore.line("legacy", **ALL_ASKABLE) as line:
        arguments = {"requests": requests, "rounds": 3}
        identity = await line.ask("tools/call", name="m__need", arguments=arguments)
        for _ in range(3):
            for method in ("elicitation/create", "roots/list", "elicitation/create"):
                asked = await line.told(method)
                await line.send(id=asked["id"], result=ANSWER if "message" in asked else {"roots": []})
        result = (await line.answer(identity))["result"]["structuredContent"]
        assert result["came"] == [{"a": ANSWER, "b": {"roots": []}, "c": ANSWER}] * 3
        assert result["capabilities"] == ALL_ASKABLE


async def test_what_a_client_of_the_handshake_era_cannot_give_ends_the_call_with_words(
    toolscore: Serving,
) -> None:
    async with toolscore.line("legacy") as line:
        result = await line.call("m__need", requests={"a": FORM})
        assert result["isError"] is True
        assert result["_meta"]["toolscore/outcome"] == "refused"
        assert "does not offer elicitation/create" in result["content"][0]["text"]
    async with toolscore.line("legacy", **ALL_ASKABLE) as line:
        identity = await line.ask("tools/call", name="m__need", arguments={"requests": {"a": FORM}})
        asked = await line.told("elicitation/create")
        await line.send(id=asked["id"], error={"code": -1, "message": "not today"})
        assert "not today" in (await line.answer(identity))["result"]["content"][0]["text"]
        result = await line.call("m__need", requests={}, rounds=1000)
        assert "more than 10 times" in result["content"][0]["text"]


async def test_a_prompt_that_needs_input_asks_too(toolscore: Serving) -> None:
    async with toolscore.line("legacy", **ALL_ASKABLE) as line:
        identity = await line.ask("prompts/get", name="m__ask", arguments={"who": "x"})
        asked = await line.told("elicitation/create")
        await line.send(id=asked["id"], result=ANSWER)
        said = (await line.answer(identity))["result"]["messages"][0]["content"]["text"]
        assert "'action': 'accept'" in said


# --- both modern: nothing is done to it


async def test_between_modern_sides_input_is_passed_through_as_it_is(toolscore: Serving) -> None:
    requests = {"mine": FORM, "odd": {"method": "example.com/odd", "params": {"x": [1]}}}
    async with toolscore.line("auto", elicitation={"form": {}, "x-unknown": {}}) as line:
        for tool, arguments in (
            ("m__need", {"requests": requests}),
            ("execute_tool", {"tool": "m__need", "arguments": {"requests": requests}}),
        ):
            required = await park(line, tool, **arguments)
            assert required["inputRequests"] == requests
            assert required["requestState"] == "[]"
            answer = await come_back(line, required, tool, arguments)
            result = answer["result"]["structuredContent"]
            assert result["came"] == [dict.fromkeys(requests, ANSWER)]
            assert result["capabilities"] == {"elicitation": {"form": {}, "x-unknown": {}}}


# --- a connection is of one era


async def test_a_modern_connection_refuses_the_handshake_and_requests_without_envelope(
    toolscore: Serving,
) -> None:
    async with toolscore.line("auto") as line:
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        }
        await line.send(id="hello", method="initialize", params=hello)
        error = (await line.answer("hello"))["error"]
        assert error["code"] == -32022
        assert "2026-07-28" in error["data"]["supported"]
        for method, params in (("tools/list", {}), ("tools/call", {"name": "h__echo", "arguments": {}})):
            await line.send(id=method, method=method, params=params)
            assert (await line.answer(method))["error"]["code"] == -32602, method
            wrong = {"_meta": {VERSION: "2099-01-01", CAPABILITIES: {}}}
            await line.send(id=method, method=method, params=params | wrong)
            assert (await line.answer(method))["error"]["code"] == -32022, method
        for method in ("logging/setLevel", "resources/subscribe", "tasks/list"):
            answer = await line.request(method, level="info", uri="rich://note")
            assert answer["error"]["code"] == -32601, method
        assert "result" in await line.request("tools/list")


async def test_a_connection_of_the_handshake_era_refuses_requests_with_an_envelope(
    toolscore: Serving,
) -> None:
    envelope = {VERSION: "2026-07-28", CAPABILITIES: {}}
    async with toolscore.line("legacy") as line:
        for method, params in (
            ("tools/list", {}),
            ("tools/call", {"name": "h__echo", "arguments": {}}),
            ("server/discover", {}),
        ):
            error = (await line.request(method, envelope, **params))["error"]
            assert error["code"] == -32600, method
        assert "result" in await line.request("tools/list")
        error = (await line.request("subscriptions/listen", notifications={}))["error"]
        assert error["code"] == -32601


async def test_input_that_nobody_waits_for_is_refused(toolscore: Serving) -> None:
    async with toolscore.line("legacy") as line:
        answer = await line.request("tools/call", name="h__echo", arguments={}, requestState="x")
        assert answer["error"]["code"] == -32602
        assert json.dumps(answer).count("requestState")
