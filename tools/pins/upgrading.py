"""Upgrading a server: the new version is built beside the old one, tried, compared, and only then takes its place."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runners.errors import SourceError
from ...runners.pin import Pin
from ...runners.spec import Candidate, Installation, Report, SourceKind, silent
from ..caller import Caller
from ..catalog.installing import PREFIX as REGISTRY
from ..errors import echoed
from ..outcome import Outcome, RefusalError
from ..rows import ServerRow
from .changes import Changes, changes
from .places import previous
from .swapping import STEPS, built, refuse_failed, take_over, tried
from .verifying import on_disk

if TYPE_CHECKING:
    from ..servers import Servers


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What came of an upgrade.

    Attributes:
        row: The server as it is stored now.
        changes: What is different, or would be.
        done: Whether it was done.
        tools: The tools that `changes` is about, whatever the server may list by now.
    """

    row: ServerRow
    changes: Changes
    done: bool
    tools: tuple[dict[str, Any], ...] = ()


async def upgrade(
    servers: Servers,
    name: str,
    caller: Caller,
    *,
    to: str | None = None,
    only_show: bool = False,
    agreed: str | None = None,
    report: Report = silent,
) -> Upgraded:
    """Replace a server by another version of it, or show what that would change.

    Args:
        servers: All servers.
        name: The server.
        caller: In whose name.
        to: The version, branch, tag or commit; of a bundle its new file or address. The newest when `None`.
        only_show: Whether to change nothing.
        agreed: The mark of what somebody agreed to: anything else is refused.
        report: Told of every step.

    Raises:
        RefusalError: If it cannot be had, does not start, or is not what was agreed to. Everything is as it was then.
    """
    servers.may_manage(caller)
    row = upgradable(servers, name)
    candidate = await next_version(servers, row, to)
    with servers.hold(name):
        await report(0, STEPS, f"fetching {candidate.source}")
        async with built(servers, row, candidate, report) as (trial, installation):
            found = changes(row.installation, installation, _definitions(servers, name), trial.tools)
            if only_show:
                return Upgraded(row, found, done=False)
            _refuse_other(name, agreed, found)
            await report(2, STEPS, f"{name}: {found.told()}")
            fresh = await take_over(servers, row, installation, trial, report)
            return Upgraded(fresh, found, done=True, tools=tuple(trial.tools))


async def roll_back(
    servers: Servers,
    name: str,
    caller: Caller,
    *,
    only_show: bool = False,
    agreed: str | None = None,
    report: Report = silent,
) -> Upgraded:
    """Return to the version before the last upgrade; the one that was upgraded to can be returned to in turn.

    Raises:
        RefusalError: If there is none, or it does not start any more.
    """
    servers.may_manage(caller)
    row = upgradable(servers, name)
    before = await asyncio.to_thread(previous, Path(row.installation.directory or ""), row.installation)
    if before is None:
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"There is no previous version of '{name}' to return to: it was not upgraded here.",
        )
    # Its files lie where the server can write, and nobody has looked at them since.
    other = await asyncio.to_thread(on_disk, replace(row, installation=before)) if before.pin else []
    if other:
        raise RefusalError(
            Outcome.CHANGED,
            f"The previous version of '{name}' is on the disk otherwise than it was installed ({other[0].what}: "
            f"{other[0].found[:300]}), and was not started. `toolscore upgrade {name} --to VERSION` fetches one.",
        )
    with servers.hold(name):
        await report(1, STEPS, f"starting {name} {before.version or ''}".rstrip())
        trial = await tried(servers, before)
        refuse_failed(trial, before)
        found = changes(row.installation, before, _definitions(servers, name), trial.tools)
        if only_show:
            return Upgraded(row, found, done=False)
        _refuse_other(name, agreed, found)
        await report(2, STEPS, f"{name}: {found.told()}")
        fresh = await take_over(servers, row, before, trial, report)
        return Upgraded(fresh, found, done=True, tools=tuple(trial.tools))


def upgradable(servers: Servers, name: str) -> ServerRow:
    """Look up a server that can be upgraded.

    Raises:
        RefusalError: If there is none, or it is not ToolScore's to upgrade.
    """
    row = servers.row(name)
    if row.installation.directory is None or row.installation.kind is SourceKind.BUILTIN:
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"'{name}' was not fetched by ToolScore, so there is nothing to upgrade: upgrade it where it comes from, "
            "and restart it.",
        )
    return row


