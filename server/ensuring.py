"""Getting the tools for the needs of a task: installing one server after the other, within the caller's rights."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..tools.caller import CALL, MANAGE
from ..tools.outcome import OUTCOME_KEY, Outcome, RefusalError
from . import models_gap as m
from .call import Call
from .consent import agreed
from .settings_asked import asked, can_be_asked

if TYPE_CHECKING:
    from ..tools.gap.gap import Gaps, Judged
    from ..tools.gap.proposal import Proposal
    from .toolset import ToolSet

TRIES = 2
"""Servers that are tried for one need."""

PATIENCE = 120.0
"""Seconds that a server which another call is installing is waited for."""

_LOOK = 0.05
"""Seconds between looks at whether it is there: whoever installs it need not be one of these."""

LIKELY = 0.6
"""Up to this likelihood that an unsure need is covered, a person is asked whether a server is wanted for it."""


@dataclass(slots=True)
class Trial:
    """A server that is being tried for a need.

    Attributes:
        need: The need.
        over: Set when that is done.
        served: Whether the need is covered by then, by this server or what somebody else got meanwhile.
    """

    need: str
    over: asyncio.Event = field(default_factory=asyncio.Event)
    served: bool = False


class Ensuring:
    """Gets what is missing.

    Args:
        toolset: What installs, enables and removes servers.
        gaps: Judges needs.

    Attributes:
        trials: What is being tried right now, by its name in the catalog.
        came: What was kept, by its name in the catalog: the name of its server.
    """

    def __init__(self, toolset: ToolSet, gaps: Gaps) -> None:
        self.toolset = toolset
        self.gaps = gaps
        self.trials: dict[str, Trial] = {}
        self.came: dict[str, str] = {}

    def begin(self, args: m.EnsureToolsArguments, call: Call) -> Ensured:
        """Begin one round of it."""
        return Ensured(self, args, call)


class Ensured:
    """One `ensure_tools` under way.

    Attributes:
        done: What was done about each server, in order.
        notes: What is to be said besides.
    """

    def __init__(self, ensuring: Ensuring, args: m.EnsureToolsArguments, call: Call) -> None:
        self._ensuring = ensuring
        self._toolset = ensuring.toolset
        self._gaps = ensuring.gaps
        self._args = args
        self._call = call
        self._left = args.max_installs
        self._asks = True
        """Whether there is any use in asking a person."""
        self._given_up: set[str] = set()
        self.done: list[m.EnsuredServer] = []
        self.notes: list[str] = []

    async def fill(self, judged: Sequence[Judged]) -> list[Judged]:
        """Fill the gaps in order.

        Args:
            judged: The needs, as they are without this.

        Returns:
            The needs, as they are then.
        """
        filled = list(judged)
        for place, first in enumerate(judged):
            if not self._wanting(first):
                continue
            # What came for an earlier need may serve this one too.
            one = await self._gaps.judge(first.need, self._args.settings) if self._kept() else first
            if self._wanting(one):
                await self._call.report(place, len(filled), f"looking for a server: {one.need}")
                one = await self._filled(one, place, len(filled)) or one
            filled[place] = one
        if self._kept():
            for place, one in enumerate(filled):
                if one.label != "covered":
                    again = await self._gaps.judge(one.need, self._args.settings)
                    filled[place] = again if again.label != "gap" or one.label == "gap" else one
        await self._call.report(len(filled), len(filled), "done")
        return filled

    def _wanting(self, one: Judged) -> bool:
        """Tell whether a server is to be tried for a need: it is a gap, or may be one and a person is asked."""
        if one.label == "gap":
            return True
        if one.label == "covered" or not one.proposals:
            return False
        if self._args.install == "ask" and one.likely <= LIKELY and not one.foreign:
            return True
        self._note(
            f"nothing was installed for needs that are unsure, such as '{one.need[:80]}': call a tool named there if "
            "it fits, else make the call named at a server"
        )
        return False

    def _kept(self) -> bool:
        return any(one.done in ("installed", "enabled") for one in self.done)

    async def _filled(self, one: Judged, place: int, steps: int) -> Judged | None:
        """Try the servers proposed for one need; `None` if none of them serves it."""
        tries = 0
        if one.unfit is not None:
            self._note(one.unfit.note(one.need))
        for proposal in one.proposals:
            if proposal.name in self._given_up:
                continue
            if proposal.score < one.least:
                self._note(
                    f"{proposal.name} was not tried for '{one.need[:80]}': it fits too little, or far less well than "
                    "the best"
                )
                continue
            if proposal.missing and not self._can_ask(proposal):
                names = ", ".join(line.partition(" ")[0] for line in proposal.missing)
                self._note(f"{proposal.name} was not installed: it requires {names}; give {proposal.where}")
                continue
            if proposal.lacking and self._unasked:
                self._note(
                    f"{proposal.name} was not installed: it asks for {', '.join(proposal.lacking)}, which was given "
                    f"for no server by name; if it is to have it, give {proposal.where}"
                )
                continue
            if tries == TRIES:
                break
            if not self._left:
                self._note(
                    f"no more than {self._args.max_installs} servers were to be installed (max_installs)"
                )
                break
            if (served := await self._meanwhile(proposal, one.need, place, steps)) is not None:
                return served
            if proposal.name in self._given_up:
                continue
            try:
                allowed = await self._allowed(proposal, one.need)
            except RefusalError as exc:
                # Nobody was asked: it could not be done, or not read.
                if exc.outcome is Outcome.INVALID_ARGUMENTS:
                    self._say(proposal, one.need, "failed", reason=exc.message)
                    self._given_up.add(proposal.name)
                    continue
                if exc.outcome is Outcome.NEEDS_APPROVAL:
                    self._asks = False
                    hint = ' Or call ensure_tools with "install": "allowed".' if self._may else ""
                    self._note(exc.message + hint)
                else:
                    self._say(proposal, one.need, "declined", reason=exc.message)
                    self._given_up.add(proposal.name)
                break
            if allowed is None:
                break
            call, settled = allowed
            # Asking a person takes a while.
            if (served := await self._meanwhile(proposal, one.need, place, steps)) is not None:
                return served
            if proposal.name in self._given_up:
                continue
            tries += 1
            trial = self._ensuring.trials[proposal.name] = Trial(one.need)
            try:
                served = await self._tried(settled, one.need, call, place, steps)
                trial.served = served is not None
            finally:
                del self._ensuring.trials[proposal.name]
                trial.over.set()
            if served is not None:
                return served
            self._given_up.add(proposal.name)
        return None

    async def _meanwhile(self, proposal: Proposal, need: str, place: int, steps: int) -> Judged | None:
        """Judge by a server that another call got, or is getting, after the need was judged; `None` if none did.

        It is given up if that call tried it for the same need in vain, or takes too long.
        """
        deadline = time.monotonic() + PATIENCE
        while (trial := self._ensuring.trials.get(proposal.name)) is not None:
            await self._call.report(
                place, steps, f"waiting for {proposal.name}, which another call is installing"
            )
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await trial.over.wait()
            except TimeoutError:
                self._note(
                    f"{proposal.name} is being installed by another call: call ensure_tools again later"
                )
                self._given_up.add(proposal.name)
                return None
            if trial.served and proposal.name not in self._ensuring.came:
                again = await self._gaps.judge(need, self._args.settings)
                if again.label == "covered":
                    return again
            elif trial.need == need and not trial.served:
                self._note(f"another call tried {proposal.name} for '{need[:80]}' just now, in vain")
                self._given_up.add(proposal.name)
                return None
        name, library = self._ensuring.came.get(proposal.name), self._toolset.library
        row = library.servers.get(name) if name else None
        if name is None or row is None:
            self._ensuring.came.pop(proposal.name, None)
            return None
        if not row.enabled:
            return None
        await library.arrived(name)
        served = await self._gaps.serves(need, name, proposal)
        if served is None:
            self._given_up.add(proposal.name)
        return served

    async def _released(self, refusal: str) -> None:
        """Wait until the server that a refusal names, and that somebody is installing, is there or is not."""
        held = {name for name in self._toolset.library.held if f"'{name}'" in refusal}
        deadline = time.monotonic() + PATIENCE
        while held & self._toolset.library.held.keys() and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(_LOOK)

    @property
    def _may(self) -> bool:
        return MANAGE in self._call.caller.rights

    @property
    def _unasked(self) -> bool:
        """Whether no person agrees to what is done."""
        return self._args.install == "allowed" and self._may

    def _can_ask(self, proposal: Proposal) -> bool:
        """Tell whether a person can be asked for what a server cannot do without."""
        may_ask = self._unasked or (self._asks and {MANAGE, CALL} & self._call.caller.rights)
        return bool(may_ask) and can_be_asked(proposal.lacks, self._call)

    async def _allowed(self, proposal: Proposal, need: str) -> tuple[Call, Proposal] | None:
        """Give the call with the right to do this one thing, and that with the settings a person gave for it.

        `None` where there is no use in asking for it.

        Raises:
            RefusalError: If it was asked for and is not given.
        """
        call, rights = self._call, self._call.caller.rights
        if self._toolset.policy is not None:  # before anybody is asked about what is refused then
            granted, _ask = await self._toolset.policy.judged(proposal.tool, proposal.given, call)
            if granted.caller.rights != rights:
                return granted, await self._settled(proposal)
        if self._unasked:
            return call, await self._settled(proposal)
        if MANAGE not in rights and CALL not in rights:
            raise RefusalError(Outcome.NEEDS_APPROVAL, f"'{call.caller.principal}' may not install servers.")
        if not self._asks:
            return None
        proposal = await self._settled(proposal)
        await agreed(f"{proposal.doing(call.caller.cwd)}, for the need '{need[:200]}'", call)
        caller = replace(call.caller, rights=rights | {MANAGE})
        return replace(call, caller=caller, agreed=proposal.plan), proposal

    async def _settled(self, proposal: Proposal) -> Proposal:
        """Ask for the settings a server cannot do without, if any are missing."""
        missing = proposal.lacks
        return proposal.having(await asked(proposal.name, missing, self._call)) if missing else proposal

    async def _tried(
        self, proposal: Proposal, need: str, call: Call, place: int, steps: int
    ) -> Judged | None:
        """Install or enable one server, and undo that unless its tools serve the need."""

        async def report(done: float, total: float | None, text: str) -> None:
            await call.report(place + min(done / (total or 1), 0.99), steps, text)

        begun = replace(call, report=report)
        given = proposal.own if self._unasked else proposal.given
        result = await self._toolset.call(proposal.tool, given, begun)
        structured = result.get("structuredContent")
        if (result.get("_meta") or {}).get(OUTCOME_KEY) in (Outcome.INSTALLING, Outcome.NAME_TAKEN):
            await call.report(place, steps, f"waiting for {proposal.name}, which is being installed")
            await self._released(_text(result))
            await self._toolset.library.arrived()
            again = await self._gaps.judge(need, self._args.settings)
            if again.label == "covered":
                return again
        if result.get("isError") or not isinstance(structured, dict):
            self._say(proposal, need, "failed", reason=_text(result))
            return None
        name = str(structured.get("name"))
        library = self._toolset.library
        await library.arrived(name)
        served = await self._gaps.serves(need, name, proposal, agreed=not self._unasked)
        if served is None:
            tools = ", ".join(tool.original for tool in library.of(name)[:10]) or "none"
            back = await self._undone(proposal, name, begun)
            self._say(
                proposal,
                need,
                "undone",
                name=name,
                reason=f"its tools do not cover the need: {tools[:200]}; {back}",
            )
            return None
        if served.label != "covered":
            self._note(
                f"{proposal.name} was kept, though it is unsure whether its tools cover '{need[:80]}': look at them; "
                f"{proposal.away(name)} takes it away again"
            )
        if proposal.shared and self._unasked:
            self._note(
                f"{proposal.name} was not given {', '.join(proposal.shared)}, which was given for no server by name: "
                f"if it is to have it, give {proposal.where}"
            )
        self._say(
            proposal,
            need,
            "enabled" if proposal.tool == "manage_server" else "installed",
            name=name,
            tools=len(library.of(name)),
            seconds=float(structured.get("seconds") or 0),
        )
        self._left -= 1
        self._ensuring.came[proposal.name] = name
        return served

    async def _undone(self, proposal: Proposal, name: str, call: Call) -> str:
        """Take back what was done for this alone, and say what that is and how to have it all the same."""
        if proposal.tool == "manage_server":
            undoing: tuple[str, dict[str, Any]] = ("manage_server", {"name": name, "action": "disable"})
            result = await self._toolset.call(*undoing, call)
            if result.get("isError"):
                self._note(f"server '{name}' could not be disabled again: {_text(result)}")
                return f"server '{name}' is still there"
            return f"server '{name}' was disabled again; to have it all the same: {proposal.anyway}"
        try:
            await self._toolset.servers.remove(name, call.caller)
        except RefusalError as exc:
            # Somebody uses it by now, or did something about it.
            self._note(f"server '{name}' was not removed again: {exc.message}")
            return f"server '{name}' is still there"
        return f"server '{name}' was removed again; to have it all the same: {proposal.anyway}"

    def _say(self, proposal: Proposal, need: str, done: Any, *, name: str = "", **more: Any) -> None:
        if more.get("reason"):
            more["reason"] = " ".join(str(more["reason"]).split())[:600]
        self.done.append(
            m.EnsuredServer(
                name=name or proposal.name, server=proposal.name, need=need[:200], done=done, **more
            )
        )

    def _note(self, text: str) -> None:
        text = " ".join(text.split())[:600]
        if text not in self.notes:
            self.notes.append(text)


def _text(result: dict[str, Any]) -> str:
    """Give what a result says."""
    blocks = result.get("content")
    texts = (
        [block.get("text", "") for block in blocks if isinstance(block, dict)]
        if isinstance(blocks, list)
        else []
    )
    return "\n".join(texts) or json.dumps(result)[:200]
