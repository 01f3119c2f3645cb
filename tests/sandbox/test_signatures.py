"""Functions made of the schemas of tools: their signatures, their docstrings, what they send."""

from __future__ import annotations

import inspect
import pydoc
from typing import Any

import pytest

from converting import CONVERT
from toolscore.sandbox import signatures


def make(tool: dict[str, Any], sent: list[Any] | None = None) -> Any:
    def call(name: str, arguments: dict[str, Any]) -> None:
        if sent is not None:
            sent.append((name, arguments))

    return signatures.function(tool, "convert_time", "toolscore_tools.time", call)


def test_a_function_has_a_signature_and_a_docstring_of_its_schema() -> None:
    function = make(CONVERT)
    signature = inspect.signature(function)
    assert list(signature.parameters) == ["source_timezone", "time", "note", "from_", "tags"]
    assert signature.parameters["time"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert signature.parameters["tags"].kind is inspect.Parameter.KEYWORD_ONLY
    assert function.__annotations__ == {
        "source_timezone": str, "time": str | float, "note": str | None, "from_": int, "tags": list[str],
        "return": str,
    }  # fmt: skip
    assert (function.__name__, function.__module__) == ("convert_time", "toolscore_tools.time")
    assert function.__doc__.splitlines() == [
        "Convert a time.",
        "Between zones.",
        "",
        "Args:",
        "    source_timezone: IANA name of the source",
        "    time:",
        "    note (optional; 'none' if left out):",
        "    from_ (optional; one of 1, 2; sent as 'from'):",
        "    tags (optional):",
    ]
    assert "Convert a time." in pydoc.render_doc(function)


def test_optional_arguments_are_sent_only_where_they_are_given() -> None:
    sent: list[Any] = []
    function = make(CONVERT, sent)
    function("UTC", 5, from_=2, tags=None, note=None)
    assert sent == [("time__convert_time", {"source_timezone": "UTC", "time": 5, "from": 2, "note": None})]


def test_a_schema_that_allows_more_takes_more() -> None:
    sent: list[Any] = []
    make({"name": "a", "inputSchema": {"additionalProperties": {}, "properties": {"more": {}}}}, sent)(
        more=1, x=2
    )
    assert sent == [("a", {"x": 2, "more": 1})]


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        {"properties": 5, "required": 5},
        {"properties": {"a": True, "b": None, "c": {"type": 5, "anyOf": 5, "enum": 5, "default": [1]}}},
        {"properties": {"a": {}}, "required": [1, "z"]},
        {"properties": {"a": {"anyOf": [5, {"type": "null"}]}, "d": {"type": ["string", 7]}, "e": {"type": []}}},
        {"properties": {"a": {"type": {}, "oneOf": [{"type": ["x"]}]}}, "additionalProperties": "yes"},
        {"properties": {"": {}, "1": {}, "a b": {}, "a-b": {}, "self": {}, "__class__": {}}},
        {"properties": {"\ud800": {}, "²": {}, "é": {}}},
        {"properties": {"a): import os; os._exit(": {"description": '"""\nimport os', "default": "exec('')"}}},
    ],
)  # fmt: skip
def test_no_schema_makes_a_function_impossible(schema: Any) -> None:
    tool = {"name": "a", "description": 5, "inputSchema": schema, "outputSchema": schema}
    sent: list[Any] = []
    function = make(tool, sent)
    parameters = inspect.signature(function).parameters
    assert all(name.isidentifier() for name in parameters)
    given = {
        name: 1
        for name, parameter in parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    function(**given)
    asked = schema.get("properties", {}) if isinstance(schema, dict) else {}
    assert set(sent[0][1]) >= set(asked if isinstance(asked, dict) else ())
