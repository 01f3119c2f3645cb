"""The tools of the python-executor, as MCP lists them (`Tool`)."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any

from .limits import UNITS, Limits, shown
from .results import ISOLATION_SCHEMA, SCHEMA
from .settings import SandboxSettings

MODES = {
    "separate": "a process of its own",
    "embedded": "a part of ToolScore's process",
    "cluster": "one on each node of a cluster",
}
"""How an executor runs, by the values of the setting sandbox.mode."""

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_COUNT = {"type": "integer"}
_SESSION_SCHEMA = {
    "type": "object",
    "properties": {
        "session": _TEXT,
        "ends_in": {**_NUMBER, "description": "Seconds until it ends in any case."},
        "idle_limit": {**_NUMBER, "description": "Seconds without use after which it ends."},
        "notes": {"type": "array", "items": _TEXT},
    },
    "required": ["session", "ends_in", "idle_limit"],
}

_SECONDS, _BYTES = ({**_NUMBER, "description": f"{unit}."} for unit in ("Seconds", "Bytes"))
_LIMITS_SCHEMA = {
    "type": "object",
    "description": "Of one execution. The text of the result has them with their units.",
    "properties": {
        limit.name: _SECONDS
        if limit.name in ("wall", "cpu")
        else (_BYTES if limit.name in UNITS else {**_COUNT, "description": "At the most."})
        for limit in fields(Limits)
    },
}


def definitions(settings: SandboxSettings) -> list[dict[str, Any]]:
    """Give them, with the operator's limits and packages in their descriptions."""
    from .arguments import EndArguments, ExecuteArguments, StartArguments, StatusArguments, schema

    limits = settings.limits
    have = (
        f"the standard library and {', '.join(settings.packages)}"
        if settings.packages
        else "the standard library"
    )
    version = ".".join(str(part) for part in sys.version_info[:2])
    execute = schema(ExecuteArguments)
    execute["properties"]["limits"]["description"] = (
        f"Lower limits for this call. Without: {shown('wall', limits.wall)}, {shown('cpu', limits.cpu)} of processor "
        f"time, {shown('memory', limits.memory)}, {limits.processes} processes, {limits.output} bytes of output."
    )
    return [
        {
            "name": "python_execute",
            "title": "Run Python",
            "description": f"Runs Python {version} code in an isolated sandbox without network, with {have}. Returns "
            "the last expression's value, stdout, stderr, the traceback, created files and open matplotlib figures. "
            "Each call starts fresh; pass a session to keep variables and files.",
            "inputSchema": execute,
            "outputSchema": SCHEMA,
            "annotations": {"destructiveHint": False, "openWorldHint": False},
        },
        {
            "name": "session_start",
            "title": "Start a Python session",
            "description": "Starts a session for python_execute in which variables, imports and files stay between "
            "calls. End it with session_end; it also ends by itself when it is not used.",
            "inputSchema": schema(StartArguments),
            "outputSchema": _SESSION_SCHEMA,
            "annotations": {"destructiveHint": False, "openWorldHint": False},
        },
        {
            "name": "session_end",
            "title": "End a Python session",
            "description": "Ends a session at once, with all that runs or is stored in it.",
            "inputSchema": schema(EndArguments),
            "outputSchema": {
                "type": "object",
                "properties": {"session": _TEXT, "ended": {"type": "boolean"}, "executions": _COUNT},
                "required": ["session", "ended"],
            },
            "annotations": {"destructiveHint": True, "idempotentHint": True, "openWorldHint": False},
        },
        {
            "name": "sandbox_status",
            "title": "Sandbox status",
            "description": "Tells what isolates the code, as found by a self-test, and the limits, packages and your "
            "sessions.",
            "inputSchema": schema(StatusArguments),
            "outputSchema": {
                "type": "object",
                "properties": {
                    "ready": {"type": "boolean"},
                    "problem": {"anyOf": [_TEXT, {"type": "null"}]},
                    "mode": {"type": "string", "enum": list(MODES)},
                    "isolation": ISOLATION_SCHEMA,
                    "limits": _LIMITS_SCHEMA,
                    "packages": {"type": "array", "items": _TEXT},
                    "installed": {"type": "array", "items": _TEXT},
                    "preload": {"type": "array", "items": _TEXT},
                    "allow_packages": {"type": "array", "items": _TEXT},
                    "pools": {"type": "array", "items": {"type": "object"}},
                    "sessions": {"type": "array", "items": _SESSION_SCHEMA},
                    "nodes": {
                        "type": "array",
                        "items": {"type": "object"},
                        "description": "Of a cluster: where code runs.",
                    },
                },
                "required": ["ready", "isolation", "limits", "packages", "sessions"],
            },
            "annotations": {"readOnlyHint": True, "openWorldHint": False},
        },
    ]
