"""`find_tool_gap` tells what a task needs, what covers it and what would; a client's model may split the task."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types import CreateMessageResult, ErrorData, TextContent

from gap_house import MODES, House, follow, house, servers
from toolscore.runners.errors import FaultError
from toolscore.runners.patron import ProgressSink
from toolscore.server.asking import needs_by_model
from toolscore.server.call import Call
from toolscore.server.exchange import Exchange
from toolscore.server.home import Home
from toolscore.server.parking import Parking
from toolscore.server.peer import Peer
from toolscore.tools.caller import Caller
from toolscore_client import Mode, call, connected, execute, outcome, text

EVERY = pytest.mark.parametrize("mode", MODES)
HARD = "weather and chess, whatever comes of it for the two of us on this long and rainy weekend by the lake"
"""A task in which the rules find no request."""


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("gap")) as one:
        yield one


class Model:
    """Answers what it is asked with the same text, and remembers it."""

    def __init__(self, said: str | ErrorData) -> None:
        self.said = said
        self.asked: list[Any] = []

    async def __call__(self, _context: Any, params: Any) -> CreateMessageResult | ErrorData:
        self.asked.append(params)
        if isinstance(self.said, ErrorData):
            return self.said
        return CreateMessageResult(role="assistant", content=TextContent(text=self.said), model="m")


@EVERY
async def test_each_need_of_a_task_is_covered_or_a_gap_with_the_call_that_fills_it(
    at: House, mode: Mode
) -> None:
    with anyio.fail_after(30):
        async with at.cleaned(), at.admin(mode) as one:
            task = "Get the weather forecast for a city, and then find the best chess move."
            told = await call(one, "find_tool_gap", task=task)
            assert told["label"] == "gap"
            assert told["split"] == "rules"
            weather, chess = told["needs"]
            assert (weather["label"], chess["label"]) == ("covered", "gap")
            assert weather["tools"][0]["name"] == "sky__get_forecast"
            assert weather["tools"][0]["arguments"] == {"city": "string: Name of the city"}
            assert "servers" not in weather or weather["servers"] == []
            [board, *_] = chess["servers"]
            assert board["name"] == "io.example/board"
            assert board["call"] == {
                "tool": "install_server",
                "arguments": {"source": "registry:io.example/board@1.0.0"},
            }
            assert board["licence"] == "MIT"
            assert "connects to http://127.0.0.1:" in board["fetches"]
            # The nearest tool there is would be named as well, but not as one that serves.
            assert all(tool["doubtful"] and "arguments" not in tool for tool in chess.get("tools", []))
            # Nothing was changed by asking, and the call is right as it is.
            assert await servers(one) == {"sky"}
            installed = await follow(one, board["call"])
            assert not installed.is_error, text(installed)
            told = await call(one, "find_tool_gap", task=task)
            assert told["needs"][1]["label"] != "gap"
            name = told["needs"][1]["tools"][0]["name"]
            assert "best_move" in text(await execute(one, name, position="x"))


async def test_a_need_may_be_said_in_chinese(at: House) -> None:
    async with at.guest() as one:
        told = await call(one, "find_tool_gap", task="请查询天气，然后发送邮件")
        assert [need["need"] for need in told["needs"]] == ["查询天气", "发送邮件"]


async def test_a_need_in_chinese_is_no_gap_among_tools_that_are_described_in_english(at: House) -> None:
    async with at.guest() as one:
        told = await call(one, "find_tool_gap", task="请查询明天的天气")
        assert told["label"] == "unsure"
        assert "in English" in " ".join(told["notes"])
        told = await call(one, "find_tool_gap", task="Get the weather forecast for a city")
        assert "notes" not in told or "in English" not in " ".join(told["notes"])


async def test_the_next_step_is_one_server_for_a_gap_and_only_what_is_named(at: House) -> None:
    async with at.guest() as one:
        told = await call(one, "find_tool_gap", task="Find the best chess move")
        assert "one of the calls" in told["next"]
        # Nothing is known for this one, and no server is named to be installed.
        told = await call(one, "find_tool_gap", task="请查询明天的天气")
        assert not told["needs"][0].get("servers")
        assert "install" not in told["next"]


async def test_of_the_best_server_that_cannot_be_installed_it_is_said_why(at: House) -> None:
    async with at.guest() as one:
        told = await call(one, "find_tool_gap", task="Fire clay pottery in a kiln")
        assert "io.example/kiln fits" in " ".join(told["notes"])
        assert "fit far less well" in told["next"]


@EVERY
async def test_a_client_that_can_sample_is_asked_for_english_needs_of_a_task_in_chinese(
    at: House, mode: Mode
) -> None:
    model = Model('["weather forecast for a city"]')
    with anyio.fail_after(30):
        async with at.guest(mode, sampling_callback=model) as one:
            told = await call(one, "find_tool_gap", task="查询天气")
            assert (told["split"], told["label"]) == ("model", "covered")
    assert "in English" in model.asked[0].system_prompt


async def test_needs_that_are_given_are_taken_as_they_are(at: House) -> None:
    async with at.guest() as one:
        given = ["weather forecast and chess", " weather\x00 forecast ", "weather forecast and chess"]
        told = await call(one, "find_tool_gap", task="", needs=given)
        assert told["split"] == "given"
        assert [need["need"] for need in told["needs"]] == ["weather forecast and chess", "weather forecast"]


@EVERY
async def test_a_client_that_can_sample_is_asked_to_split_a_hard_task(at: House, mode: Mode) -> None:
    model = Model('Of course: ["weather forecast for a city", "find the best chess move"]')
    with anyio.fail_after(30):
        async with at.guest(mode, sampling_callback=model) as one:
            told = await call(one, "find_tool_gap", task=HARD)
            assert told["split"] == "model"
            assert [need["label"] for need in told["needs"]] == ["covered", "gap"]
            assert len(model.asked) == 1
            assert HARD in model.asked[0].messages[0].content.text


@EVERY
@pytest.mark.parametrize("said", ["I would rather not.", "[]", '["", 7]', "[" * 5000])
async def test_when_the_model_says_something_else_the_rules_stand(at: House, mode: Mode, said: str) -> None:
    with anyio.fail_after(30):
        async with at.guest(mode, sampling_callback=Model(said)) as one:
            told = await call(one, "find_tool_gap", task=HARD)
            assert told["split"] == "rules"
            assert "did not answer with a list of needs" in told["notes"][0]


async def test_when_the_client_refuses_to_sample_the_rules_stand(at: House) -> None:
    with anyio.fail_after(30):
        async with at.guest(
            "legacy", sampling_callback=Model(ErrorData(code=-1, message="not today"))
        ) as one:
            told = await call(one, "find_tool_gap", task=HARD)
            assert told["split"] == "rules"
            assert "not today" in told["notes"][0]


@EVERY
async def test_no_model_is_asked_where_the_rules_have_no_doubt_or_asking_is_not_wanted(
    at: House, mode: Mode
) -> None:
    model = Model('["x"]')
    with anyio.fail_after(30):
        async with at.guest(mode, sampling_callback=model) as one:
            await call(one, "find_tool_gap", task="Find the best chess move")
            await call(one, "find_tool_gap", task=HARD, ask="never")
            await call(one, "find_tool_gap", task=HARD, needs=["chess"])
        async with at.guest(mode) as one:
            assert (await call(one, "find_tool_gap", task=HARD))["split"] == "rules"
    assert model.asked == []


class Mute(Peer):
    """A client that never answers, of either era."""

    def __init__(self, *, modern: bool) -> None:
        super().__init__(Caller(principal="mute", listener="test"))
        self.modern = modern
        self.capabilities = {"sampling": {}}
        self.gave_up = False

    def notify(self, method: str, params: dict[str, Any] | None, *, droppable: bool = False) -> None:
        raise AssertionError("nothing is told in these tests")

    async def ask(
        self, exchange: Exchange, method: str, params: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.gave_up = True
        raise FaultError(-1, "never")


class Reply:
    """Takes answers."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []

    def put(self, member: str, value: dict[str, Any]) -> None:
        self.answers.append({member: value})


