"""`scores`: how well tools really work."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ...runners.spec import silent
from ..database_home import has_store
from ..settings import Settings
from .backend import open_backend
from .output import Output
from .results import structured


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Show the scores of tools, or of one tool in full.

    Returns:
        The exit status.
    """
    name: str | None = options.name
    if not has_store(settings):
        # Looking must not make a home.
        if name is not None:
            out.error(f"There is no tool or server named '{name}'. There are: none yet.")
            return 4
        told: dict[str, Any] = {"scores": [], "total": 0, "note": None}
    else:
        asked: dict[str, Any] = {"order": options.order, "limit": options.limit}
        if name is not None:
            asked["tool" if "__" in name else "server"] = name
        async with open_backend(settings, out.remark) as backend:
            told = structured(await backend.call("tool_score", asked, silent))
    if out.json_wanted:
        out.document(told)
    elif not told["scores"]:
        out.line(told["note"] or "no tool was called yet")
    elif name is not None and "__" in name:
        _one(told["scores"][0], out)
    else:
        out.table(_HEADERS, [_row(one["name"], one) for one in told["scores"]])
        if told["total"] > len(told["scores"]):
            out.remark(f"{told['total'] - len(told['scores'])} more; --limit shows up to 100")
    return 0


_HEADERS = ("tool", "score", "succeeded", "failed", "excused", "p50", "p90", "p99", "version", "failures")


def _row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(one["failures"].items()))
    return (
        name,
        "-" if one["score"] is None else f"{one['score']:.2f}",
        str(one["successes"]),
        str(sum(one["failures"].values())),
        str(sum(one["excused"].values())),
        *(_seconds(one[key]) for key in ("p50", "p90", "p99")),
        one["version"] or "-",
        kinds,
    )


def _one(one: dict[str, Any], out: Output) -> None:
    last = one["last_failure"]
    excused = ", ".join(f"{kind} {count}" for kind, count in sorted(one["excused"].items()))
    rows = [
        ("", one["explained"]),
        ("last failure", f"{last['at']} {last['kind']}: {last['text'] or ''}".rstrip(": ") if last else ""),
        ("excused", excused),
        ("since", one["since"]),
        ("last call", one["last_call"]),
    ]
    out.line(one["name"])
    for key, value in rows:
        if value:
            out.line(f"  {key:<14}{value}")
    out.table(("version", *_HEADERS[1:8], _HEADERS[9]), [_version(version) for version in one["versions"]])


def _version(one: dict[str, Any]) -> tuple[str, ...]:
    row = _row(one["version"] or "-", one)
    return (*row[:8], row[9])


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
