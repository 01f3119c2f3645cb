"""What the own tools about pins and locks do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ..tools.errors import LibraryError
from ..tools.outcome import Outcome, RefusalError
from ..tools.sight import visible
from . import models_pins as m
from .approvals_tools import by_hand
from .call import Call
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.approvals.approvals import Approvals
    from ..tools.pins.upgrading import Upgraded
    from ..tools.rows import Origin
    from ..tools.servers import Servers


class PinsTools:
    """The own tools about pins and locks. What they need is loaded with the first call.

    Args:
        servers: All servers.
        origin: Owner of the rows that are added.
    """

    def __init__(self, servers: Servers, *, origin: Origin = "agent") -> None:
        self._servers = servers
        self._origin: Origin = origin
        self.approvals: Approvals | None = None
        """What was approved of tools: an upgrade by hand approves those it brings."""
        self.handlers: dict[str, Handler] = {
            "export_lock": self._export_lock,
            "verify_servers": self._verify_servers,
            "accept_server": self._accept_server,
            "upgrade_server": self._upgrade_server,
            "sync_server": self._sync_server,
        }

    async def _export_lock(self, _args: m.ExportLockArguments, call: Call) -> m.ExportLockResult:
        from ..tools.pins.exporting import export
        from ..tools.pins.lock_file import write

        self._servers.may_manage(call.caller)
        await self._servers.library.arrived()
        try:
            found = await export(self._servers, visible(self._servers.library.servers))
            return m.ExportLockResult(lock=write(found))
        except LibraryError as error:
            raise RefusalError(Outcome.REFUSED, str(error)) from error

    async def _verify_servers(self, args: m.VerifyServersArguments, call: Call) -> m.VerifyServersResult:
        from ..tools.pins.exporting import is_lockable
        from ..tools.pins.lock_file import LockError, read
        from ..tools.pins.verifying import verify

        self._servers.may_manage(call.caller)
        await self._servers.library.arrived()
        try:
            lock = None if args.lock is None else read(args.lock, "The lock")
        except LockError as error:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, str(error)) from error
        seen = visible(self._servers.library.servers)
        found = await verify(self._servers, lock, seen)
        names = {name for name in seen if is_lockable(self._servers.row(name))}
        return m.VerifyServersResult(
            clean=not found,
            servers=len(names | (lock or {}).keys()),
            findings=[m.Finding(**asdict(one)) for one in found],
        )

    async def _accept_server(self, args: m.AcceptServerArguments, call: Call) -> m.AcceptServerResult:
        from ..tools.pins.accepting import accept

        row = await accept(self._servers, args.name, call.caller)
        pin = row.installation.pin
        return m.AcceptServerResult(name=args.name, tools=len(pin.tools or {}) if pin is not None else 0)

    async def _upgrade_server(self, args: m.UpgradeServerArguments, call: Call) -> m.UpgradeServerResult:
        from ..tools.pins.upgrading import roll_back, upgrade

        if args.rollback:
            if args.to is not None:
                raise RefusalError(
                    Outcome.INVALID_ARGUMENTS, "Give a version to upgrade to, or rollback, not both."
                )
            done = await roll_back(
                self._servers,
                args.name,
                call.caller,
                only_show=args.only_show,
                agreed=args.agreed,
                report=call.report,
            )
        else:
            done = await upgrade(
                self._servers,
                args.name,
                call.caller,
                to=args.to,
                only_show=args.only_show,
                agreed=args.agreed,
                report=call.report,
            )
        if done.done and self.approvals is not None and by_hand(call):
            # They were shown what changes. What a model agreed to is in quarantine as ever, and so is what the
            # server lists otherwise in its place than it did when it was tried.
            # What it lists in its place is being held against what was approved before; that comes first.
            await self._servers.library.arrived(args.name)
            await self.approvals.rebaseline(args.name, done.tools, call.caller.principal)
        return _shown(args.name, done, whole=by_hand(call))

    async def _sync_server(self, args: m.SyncServerArguments, call: Call) -> m.SyncServerResult:
        from ..tools.pins.lock_file import LockError, read_server
        from ..tools.pins.syncing import sync

        try:
            done = await sync(
                self._servers,
                args.name,
                read_server(args.name, args.locked, "The lock"),
                call.caller,
                source=args.source,
                secrets=args.secrets,
                other_tools=args.other_tools,
                dry_run=args.dry_run,
                origin=call.origin or self._origin,
                report=call.report,
            )
        except LockError as error:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, str(error)) from error
        notes = list(done.notes)
        if done.action != "unchanged" and not args.dry_run and self.approvals is not None:
            # A lock says what tools there are, and not that anybody here has read them.
            await self._servers.library.arrived(args.name)
            notes += self.approvals.notes(args.name)
        return m.SyncServerResult(
            name=done.name,
            action=done.action,
            version=done.version,
            missing=list(done.missing),
            notes=notes,
        )


def _shown(name: str, upgraded: Upgraded, *, whole: bool) -> m.UpgradeServerResult:
    """Tell what an upgrade changes; what tools say of themselves, which nobody has approved yet, only to people."""
    from ..tools.approvals.notes import plain

    found, notes = upgraded.changes, list(upgraded.changes.notes)
    if found.tools and not whole:
        notes.append(f"`toolscore upgrade {name} --diff` shows a person what is different about the tools.")
    return m.UpgradeServerResult(
        name=name,
        done=upgraded.done,
        before=found.before,
        after=found.after,
        same=found.same,
        packages=[asdict(one) for one in found.packages],
        fetched=[asdict(one) for one in found.fetched],
        tools=[
            {**asdict(one), "diff": list(one.diff)}
            if whole
            else {"name": plain(one.name), "kind": one.kind, "diff": []}
            for one in found.tools
        ],
        notes=notes,
        mark=found.mark,
    )
