"""Putting one version of a server in the place of another, so that at no moment there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from ...runners.errors import InstallError, SourceError
from ...runners.installers.tree import delete_tree
from ...runners.lifecycle import State
from ...runners.pin import Pin
from ...runners.spec import Candidate, Installation, Report
from ..completion import completed
from ..errors import LibraryError
from ..outcome import Outcome, RefusalError
from ..rows import Said, ServerRow, said_by
from .pinned import with_tools
from .places import clear, next_place, note_again, noted, place_in, remember

if TYPE_CHECKING:
    from ..servers import Servers

STEPS = 4
"""Steps an upgrade reports: building, starting, putting in its place, done."""

CLEARING = 30.0
"""Seconds that deleting an old version may take; the next upgrade or start deletes what is left."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of starting a version where nobody sees it.

    Attributes:
        said: What it said of itself; `None` if it did not start.
        tools: Its tools.
        reason: Why it did not start.
        constraint: A version constraint that is likely to cure that.
    """

    said: Said | None
    tools: list[dict[str, Any]]
    reason: str | None = None
    constraint: str | None = None


async def tried(servers: Servers, installation: Installation) -> Tried:
    """Start a version where nobody sees it, list its tools, and end it.

    Not of a service: it has no tools, and two of it would have one volume and one port.
    """
    if installation.spec.is_service:
        return Tried({"era": None, "server_info": None, "instructions": None, "offers": None}, [])
    unit = servers.supervisor.trial(installation)
    try:
        unit.start()
        state = await unit.settled()
        if state is State.READY and unit.session is not None:
            return Tried(said_by(unit.session, unit.offers), unit.tools)
        return Tried(None, [], unit.life.reason or "it ended at once", unit.constraint)
    finally:
        with anyio.CancelScope(shield=True):
            await servers.supervisor.end_trial(unit)


def refuse_failed(trial: Tried, installation: Installation) -> None:
    """Refuse a version that did not start.

    Raises:
        RefusalError: If it did not.
    """
    if trial.said is None:
        raise RefusalError(
            Outcome.FAILED_TO_START,
            f"Version {installation.version or 'new'} of '{installation.name}' does not start, so that it is what it "
            f"was: {trial.reason}",
        )


@asynccontextmanager
async def built(
    servers: Servers, row: ServerRow, candidate: Candidate, report: Report, *, startless: bool = False
) -> AsyncIterator[tuple[Tried, Installation]]:
    """Build another version of a server beside the one there is, and try it.

    Unless it has taken the place of that by the end of the block, it is gone then.

    Args:
        servers: All servers.
        row: The server.
        candidate: What to build.
        report: Told of every step.
        startless: Whether it may also be one that cannot be started yet.

    Raises:
        RefusalError: If it cannot be built, or does not start.
    """
    assert row.installation.directory is not None
    directory = Path(row.installation.directory)
    try:
        place = await asyncio.to_thread(next_place, directory)
        candidate = candidate.model_copy(update={"place": place})
        try:
            installation, trial = await _made(servers, row, candidate, report)
            if trial.constraint is not None and candidate.locked is None:
                await report(1, STEPS, f"it needs {trial.constraint}: building its environment again")
                await delete_tree(directory / place)
                more = (*candidate.constraints, trial.constraint)
                candidate = candidate.model_copy(update={"constraints": more})
                installation, trial = await _made(servers, row, candidate, report)
            if not startless:
                refuse_failed(trial, installation)
            yield trial, with_tools(installation, None if trial.said is None else trial.tools)
        finally:
            now = servers.library.servers.get(row.name)
            if now is None or place_in(now.installation) != place:
                with anyio.CancelScope(shield=True):
                    await delete_tree(directory / place)
    except OSError as error:
        raise RefusalError(Outcome.INSTALL_FAILED, f"'{row.name}' is what it was: {error}.") from error


async def _made(
    servers: Servers, row: ServerRow, candidate: Candidate, report: Report
) -> tuple[Installation, Tried]:
    async def within_first_step(done: float, _total: float | None, message: str) -> None:
        await report(1 - 1 / (done + 1), STEPS, message)

    try:
        installation = await servers.runner.install_server(candidate, within_first_step)
    except SourceError as error:
        raise RefusalError(Outcome.INVALID_ARGUMENTS, str(error)) from error
    except InstallError as error:
        raise RefusalError(Outcome.INSTALL_FAILED, f"'{row.name}' is what it was: {error}") from error
    installation = installation.model_copy(update={"keeping": row.installation.keeping})
    await report(1, STEPS, f"starting {row.name} {installation.version or ''}".rstrip())
    return installation, await tried(servers, installation)


async def take_over(
    servers: Servers, row: ServerRow, installation: Installation, trial: Tried, report: Report
) -> ServerRow:
    """Put a version in the place of the one there is: in the store first, then the process.

    Args:
        servers: All servers.
        row: The server as it is.
        installation: What takes its place.
        trial: What came of trying that.
        report: Told of every step.

    Returns:
        The server as it is stored now.

    Raises:
        RefusalError: If it cannot be stored, or does not come up in its place. It is as it was then.
    """
    name = row.name
    await report(3, STEPS, f"putting {name} {installation.version or ''} in its place")
    async with servers.configuring:
        now = servers.row(name)
        # What was set for it meanwhile holds.
        installation = installation.model_copy(update={"keeping": now.installation.keeping})
        said: Said = trial.said or {"era": None, "server_info": None, "instructions": None, "offers": None}
        fresh = replace(now, installation=installation, **said)
        directory = None if installation.directory is None else Path(installation.directory)
        known = [row.definition for row in servers.library.listed(name)]
        # From here to the end whoever asked for it may go away: it is one version or the other.
        fresh = await completed(_exchanged(servers, now, fresh, trial.tools, known, directory))
    await report(STEPS, STEPS, f"{name} is {installation.version or 'another one'} now")
    return fresh


async def _exchanged(
    servers: Servers,
    now: ServerRow,
    fresh: ServerRow,
    tools: list[dict[str, Any]],
    known: list[dict[str, Any]],
    directory: Path | None,
) -> ServerRow:
    kept = None if directory is None else await asyncio.to_thread(noted, directory)
    try:
        if directory is not None:
            note = await asyncio.to_thread(remember, directory, now.installation)
            fresh = _knowing(fresh, note)
        await servers.library.exchange(fresh, tools)
    except (OSError, LibraryError) as error:
        if directory is not None:
            await asyncio.to_thread(note_again, directory, kept)
        raise RefusalError(Outcome.INSTALL_FAILED, f"'{now.name}' is what it was: {error}") from error
    failure = await _swapped(servers, fresh)
    if failure is not None:
        await servers.library.exchange(now, known)
        await _swapped(servers, now)
        if directory is not None:
            await asyncio.to_thread(note_again, directory, kept)
        raise RefusalError(
            Outcome.FAILED_TO_START,
            f"Server '{now.name}' did not start in its place, and is what it was: {failure}",
        )
    if directory is not None:
        with anyio.move_on_after(CLEARING):
            await clear(directory, {place_in(fresh.installation), place_in(now.installation)})
    return fresh


def _knowing(row: ServerRow, note: str) -> ServerRow:
    """Let the pin of a server know the note of the version before."""
    pin = (row.installation.pin or Pin()).model_copy(update={"previous": note})
    return replace(row, installation=row.installation.model_copy(update={"pin": pin}))


async def _swapped(servers: Servers, fresh: ServerRow) -> str | None:
    """Put another version under supervision; tell why it does not come up, if the one before it was up."""
    supervisor = servers.supervisor
    old = supervisor.units[fresh.name]
    was_up = old.life.state is State.READY
    unit = await supervisor.exchange(fresh.installation, era=fresh.era)
    unit.enabled = fresh.enabled
    if fresh.enabled and was_up:
        unit.start()
        if await unit.settled() is not State.READY:
            return unit.life.reason or "it ended at once"
    return None
