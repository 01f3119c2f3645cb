"""Bringing one server of a home to what a lock says of it: exactly that, or nothing."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

from ...runners.pin import Pin
from ...runners.spec import Candidate, Installation, Report, SourceKind, silent
from ..caller import Caller
from ..groups import problem
from ..outcome import Outcome, RefusalError
from ..rows import Origin, ServerRow, tool_rows
from .exporting import digests, is_lockable
from .lock_file import LockedServer
from .swapping import built, take_over
from .verifying import compared, differs

if TYPE_CHECKING:
    from ..servers import Servers

_SECRET = re.compile(r"\$\{secret:([^{}]+)\}")
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of one server of a lock.

    Attributes:
        name: The server.
        action: `unchanged`, `installed`, `replaced`; of a dry run what would become of it.
        version: Its version.
        missing: Secrets it refers to and that are not here, and environment variables that ToolScore has not.
        notes: What somebody should know.
    """

    name: str
    action: str
    version: str | None
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def sync(
    servers: Servers,
    name: str,
    locked: LockedServer,
    caller: Caller,
    *,
    source: str | None = None,
    secrets: Mapping[str, str] | None = None,
    other_tools: bool = False,
    dry_run: bool = False,
    origin: Origin = "agent",
    report: Report = silent,
) -> Synced:
    """Bring one server to what a lock says of it.

    Args:
        servers: All servers.
        name: Its name.
        locked: What the lock says.
        caller: In whose name.
        source: Where a folder or bundle is on this machine; where the lock says when `None`.
        secrets: Values of secrets that it refers to, by their keys.
        other_tools: Whether its tools may be others than those that were locked.
        dry_run: Whether to change nothing.
        origin: Who owns the row, where it is new.
        report: Told of every step.

    Raises:
        RefusalError: If it cannot be had, or is not what was locked: then all is as it was.
        LockError: If the lock cannot be followed.
    """
    servers.may_manage(caller)
    if source is not None and locked.kind not in (SourceKind.FOLDER, SourceKind.MCPB):
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"'{name}' comes from {locked.source}: only for a folder or a bundle another place can be given.",
        )
    values = dict(secrets or {})
    if unknown := sorted(
        key for key in values if not key.startswith(f"{name}/") or key not in keys_of(locked)
    ):
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS, f"'{name}' refers to no secret {', '.join(unknown)[:300]}."
        )
    missing = missing_of(servers, locked, values)
    notes = tuple(f"it needs {one}" for one in missing)
    row = servers.library.servers.get(name)
    if row is not None:
        _same_origin(row, locked)
        async with _given(servers, {} if dry_run else values):
            if not missing and not dry_run and row.enabled and row.server_info is None:
                row = await _begun(servers, name)
            at_hand = _at_hand(locked, row, missing)
            if not await asyncio.to_thread(differs, row, digests(servers, name), at_hand):
                await _enabled(servers, row, locked, dry_run=dry_run)
                return Synced(name, "unchanged", locked.version, missing, notes)
            if row.origin == "file":
                raise RefusalError(
                    Outcome.REFUSED,
                    f"Server '{name}' is declared in the configuration file, and is not what is locked: change it "
                    "there.",
                )
            if not locked.installed:
                # There is nothing to build, and so nothing that could fail but the start.
                raise RefusalError(
                    Outcome.NAME_TAKEN,
                    f"Server '{name}' is there and is started or reached otherwise than the lock says. Unregister it "
                    f"first (`toolscore uninstall {name}`), and sync again.",
                )
            locked.locked()  # refuses what cannot be followed
            if dry_run:
                return Synced(name, "replaced", locked.version, missing, notes)
            candidate = _candidate(name, locked, source)
            with servers.hold(name):
                async with built(servers, row, candidate, report, startless=bool(missing)) as (
                    trial,
                    installation,
                ):
                    listed = trial.tools if trial.said else None
                    _check(locked, replace(row, installation=installation), listed, other_tools)
                    row = await take_over(servers, row, installation, trial, report)
        await _enabled(servers, row, locked, dry_run=False)
        return Synced(name, "replaced", locked.version, missing, notes)
    wrong = problem(name, locked.keeping, servers.keepings())
    if wrong and not (dry_run and locked.keeping.depends_on):  # those it needs may come from the same lock
        raise RefusalError(Outcome.INVALID_ARGUMENTS, f"'{name}' was not installed. {wrong}")
    if locked.installed:
        locked.locked()
    if dry_run:
        return Synced(name, "installed", locked.version, missing, notes)
    await _added(servers, name, locked, source, values, other_tools, origin, missing, report)
    await _enabled(servers, servers.row(name), locked, dry_run=False)
    return Synced(name, "installed", locked.version, missing, notes)


@asynccontextmanager
async def _given(servers: Servers, values: Mapping[str, str]) -> AsyncIterator[None]:
    """Keep secrets for a server that is there; if nothing comes of it, those it had are back afterwards."""
    if not values:
        yield
        return
    secrets = servers.secrets
    before = {key: await asyncio.to_thread(secrets.get, key) for key in values}
    await asyncio.to_thread(secrets.set_many, values)
    try:
        yield
    except BaseException:
        with anyio.CancelScope(shield=True):
            kept = {key: value for key, value in before.items() if value is not None}
            await asyncio.to_thread(secrets.set_many, kept)
            for key in before.keys() - kept.keys():
                await asyncio.to_thread(secrets.delete, key)
        raise


async def _begun(servers: Servers, name: str) -> ServerRow:
    """Start a server that could not be started when it was installed, so that its tools are known."""
    unit = servers.supervisor.units[name]
    unit.start()
    await unit.settled()
    await servers.library.arrived(name)
    return servers.row(name)


