"""What a caller is told of an execution: always valid, short for a model, whole for a program."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic_core import from_json, to_json

from plain_boxes import ISOLATION
from toolscore.sandbox.artifacts import Artifact
from toolscore.sandbox.execution import CodeError, Execution, Image, Status
from toolscore.sandbox.results import SCHEMA, SHOWN_TEXT, result


def told(execution: Execution, *files: Artifact, **options: Any) -> dict[str, Any]:
    """The result as a client of the wire reads it."""
    made = result(execution, files, **{"embed_limit": 100, "embed_total": 150, **options})
    read: dict[str, Any] = from_json(to_json(made), allow_inf_nan=False)
    Draft202012Validator(SCHEMA).validate(read["structuredContent"])
    return read


def done(**members: Any) -> Execution:
    return Execution(**{"status": Status.OK, "isolation": ISOLATION, **members})


def test_text_says_first_what_a_model_needs() -> None:
    made = told(done(value=3, repr="3", stdout=b"hello\n"))
    assert made["content"][0]["text"] == "value: 3\nstdout:\nhello"
    assert made["isError"] is False
    failed = told(
        done(
            status=Status.ERROR, error=CodeError("ValueError", "no", "Traceback\nValueError: no"), stderr=b"e"
        )
    )
    assert failed["content"][0]["text"] == "status: error\nerror:\nTraceback\nValueError: no\nstderr:\ne"
    assert failed["isError"] is True


@pytest.mark.parametrize(("code", "error"), [(0, False), (7, True)])
def test_exit_code_zero_is_no_error(code: int, error: bool) -> None:
    assert told(done(status=Status.EXITED, exit_code=code))["isError"] is error


def test_long_output_is_cut_in_the_text_and_whole_in_the_structure() -> None:
    made = told(done(stdout=b"x" * 100_000))
    assert len(made["structuredContent"]["stdout"]) == 100_000
    assert len(made["content"][0]["text"]) < SHOWN_TEXT + 100


def test_raw_bytes_and_lone_surrogates_give_a_valid_reply() -> None:
    made = told(
        done(
            stdout=b"\xff\xfea\x00",
            value={"\ud800": "\udfff", "pair": "\U0001f600"},
            repr="\ud83d\ude00",
            error=CodeError("\ud800", "\udc00", "\ud800"),
            message="\ud800",
            skipped=["\udcff"],
            truncated={"repr"},
        )
    )
    assert made["structuredContent"]["stdout"] == "\ufffd\ufffda\0"
    assert made["structuredContent"]["value"] == {"\ufffd": "\ufffd", "pair": "\U0001f600"}
    assert made["structuredContent"]["repr"] == "\U0001f600"


def test_values_that_parsers_cannot_read_are_given_in_another_form() -> None:
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    with_deep = told(done(value=deep))["structuredContent"]
    assert with_deep["truncated"] == ["value"]
    assert told(done(value=[float("nan"), float("-inf")]))["structuredContent"]["value"] == ["nan", "-inf"]
    assert told(done(value=10**6000))["structuredContent"]["truncated"] == ["value"]
    assert told(done(value=2**64))["structuredContent"]["value"] == 2**64


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(st.characters(exclude_categories=())),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    ),
    st.binary(),
)
def test_whatever_came_out_of_a_box_the_reply_can_be_read(value: Any, output: bytes) -> None:
    told(done(value=value, stdout=output, stderr=output, repr=str(value)))


def test_small_files_are_in_the_result_and_larger_ones_are_links() -> None:
    def file(name: str, data: bytes, mime: str = "text/plain") -> Artifact:
        return Artifact(name, len(data), mime, f"sandbox://executions/x/{name}", data)

    lost = Artifact("lost", 9, "text/plain", None, None)
    made = told(
        done(),
        file("a.txt", b"text"),
        file("b.png", b"\xff", "image/png"),
        file("big", b"x" * 101),
        file("c", b"y" * 100),
        file("over-all", b"z" * 90),
        lost,
    )
    kinds = [block["type"] for block in made["content"]]
    assert kinds == ["text", "resource", "resource", "resource_link", "resource", "resource_link"]
    assert made["content"][1]["resource"]["text"] == "text"
    assert made["content"][2]["resource"]["blob"] == "/w=="
    assert made["content"][3]["size"] == 101
    assert [item["uri"] is None for item in made["structuredContent"]["files"]] == [False] * 5 + [True]


def test_figures_are_images_and_nothing_else_is() -> None:
    made = told(done(images=[Image("image/png", b"1"), Image("text/html; x", b"2")]))
    assert [block.get("mimeType") for block in made["content"]] == [None, "image/png"]
