"""What the own tools about quarantine do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..runners.errors import FaultError
from ..tools.caller import MANAGE
from ..tools.errors import echoed
from ..tools.meant import unknown_server
from ..tools.outcome import Outcome, RefusalError
from ..tools.sight import visible, visible_tools
from . import models_approvals as m
from .call import Call
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.approvals.approvals import Approvals
    from ..tools.approvals.record import Record
    from ..tools.caller import Caller
    from ..tools.library import Library
    from ..tools.scan.finding import Finding
    from ..tools.state import ServerState
    from ..tools.tool import Tool

LONGEST = 6_000
"""Characters of a question: nobody reads on for longer, and what is not read is not agreed to."""

_FORM = {
    "type": "object",
    "properties": {"approve": {"type": "boolean", "title": "Approve it", "default": False}},
    "required": ["approve"],
}

_NOTHING = "Nothing is in quarantine."
_NEXT = (
    "A person approves: `toolscore approve SERVER TOOL` shows them what differs, and approve_tool asks them at this "
    "client."
)


class ApprovalsTools:
    """The own tools about quarantine.

    Args:
        approvals: What was approved.
        library: Which tools there are.
    """

    def __init__(self, approvals: Approvals, library: Library) -> None:
        self.approvals = approvals
        self._library = library
        self.allowed: Callable[[Caller, str, str], bool] = lambda _caller, _server, _tool: False
        """Tells whether the policy lets a caller approve a tool without a person."""
        self.approved: Callable[[str], Awaitable[None]] = _nothing_more
        """Called when a tool of a server was approved."""
        self.handlers: dict[str, Handler] = {
            "list_quarantined": self._list,
            "approve_tool": self._approve,
            "reject_tool": self._reject,
        }

    async def _list(self, args: m.ListQuarantinedArguments, call: Call) -> m.ListQuarantinedResult:
        if args.server is not None:
            self._known(args.server)
        from ..tools.approvals.notes import brief

        whole = by_hand(call)
        servers = visible(sorted(self._library.servers) if args.server is None else [args.server])
        held = [one for one in self.approvals.held(args.server) if self._seen(one)]
        return m.ListQuarantinedResult(
            tools=[await self._told(one, whole=whole) for one in held],
            noted=[
                f"{self._name(one)}: {', '.join(map(brief, one.findings))}"
                for server in servers
                for one in self.approvals.noted(server)
                if self._seen(one)
            ],
            next=_NEXT if held else _NOTHING,
        )

    def tell(self, state: ServerState) -> None:
        """Say of a server's state what of it is in quarantine, and what was found in the rest."""
        from ..tools.approvals.notes import brief
        from ..tools.scan.said import scan_said

        name = state.name
        state.quarantined = [self._name(one) for one in self.approvals.held(name)]
        state.findings = [
            f"{self._name(one)}: {brief(finding)}"
            for one in (*self.approvals.held(name), *self.approvals.noted(name))
            for finding in (one.held_findings if one.held else one.findings)
        ]
        row = self._library.servers[name]
        if row.origin != "builtin":
            state.findings += [brief(one) for one in scan_said(row.instructions, row.offers)]

    async def _told(self, one: Record, *, whole: bool) -> m.QuarantinedTool:
        from ..tools.approvals.diff import diff
        from ..tools.approvals.notes import brief
        from ..tools.approvals.refusal import reason
        from ..tools.scan.visible import visible as made_visible

        told = m.QuarantinedTool(
            server=one.server,
            tool=self._name(one),
            digest=one.held,
            why=reason(one.why),
            since=datetime.fromtimestamp(one.held_at, UTC).isoformat(timespec="seconds"),
            rejected=one.rejected,
            findings=[brief(finding) for finding in one.held_findings],
        )
        if whole:
            before = await self.approvals.before(one)
            told.original = made_visible(one.tool)
            # In a thread, as below: a server may write as much as it likes.
            told.diff = await asyncio.to_thread(diff, before, one.held_definition or {})
            told.excerpts = [full(finding) for finding in one.held_findings]
            told.before, told.after = before, one.held_definition
        return told

    async def _approve(self, args: m.ApproveToolArguments, call: Call) -> m.ApprovedResult:
        record = self._meant(args)
        how = "command" if by_hand(call) else "policy"
        if not by_hand(call) and not self.allowed(call.caller, record.server, self._name(record)):
            await self._asked(record, call)
            how = "elicitation"
        by = call.caller.principal
        done = await self.approvals.approve(record.server, record.tool, args.digest, by, how)
        await self.approved(record.server)
        return m.ApprovedResult(
            server=done.server, tool=self._name(done), digest=done.digest, state="approved"
        )

    async def _reject(self, args: m.ApproveToolArguments, call: Call) -> m.ApprovedResult:
        if MANAGE not in call.caller.rights:
            raise RefusalError(
                Outcome.REFUSED, f"'{call.caller.principal}' may not decide on tools in quarantine."
            )
        record = self._meant(args)
        done = await self.approvals.reject(record.server, record.tool, call.caller.principal)
        return m.ApprovedResult(server=done.server, tool=self._name(done), digest=done.held, state="rejected")

    def _meant(self, args: m.ApproveToolArguments) -> Record:
        """Find what is held back, if it is still what the digest says.

        Raises:
            RefusalError: If nothing is held back of it, or something else is.
        """
        self._known(args.server)
        for one in self.approvals.held(args.server):
            if self._seen(one) and args.tool in (one.tool, self._name(one)):
                if one.held != args.digest:
                    raise RefusalError(
                        Outcome.CHANGED,
                        f"Tool '{self._name(one)}' has changed again since it was shown. Nothing was done; "
                        "list_quarantined has the digest of what there is now.",
                    )
                return one
        raise RefusalError(
            Outcome.INVALID_ARGUMENTS,
            f"There is no tool '{echoed(args.tool)}' of server '{args.server}' in quarantine; list_quarantined "
            "shows what is.",
        )

    async def _asked(self, record: Record, call: Call) -> None:
        """Show a person what differs, and return only if they approve it.

        Raises:
            RefusalError: If nobody could be asked (`needs_approval`), or nobody approved (`refused`).
        """
        from ..tools.approvals.diff import diff
        from ..tools.approvals.refusal import command, reason

        name = self._name(record)
        by_command = command(name, record.server, record.tool)
        before = await self.approvals.before(record)
        # All of it, or nobody is asked: what was left out would be approved unseen.
        lines = await asyncio.to_thread(diff, before, record.held_definition or {}, whole=True)
        found = [full(one) for one in record.held_findings]
        message = "\n".join(
            [
                f"A client of ToolScore asks to approve the tool {name} of server {record.server}, which is in "
                f"quarantine: {reason(record.why)}.",
                "What differs from what was approved:"
                if before is not None
                else "What its server says of it:",
                *lines,
                *(["What was found in it:", *found] if found else []),
                "Approve it, so that it is shown to models as it is now, and called?",
            ]
        )
        if len(message) > LONGEST:
            raise RefusalError(
                Outcome.NEEDS_APPROVAL,
                f"What differs in '{name}' is too long to be asked about. Have a person run `{by_command}`.",
            )
        if call.exchange is None:
            raise RefusalError(
                Outcome.NEEDS_APPROVAL,
                f"There is nobody to ask whether '{name}' may leave quarantine. Have a person run `{by_command}`.",
            )
        try:
            answer = await call.exchange.ask(
                "elicitation/create", {"message": message, "requestedSchema": _FORM}
            )
        except FaultError as exc:
            raise RefusalError(
                Outcome.NEEDS_APPROVAL,
                f"Nobody could be asked whether '{name}' may leave quarantine: {echoed(exc.message)}. Have a person "
                f"run `{by_command}`.",
            ) from exc
        content = answer.get("content")
        # Only a plain yes is one: an empty form is what a client sends that shows nothing.
        if answer.get("action") != "accept" or content != {"approve": True}:
            raise RefusalError(
                Outcome.REFUSED, f"'{name}' stays in quarantine: the person asked did not approve it."
            )

    def _known(self, server: str) -> None:
        """Make sure that there is a server of which the caller may know.

        Raises:
            RefusalError: If not.
        """
        known = visible(self._library.servers)
        if server not in known:
            raise unknown_server(server, known)

    def _seen(self, one: Record) -> bool:
        """Tell whether the caller may know of a tool."""
        tool = self._tool(one)
        return bool(visible([one.server])) and (tool is None or bool(visible_tools([tool])))

    def _name(self, one: Record) -> str:
        """Give the name callers use, in which nothing of a server's can be hidden."""
        tool = self._tool(one)
        return tool.name if tool is not None else f"{one.server}__?"

    def _tool(self, one: Record) -> Tool | None:
        return next((tool for tool in self._library.of(one.server) if tool.original == one.tool), None)


async def _nothing_more(_server: str) -> None:
    """Do nothing more."""


def by_hand(call: Call) -> bool:
    """Tell whether a call is made at the command line, by a person or what a person has run."""
    if call.caller.depth or call.caller.principal != "owner":
        return False
    if call.exchange is not None and call.exchange.peer.relay:
        return False  # an agent's program, whatever it says of itself
    return call.caller.listener == "command" or call.origin == "cli"


def full(one: Finding) -> str:
    """Say what was found, and where, for people; nothing in it is hidden."""
    from ..tools.scan.visible import visible as made_visible

    return f"{one.severity}: {one.said} ({one.kind}) at {made_visible(one.place)}: {one.excerpt}"
