"""Sessions as trajectories: what an agent did, step by step, and what it observed, for pipelines that train on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

NAME = "toolscore.trajectory"
VERSION = 1
"""Version of the document; it changes when members are renamed or get another meaning, not when some are added."""

_STEPS = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})

_TEXT: dict[str, Any] = {"type": "string"}
_MAYBE: dict[str, Any] = {"type": ["string", "null"]}

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": NAME,
    "description": "What clients did in their sessions, in order, and what came of it.",
    "type": "object",
    "required": ["schema", "version", "episodes"],
    "properties": {
        "schema": {"const": NAME},
        "version": {"const": VERSION},
        "episodes": {"type": "array", "items": {"$ref": "#/$defs/episode"}},
    },
    "$defs": {
        "episode": {
            "type": "object",
            "required": ["session", "client", "started", "ended", "complete", "steps", "totals"],
            "properties": {
                "session": {"description": "As the client named it, otherwise the connection.", **_TEXT},
                "client": {
                    "description": "Who: the principal is proven, name and version are what it says of itself.",
                    "type": "object",
                    "required": ["principal"],
                    "properties": {"principal": _TEXT, "listener": _TEXT, "name": _TEXT, "version": _TEXT},
                },
                "started": {"description": "Time of its first record (RFC 3339, UTC).", **_TEXT},
                "ended": {"description": "Time of its last record.", **_TEXT},
                "complete": {
                    "description": "Whether the records have its beginning and its end, and none of it were cut.",
                    "type": "boolean",
                },
                "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
                "totals": {
                    "type": "object",
                    "required": ["steps", "failed", "seconds", "argument_bytes", "result_bytes", "outcomes"],
                    "properties": {
                        "steps": {"type": "integer"},
                        "failed": {"description": "Steps whose outcome is not ok.", "type": "integer"},
                        "seconds": {"description": "Of all steps that no other one made.", "type": "number"},
                        "argument_bytes": {"type": "integer"},
                        "result_bytes": {"type": "integer"},
                        "outcomes": {"type": "object", "additionalProperties": {"type": "integer"}},
                    },
                },
            },
        },
        "step": {
            "type": "object",
            "required": ["index", "id", "time", "parent", "action", "observation", "seconds", "server"],
            "properties": {
                "index": {"description": "From 0, in the order they began.", "type": "integer"},
                "id": {"description": "Of its record in the journal.", **_TEXT},
                "time": _TEXT,
                "parent": {
                    "description": "Index of the step whose code made this one.",
                    "type": ["integer", "null"],
                },
                "action": {
                    "type": "object",
                    "required": ["method", "tool", "arguments", "truncated"],
                    "properties": {
                        "method": _TEXT,
                        "tool": {"description": "Tool, prompt or uri.", **_TEXT},
                        "arguments": {"description": "null where they were not kept."},
                        "truncated": {"$ref": "#/$defs/truncated"},
                    },
                },
                "observation": {
                    "type": "object",
                    "required": ["outcome", "is_error", "content", "structured", "error", "truncated"],
                    "properties": {
                        "outcome": {"description": "ok, error, or what it was refused with.", **_TEXT},
                        "is_error": {"type": "boolean"},
                        "content": {"description": "MCP content blocks; null where they were not kept."},
                        "structured": {"description": "structuredContent of a tool's result."},
                        "error": {"description": "What was said of a failure.", **_MAYBE},
                        "truncated": {"$ref": "#/$defs/truncated"},
                    },
                },
                "seconds": {"type": "number"},
                "server": {
                    "type": "object",
                    "required": ["name", "version"],
                    "properties": {"name": _TEXT, "version": _MAYBE},
                },
                "trace": _TEXT,
            },
        },
        "truncated": {
            "description": "null, or what is to be said of the whole of which only the beginning was kept.",
            "type": ["object", "null"],
            "required": ["bytes", "sha256"],
            "properties": {"bytes": {"type": "integer"}, "sha256": _TEXT},
        },
    },
}
"""JSON Schema of the document."""


def trajectories(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Make the document of records. Sessions of one name are one only where they are of one principal."""
    sessions: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        session, client = record.get("session"), record.get("client")
        if isinstance(session, str) and isinstance(client, dict):
            sessions.setdefault((session, str(client.get("principal"))), []).append(record)
    episodes = [_episode(key[0], found) for key, found in sessions.items()]
    episodes = [one for one in episodes if one["steps"]]
    return {
        "schema": NAME,
        "version": VERSION,
        "episodes": sorted(episodes, key=lambda one: (one["started"], one["session"])),
    }


def _episode(session: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    made = sorted(
        (record for record in records if record.get("method") in _STEPS), key=lambda one: one["time"]
    )
    index = {record["span"]: number for number, record in enumerate(made) if "span" in record}
    steps = [_step(number, record, index) for number, record in enumerate(made)]
    kinds = {record["kind"] for record in records}
    # An episode that the client named is as long as it says; only a connection has ends of its own.
    whole = {"session_begun", "session_ended"} <= kinds or not any(_of_connection(one) for one in records)
    client = max((record["client"] for record in records), key=len)
    outcomes: dict[str, int] = {}
    for step in steps:
        outcome = step["observation"]["outcome"]
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    times = [record["time"] for record in records]
    return {
        "session": session,
        "client": {key: client[key] for key in ("principal", "listener", "name", "version") if key in client},
        "started": min(times),
        "ended": max(times),
        "complete": whole and not any(record.get("cut") for record in made),
        "steps": steps,
        "totals": {
            "steps": len(steps),
            "failed": len(steps) - outcomes.get("ok", 0),
            "seconds": round(sum(step["seconds"] for step in steps if step["parent"] is None), 6),
            "argument_bytes": sum(_size(record, "arguments") for record in made),
            "result_bytes": sum(_size(record, "result") for record in made),
            "outcomes": outcomes,
        },
    }


def _of_connection(record: dict[str, Any]) -> bool:
    """Tell whether a record's session is its connection, and not one the client has named."""
    run = str(record.get("id")).partition("-")[0]
    return bool(record["session"] == f"{run}.{record['client'].get('connection')}")


def _step(number: int, record: dict[str, Any], index: dict[str, int]) -> dict[str, Any]:
    result, cut = record.get("result"), record.get("cut") or {}
    told = result if isinstance(result, dict) else {}
    outcome = str(record.get("outcome") or "")
    return {
        "index": number,
        "id": record.get("id"),
        "time": record["time"],
        "parent": index.get(record.get("parent") or ""),
        "action": {
            "method": record["method"],
            "tool": record.get("tool") or record.get("subject") or "",
            "arguments": record.get("arguments"),
            "truncated": cut.get("arguments"),
        },
        "observation": {
            "outcome": outcome,
            "is_error": outcome != "ok",
            "content": next((told[key] for key in ("content", "contents", "messages") if key in told), None),
            "structured": told.get("structuredContent") or told.get("completion"),
            "error": record.get("error"),
            "truncated": cut.get("result"),
        },
        "seconds": record.get("seconds") or 0.0,
        "server": {"name": record.get("server") or "", "version": record.get("version")},
        "trace": record.get("trace") or "",
    }


def _size(record: dict[str, Any], name: str) -> int:
    return int((record.get("bytes") or {}).get(name, 0))
