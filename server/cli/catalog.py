"""`catalog`: the servers that can be installed; where they come from, and bringing them up to date."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...runners.spec import silent
from ...tools.catalog.finding import EMPTY
from ..database_home import has_store
from ..settings import Settings
from .backend import Backend, open_backend
from .output import Output
from .results import structured
from .wording import for_people

ROOM = 50_000
"""Of a search: a person has room for what a model has not."""


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Do one command on the catalog.

    Returns:
        The exit status.
    """
    if options.what != "sync" and not has_store(settings):
        return _without_a_home(options, settings, out)  # looking must not make one
    async with open_backend(settings, out.remark) as backend:
        match options.what:
            case "sync":
                return await _sync(options, backend, out)
            case "search":
                return await _search(options, backend, out)
            case "show":
                return await _show(options, backend, out)
            case _:
                return _show_sources(await _asked(backend, "catalog_sources", {}), out)


def _without_a_home(options: Namespace, settings: Settings, out: Output) -> int:
    if options.what == "sources":
        told: dict[str, Any] = {"sources": [_unread(source) for source in settings.catalog.sources]}
        return _show_sources(told, out)
    if options.what == "show":
        out.error(for_people(EMPTY))
        return 4
    if out.json_wanted:
        out.document({"servers": [], "note": EMPTY})
    else:
        out.remark(for_people(EMPTY))
    return 0


def _unread(source: str) -> dict[str, Any]:
    return {
        "source": source,
        "configured": True,
        "servers": 0,
        "complete": None,
        "unfinished": False,
        "problem": None,
    }


async def _asked(
    backend: Backend, tool: str, arguments: dict[str, Any], report: Any = silent
) -> dict[str, Any]:
    asked = {"tool": f"toolscore__{tool}", "arguments": arguments}
    return structured(await backend.call("execute_tool", asked, report))


async def _sync(options: Namespace, backend: Backend, out: Output) -> int:
    arguments: dict[str, Any] = {"full": options.full, "forget": options.forget}
    if options.words:
        arguments["source"] = _source(options.words[0])
    async with out.progress() as report:
        done = await _asked(backend, "sync_catalog", arguments, report)
    failed = any(one["problem"] for one in done["sources"])
    if out.json_wanted:
        out.document(done)
        return 1 if failed else 0
    for one in done["sources"]:
        counts = ", ".join(
            f"{one[what]} {what}" for what in ("new", "updated", "removed", "skipped") if one[what]
        )
        out.line(
            f"{one['source']}: {one['servers']} servers ({counts or 'nothing changed'}) in {one['seconds']:.1f} s"
        )
        for reason in one["reasons"]:
            out.remark(f"skipped: {reason}")
        if one["problem"]:
            out.error(one["problem"])
    if done.get("note"):
        out.remark(done["note"])
    return 1 if failed else 0


async def _search(options: Namespace, backend: Backend, out: Output) -> int:
    asked = {"query": " ".join(options.words), "limit": options.limit, "max_tokens": ROOM}
    found = await _asked(backend, "search_servers", asked)
    if out.json_wanted:
        out.document(found)
        return 0
    for one in found["servers"]:
        out.line(_head(one))
        for line in _lines(one):
            out.line(f"  {line}")
    if found.get("note"):
        out.remark(found["note"])
    return 0


async def _show(options: Namespace, backend: Backend, out: Output) -> int:
    found = await _asked(backend, "catalog_entry", {"name": options.words[0]})
    if out.json_wanted:
        out.document(found)
        return 0
    one = found["server"]
    out.line(_head(one))
    for line in _lines(one, exact="@" in options.words[0]):
        out.line(f"  {line}")
    out.line(f"  versions: {', '.join(found['versions'])}")
    out.line(f"  from: {found['source']}")
    return 0


def _show_sources(found: dict[str, Any], out: Output) -> int:
    if out.json_wanted:
        out.document(found)
        return 0
    rows = []
    for one in found["sources"]:
        state = "never read" if one["complete"] is None else f"read {one['complete']}"
        state += ", unfinished" if one["unfinished"] else ""
        named = "" if one["configured"] else "not in the settings"
        rows.append((one["source"], str(one["servers"]), state, one["problem"] or named))
    if rows:
        out.table(("source", "servers", "state", "remark"), rows)
    else:
        out.line("no sources: set catalog.sources")
    return 0


def _source(text: str) -> str:
    """Name a source so that another directory does not make it another one."""
    if "://" in text or text == "all":
        return text
    return os.path.abspath(Path(text).expanduser())  # noqa: PTH100 - tidies `..`, keeps links


def _head(one: dict[str, Any]) -> str:
    told = [one["name"], one.get("version"), one.get("status")]
    told.append(f"(installed as {one['installed']})" if one.get("installed") else None)
    return " ".join(part for part in told if part)


def _installed_by(call: str) -> str:
    """Give the source of a call of `install_server`, which names the version."""
    source, _end = json.JSONDecoder().raw_decode(call.partition("source=")[2])
    return str(source)


def _lines(one: dict[str, Any], *, exact: bool = False) -> list[str]:
    """Give what is known of a server; `exact` where it is not the newest version that is shown, but one by name."""
    lines = [one["description"]] if one.get("description") else []
    shown: tuple[tuple[str, Callable[[Any], str]], ...] = (
        ("why", str),
        ("tools", ", ".join),
        ("fetches", str),
        ("arguments", str),
        ("licence", str),
        ("published", str),
        ("updated", str),
        ("source_code", str),
    )
    for key, written in shown:
        if one.get(key):
            more = f" and {one['more_tools']} more" if key == "tools" and one.get("more_tools") else ""
            lines.append(f"{key.replace('_', ' ')}: {written(one[key])}{more}")
    for need in one.get("needs") or ():
        marks = [mark for mark in ("required", "secret") if need.get(mark)]
        marks += [f"default {need['default']}"] if need.get("default") else []
        told = f" ({', '.join(marks)})" if marks else ""
        lines.append(
            f"needs: {need['name']}{told}{': ' if need.get('description') else ''}{need.get('description') or ''}"
        )
    lines += [f"note: {note}" for note in one.get("notes") or ()]
    if one.get("install"):
        given = [f"--give {need['name']}=..." for need in one.get("needs") or () if need.get("required")]
        source = _installed_by(one["install"]) if exact else f"registry:{one['name']}"
        lines.append(" ".join((f"install: toolscore install {source}", *given)))
    return lines
