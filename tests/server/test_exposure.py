"""Which names clients see: ToolScore's own, everybody's, some, or those of one server as if it were alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from several import MODES, RICH, Line, Message, Serving, serving
from toolscore_client import Mode

EVERY = pytest.mark.parametrize("mode", MODES)


async def names(line: Line) -> list[str]:
    answer = await line.request("tools/list")
    assert "nextCursor" not in answer["result"]
    listed = [tool["name"] for tool in answer["result"]["tools"]]
    assert len(listed) == len(set(listed))
    return listed


@EVERY
async def test_only_toolscores_own_tools_are_listed_by_default_and_all_can_be_called(
    tmp_path: Path, mode: Mode
) -> None:
    with serving(tmp_path, "--no-token", r=["-S", RICH]) as one:
        async with one.line(mode) as line:
            listed = await names(line)
            assert len(listed) <= 10
            assert {"list_tools", "describe_tool", "execute_tool"} <= set(listed)
            assert (await line.call("r__echo", a=1))["structuredContent"]["arguments"] == {"a": 1}
            own = await line.call("execute_tool", tool="toolscore__list_servers", arguments={})
            assert own["structuredContent"]["servers"][0]["name"] == "r"
            assert (await line.call("list_tools", server="r"))["structuredContent"]["total"] > 10


@EVERY
async def test_patterns_show_what_they_fit(tmp_path: Path, mode: Mode) -> None:
    with serving(
        tmp_path,
        *("--no-token", "--set", "tools.expose=r__ec*,*__pid"),
        r=["-S", RICH],
        s=["-S", RICH],
    ) as one:
        async with one.line(mode) as line:
            assert sorted(await names(line)) == ["r__echo", "r__pid", "s__pid"]
            assert not (await line.call("s__add", a=1, b=2)).get("isError")


@EVERY
async def test_two_thousand_tools_are_listed_at_once(tmp_path: Path, mode: Mode) -> None:
    children = {f"s{number}": ["-S", RICH, "many-tools=500"] for number in range(4)}
    with serving(tmp_path, "--no-token", "--set", "tools.expose=all", **children) as one:
        async with one.line(mode) as line:
            assert len(await names(line)) > 2000
            began = time.perf_counter()
            for _ in range(10):
                await names(line)
            # A tenth of what anybody would notice, on a machine that does much else.
            assert time.perf_counter() - began < 10


async def test_names_that_would_be_the_same_are_told_apart(tmp_path: Path) -> None:
    with serving(
        tmp_path,
        *("--no-token", "--set", "tools.expose=all", "--set", "network.rights=call,manage"),
        r=["-S", RICH],
    ) as one:
        async with one.line() as line:
            odd = ["dot.ted", "dot_ted", "dot ted", "l" * 80, "l" * 81, "日本"]
            for name in odd:
                for kind in ("tools", "prompts"):
                    await line.call("r__change", kind=kind, name=name)
            shown: list[str] = []
            while len(shown) < len(odd):
                shown = [n for n in await names(line) if n.startswith(("r__dot", "r__ll", "r____"))]
                if len(shown) < len(odd):
                    await line.told("notifications/tools/list_changed")
            assert len(shown) == len(odd)
            for name in shown:
                assert len(name) <= 64
                assert name.isascii()
                result = await line.call(name, of=name)
                assert result["structuredContent"]["arguments"] == {"of": name}
            # What changes among prompts is told and taken in apart from the tools.
            prompts: list[Message] = []
            while len(prompts) < len(odd) + 2:  # with the two it has always
                listed = (await line.request("prompts/list"))["result"]["prompts"]
                prompts = [one for one in listed if one["name"].startswith("r__")]
                if len(prompts) < len(odd) + 2:
                    await line.told("notifications/prompts/list_changed")
            said = set()
            for prompt in prompts:
                result = (await line.request("prompts/get", name=prompt["name"]))["result"]
                said.add(result["messages"][0]["content"]["text"].removesuffix(" None None"))
            assert set(odd) <= said


# --- one server alone


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(
        tmp_path_factory.mktemp("alone"),
        *("--no-token", "--set", "tools.expose=server:r"),
        r=["-S", RICH, "label=r"],
        s=["-S", RICH, "label=s"],
    ) as one:
        yield one


@EVERY
async def test_one_server_is_shown_as_if_it_were_alone(alone: Serving, mode: Mode) -> None:
    async with alone.line(mode) as line:
        listed = await names(line)
        assert {"echo", "list_tools"} <= set(listed)
        assert not [name for name in listed if "__" in name or name == "execute_tool"]
        assert (await line.call("echo", a=1))["structuredContent"]["arguments"] == {"a": 1}
        uris = [item["uri"] for item in (await line.request("resources/list"))["result"]["resources"]]
        assert uris == ["rich://note", "shared://page"]
        [content] = (await line.request("resources/read", uri="rich://note"))["result"]["contents"]
        assert content["text"] == "r: rich://note"
        prompts = [item["name"] for item in (await line.request("prompts/list"))["result"]["prompts"]]
        assert prompts == ["greet", "ask"]
        assert "result" in await line.request("prompts/get", name="greet", arguments={"who": "ann"})


@EVERY
async def test_its_tool_goes_before_toolscores_own_of_the_same_name(alone: Serving, mode: Mode) -> None:
    async with alone.line(mode) as line:
        assert (await line.call("list_tools"))["content"][0]["text"] == "my own list"
        own = await line.call("toolscore__list_tools", server="s")
        assert own["structuredContent"]["total"] > 10
        assert not (await line.call("s__add", a=1, b=2)).get("isError")
        through = await line.call("execute_tool", tool="r__list_tools", arguments={})
        assert through["content"][0]["text"] == "my own list"


@EVERY
async def test_its_errors_are_handed_on_as_they_are(alone: Serving, mode: Mode) -> None:
    async with alone.line(mode) as line:
        error = (await line.request("tools/call", name="error", arguments={}))["error"]
        assert error == {"code": -32050, "message": "out of order", "data": {"since": "Tuesday"}}
        error = (await line.request("tools/call", name="invalid", arguments={}))["error"]
        assert error == {"code": -32602, "message": "wrong arguments"}
        failed = await line.call("failed")
        assert failed["isError"] is True
        error = (await line.request("resources/read", uri="rich://missing"))["error"]
        assert error["message"] == "no such page"
        error = (await line.request("tools/call", name="no_such_tool", arguments={}))["error"]
        assert error == {"code": -32602, "message": "Unknown tool: no_such_tool"}


@EVERY
async def test_its_log_has_its_own_name(alone: Serving, mode: Mode) -> None:
    meta: Message = {"io.modelcontextprotocol/logLevel": "debug"} if mode == "auto" else {}
    async with alone.line(mode) as line:
        await line.call("log", meta, levels=["error"])
        assert (await line.told("notifications/message"))["logger"] == "mine"


@EVERY
async def test_its_instructions_are_given_also_when_it_is_asked_right_after_the_start(
    tmp_path: Path, mode: Mode
) -> None:
    with serving(tmp_path, "--no-token", r=["-S", RICH]):
        pass
    with serving(tmp_path, "--no-token", "--set", "tools.expose=server:r") as one:
        async with one.client(mode) as client:
            assert client.instructions == "Handle with care."