@pytest.mark.parametrize("modern", [False, True])
async def test_a_client_that_never_answers_is_waited_for_no_longer_than_its_time(modern: bool) -> None:
    peer, reply, parking = Mute(modern=modern), Reply(), Parking()
    declared: dict[str, Any] = {"io.modelcontextprotocol/clientCapabilities": {"sampling": {}}}
    exchange = Exchange(peer, "tools/call", {"_meta": declared if modern else {}}, reply, parking)
    needs, why = await needs_by_model(HARD, Call(peer.caller, exchange=exchange), patience=0.05)
    assert needs is None
    assert "no answer within" in why
    assert peer.gave_up is not modern
    if modern:
        # It was asked in the answer to its request; the outcome is kept for when it comes back.
        assert reply.answers[0]["result"]["resultType"] == "input_required"
        parking.finished(exchange, "result", {"content": []})
        assert parking.parked == 1
    parking.close()
    assert parking.parked == 0


@pytest.mark.parametrize(
    "arguments",
    [{"task": ""}, {"task": " \x00\n?! "}, {"task": "x", "needs": ["", "?!"]}],
    ids=["nothing", "no words", "needs without words"],
)
async def test_a_task_without_words_is_refused_with_what_to_say_instead(at: House, arguments: Any) -> None:
    async with at.guest() as one:
        refused = await one.call_tool("find_tool_gap", arguments)
        assert outcome(refused) == "invalid_arguments"
        assert "say" in text(refused)


