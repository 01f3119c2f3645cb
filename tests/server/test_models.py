"""Arguments of ToolScore's own tools, as models write them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from toolscore.server.models import ExecuteToolArguments


def test_objects_that_are_written_out_as_text_are_read() -> None:
    def read(arguments: object) -> object:
        return ExecuteToolArguments.model_validate({"tool": "a__b", "arguments": arguments}).arguments

    assert read(' {"a": [1]} ') == {"a": [1]}
    assert read("") == read(None) == {}


@pytest.mark.parametrize("text", ["[1]", "5", "null", "{", "a text", "[" * 200_000])
def test_text_that_holds_no_object_is_refused_however_deep_it_goes(text: str) -> None:
    with pytest.raises(ValidationError):
        ExecuteToolArguments.model_validate({"tool": "a__b", "arguments": text})
