"""`lock`, `verify`, `sync`, `upgrade`: what exactly is installed, whether it still is, and other versions of it."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runners.spec import Report, silent
from ...tools.replace import next_step, replace_file
from ..database_home import has_store
from ..settings import Settings
from .backend import Backend, open_backend
from .output import Output
from .results import ToolFailedError, structured

if TYPE_CHECKING:
    from ...tools.pins.lock_file import LockedServer

_FEW = 12
"""Packages that are shown of an upgrade that was not asked for."""

_LINES = 40
"""Lines of one tool's diff that are shown then."""

_HASH = 23
"""Characters of a hash that are shown, with its kind."""


class _Failed(Exception):
    """A file cannot be read or written. The text says why."""


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Do one of the commands.

    Returns:
        The exit status.
    """
    from ...tools.pins.lock_file import LockError

    try:
        lock = None
        if options.command in ("verify", "sync") and options.file is not None:
            lock = _read(options.file)  # before a home is opened: a slip must not cost that
        if options.command == "verify" and lock is None and not has_store(settings):
            return _verified(
                {"clean": True, "servers": 0, "findings": []}, out
            )  # looking must not make a home
        async with open_backend(settings, out.remark) as backend:
            match options.command:
                case "lock":
                    return await _lock(options, backend, out)
                case "verify":
                    return await _verify(options, lock, backend, out)
                case "sync":
                    return await _sync(options, lock or {}, backend, out)
                case _:
                    return await _upgrade(options, backend, out)
    except (_Failed, LockError) as error:
        out.error(str(error))
        return 1


def _read(file: str) -> dict[str, LockedServer]:
    from ...tools.pins.lock_file import MAX_BYTES, parse

    try:
        if file == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        cure = " `toolscore lock FILE` writes one." if isinstance(error, FileNotFoundError) else ""
        raise _Failed(f"{file} cannot be read: {error.strerror}.{cure}") from error
    return parse(content, "standard input" if file == "-" else file)


async def _lock(options: Namespace, backend: Backend, out: Output) -> int:
    from ...tools.pins.lock_file import render

    document = structured(await backend.call("export_lock", {}, silent))["lock"]
    text = render(document)
    if options.file == "-":
        print(text, end="")
        return 0
    path = Path(options.file)
    try:
        replace_file(path, text.encode("utf-8", "surrogatepass"))
    except OSError as error:
        raise _Failed(f"{path} cannot be written: {error.strerror}. {next_step(error)}") from error
    count = len(document["servers"])
    out.line(f"{path}: {count} server{'' if count == 1 else 's'}")
    return 0


async def _verify(
    options: Namespace, lock: dict[str, LockedServer] | None, backend: Backend, out: Output
) -> int:
    from ...tools.pins.lock_file import write

    for name in options.accept:
        done = structured(await backend.call("accept_server", {"name": name}, silent))
        out.remark(f"{name}: accepted as it is, with {done['tools']} tools")
    asked: dict[str, Any] = {}
    if lock is not None:
        # The texts were looked at here; what is compared are their hashes.
        asked["lock"] = write({name: one.brief() for name, one in lock.items()})
    return _verified(structured(await backend.call("verify_servers", asked, silent)), out)


def _verified(told: dict[str, Any], out: Output) -> int:
    if out.json_wanted:
        out.document(told)
    elif told["clean"]:
        count = told["servers"]
        out.line(
            f"{count} server{' is' if count == 1 else 's are'} what {'it' if count == 1 else 'they'} should be"
        )
    else:
        rows = [(one["server"], one["what"], _pair(one), one["todo"]) for one in told["findings"]]
        out.table(("server", "difference", "expected, and found", "what to do"), rows)
    return 0 if told["clean"] else 1


def _pair(one: dict[str, Any]) -> str:
    if not one["expected"]:
        return str(one["found"])
    return f"{_cut(one['expected'])}, and found {_cut(one['found'])}"


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


async def _sync(options: Namespace, lock: dict[str, LockedServer], backend: Backend, out: Output) -> int:
    places = dict(options.places)
    if unknown := sorted(places.keys() - lock.keys()):
        raise _Failed(f"there is no server {', '.join(unknown)} in {options.file}")
    if unknown := sorted({key.partition("/")[0] for key, _ in options.secrets} - lock.keys()):
        raise _Failed(
            f"there is no server {', '.join(unknown)} in {options.file}: a key begins with a name of it"
        )
    names = _in_order(lock)
    plan: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for name in names:
        await _one(name, lock[name], options, True, backend, out, plan, failed)
    extra = await _extra(lock, backend)
    todo = [one["name"] for one in plan if one["action"] != "unchanged"]
    prune = extra if options.prune else []
    asked = out.terminal and sys.stdin.isatty() and not options.yes and not options.dry_run
    if asked and (todo or prune) and not _agreed(_planned(plan, lock, prune), out):
        return 1
    if not options.dry_run:
        refused = dict(failed)
        plan = [one for one in plan if one["action"] == "unchanged"]
        chosen = [one for one in names if one in todo and one not in refused]
        for place, name in enumerate(chosen):
            whole = place, len(chosen)
            await _one(name, lock[name], options, False, backend, out, plan, failed, whole)
        for name in prune:
            await _prune(name, backend, failed)
    document = {
        "servers": plan,
        "removed": [name for name in prune if name not in failed],
        "extra": [] if options.prune else extra,
        "failed": failed,
        "dry_run": options.dry_run,
    }
    _synced(document, out)
    return 1 if failed else 0


async def _one(
    name: str,
    locked: LockedServer,
    options: Namespace,
    dry_run: bool,
    backend: Backend,
    out: Output,
    plan: list[dict[str, Any]],
    failed: dict[str, str],
    whole: tuple[int, int] = (0, 1),
) -> None:
    asked = {
        "name": name,
        "locked": locked.dump(),
        "dry_run": dry_run,
        "other_tools": options.other_tools,
    }
    if given := {key: value for key, value in options.secrets if key.partition("/")[0] == name}:
        asked["secrets"] = given
    if (place := dict(options.places).get(name)) is not None:
        asked["source"] = str(Path(place).absolute()) if Path(place).exists() else place
    try:
        if dry_run:
            plan.append(structured(await backend.call("sync_server", asked, silent)))
            return
        async with out.progress() as report:
            told = _of_all(name, *whole, report)
            plan.append(structured(await backend.call("sync_server", asked, told)))
    except ToolFailedError as failure:
        failed[name] = str(failure)


def _of_all(name: str, place: int, count: int, report: Report) -> Report:
    """Make of one server's progress that of all: how many are done, and which one it is."""

    async def told(progress: float, total: float | None, message: str) -> None:
        share = min(progress / total, 1.0) if total else 0.0
        await report(place + share, count, f"{name} ({place + 1} of {count}): {message}" if message else "")

    return told