async def test_an_enormous_or_hostile_task_is_answered_in_bounds(at: House) -> None:
    tasks = [
        "find the best chess move. " * 20_000,
        '"; DROP TABLE tool; -- AND NEAR(a b) * ^ find the chess " OR x',
        "find \u202e\x07 chess \x1b[2J and then delete /",
    ]
    with anyio.fail_after(30):
        async with at.guest() as one:
            for task in tasks:
                told = await call(one, "find_tool_gap", task=task)
                assert len(told["needs"]) <= 12
                assert len(json.dumps(told)) < 20_000
            told = await call(one, "find_tool_gap", task=tasks[0])
            assert any("characters of the task were read" in note for note in told["notes"])


async def test_an_answer_keeps_within_the_tokens_it_may_take(at: House) -> None:
    task = (
        "get the weather forecast, find the best chess move, transpose the melody, paint a watercolor picture"
    )
    sizes = []
    async with at.guest() as one:
        for most in (300, 450, 5000):
            result = await one.call_tool("find_tool_gap", {"task": task, "max_tokens": most})
            sizes.append(len(text(result).encode()) / 4)
            assert len((result.structured_content or {})["needs"]) == 4
    assert sizes[0] <= 300
    assert sizes[0] < sizes[1] <= 450 < sizes[2]


@pytest.mark.parametrize("spoilt", ["folder", "damaged"])
@pytest.mark.parametrize("tool", ["find_tool_gap", "ensure_tools"])
async def test_a_catalog_that_cannot_be_read_is_told_of_with_what_to_do(
    tmp_path: Path, spoilt: str, tool: str
) -> None:
    home = Home.at(tmp_path / "home")
    home.path.mkdir()
    if spoilt == "folder":
        home.catalog_file.mkdir()
    else:
        home.catalog_file.write_bytes(b"no database" * 1000)
    async with connected(home.path) as one:
        told = await call(one, tool, task="Find the best chess move")
    assert told["label"] == "gap"
    notes = " ".join(told["notes"])
    if spoilt == "folder":
        assert "could not be read" in notes
        assert "readable and writable" in notes
        assert "notes says what to do" in told["next"]
    else:
        assert "was damaged" in notes
        assert "sync_catalog fills it" in notes
