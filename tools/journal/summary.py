"""Records summed up: by session, and altogether."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]


def sessions(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Give the sessions of records, the one that began last at the end: who, from when to when, and how much."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        client, name = record.get("client"), record.get("session")
        if not isinstance(client, dict) or not isinstance(name, str):
            continue
        principal = str(client.get("principal"))
        one = found.get((name, principal))
        if one is None:
            one = found[name, principal] = {
                "session": name,
                "principal": principal,
                "listener": client.get("listener"),
                "client": "",
                "begun": record["time"],
                "last": record["time"],
                "calls": 0,
                "failed": 0,
                "seconds": 0.0,
                "ended": False,
            }
        one["client"] = one["client"] or " ".join(filter(None, (client.get("name"), client.get("version"))))
        one["begun"], one["last"] = min(one["begun"], record["time"]), max(one["last"], record["time"])
        one["ended"] |= record["kind"] == "session_ended"
        if record.get("method"):
            one["calls"] += 1
            one["failed"] += record.get("outcome") != "ok"
            one["seconds"] = round(one["seconds"] + (record.get("seconds") or 0.0), 6)
    return sorted(found.values(), key=lambda one: (one["begun"], one["session"]))


def stats(records: Iterable[Record]) -> dict[str, Any]:
    """Count records: by kind, outcome, server, tool and client, and those that were dropped."""
    kinds: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    clients: Counter[str] = Counter()
    tools: dict[str, dict[str, Any]] = {}
    first = last = None
    dropped = 0
    for record in records:
        first = record["time"] if first is None else min(first, record["time"])
        last = record["time"] if last is None else max(last, record["time"])
        kinds[str(record["kind"])] += 1
        if record["kind"] == "dropped":
            dropped += int((record.get("detail") or {}).get("records", 0))
        if not record.get("method"):
            continue
        outcomes[str(record.get("outcome"))] += 1
        clients[str((record.get("client") or {}).get("principal"))] += 1
        name = str(record.get("tool") or record["method"])
        tool = tools.setdefault(name, {"tool": name, "calls": 0, "failed": 0, "seconds": 0.0, "bytes": 0})
        tool["calls"] += 1
        tool["failed"] += record.get("outcome") != "ok"
        tool["seconds"] = round(tool["seconds"] + (record.get("seconds") or 0.0), 6)
        tool["bytes"] += sum((record.get("bytes") or {}).values())
    return {
        "records": sum(kinds.values()),
        "first": first,
        "last": last,
        "kinds": dict(kinds.most_common()),
        "outcomes": dict(outcomes.most_common()),
        "clients": dict(clients.most_common()),
        "tools": sorted(tools.values(), key=lambda one: -one["calls"]),
        "dropped": dropped,
    }