async def _extra(lock: dict[str, LockedServer], backend: Backend) -> list[str]:
    listed = structured(await backend.call("list_servers", {}, silent))["servers"]
    # What is part of ToolScore, or comes by itself, is in no lock.
    return [
        one["name"]
        for one in listed
        if one["name"] not in lock and one["kind"] != "builtin" and not one["source"].startswith("register:")
    ]


async def _prune(name: str, backend: Backend, failed: dict[str, str]) -> None:
    try:
        try:
            structured(await backend.call("uninstall_server", {"name": name}, silent))
        except ToolFailedError as failure:
            if "unregister_tool" not in str(failure):
                raise
            structured(await backend.call("unregister_tool", {"name": name}, silent))
    except ToolFailedError as failure:
        failed[name] = str(failure)


def _in_order(lock: dict[str, LockedServer]) -> list[str]:
    """Give the servers so that each comes after those it needs."""
    done: list[str] = []

    def add(name: str, path: tuple[str, ...]) -> None:
        if name in done or name in path or name not in lock:
            return
        for need in lock[name].keeping.depends_on or ():
            add(need, (*path, name))
        done.append(name)

    for name in sorted(lock):
        add(name, ())
    return done


def _planned(plan: list[dict[str, Any]], lock: dict[str, LockedServer], prune: list[str]) -> list[str]:
    lines = []
    for one in plan:
        if one["action"] == "unchanged":
            continue
        locked = lock[one["name"]]
        how = (
            locked.fetched
            if locked.installed
            else " ".join(filter(None, (locked.command, *locked.args, locked.url)))
        )
        verb = "install" if one["action"] == "installed" else "replace"
        lines.append(f"{verb} {one['name']} {one['version'] or ''} ({how})")
    return lines + [f"uninstall {name}" for name in prune]