def asked(row: ServerRow, source: str, pin: Pin) -> Candidate:
    """Ask for another version of a server: all that was given to this one is given to that as well."""
    installation = row.installation
    spec, own = installation.spec, set(pin.own_env)
    return Candidate(
        source=source,
        name=row.name,
        args=spec.args[pin.words :],
        env={**{key: value for key, value in spec.env.items() if key not in own}, **pin.given},
        constraints=installation.constraints,
        confine=spec.confine,
        cluster=spec.cluster,
        url=spec.url,
        headers=spec.headers,
        sse=spec.sse,
        label=installation.source,
    )


async def next_version(servers: Servers, row: ServerRow, to: str | None) -> Candidate:
    """Say what is to be fetched for another version.

    Raises:
        RefusalError: If that cannot be said.
    """
    installation = row.installation
    pin = installation.pin or _inferred(installation)
    if row.origin == "file" and to is not None:
        raise RefusalError(
            Outcome.REFUSED,
            f"Server '{row.name}' is declared in the configuration file: change the version there, under "
            f"mcpServers.{row.name}.",
        )
    if installation.source.startswith(REGISTRY):
        from ..catalog.installing import named, planned

        entry = named(installation.source)
        wanted = (
            f"{REGISTRY}{entry.name}" + (f"@{to}" if to else "") + (f"#{entry.kind}" if entry.kind else "")
        )
        plan = await planned(servers, wanted)
        if plan.source is None:
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                f"{wanted} is only reached now, and not installed; install it anew.",
            )
        candidate = asked(row, plan.source, pin)
        return candidate.model_copy(update={"label": plan.label, "sha256": plan.sha256})
    try:
        source = _source(installation.kind, pin.source, to)
    except SourceError as error:
        raise RefusalError(Outcome.INVALID_ARGUMENTS, str(error)) from error
    # The source says which version was asked for: where one was named now, it holds from now on.
    return asked(row, source, pin).model_copy(
        update={"label": None if to is not None else installation.source}
    )


def _source(kind: SourceKind, source: str, to: str | None) -> str:
    """Give the source of another version.

    Raises:
        SourceError: If that would be none.
        RefusalError: If there is no choice.
    """
    from ...runners.installers.source import parse

    old = parse(source)
    entry = f"#{old.entry}" if old.entry else ""
    if (
        to is not None
        and kind not in (SourceKind.FOLDER, SourceKind.MCPB)
        and not re.fullmatch(r"[^\s#@:]+", to)
    ):
        raise RefusalError(Outcome.INVALID_ARGUMENTS, f"{echoed(to)!r} is no version.")
    match kind:
        case SourceKind.PYPI:
            extras = f"[{','.join(old.extras)}]" if old.extras else ""
            return f"pypi:{old.name}{extras}{f'@{to}' if to else ''}{entry}"
        case SourceKind.NPM:
            return f"npm:{old.name}{f'@{to}' if to else ''}{entry}"
        case SourceKind.GIT if to is not None:
            return f"git+{old.url}@{to}{entry}"
        case SourceKind.MCPB if to is not None:
            if parse(to).kind is not SourceKind.MCPB:
                raise RefusalError(Outcome.INVALID_ARGUMENTS, f"{echoed(to)!r} is no bundle.")
            return to
        case SourceKind.FOLDER if to is not None:
            if parse(to).kind is not SourceKind.FOLDER:
                raise RefusalError(Outcome.INVALID_ARGUMENTS, f"{echoed(to)!r} is no folder.")
            return to
        case _:
            return source  # a branch has moved on, a folder or file may hold something else by now


def _inferred(installation: Installation) -> Pin:
    """Make a pin for what an older ToolScore installed, as far as an upgrade needs one.

    Raises:
        RefusalError: If it cannot be told which arguments are the server's own.
    """
    fetched = installation.source
    program = Path(installation.spec.command or "").name
    match installation.kind:
        case SourceKind.PYPI if fetched.startswith("pypi:"):
            return Pin(source=fetched, words=2 if program.startswith("python") else 0)
        case SourceKind.NPM if fetched.startswith("npm:"):
            return Pin(source=fetched, words=1)
    raise RefusalError(
        Outcome.INVALID_ARGUMENTS,
        f"'{installation.name}' was installed by an older ToolScore, which did not note what an upgrade needs. "
        "Uninstall it and install it anew.",
    )


def _refuse_other(name: str, agreed: str | None, found: Changes) -> None:
    if agreed is not None and agreed != found.mark:
        raise RefusalError(
            Outcome.REFUSED,
            f"What an upgrade of '{name}' would bring is no more what was shown and agreed to. Look again with "
            f"upgrade_server(name='{name}', only_show=true).",
        )


def _definitions(servers: Servers, name: str) -> list[dict[str, Any]]:
    return [tool.definition for tool in servers.library.of(name)]
