"""Calls that are too large for the way to the tools."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from boxes import USERS, Boxes
from payload_driver import Payload
from toolscore.sandbox.calls import LONGEST

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="boxes are for POSIX systems")

REFUSED = "the arguments are too large: 1 MiB at the most"


def test_a_call_has_one_mebibyte_to_the_byte() -> None:
    sizes = []

    def answer(method: str, params: dict[str, Any]) -> Any:
        sizes.append(len(params["arguments"]["x"]))
        return {"content": []}

    before = len(
        '{"type": "call", "call": 1, "method": "call", "params": {"name": "a__b", "arguments": {"x": ""}}}'
    )
    code = f"""
from toolscore_tools import ToolError, call_tool
most = {LONGEST - before}
call_tool("a__b", {{"x": "x" * most}})
try:
    call_tool("a__b", {{"x": "x" * (most + 1)}})
except ToolError as error:
    said = str(error)
call_tool("a__b", {{"x": ""}})
said
"""
    with Payload(answer) as payload:
        assert payload.run(code, tools=True)["value"] == REFUSED
    assert sizes == [LONGEST - before, 0]


@pytest.mark.parametrize("user", USERS[:1], scope="module")
def test_a_call_that_is_much_too_large_does_not_end_the_code(boxes: Boxes) -> None:
    code = """
from toolscore_tools import ToolError, call_tool
try:
    call_tool("echo__echo", {"text": "x" * (40 << 20)})
except ToolError as error:
    said = str(error)
said
"""
    done = boxes.run(code, tools=True)
    assert (done.status, done.value, done.limit) == ("ok", REFUSED, None)
