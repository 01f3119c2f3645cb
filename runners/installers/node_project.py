"""A Node server in a folder: its dependencies, its build, and the file that starts it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InstallError
from ..pin import NPM_LOCK
from . import npm_lock
from .entry import Entry, choose
from .explain import explain
from .node import Node, bins, file_entry, find_node, name_of, read_package
from .run import Job

FILES = tuple(
    f"{place}{stem}{suffix}"
    for place in ("", "dist/", "build/", "lib/", "src/")
    for stem in ("index", "server", "main")
    for suffix in (".js", ".mjs", ".cjs")
)
"""Files that are taken for the server where nothing is declared, in this order."""

SUFFIXES = (".js", ".mjs", ".cjs")
_SHELL = re.compile(r"[&|;<>$`()\\*?]")
_DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")


@dataclass(frozen=True, slots=True)
class _Start:
    """A file to run with node, and what stands around it on the command line."""

    file: str
    options: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


async def install_node(job: Job, root: Path, wanted: str | None) -> Entry:
    """Install the dependencies of a Node project, build it where needed, and find its entry point.

    Args:
        job: The installation this is a part of.
        root: Its folder.
        wanted: Program or file the source named.

    Raises:
        InstallError: If it cannot be fetched or built, or has no entry point.
    """
    node = find_node(job.node)
    package = read_package(root) if (root / "package.json").is_file() else {}
    start = _declared(root, package, wanted)
    scripts = package.get("scripts")
    scripts = scripts if isinstance(scripts, dict) else {}
    missing = start is None or not (root / start.file).is_file()
    build = missing and "build" in scripts
    if any(package.get(key) for key in _DEPENDENCIES):
        # Compilers and bundlers are development dependencies; npm runs `prepare` after an install.
        await _install(job, node, root, development=build or "prepare" in scripts)
    # `prepare` may have built it already.
    if build and (start is None or not (root / start.file).is_file()):
        await job.say("building (npm run build)")
        done = await node.run_npm(job, "run", "build", cwd=root)
        if done.returncode:
            raise explain("npm", name_of(package) or root.name, done.output)
    start = start or _found(root)
    if start is None:
        raise InstallError(
            f"There is no entry point in {name_of(package) or root.name}: its package.json names none in "
            "bin, main or "
            "scripts.start, and there is no index.js, dist/index.js or build/index.js; append the right "
            "file to the source, as in #path/to/file.js."
        )
    return file_entry(
        node,
        root,
        start.file,
        package,
        options=start.options,
        args=start.args,
        others=start.others,
        cwd=str(root),
    )


async def _install(job: Job, node: Node, root: Path, *, development: bool) -> None:
    options = ("--no-fund", "--no-audit", "--no-global", "--loglevel", "warn")
    kinds = "--include=dev" if development else "--omit=dev"  # whatever NODE_ENV says
    own = root / "npm-shrinkwrap.json"  # which comes before the other, and is part of the project
    lock = own if own.is_file() else root / NPM_LOCK
    if job.locked is not None and lock != own and (text := job.locked.locks.get(NPM_LOCK)) is not None:
        npm_lock.check(text)
        lock.write_text(text, encoding="utf-8")
    locked = lock.is_file()
    await job.say(f"installing what {root.name} depends on (npm)")
    done = await node.run_npm(job, "ci" if locked else "install", *options, kinds, cwd=root)
    if job.locked is not None and not locked:
        raise InstallError("What was locked has no lock of npm packages, and this needs one; lock it anew.")
    if done.returncode and locked and job.locked is None and "EUSAGE" in done.output:
        await job.say("package-lock.json does not fit package.json; installing without it")
        done = await node.run_npm(job, "install", *options, kinds, cwd=root)
    if done.returncode:
        raise explain("npm", "its dependencies", done.output)
    if lock.is_file():
        text = npm_lock.freed(lock.read_text(encoding="utf-8"))
        job.keep(NPM_LOCK, text)
        job.unhashed += npm_lock.unhashed(text)


def _declared(root: Path, package: Mapping[str, Any], wanted: str | None) -> _Start | None:
    """Read the entry point a package declares; its file need not be there yet."""
    programs = bins(package)
    if wanted is not None:
        if wanted in programs or not wanted.endswith(SUFFIXES):
            chosen = choose(programs, name_of(package) or root.name, wanted)
            return _Start(programs[chosen], others=tuple(sorted(set(programs) - {chosen})))
        return _Start(wanted)
    if programs:
        chosen = choose(programs, name_of(package) or root.name)
        return _Start(programs[chosen], others=tuple(sorted(set(programs) - {chosen})))
    if start := _start_script(package):
        return start
    main = package.get("main")
    return _Start(_with_suffix(root, main)) if isinstance(main, str) and main else None


def _start_script(package: Mapping[str, Any]) -> _Start | None:
    """Read `scripts.start` of the form `node [options] FILE [args]`; anything else would need a shell."""
    scripts = package.get("scripts")
    line = scripts.get("start") if isinstance(scripts, dict) else None
    if not isinstance(line, str) or _SHELL.search(line):
        return None
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    file = next((i for i, word in enumerate(words) if i and not word.startswith("-")), None)
    if not words or words[0] != "node" or file is None:
        return None
    return _Start(words[file], tuple(words[1:file]), tuple(words[file + 1 :]))


def _with_suffix(root: Path, main: str) -> str:
    """Complete a `main` as node does: it may leave out the suffix or name a folder."""
    tries = (main, f"{main}.js", f"{main.rstrip('/')}/index.js")
    return next((name for name in tries if (root / name).is_file()), main)


def _found(root: Path) -> _Start | None:
    return next((_Start(name) for name in FILES if (root / name).is_file()), None)
