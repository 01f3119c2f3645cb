"""`functions`: the functions that were registered as tools, and their files."""

from __future__ import annotations

import importlib.util
from argparse import Namespace
from pathlib import Path
from typing import Any

from ...runners.spec import silent
from ...tools.functions.errors import FunctionError
from ...tools.functions.function import HEADER, Draft, from_file
from ..settings import Settings
from .backend import Backend, open_backend
from .output import Output
from .results import ToolFailedError, structured


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Do one command on functions.

    Returns:
        The exit status.
    """
    try:
        drafts = _drafts(options)
    except (FunctionError, OSError, ValueError) as error:
        out.error(str(error))
        return 1
    try:
        async with open_backend(settings, out.remark) as backend:
            match options.what:
                case "list":
                    return await _list(backend, out)
                case "show":
                    return await _show(options, backend, out)
                case "add" | "import":
                    return await _add(drafts, backend, out)
                case "export":
                    return await _export(options, backend, out)
                case _:
                    return await _manage(options, backend, out)
    except OSError as error:
        out.error(f"{error.filename or options.target}: {error.strerror or error}")
        return 1


def _drafts(options: Namespace) -> list[Draft]:
    """Read the files that are to be added, before anything is opened."""
    if options.what not in ("add", "import"):
        return []
    place = Path(options.target).expanduser()
    files = sorted(place.glob("*.py")) if place.is_dir() else [place]
    if not files:
        raise FunctionError(f"{place} holds no Python files")
    if options.what == "add" and place.is_dir():
        raise FunctionError(f"{place} is a folder: `toolscore functions import {place}` takes all its files")
    drafts = []
    for file in files:
        try:
            draft = from_file(_text(file.read_bytes()), file.stem)
        except OSError as error:
            raise FunctionError(f"{file} cannot be read: {error.strerror}") from error
        except (FunctionError, SyntaxError, ValueError, LookupError) as error:
            raise FunctionError(f"{file}: {error}") from error
        drafts.append(
            Draft(
                options.name or draft.name,
                draft.source,
                tuple(options.package) or draft.packages,
                draft.hints,
            )
        )
    return drafts


def _text(data: bytes) -> str:
    """Decode a source as Python does; what `export` wrote is UTF-8, whatever its source says of its encoding."""
    if data.startswith(HEADER.encode()):
        return data.decode()
    return importlib.util.decode_source(data)


async def _add(drafts: list[Draft], backend: Backend, out: Output) -> int:
    done, status = [], 0
    for draft in drafts:
        arguments = {
            "name": draft.name,
            "source": draft.source,
            "packages": list(draft.packages),
            "annotations": draft.hints,
        }
        try:
            added = structured(await backend.call("register_tool", arguments, silent))
        except ToolFailedError as failure:  # the other files are taken all the same
            if len(drafts) == 1:
                raise
            out.error(f"{draft.name}: {failure}")
            status = 1
            continue
        done.append(added)
        if out.json_wanted:
            continue
        for note in added["notes"]:
            out.remark(f"note: {note}")
        out.line(f"{added['tools'][0]}: version {added['version']}")
    if out.json_wanted:
        out.document({"functions": done})
    return status


async def _list(backend: Backend, out: Output) -> int:
    found = structured(await backend.call("show_functions", {}, silent))
    if out.json_wanted:
        out.document(found)
    elif not found["functions"]:
        out.line("no functions: `toolscore functions add FILE` adds one")
    else:
        out.table(
            ("tool", "version", "description"),
            [
                (one["tool"], str(one["version"]), one["description"].partition("\n")[0])
                for one in found["functions"]
            ],
        )
    return 0


async def _show(options: Namespace, backend: Backend, out: Output) -> int:
    one = await _one(options.target, options.version, backend)
    if out.json_wanted:
        out.document(one)
        return 0
    versions = ", ".join(
        f"{kept['version']}{' (current)' if kept['current'] else ''}" for kept in one["versions"]
    )
    out.remark(f"{one['tool']} version {one['version']} of {one['created']}; kept: {versions}")
    out.line(one["source"].rstrip("\n"))
    return 0


async def _manage(options: Namespace, backend: Backend, out: Output) -> int:
    arguments: dict[str, Any] = {"name": options.target, "action": options.what}
    if options.version:
        arguments["version"] = options.version
    done = structured(await backend.call("manage_function", arguments, silent))
    if out.json_wanted:
        out.document(done)
    else:
        out.line(
            f"removed {done['name']}"
            if done["version"] is None
            else f"{done['name']}: version {done['version']}"
        )
    return 0


async def _export(options: Namespace, backend: Backend, out: Output) -> int:
    """Write each function into a folder, as a file that `import` takes."""
    folder = Path(options.target).expanduser()
    names = [options.name] if options.name else [one["name"] for one in await _all(backend)]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        one = await _one(name, options.version, backend)
        file = folder / f"{one['name']}.py"
        file.write_bytes(one["file"].encode())
        written.append(str(file))
    if out.json_wanted:
        out.document({"files": written})
    else:
        for path in written:
            out.line(path)
        if not written:
            out.line("no functions: nothing was written")
    return 0


async def _all(backend: Backend) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = structured(await backend.call("show_functions", {}, silent))["functions"]
    return found


async def _one(name: str, version: int | None, backend: Backend) -> dict[str, Any]:
    asked: dict[str, Any] = {"name": name} | ({"version": version} if version else {})
    one: dict[str, Any] = structured(await backend.call("show_functions", asked, silent))["functions"][0]
    return one
