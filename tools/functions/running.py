"""A call of a function as a call of the python-executor, and what came of that as the function's result."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from ..fitting import problem
from ..outcome import Outcome, RefusalError
from .function import Function
from .names import EXECUTOR

EXECUTE = f"{EXECUTOR}__python_execute"

SHOWN = 16_000
"""Characters of a stream, and of a traceback, in a result: the beginning and the end of what is longer."""

_OURS = re.compile(r'  File "<code[^"]*", line \d+, in .*\n(?:    .*\n)*')
"""A frame of `box_code.py` in a traceback."""


@cache
def box_code() -> str:
    """Give the code that runs a function in the box."""
    return Path(__file__).with_name("box_code.py").read_text("utf-8") + "\n_run()\n"


def arguments_of(function: Function, arguments: dict[str, Any]) -> dict[str, Any]:
    """Give the arguments of the `python_execute` that runs it.

    Raises:
        RefusalError: If they do not fit its signature.
    """
    if wrong := problem(arguments, function.definition["inputSchema"]):
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"The arguments of {function.tool} are not right: {wrong}. describe_tool(tool='{function.tool}') shows "
            "them.",
        )
    job = {
        "source": function.source,
        "file": f"{function.name}.py",
        "module": f"function_{function.name}",
        "entry": function.entry,
        "arguments": arguments,
    }
    asked: dict[str, Any] = {"code": box_code(), "stdin": to_json(job).decode()}
    if function.packages:
        asked["packages"] = list(function.packages)
    return asked


def result_of(function: Function, result: dict[str, Any]) -> dict[str, Any]:
    """Make of a result of `python_execute` the function's own (MCP `CallToolResult`)."""
    told = result.get("structuredContent")
    if not isinstance(told, dict) or "status" not in told:
        return result  # a refusal, in words of its own
    blocks = list(result.get("content") or ())
    rest = blocks[1:]
    if told["status"] != "ok":
        text = _failure(function, told) or (blocks[0].get("text", "") if blocks else "")
        return {"content": [_text(text), *_output(told), *rest], "isError": True, **_meta(told)}
    value, lost = told.get("value"), "value" in told.get("truncated", ())
    schema = function.definition.get("outputSchema")
    if value is None and told.get("repr") is not None:
        lost = True
    wrong = None if schema is None or lost else problem(value, schema)
    if schema is not None and (lost or wrong):
        what = (
            f"what it gave is no JSON: {_cut(str(told.get('repr')))}" if lost else f"in what it gave, {wrong}"
        )
        text = f"{function.name} does not give what its signature says: {what}."
        return {"content": [_text(text), *_output(told), *rest], "isError": True, **_meta(told)}
    content = [_text(str(told.get("repr")) if lost else _shown(value)), *_output(told), *rest]
    if lost:
        note = "What it gave has no form in JSON, or is too large for it: the text is its repr."
        return {"content": [*content, _text(note)], **_meta(told)}
    structured = value if isinstance(value, dict) else {"result": value}
    return {"content": content, "structuredContent": structured, **_meta(told)}


def _failure(function: Function, told: dict[str, Any]) -> str:
    """Say what an exception was, with the lines of the function's own source."""
    error = told.get("error")
    if told["status"] != "error" or not isinstance(error, dict):
        return f"{function.name} did not end with a result.\n" + "\n".join(
            [f"status: {told['status']}", *(f"note: {note}" for note in told.get("notes", ()))]
        )
    trace = _OURS.sub("", str(error.get("traceback") or "")).rstrip()
    summary = f"{error.get('type')}: {error.get('message')}"
    return "\n".join([_cut(trace or summary), *(f"note: {note}" for note in told.get("notes", ()))])


def _output(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Give what it printed, each stream as a text of its own; cut, as the result is what the function gives."""
    return [_text(f"{name}:\n{_cut(told[name].rstrip())}") for name in ("stdout", "stderr") if told.get(name)]


def _meta(told: dict[str, Any]) -> dict[str, Any]:
    return {"_meta": {"toolscore/status": told["status"], "toolscore/usage": told.get("usage")}}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str, most: int = SHOWN) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
