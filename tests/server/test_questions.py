"""What a server asks in the middle of a call: sampling, elicitation, roots, from the client it works for alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import (
    CreateMessageResult,
    ElicitCompleteNotification,
    ElicitResult,
    ErrorData,
    ListRootsResult,
    Root,
    TextContent,
)

from several import MODES, RICH, Callbacks, Line, Message, Serving, ask_owner, serving, structured
from toolscore_client import Mode, execute

EVERY = pytest.mark.parametrize("mode", MODES)

SAMPLING: Message = {
    "method": "sampling/createMessage",
    "params": {"messages": [{"role": "user", "content": {"type": "text", "text": "Hi"}}], "maxTokens": 9},
}
FORM: Message = {
    "method": "elicitation/create",
    "params": {
        "message": "Who are you?",
        "requestedSchema": {"type": "object", "properties": {"who": {"type": "string"}}},
    },
}
URL: Message = {
    "method": "elicitation/create",
    "params": {"mode": "url", "message": "Sign in", "url": "https://a.example/x", "elicitationId": "e1"},
}
ROOTS: Message = {"method": "roots/list"}
QUESTIONS = {"sampling": SAMPLING, "form": FORM, "url": URL, "roots": ROOTS}

ALL_ASKABLE: Message = {
    "sampling": {},
    "elicitation": {"form": {}, "url": {}},
    "roots": {"listChanged": True},
}


@pytest.fixture(scope="module")
def toolscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(
        tmp_path_factory.mktemp("questions"),
        *("--no-token", "--set", "tools.expose=all"),
        r=["-S", RICH],
        s=["-S", RICH],
        old=["-S", RICH, "old"],
    ) as one:
        yield one


def able(name: str) -> Callbacks:
    """A client that answers everything, in its own name."""

    async def sample(_params: Any) -> Any:
        return CreateMessageResult(role="assistant", content=TextContent(text=name), model="m")

    async def elicit(params: Any) -> Any:
        return ElicitResult(action="accept", content=None if params.mode == "url" else {"who": name})

    async def roots(_params: Any) -> Any:
        return ListRootsResult(roots=[Root.model_validate({"uri": f"file:///{name}"})])

    return Callbacks({"sampling": sample, "elicitation": elicit, "roots": roots})


def check(kind: str, answer: Message, name: str) -> None:
    match kind:
        case "sampling":
            assert answer["content"] == {"type": "text", "text": name}
        case "form":
            assert answer == {"action": "accept", "content": {"who": name}}
        case "url":
            assert answer["action"] == "accept"
        case _:
            assert answer["roots"] == [{"uri": f"file:///{name}"}]


@EVERY
@pytest.mark.parametrize("server", ["r", "old"])
@pytest.mark.parametrize("kind", QUESTIONS)
@pytest.mark.parametrize("through", [False, True])
async def test_a_question_is_put_to_the_client_in_whose_call_it_comes_up(
    toolscore: Serving, mode: Mode, kind: str, server: str, through: bool
) -> None:
    ann, bob = able("ann"), able("bob")
    async with toolscore.client(mode, **ann.options) as client, toolscore.client(mode, **bob.options):
        tool = f"{server}__question"
        if through:
            result = await execute(client, tool, **QUESTIONS[kind])
        else:
            result = await client.call_tool(tool, QUESTIONS[kind])
        check(kind, structured(result)["result"], "ann")
        assert len(ann.asked) == 1
        assert bob.asked == []


@EVERY
async def test_clients_on_different_servers_do_not_disturb_each_other(toolscore: Serving, mode: Mode) -> None:
    ann, bob = able("ann"), able("bob")
    async with toolscore.client(mode, **ann.options) as first, toolscore.client(mode, **bob.options) as other:
        mine, theirs = await asyncio.gather(
            first.call_tool("r__question", SAMPLING), other.call_tool("s__question", SAMPLING)
        )
        check("sampling", structured(mine)["result"], "ann")
        check("sampling", structured(theirs)["result"], "bob")


@EVERY
async def test_several_questions_of_one_call_are_answered_in_turn(toolscore: Serving, mode: Mode) -> None:
    ann = able("ann")
    of = [[one["method"], one.get("params", {})] for one in QUESTIONS.values()]
    async with toolscore.client(mode, **ann.options) as client:
        result = await client.call_tool("r__questions", {"of": of})
        for kind, reply in zip(QUESTIONS, structured(result)["replies"], strict=True):
            check(kind, reply["result"], "ann")
        assert [kind for kind, _params in ann.asked] == ["sampling", "elicitation", "elicitation", "roots"]


@EVERY
async def test_a_client_that_refuses_refuses_to_the_server(toolscore: Serving, mode: Mode) -> None:
    async def refuse(_params: Any) -> Any:
        return ErrorData(code=-1, message="not today", data={"why": "rain"})

    async def decline(_params: Any) -> Any:
        return ElicitResult(action="decline")

    callbacks = Callbacks({"sampling": refuse, "elicitation": decline})
    async with toolscore.client(mode, **callbacks.options) as client:
        result = structured(await client.call_tool("r__question", FORM))
        assert result["result"] == {"action": "decline"}
        if mode == "legacy":
            error = structured(await client.call_tool("r__question", SAMPLING))["error"]
            assert error == {"code": -1, "message": "not today", "data": {"why": "rain"}}
        else:
            # This era has no way to answer with an error: the client gives the whole call up.
            with pytest.raises(MCPError, match="not today"):
                await client.call_tool("r__question", SAMPLING)


@EVERY
@pytest.mark.parametrize("kind", ["sampling", "form", "url"])
async def test_what_the_client_cannot_do_is_an_error_to_the_server_and_its_tool_still_answers(
    toolscore: Serving, mode: Mode, kind: str
) -> None:
    async with toolscore.client(mode) as client:
        error = structured(await client.call_tool("r__question", QUESTIONS[kind]))["error"]
        assert error["code"] == -32601
        assert f"does not offer {QUESTIONS[kind]['method']}" in error["message"]


@EVERY
async def test_only_the_kinds_of_elicitation_a_client_has_are_put_to_it(
    toolscore: Serving, mode: Mode
) -> None:
    both: list[tuple[Message, bool, bool]] = [({}, True, False), ({"url": {}}, False, True)]
    for declared, can_form, can_url in both:
        async with toolscore.line(mode, elicitation=declared) as line:
            for question, can in ((FORM, can_form), (URL, can_url)):
                identity = await line.ask("tools/call", name="r__question", arguments=question)
                if not can:
                    result = (await line.answer(identity))["result"]
                    assert result["structuredContent"]["error"]["code"] == -32601
                elif mode == "legacy":
                    asked = await line.told("elicitation/create")
                    await line.send(id=asked["id"], result={"action": "cancel"})
                    result = (await line.answer(identity))["result"]
                    assert result["structuredContent"]["result"] == {"action": "cancel"}
                else:
                    result = (await line.answer(identity))["result"]
                    assert result["resultType"] == "input_required"
                    [request] = result["inputRequests"].values()
                    assert request == question
                    await line.send(method="notifications/cancelled", params={"requestId": identity})


@EVERY
@pytest.mark.parametrize("kind", ["sampling", "form", "roots"])
async def test_without_a_call_in_flight_toolscore_answers_itself(
    toolscore: Serving, mode: Mode, kind: str
) -> None:
    ann = able("ann")
    async with toolscore.client(mode, **ann.options) as client:
        identity = f"later-{mode}-{kind}"
        await client.call_tool("r__ask_later", {"id": identity, **QUESTIONS[kind]})
        # Asked by another, so that no call of a client with answers is in flight.
        reply = structured(await client.call_tool("r__reply", {"id": identity}))
        if kind == "roots":
            assert reply["result"] == {"roots": []}
        else:
            assert reply["error"]["code"] == -32601
            assert "no client is being served" in reply["error"]["message"]
        assert ann.asked == []


async def hold(line: Line, server: str, key: str) -> int:
    """Keep a call in flight."""
    identity = await line.ask(
        "tools/call", {"progressToken": key}, name=f"{server}__hold", arguments={"key": key}
    )
    await line.told("notifications/progress")
    return identity


@pytest.mark.parametrize("modes", [("legacy", "legacy"), ("auto", "auto"), ("legacy", "auto")])
@pytest.mark.parametrize("kind", QUESTIONS)
async def test_a_question_that_might_be_meant_for_either_of_two_clients_is_put_to_none(
    toolscore: Serving, modes: tuple[Mode, Mode], kind: str
) -> None:
    key = f"two-{modes}-{kind}"
    async with (
        toolscore.line(modes[0], **ALL_ASKABLE) as first,
        toolscore.line(modes[1], **ALL_ASKABLE) as other,
    ):
        identity = await hold(first, "r", key)
        result = await other.call("r__question", **QUESTIONS[kind])
        error = result["structuredContent"]["error"]
        assert error["code"] == -32010
        assert "serving several clients at once" in error["message"]
        await other.call("r__release", key=key)
        assert (await first.answer(identity))["result"]["content"][0]["text"] == "released"
        assert await first.settled() == await other.settled() == []


async def test_a_server_that_asked_while_it_served_two_clients_serves_each_by_a_process_of_its_own_after_that(
    toolscore: Serving,
) -> None:
    ask_owner(toolscore.process, "register_tool", name="apart", command=sys.executable, args=["-S", RICH])
    async with toolscore.line(**ALL_ASKABLE) as first, toolscore.line(**ALL_ASKABLE) as other:
        identity = await hold(first, "apart", "apart")
        result = await other.call("apart__question", **FORM)
        assert result["structuredContent"]["error"]["code"] == -32010
        again = await other.ask("tools/call", name="apart__question", arguments=FORM)
        asked = await other.told("elicitation/create")
        await other.send(id=asked["id"], result={"action": "decline"})
        answer = (await other.answer(again))["result"]["structuredContent"]
        assert answer["result"] == {"action": "decline"}
        state = ask_owner(toolscore.process, "server_state", name="apart")["result"]["structuredContent"]
        assert state["keeping"]["isolation"] == "per-client"
        assert len(state["pids"]) == 2  # the first one's call is still with the process that all shared
        await first.send(method="notifications/cancelled", params={"requestId": identity})


@EVERY
async def test_with_several_calls_of_one_client_in_flight_it_is_asked(toolscore: Serving, mode: Mode) -> None:
    ann = able("ann")
    async with toolscore.client(mode, **ann.options) as client:
        key = f"one-{mode}"
        held = asyncio.Event()

        async def progress(progress: float, total: float | None, message: str | None) -> None:
            held.set()

        waiting = asyncio.create_task(client.call_tool("r__hold", {"key": key}, progress_callback=progress))
        async with asyncio.timeout(20):
            await held.wait()
        result = structured(await client.call_tool("r__question", FORM))
        check("form", result["result"], "ann")
        await client.call_tool("r__release", {"key": key})
        await waiting


@pytest.mark.parametrize("kind", ["sampling", "form", "roots"])
async def test_a_client_is_told_when_the_server_takes_its_question_back(
    toolscore: Serving, kind: str
) -> None:
    async with toolscore.line(**ALL_ASKABLE) as line:
        arguments = {"id": f"back-{kind}", **QUESTIONS[kind]}
        identity = await line.ask("tools/call", name="r__question", arguments=arguments)
        asked = await line.told(QUESTIONS[kind]["method"])
        assert isinstance(asked["id"], str)
        await line.call("r__withdraw", id=f"back-{kind}")
        assert (await line.told("notifications/cancelled"))["requestId"] == asked["id"]
        assert (await line.answer(identity))["result"]["structuredContent"] == {"withdrawn": True}


async def test_a_question_keeps_its_meta_and_its_progress(toolscore: Serving) -> None:
    meta = {"progressToken": "of the server", "example.com/x": 1}
    params = {**SAMPLING["params"], "_meta": meta, "x-unknown": [1]}
    async with toolscore.line(**ALL_ASKABLE) as line:
        asking = {"method": SAMPLING["method"], "params": params}
        identity = await line.ask("tools/call", name="r__question", arguments=asking)
        asked = await line.told("sampling/createMessage")
        assert asked["x-unknown"] == [1]
        assert asked["_meta"]["example.com/x"] == 1
        told = {"progressToken": asked["_meta"]["progressToken"], "progress": 1, "message": "thinking"}
        assert told["progressToken"] != "of the server"
        await line.send(method="notifications/progress", params=told)
        said = {"role": "assistant", "content": [], "model": "m", "x-unknown": 2, "_meta": {"y": 1}}
        await line.send(id=asked["id"], result=said)
        assert (await line.answer(identity))["result"]["structuredContent"]["result"] == said
        heard = await line.call("r__heard", method="notifications/progress")
        last = heard["structuredContent"]["heard"][-1]["params"]
        assert last == {**told, "progressToken": "of the server"}


@EVERY
async def test_when_a_client_goes_while_it_is_asked_the_server_is_told_and_its_call_cancelled(
    toolscore: Serving, mode: Mode
) -> None:
    async with toolscore.line() as watcher:
        before = (await watcher.call("s__heard", method="reply"))["structuredContent"]["heard"]
        gone = (await watcher.call("s__cancelled"))["structuredContent"]["ids"]
        async with toolscore.line(mode, **ALL_ASKABLE) as line:
            identity = await line.ask("tools/call", name="s__question", arguments=FORM)
            if mode == "legacy":
                await line.told("elicitation/create")
            else:
                assert (await line.answer(identity))["result"]["resultType"] == "input_required"
        now = await watcher.until(lambda now: len(now["heard"]) > len(before), "s__heard", method="reply")
        assert "client" in now["heard"][-1]["params"]["error"]["message"]
        await watcher.until(lambda now: len(now["ids"]) > len(gone), "s__cancelled")


async def test_a_client_that_cancels_its_call_ends_it_while_it_is_asked(toolscore: Serving) -> None:
    async with toolscore.line(**ALL_ASKABLE) as line:
        gone = (await line.call("s__cancelled"))["structuredContent"]["ids"]
        identity = await line.ask("tools/call", name="s__question", arguments={**FORM, "id": "mid"})
        asked = await line.told("elicitation/create")
        await line.send(method="notifications/cancelled", params={"requestId": identity})
        await line.until(lambda now: len(now["ids"]) > len(gone), "s__cancelled")
        # The question is still the server's; it is answered, or taken back.
        await line.call("s__withdraw", id="mid")
        assert (await line.told("notifications/cancelled"))["requestId"] == asked["id"]
        assert await line.settled() == []


async def test_the_server_that_knows_a_clients_roots_is_told_when_they_change(toolscore: Serving) -> None:
    ann = able("ann")
    async with toolscore.client("legacy", **ann.options) as client, toolscore.line() as other:
        await client.call_tool("r__question", ROOTS)
        before = (await other.call("r__heard", method="notifications/roots/list_changed"))[
            "structuredContent"
        ]
        await other.send(method="notifications/roots/list_changed")
        await other.settled()
        with pytest.warns(MCPDeprecationWarning, match="roots"):
            await client.send_roots_list_changed()
        for server, more in (("r", 1), ("s", 0)):
            expected = (len(before["heard"]) if server == "r" else 0) + more
            await other.until(
                lambda now, expected=expected: len(now["heard"]) == expected,  # type: ignore[misc]
                f"{server}__heard",
                method="notifications/roots/list_changed",
            )


async def test_the_client_that_was_sent_to_a_page_is_told_when_that_is_done(toolscore: Serving) -> None:
    ann, bob = able("ann"), able("bob")
    async with (
        toolscore.client("legacy", **ann.options) as client,
        toolscore.client("legacy", **bob.options) as other,
    ):
        await client.call_tool("r__question", URL)
        done = (
            '{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e1"}}'
        )
        await other.call_tool("r__noise", {"line": done})
        await ann.until(lambda: ann.of(ElicitCompleteNotification))
        assert not bob.of(ElicitCompleteNotification)