def _agreed(lines: list[str], out: Output) -> bool:
    for line in lines:
        out.line(line)
    print("Do this? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    out.error("nothing was changed", name=False)
    return False


def _synced(document: dict[str, Any], out: Output) -> None:
    if out.json_wanted:
        out.document(document)
    else:
        would = "would be " if document["dry_run"] else ""
        for one in document["servers"]:
            verb = one["action"] if one["action"] == "unchanged" else would + one["action"]
            out.line(f"{one['name']} {one['version'] or ''}: ".replace(" :", ":") + verb)
            for missing in one["missing"]:
                out.line(f"  needs {missing}, which is not here; --secret KEY=VALUE gives a secret")
            for note in one["notes"]:
                if not note.startswith("it needs "):  # which is said above
                    out.line(f"  {note}")
        for name in document["removed"]:
            out.line(f"{name}: {would}removed")
        for name in document["extra"]:
            out.remark(f"{name} is not in the lock; --prune removes it")
    for name, why in document["failed"].items():
        out.error(f"{name}: {why}")


async def _upgrade(options: Namespace, backend: Backend, out: Output) -> int:
    asked: dict[str, Any] = {"name": options.name, "rollback": options.rollback}
    if options.to is not None:
        place = Path(options.to)
        asked["to"] = str(place.absolute()) if "/" in options.to and place.exists() else options.to
    if options.diff or (out.terminal and sys.stdin.isatty() and not options.yes):
        async with out.progress() as report:
            shown = structured(await backend.call("upgrade_server", {**asked, "only_show": True}, report))
        _changes(shown, out, whole=True)  # a yes approves it
        if options.diff or (_nothing(shown) and not options.rollback):
            return 0
        if not _agreed(_approved(shown), out):
            return 1
        asked["agreed"] = shown["mark"]
    async with out.progress() as report:
        done = structured(await backend.call("upgrade_server", asked, report))
    if out.json_wanted:
        out.document(done)
    elif "agreed" in asked:
        out.line(f"{options.name} is {done['after'] or 'upgraded'} now")
    else:
        _changes(done, out)
    return 0


def _short(text: str | None) -> str:
    if text is None:
        return "none"
    kind, _, rest = text.rpartition(":")
    if kind in ("", "sha256", "git") and len(rest) >= 40 and not rest.strip("0123456789abcdef"):
        return f"{text[:_HASH]}..."
    return text


def _nothing(told: dict[str, Any]) -> bool:
    return bool(told["same"]) and not told["tools"]


def _approved(told: dict[str, Any]) -> list[str]:
    """Say what a yes approves besides."""
    if any(tool["kind"] != "removed" for tool in told["tools"]):
        return ["  a yes approves these tools as they are shown"]
    return []


def _changes(told: dict[str, Any], out: Output, *, whole: bool = False) -> None:
    if out.json_wanted:
        if not told["done"]:
            out.document(told)
        return
    before, after = told["before"] or "?", told["after"] or "?"
    if _nothing(told):
        out.line(f"{told['name']} {after}: nothing is different")
        return
    out.line(f"{told['name']}: {before} -> {after}")
    for note in told["notes"]:
        out.line(f"  note: {note}")
    for one in told["fetched"]:
        out.line(f"  {one['name']} {_short(one['before'])} -> {_short(one['after'])}")
    packages = told["packages"] if whole else told["packages"][:_FEW]
    for one in packages:
        if one["before"] is None:
            out.line(f"  package {one['name']} {one['after']} added")
        elif one["after"] is None:
            out.line(f"  package {one['name']} {one['before']} removed")
        else:
            out.line(f"  package {one['name']} {one['before']} -> {one['after']}")
    if len(told["packages"]) > len(packages):
        out.line(f"  and {len(told['packages']) - len(packages)} packages more")
    for tool in told["tools"]:
        out.line(f"  tool {json.dumps(tool['name'], ensure_ascii=False)} {tool['kind']}")
        lines = tool["diff"] if tool["kind"] != "removed" or whole else []
        shown = lines if whole else lines[:_LINES]
        for line in shown:
            out.line(f"    {line}")
        if len(lines) > len(shown):
            out.line(f"    ... and {len(lines) - len(shown)} lines more")
    if not told["tools"]:
        out.line("  its tools stay as they are")
