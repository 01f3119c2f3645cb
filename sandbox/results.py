"""Results of executions as MCP shows them: structured for programs, a short text and the files for models."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from typing import Any

from .artifacts import Artifact, contents, described
from .execution import Execution, Image, Status
from .hints import hint

SHOWN_TEXT = 16 << 10
"""Characters of standard output, and of standard error, in the text block; the structured part has them all."""

SHOWN_VALUE = 8 << 10
"""Characters of the value and of the traceback there."""

DEEPEST = 100
"""Levels of a value; parsers of JSON end at two hundred and the protocol's own come on top."""

MOST_DIGITS = 4300
"""Digits of a number: beyond them Python's own `int` refuses to read it (CVE-2020-10735)."""

_IMAGE = re.compile(r"image/[a-z0-9.+-]{1,40}")

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_COUNT = {"type": "integer"}


def _maybe(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema}


ISOLATION_SCHEMA = _object(tier=_TEXT, layers={"type": "object", "additionalProperties": _TEXT})

SCHEMA: dict[str, Any] = _object(
    status={"type": "string", "enum": [str(status) for status in Status]},
    value={"description": "Value of the last expression, as far as JSON can hold it."},
    repr=_maybe({**_TEXT, "description": "Its repr."}),
    stdout=_TEXT,
    stderr=_TEXT,
    error=_maybe(_object(type=_TEXT, message=_TEXT, traceback=_TEXT)),
    exit_code=_maybe(_COUNT),
    signal=_maybe(_TEXT),
    files=_list(_object(path=_TEXT, size=_COUNT, uri=_maybe(_TEXT), mime=_TEXT)),
    skipped=_list({**_TEXT, "description": "What was not taken out of /workspace, and why."}),
    usage=_object(
        wall=_NUMBER,
        cpu=_NUMBER,
        peak_memory=_maybe({**_COUNT, "description": "Bytes."}),
        peak_source=_maybe(_TEXT),
    ),
    limit=_maybe({**_TEXT, "description": "The limit that ended it."}),
    isolation=ISOLATION_SCHEMA,
    notes=_list(_TEXT),
    truncated=_list({**_TEXT, "description": "Members that were cut."}),
)
SCHEMA["properties"]["session"] = {**_TEXT, "description": "The session it ran in, if that goes on."}


def succeeded(execution: Execution) -> bool:
    """Tell whether the code did what it was to: it ended by itself, without an error or an exit code."""
    return execution.status is Status.OK or (execution.status is Status.EXITED and execution.exit_code == 0)


