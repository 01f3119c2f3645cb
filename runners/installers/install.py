"""One installation from its source to its spec; whatever fails leaves nothing behind."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread

from ..errors import InstallError
from ..guard import Guard
from ..pin import Pin
from ..programs import find_program
from ..spec import Candidate, Installation, Report, ServerSpec, SourceKind
from . import node as node_installer
from . import python as python_installer
from .entry import Entry
from .explain import explain_os
from .folder import install_folder
from .git import install_git
from .mcpb import install_mcpb
from .pinning import pin_command, pin_installed
from .record import DamagedError
from .run import Job
from .source import Source, parse
from .tree import delete_tree

UNDO = 30.0
"""Seconds the removal of a failed installation may take, whoever waits."""


async def install(
    candidate: Candidate,
    *,
    servers: Path,
    report: Report,
    timeout: float = 600,
    python: str | None = None,
    node: str | None = None,
    guard: Guard | None = None,
) -> Installation:
    """Install a server into `<servers>/<name>`.

    Args:
        candidate: What to install and under which name.
        servers: The folder that holds one folder for each server.
        report: Told of every step.
        timeout: Seconds it may take.
        python: Interpreter for Python environments; ToolScore's own when `None`.
        node: The `node` program; found when `None`.
        guard: Starts what installs it; without one that outlives a ToolScore that is killed.

    Returns:
        The installation; nothing of it was started.

    Raises:
        SourceError: If the source is not understood.
        InstallError: If it cannot be fetched or built, or has no entry point. Nothing is left behind.
    """
    source = parse(candidate.source)
    if source.kind is SourceKind.COMMAND:
        entry = _command(source)
        done = _installation(candidate, source, entry)
        pin = await anyio.to_thread.run_sync(pin_command, done.spec, candidate.source, len(entry.args))
        return done.model_copy(update={"pin": pin})
    directory = place = new_directory(servers, candidate.name, candidate.place)
    if candidate.place:
        directory = servers.absolute() / candidate.name
    job = Job(
        place, report, timeout, python or sys.executable, node, candidate.constraints, guard, candidate.locked
    )
    try:
        try:
            entry, pin = await _install_and_pin(job, source, candidate, directory)
            return _installation(candidate, source, entry, directory, pin)
        except OSError as error:
            raise explain_os(error, f"Installing {candidate.name}") from error
    except BaseException:
        with anyio.move_on_after(UNDO, shield=True):
            await undo(place)
        raise


async def remove(installation: Installation, *, servers: Path) -> None:
    """Delete the folder of an installation. One that is already gone is no error.

    Args:
        installation: What `install` returned.
        servers: The folder that holds one folder for each server.

    Raises:
        InstallError: If the folder is not one of `servers`, or cannot be deleted.
    """
    if installation.directory is None:
        return
    directory = Path(installation.directory)
    # The parent is resolved, the last part is not: it could be a link to anywhere.
    inside = directory.parent.resolve() == servers.resolve() and directory.name not in ("", ".", "..")
    if not inside or directory.is_symlink():
        raise InstallError(f"{directory} is no folder of a server in {servers}; it was not deleted.")
    try:
        await delete_tree(directory)
    except OSError as error:
        raise explain_os(error, f"Deleting {directory}") from None


async def _install_and_pin(
    job: Job, source: Source, candidate: Candidate, directory: Path
) -> tuple[Entry, Pin]:
    entry = await _install(job, source, candidate)
    if candidate.locked is not None and entry.version != candidate.locked.version:
        raise InstallError(
            f"{candidate.source} came to version {entry.version}, and {candidate.locked.version} was locked; "
            "nothing was kept."
        )
    try:
        return entry, await pin_installed(job, directory, candidate, entry)
    except DamagedError as damaged:
        if not job.cached:
            raise
        # Whoever writes into one environment writes into uv's cache too, and into all others that share the file; the
        # cache is the user's and stays as it is.
        await job.say(
            f"{', '.join(damaged.paths[:5])} changed in uv's cache since it was fetched (`uv cache clean` "
            "empties it); fetching everything anew, past the cache"
        )
    await delete_tree(job.directory)
    job.directory.mkdir(mode=0o700)
    job.begin_anew()
    return await _install_and_pin(job, source, candidate, directory)


async def _install(job: Job, source: Source, candidate: Candidate) -> Entry:
    if candidate.sha256 is not None:
        if source.kind not in (SourceKind.PYPI, SourceKind.NPM):
            raise InstallError(f"A checksum goes with a package from an index, not with {candidate.source}.")
        source = replace(source, sha256=candidate.sha256)
    if candidate.locked is not None and source.kind is SourceKind.GIT:
        source = replace(source, ref=(candidate.locked.content or "").removeprefix("git:") or source.ref)
    match source.kind:
        case SourceKind.PYPI:
            return await python_installer.install_package(job, source)
        case SourceKind.NPM:
            return await node_installer.install_package(job, source)
        case SourceKind.GIT:
            return await install_git(job, source)
        case SourceKind.FOLDER:
            return await install_folder(job, source)
        case SourceKind.MCPB:
            return await install_mcpb(job, source, candidate.env)
        case _:
            raise InstallError(f"A server of kind {source.kind} is not installed by ToolScore.")


def new_directory(servers: Path, name: str, place: str = "") -> Path:
    """Make the folder of a server, or of a version of it.

    Raises:
        InstallError: If it is there, or cannot be made.
    """
    if not name or name != Path(name).name or name in (".", ".."):
        raise InstallError(f"{name!r} is no name of a server.")
    if place and not re.fullmatch(r"versions/[0-9]{1,9}", place):
        raise InstallError(f"{place!r} is no place of a version.")
    directory = servers.absolute() / name / place
    try:
        servers.mkdir(parents=True, exist_ok=True)
        if place:
            if directory.parent.is_symlink():
                raise InstallError(f"{directory.parent} is a link, and must be a folder; delete it.")
            directory.parent.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700)
    except FileExistsError:
        raise InstallError(
            f"{directory} already exists: choose another name, or uninstall {name} first (if no server of "
            "that name is installed, delete the folder)."
        ) from None
    except OSError as error:
        raise explain_os(error, f"Making the folder {directory}") from None
    return directory


async def undo(directory: Path) -> None:
    """Delete what a failed installation made."""
    try:
        await delete_tree(directory)
    except OSError:
        # The error that led here is the one to tell; the name stays taken, and the next attempt says by what.
        return


def _command(source: Source) -> Entry:
    program, *args = source.argv
    if program.startswith("~") or "/" in program:
        # The server starts in a folder of its own, so a relative path would mean something else there.
        try:
            program = program if "${" in program else str(Path(program).expanduser().absolute())
        except RuntimeError:
            raise InstallError(
                f"{program!r} begins with the home folder of a user who does not exist; give its full path."
            ) from None
    if "${" not in program and find_program(program) is None:
        raise InstallError(
            f"The program {program!r} was not found, or is no program that can be run; install it, or "
            "give its full path."
        )
    return Entry(program, tuple(args))


def _installation(
    candidate: Candidate,
    source: Source,
    entry: Entry,
    directory: Path | None = None,
    pin: Pin | None = None,
) -> Installation:
    # A `${NAME}` is filled in at start, so only the user may write one: not a package that calls a file so.
    fetched = source.kind not in (SourceKind.COMMAND, SourceKind.MCPB)
    if fetched and any("${" in word for word in (entry.command, *entry.args, entry.cwd or "")):
        raise InstallError(f"The entry point of {candidate.source} holds '${{', which no entry point may.")
    env = {key: value for key, value in candidate.env.items() if key not in entry.consumed}
    runtime: Literal["python", "node", "binary"] = entry.runtime
    return Installation(
        server_id=candidate.name,
        kind=source.kind,
        source=candidate.label or candidate.source,
        spec=ServerSpec(
            command=entry.command,
            args=(*entry.args, *candidate.args),
            env={**entry.env, **env},
            cwd=entry.cwd,
            url=candidate.url,
            headers=candidate.headers,
            sse=candidate.sse,
            confine=candidate.confine,
            cluster=candidate.cluster,
        ),
        directory=None if directory is None else str(directory),
        runtime=runtime,
        package=entry.package,
        version=entry.version,
        constraints=candidate.constraints,
        candidates=entry.others,
        pin=pin,
    )
