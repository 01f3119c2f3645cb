"""What callers may ask for: checked before anything runs, refused in words that help."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from toolscore.sandbox.arguments import ExecuteArguments, StartArguments, checked_path, parsed, schema
from toolscore.sandbox.refusal import CallRefusedError


def execute(**arguments: Any) -> ExecuteArguments:
    return parsed(ExecuteArguments, "python_execute", {"code": "1", **arguments})


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "",
        ".",
        "./",
        "a//b",
        "a/",
        "a\0b",
        "a\nb",
        "..",
        "x" * 256,
        "a/" * 17 + "b",
    ],
)
def test_an_input_path_that_could_leave_the_workspace_or_be_no_file_is_refused(path: str) -> None:
    with pytest.raises(CallRefusedError) as refused:
        execute(files=[{"path": path, "text": ""}])
    assert refused.value.outcome == "invalid_arguments"
    assert (
        "Nothing was run. files.0.path: must" in refused.value.message
        or "is too long" in refused.value.message
    )


@pytest.mark.parametrize(
    ("path", "kept"), [("./a.txt", "a.txt"), ("d/e f/ü.csv", "d/e f/ü.csv"), ("..a", "..a")]
)
def test_an_ordinary_input_path_is_taken(path: str, kept: str) -> None:
    assert checked_path(path) == kept


def test_files_come_as_text_or_base64() -> None:
    raw = bytes(range(256))
    given = execute(
        files=[{"path": "a", "text": "é"}, {"path": "b/c", "base64": base64.b64encode(raw).decode()}]
    )
    assert [(file.path, file.data) for file in given.input_files(1000)] == [("a", "é".encode()), ("b/c", raw)]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([{"path": "a"}], "either text or base64"),
        ([{"path": "a", "text": "", "base64": ""}], "either text or base64"),
        ([{"path": "a", "text": "", "mode": 7}], "Extra inputs"),
        ([{"path": str(n), "text": ""} for n in range(257)], "at most 256"),
    ],
)
def test_files_that_are_not_as_described_are_refused(files: list[Any], problem: str) -> None:
    with pytest.raises(CallRefusedError, match=problem):
        execute(files=files)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([{"path": "a", "base64": "not!"}], "not valid Base64"),
        ([{"path": "a", "text": "x" * 101}], "larger than the 100 bytes"),
        ([{"path": "a", "text": "é" * 51}], "larger than the 100 bytes"),
        ([{"path": "a", "base64": "A" * 400}], "larger than the 100 bytes"),
        ([{"path": "a", "text": "x" * 60}, {"path": "b", "text": "x" * 60}], "larger than"),
        ([{"path": "a", "text": ""}, {"path": "./a", "text": ""}], "given twice"),
        ([{"path": "a", "text": ""}, {"path": "a/b", "text": ""}], "file and a folder"),
        ([{"path": "a/b", "text": ""}, {"path": "a", "text": ""}], "file and a folder"),
        ([{"path": "a", "text": "\ud800"}], "surrogate"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_the_run(files: list[Any], problem: str) -> None:
    given = execute(files=files)
    with pytest.raises(CallRefusedError, match=problem):
        given.input_files(100)


@pytest.mark.parametrize(
    "wrong",
    [{"code": 1}, {"limits": {"wall": 0}}, {"limits": {"wall": float("nan")}}, {"limits": {"memory": "1GB"}},
     {"limits": {"processes": 1.5}}, {"limits": {"disk": 1}}, {"packages": "numpy"}, {"cwd": "/"}],
)  # fmt: skip
def test_wrong_arguments_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(CallRefusedError, match=next(iter(wrong))):
        execute(**wrong)


def test_a_refusal_does_not_repeat_what_was_given() -> None:
    with pytest.raises(CallRefusedError) as refused:
        execute(stdin=["secret"])
    assert "secret" not in refused.value.message
    assert refused.value.result()["isError"] is True


def test_memory_is_asked_for_in_mebibytes() -> None:
    limits = execute(limits={"memory": 64, "wall": 2}).limits
    assert limits is not None
    assert limits.asked() == {"memory": 64 << 20, "wall": 2}


def test_schemas_are_plain() -> None:
    made = schema(ExecuteArguments)
    assert made["required"] == ["code"]
    assert made["additionalProperties"] is False
    assert made["properties"]["files"]["items"]["properties"]["base64"]["type"] == "string"
    assert "$defs" not in str(made)
    assert "anyOf" not in str(made)
    assert schema(StartArguments)["properties"]["ttl"]["type"] == "number"
