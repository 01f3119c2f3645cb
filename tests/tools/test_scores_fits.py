"""Whose fault a failure is, by whether the arguments fit the tool's schema, whatever the server says of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routed import House, house
from toolscore.tools.caller import OWNER
from toolscore.tools.fitting import UndecidedError, problem
from toolscore.tools.scores import fits as module
from toolscore.tools.scores.fits import fits
from toolscore.tools.scores.judge import judged
from toolscore.tools.scores.scores import Scores

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "minLength": 2}, "days": {"type": "integer", "maximum": 7}},
    "required": ["city"],
    "additionalProperties": False,
}
WORDS = "MCP error -32602: Input validation error: Invalid arguments for tool forecast"


class Scored(House):
    """A house whose tools take a city, and which keeps scores."""

    def __init__(self, made: House) -> None:
        super().__init__(made.library, made.supervisor)
        self.scores = Scores(made.library)
        self.router.score = self.scores.observe
        for name, tool in list(made.library.tools.items()):
            definition = {**tool.definition, "inputSchema": CITY}
            made.library.tools[name] = replace(tool, definition=definition)

    def of(self, name: str) -> tuple[dict[str, int], dict[str, int]]:
        told = self.scores.of(f"faulty__{name}")
        assert told is not None
        return told.all.failures, told.all.excused


@asynccontextmanager
async def scored(folder: Path) -> AsyncIterator[Scored]:
    async with house(folder) as made:
        yield Scored(made)


@pytest.mark.parametrize("arguments", [{}, {"city": 5}, {"city": "Bern", "bogus": 1}, {"city": "B"}])
async def test_an_error_of_any_words_is_the_callers_where_the_arguments_do_not_fit(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    async with scored(tmp_path) as made:
        await made.call("failed", **arguments)
        assert made.of("failed") == ({}, {"invalid_arguments": 1})
        await made.call("error", **arguments)
        assert made.of("error") == ({}, {"invalid_arguments": 1})
        await made.call("invalid", **arguments)
        assert made.of("invalid") == ({}, {"invalid_arguments": 1})


async def test_a_server_that_calls_every_error_of_its_own_one_of_the_arguments_is_to_blame(
    tmp_path: Path,
) -> None:
    async with scored(tmp_path) as made:
        await made.call("failed", city="Bern")
        assert made.of("failed") == ({"error": 1}, {})
        result = await made.call("invalid", city="Bern")  # with the code -32602
        assert result["_meta"]["toolscore/outcome"] == "invalid_arguments"
        assert made.of("invalid") == ({"server_error": 1}, {})
        said = f'{{"isError":true,"content":[{{"type":"text","text":"{WORDS}"}}]}}'
        line = f'{{"jsonrpc":"2.0","id":$ID,"result":{said}}}'
        raw = made.library.tools["faulty__raw"]
        made.library.tools["faulty__raw"] = replace(raw, definition={"inputSchema": {"required": ["line"]}})
        await made.call("raw", line=line)
        assert made.of("raw") == ({"error": 1}, {})


async def test_arguments_are_looked_at_only_when_a_call_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    monkeypatch.setattr(module, "_fits", lambda *given: looked.append(given))
    async with scored(tmp_path) as made:
        await made.router.call("faulty__echo", {}, OWNER)
        assert made.of("echo") == ({}, {})
        assert not looked
        await made.call("failed")
        assert looked


@pytest.mark.parametrize(
    ("text", "fitting", "verdict"),
    [
        (WORDS, True, "error"),
        (WORDS, False, "invalid_arguments"),
        (WORDS, None, "invalid_arguments"),
        ("Input validation error: 'city' is a required property", True, "error"),
        ("the disk is full", False, "invalid_arguments"),
        ("Access denied - path outside allowed directories: /etc", True, "invalid_arguments"),
    ],
)
def test_what_a_text_says_of_arguments_counts_for_less_than_the_arguments(
    text: str, fitting: bool | None, verdict: str
) -> None:
    result = {"content": [{"type": "text", "text": text}], "isError": True}
    assert judged(result, fitting=fitting) == verdict


# --- the schemas of other people


def of(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": ["string", "null"]}, None, 1),
        ({"const": 3}, 3, 4),
        ({"const": 3}, 3.0, True),
        ({"enum": [1, "x", None]}, None, "y"),
        ({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]}, [1], ["x"]),
        ({"allOf": [{"type": "integer"}, {"minimum": 1}]}, 1, 0),
        ({"exclusiveMinimum": 1, "exclusiveMaximum": 2}, 1.5, 2),
        ({"type": "string", "maxLength": 2}, "ab", "abc"),
        ({"type": "array", "minItems": 1}, [0], []),
        ({"type": "array", "items": [{"type": "string"}], "additionalItems": False}, ["x"], ["x", "y"]),
        ({"type": "string", "pattern": "^[A-Z]{2,3}$"}, "CHF", "francs"),
        ({"type": "string", "pattern": r"^\d+$"}, "12", "1x"),
        ({"type": "string", "format": "date"}, "2026-01-02", "tomorrow"),
        ({"type": "string", "format": "email"}, "a@b.c", "nobody"),
        ({"$ref": "#/definitions/side"}, "left", "up"),
        ({"$ref": "#/properties/b/items"}, 1, "x"),
        ({"properties": {"b": False}}, {}, {"b": 1}),
    ],
)
def test_the_usual_words_of_schemas_are_understood(schema: dict[str, Any], good: Any, bad: Any) -> None:
    whole = of(schema)
    whole["definitions"] = {"side": {"enum": ["left", "right"]}}
    whole["properties"]["b"] = {"type": "array", "items": {"type": "integer"}}
    assert problem({"a": good}, whole) is None
    assert problem({"a": bad}, whole) is not None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": 5},
        {"type": [None, {}]},
        {"required": "a"},
        {"required": [3]},
        {"properties": []},
        {"properties": {"a": 3}},
        {"anyOf": "x"},
        {"anyOf": [3, None]},
        {"enum": "ab"},
        {"$ref": 3},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/nowhere/to/be/found"},
        {"$ref": "#/required/99999999999999999999"},
        of({"minLength": "x", "maxLength": None, "pattern": "(", "format": []}),
        of({"pattern": "(?=a)"}),
        of({"pattern": r"\w{1000}"}),
        of({"pattern": "a" * 1_000_000}),
        {"not": {}},
        None,
        "x",
    ],
)
async def test_a_schema_that_says_nothing_blames_nobody(schema: Any) -> None:
    assert await fits({"a": "text"}, schema)


def doubling(levels: int) -> dict[str, Any]:
    """A schema that asks for each thing twice, and so on below."""
    defs: dict[str, Any] = {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)
    }
    return {"$defs": {**defs, f"d{levels}": {}}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}] * 50},
        doubling(40),
        of({"enum": [str(number) for number in range(100_000)]}),
        {"required": ["a"] * 100_000},
        of({"anyOf": [{"type": "object", "additionalProperties": False}] * 50_000}),
        of({"allOf": [{"pattern": f"(a+)+.{{0,{number}}}$"} for number in range(500)]}),
    ],
)
@pytest.mark.alone
async def test_a_schema_without_an_end_takes_little_time_and_excuses_nobody(schema: dict[str, Any]) -> None:
    with pytest.raises(UndecidedError):
        problem({"a": "a" * 5_000}, schema, module.AT_ONCE)
    tries = [await looked_through(schema)]
    while min(took for took, _ in tries) >= 2 or min(longest for _, longest in tries) >= 0.25:
        assert len(tries) < 3, tries  # the best of three: the machine may have had something else to do
        tries.append(await looked_through(schema))


async def looked_through(schema: dict[str, Any]) -> tuple[float, float]:
    """Tell how long it took to look through a schema, and how long others were held up by it."""
    began, longest = time.perf_counter(), 0.0
    looking = asyncio.create_task(fits({"a": "a" * 5_000}, schema))
    while not looking.done():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - before)
    assert await looking
    return time.perf_counter() - began, longest


async def test_arguments_of_many_parts_are_looked_at_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    to_thread = asyncio.to_thread

    async def noted(*given: Any) -> Any:
        threads.append(given[0])
        return await to_thread(*given)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    numbers = of({"type": "array", "items": {"type": "integer"}})
    assert await fits({"a": [1, 2, 3]}, numbers)
    assert not threads
    assert not await fits({"a": [*range(20_000), "x"]}, numbers)
    assert threads


async def test_a_bug_in_looking_blames_the_tool_and_ends_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("toolscore.tools.fitting.problem", broken)
    assert await fits({}, CITY)


def test_a_list_whose_items_may_be_anything_is_not_gone_through() -> None:
    class Long(list[int]):
        def __iter__(self) -> Any:
            raise AssertionError("gone through")

    for schema in ({"type": "array"}, {"items": True}, {"prefixItems": [{"type": "integer"}]}):
        assert problem(Long([1, 2, 3]), schema) is None
    assert problem([1, "x"], {"items": {"type": "integer"}}) is not None
    assert problem(["x", 1], {"prefixItems": [{"type": "integer"}]}) is not None
    assert problem([1, 2], {"prefixItems": [{}], "items": False}) is not None