def _texts(locked: LockedServer) -> list[str]:
    texts = [*locked.args, *locked.env.values(), *locked.headers.values(), *locked.settings.values()]
    return texts + [text for text in (locked.url, locked.command, locked.cwd) if text]


def keys_of(locked: LockedServer) -> list[str]:
    """Give the keys of the secrets that a server of a lock refers to."""
    return list(dict.fromkeys(key for text in _texts(locked) for key in _SECRET.findall(text)))


def missing_of(servers: Servers, locked: LockedServer, given: Mapping[str, str]) -> tuple[str, ...]:
    """Name the secrets and variables that a server of a lock refers to and that are neither here nor given."""
    texts = _texts(locked)
    found = [
        f"the secret {key}"
        for key in keys_of(locked)
        if key not in given and servers.secrets.get(key) is None
    ]
    names = dict.fromkeys(name for text in texts for name in _VARIABLE.findall(text))
    found += [
        f"the variable {name}"
        for name in names
        if name not in os.environ and name != "PORT" and servers.named(name) is None
    ]
    return tuple(found)


def _at_hand(locked: LockedServer, row: ServerRow, missing: tuple[str, ...]) -> LockedServer:
    """Leave out the tools of one that could not be started yet, which is no difference to mend."""
    return locked.model_copy(update={"tools": {}}) if missing and row.server_info is None else locked


def _same_origin(row: ServerRow, locked: LockedServer) -> None:
    """Refuse to make one server into another one."""
    if not is_lockable(row):
        raise RefusalError(
            Outcome.NAME_TAKEN, f"'{row.name}' is part of ToolScore here, or dials in; it was left as it is."
        )
    from ...runners.installers.source import identity

    here = row.installation
    fetched = here.pin.source if here.pin is not None and here.pin.source else here.source
    if identity(here.kind, fetched) != identity(locked.kind, locked.fetched or locked.source):
        raise RefusalError(
            Outcome.NAME_TAKEN,
            f"There is a server '{row.name}' already, and it comes from {here.source}, not from {locked.source}. It "
            f"was left as it is: `toolscore uninstall {row.name}` removes it; then sync again.",
        )


def _candidate(name: str, locked: LockedServer, source: str | None) -> Candidate:
    fetched = source or locked.fetched
    return Candidate(
        source=fetched,
        name=name,
        args=locked.args,
        env={**locked.env, **locked.settings},
        constraints=locked.constraints,
        confine=locked.confine,
        cluster=locked.cluster,
        url=locked.url,
        headers=locked.headers,
        sse=locked.sse,
        label=locked.source,
        sha256=locked.sha256,
        locked=locked.locked(),
    )


async def _added(
    servers: Servers,
    name: str,
    locked: LockedServer,
    source: str | None,
    values: Mapping[str, str],
    other_tools: bool,
    origin: Origin,
    missing: tuple[str, ...],
    report: Report,
) -> None:
    from ...runners.installers.pinning import pin_command
    from ..addition import Addition

    def check(installation: Installation, listed: list[dict[str, Any]] | None) -> None:
        row = ServerRow(name=name, origin=origin, enabled=True, installation=installation)
        _check(locked, row, listed, other_tools)

    with servers.reserve(name):
        async with Addition(servers, name, origin, report) as new:
            new.check = check
            spec = locked.spec()
            if not locked.installed:
                pin = await asyncio.to_thread(pin_command, spec, locked.fetched)
                kept = new.keep_secrets(spec, values)
                installation = Installation(
                    server_id=name,
                    kind=locked.kind,
                    source=locked.source,
                    spec=kept,
                    runtime="binary" if spec.command else "remote",
                    version=locked.version,
                    keeping=locked.keeping,
                    pin=pin,
                )
                await new.from_installation(installation, keep=bool(missing))
                return
            candidate = _candidate(name, locked, source)
            await new.from_source(
                candidate.source,
                (),
                spec.model_copy(update={"env": candidate.env}),
                constraints=locked.constraints,
                confine=locked.confine,
                keeping=locked.keeping,
                keep=bool(missing),
                label=locked.source,
                sha256=locked.sha256,
                locked=candidate.locked,
                secrets=values,
            )


def _check(
    locked: LockedServer, row: ServerRow, listed: list[dict[str, Any]] | None, other_tools: bool
) -> None:
    """Refuse what came to be something else than what was locked.

    Raises:
        RefusalError: If it did.
    """
    name = row.name
    here = (row.installation.pin or Pin()).programs
    for path, sha256 in locked.programs.items():
        if here.get(path) != sha256:
            raise _other(name, f"the program {path}", sha256, here.get(path, "not there"))
    for other in compared(row, locked):
        raise _other(name, other.what, other.expected, other.found)
    if listed is None or other_tools:
        return
    found = {row.name: row.digest for row in tool_rows(name, listed)}
    if found != locked.tools:
        others = sorted(
            key for key in found.keys() | locked.tools.keys() if found.get(key) != locked.tools.get(key)
        )
        raise RefusalError(
            Outcome.CHANGED,
            f"Server '{name}' has other tools here than those that were locked ({', '.join(others)[:500]}), and "
            "nothing of it was kept. Some servers describe the machine they run on; where that is all, --other-tools "
            "takes them as they are.",
        )


def _other(name: str, what: str, expected: str, found: str) -> RefusalError:
    return RefusalError(
        Outcome.CHANGED,
        f"Server '{name}' came to something else than the lock says: {what} is {found[:300]}, not {expected[:300]}. "
        "Nothing of it was kept. Write the lock again where it came from, if that was changed on purpose.",
    )


async def _enabled(servers: Servers, row: ServerRow, locked: LockedServer, *, dry_run: bool) -> None:
    if not dry_run and row.origin != "file" and row.enabled != locked.enabled:
        await servers.enable(row.name, locked.enabled)
