"""Records as OpenTelemetry spans, in the JSON of OTLP 1: `ExportTraceServiceRequest` of opentelemetry-proto.

Ids are hexadecimal, names in camelCase, 64-bit numbers texts (OTLP specification, "JSON Protobuf Encoding").
Attributes are those of the semantic conventions for MCP and GenAI (both in development there); what they have no
name for begins with `toolscore.`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import to_json

from ..names import OWN_SERVER

INTERNAL, SERVER = 1, 2
"""Kinds of spans (`SpanKind` of opentelemetry-proto)."""

OK, ERROR = 1, 2
"""Codes of a status."""

_TARGETS = {
    "resources/read": "mcp.resource.uri",
    "prompts/get": "gen_ai.prompt.name",
}
_TRANSPORTS = {"stdio": "pipe", "unix": "unix", "ws": "tcp", "http": "tcp"}
_FINE = frozenset({"ok", "cancelled"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def request(records: Iterable[dict[str, Any]], version: str) -> dict[str, Any]:
    """Give records as one export request.

    Args:
        records: The records.
        version: Version of ToolScore.
    """
    resource = {"service.name": OWN_SERVER, "service.version": version}
    spans = [found for record in records if (found := span(record)) is not None]
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeSpans": [{"scope": {"name": "toolscore.journal", "version": version}, "spans": spans}],
            }
        ]
    }


def span(record: dict[str, Any]) -> dict[str, Any] | None:
    """Give one record as a span; `None` if it has no trace."""
    trace, identity = record.get("trace"), record.get("span")
    if not isinstance(trace, str) or not isinstance(identity, str):
        return None
    method, outcome = record.get("method"), str(record.get("outcome") or "")
    begun = _nanoseconds(record["time"])
    made: dict[str, Any] = {
        "traceId": trace,
        "spanId": identity,
        "name": _name(record),
        "kind": SERVER if method and not record.get("depth") else INTERNAL,
        "startTimeUnixNano": str(begun),
        "endTimeUnixNano": str(begun + round(float(record.get("seconds") or 0) * 1e9)),
        "attributes": _attributes(_described(record)),
        "status": _status(outcome, record.get("error")),
    }
    if isinstance(parent := record.get("parent"), str):
        made["parentSpanId"] = parent
    return made


def _name(record: dict[str, Any]) -> str:
    method = record.get("method")
    if not method:
        return f"{OWN_SERVER} {record['kind']}"
    # The name of a resource is its address, of which there are too many to group spans by.
    target = record.get("tool") or (record.get("subject") if method == "prompts/get" else None)
    return f"{method} {target}" if target else str(method)


def _described(record: dict[str, Any]) -> dict[str, Any]:
    method, client = record.get("method"), record.get("client") or {}
    outcome = str(record.get("outcome") or "")
    told: dict[str, Any] = {
        "mcp.method.name": method,
        "mcp.session.id": record.get("session"),
        "mcp.protocol.version": client.get("protocol"),
        "network.transport": _TRANSPORTS.get(str(client.get("listener"))),
        "toolscore.record.id": record.get("id"),
        "toolscore.record.kind": record["kind"],
        "toolscore.outcome": outcome,
        "toolscore.server.name": record.get("server") or None,
        "toolscore.server.version": record.get("version"),
        "toolscore.client.name": client.get("name"),
        "toolscore.client.version": client.get("version"),
        "toolscore.client.principal": client.get("principal"),
        "toolscore.client.listener": client.get("listener"),
        "toolscore.client.connection": client.get("connection"),
    }
    if outcome not in _FINE:
        # The convention's word for a result that says isError.
        told["error.type"] = "tool_error" if outcome == "error" and method == "tools/call" else outcome
    if method == "tools/call":
        told |= {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": record.get("tool"),
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": record.get("id"),
            "gen_ai.tool.call.arguments": _text(record.get("arguments")),
            "gen_ai.tool.call.result": _text(record.get("result")),
        }
    elif method:
        told[_TARGETS.get(method, "toolscore.subject")] = record.get("subject")
    for name, size in (record.get("bytes") or {}).items():
        told[f"toolscore.{name}.bytes"] = size
    for name in record.get("cut") or {}:
        told[f"toolscore.{name}.cut"] = True
    if "detail" in record:
        told["toolscore.detail"] = _text(record["detail"])
    return told


def _text(value: Any) -> str | None:
    return None if value is None else to_json(value).decode()


def _status(outcome: str, said: Any) -> dict[str, Any]:
    if outcome in _FINE:
        return {"code": OK} if outcome == "ok" else {}
    return {"code": ERROR, **({"message": said} if isinstance(said, str) and said else {})}


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}


def _nanoseconds(time: str) -> int:
    try:
        return (datetime.fromisoformat(time) - _EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, TypeError, OverflowError):
        return 0