def result(
    execution: Execution,
    files: Sequence[Artifact],
    *,
    embed_limit: int,
    embed_total: int,
    notes: Sequence[str] = (),
    session: str | None = None,
    allow_packages: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Give an execution as MCP `CallToolResult`.

    Args:
        execution: What came of it; nothing in it is trusted to be well-formed text or JSON.
        files: The files it made, where they are kept.
        embed_limit: Bytes of a file that is put into the result itself.
        embed_total: Bytes of all files in it.
        notes: Remarks for the caller.
        session: The session it ran in, if that goes on.
        allow_packages: Packages that calls may ask for; `None` if that is not known.
    """
    truncated = {scalar(name) for name in execution.truncated}
    value = execution.value
    if not _fits(value):
        value = _cleaned(value, truncated)
    error = execution.error
    usage = execution.usage
    stdout, stderr = (data.decode("utf-8", "replace") for data in (execution.stdout, execution.stderr))
    remarks = (execution.message, *notes, hint(execution, allow_packages))
    notes = [scalar(note) for note in remarks if note]
    structured: dict[str, Any] = {
        "status": str(execution.status),
        "value": value,
        "repr": None if execution.repr is None else scalar(execution.repr),
        "stdout": stdout,
        "stderr": stderr,
        "error": error
        and {
            "type": scalar(error.type),
            "message": scalar(error.message),
            "traceback": scalar(error.traceback),
        },
        "exit_code": execution.exit_code,
        "signal": execution.signal,
        "files": [
            {"path": file.path, "size": file.size, "uri": file.uri, "mime": file.mime} for file in files
        ],
        "skipped": [scalar(name) for name in execution.skipped],
        "usage": {
            "wall": round(usage.wall, 6),
            "cpu": round(usage.cpu, 6),
            "peak_memory": usage.peak_memory,
            "peak_source": usage.peak_source,
        },
        "limit": execution.limit,
        "isolation": execution.isolation.to_json(),
        "notes": notes,
        "truncated": sorted(truncated),
    }
    if session is not None:
        structured["session"] = session
    blocks: list[dict[str, Any]] = [{"type": "text", "text": _told(structured)}]
    blocks.extend(_pictures(execution.images))
    blocks.extend(_attached(files, embed_limit, embed_total))
    return {"content": blocks, "structuredContent": structured, "isError": not succeeded(execution)}


def _told(structured: dict[str, Any]) -> str:
    """Say what a model needs to know: how it ended if not well, the value, the output, the rest where it matters."""
    parts = []
    error = structured["error"]
    if structured["status"] != Status.OK:
        ending = structured["status"]
        for name in ("limit", "exit_code", "signal"):
            if structured[name] is not None:
                ending += f", {name.replace('_', ' ')} {structured[name]}"
        parts.append(f"status: {ending}")
    if error:
        summary = f"{error['type']}: {error['message']}"
        parts.append(f"error:\n{_cut(error['traceback'].rstrip() or summary, SHOWN_VALUE)}")
    if structured["repr"] is not None:
        parts.append(f"value: {_cut(structured['repr'], SHOWN_VALUE)}")
    for name in ("stdout", "stderr"):
        if structured[name]:
            parts.append(f"{name}:\n{_cut(structured[name].rstrip(), SHOWN_TEXT)}")
    if structured["files"]:
        shown = [f"{file['path']} ({file['size']} bytes)" for file in structured["files"]]
        parts.append("files: " + _cut(", ".join(shown), SHOWN_VALUE))
    for name in ("skipped", "truncated"):
        if structured[name]:
            parts.append(f"{name}: " + _cut(", ".join(structured[name]), SHOWN_VALUE))
    parts.extend(f"note: {note}" for note in structured["notes"])
    return "\n".join(parts) or "It ran without output, and its last statement has no value."


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head = most * 2 // 3
    left = len(text) - most
    return f"{text[:head]}\n[… {left} characters left out …]\n{text[-(most - head) :]}"


def _pictures(images: Sequence[Image]) -> list[dict[str, Any]]:
    return [
        {"type": "image", "data": base64.b64encode(image.data).decode(), "mimeType": image.mime}
        for image in images
        if _IMAGE.fullmatch(image.mime)
    ]


def _attached(files: Sequence[Artifact], limit: int, total: int) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for file in files:
        if file.uri is None:
            continue
        if file.data is not None and len(file.data) <= min(limit, total):
            total -= len(file.data)
            blocks.append({"type": "resource", "resource": contents(file.uri, file.mime, file.data)})
        else:
            blocks.append({"type": "resource_link", **described(file)})
    return blocks


def scalar(text: str) -> str:
    """Give text as Unicode scalar values: JSON and UTF-8 have no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _fits(value: Any) -> bool:
    """Tell whether a value is JSON as every parser reads it."""
    level = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                if not item.isascii() and scalar(item) is not item:
                    return False
            elif isinstance(item, dict):
                below.extend(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, float):
                if not math.isfinite(item):
                    return False
            elif isinstance(item, int) and _too_long(item):
                return False
        if not below:
            return True
        level = below
    return False


def _too_long(number: int) -> bool:
    return number.bit_length() > MOST_DIGITS * 3.32


def _cleaned(value: Any, truncated: set[str], depth: int = 1) -> Any:
    """Give a value with what JSON has not in other forms: text for NaN, the nearest characters, no endless depth."""
    if isinstance(value, str):
        return scalar(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and _too_long(value):
        truncated.add("value")
        return f"<integer of {value.bit_length()} bits>"
    if isinstance(value, dict | list) and depth > DEEPEST - 1:
        truncated.add("value")
        return "…"
    if isinstance(value, dict):
        return {scalar(str(key)): _cleaned(item, truncated, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, truncated, depth + 1) for item in value]
    return value
