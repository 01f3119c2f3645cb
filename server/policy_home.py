"""The policy of one home: read at the start, read again when its file changes, kept to meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from ..tools.names import OWN_PREFIX
from ..tools.passage import Passage
from ..tools.policy.errors import PolicyError
from ..tools.policy.file import PolicyFile
from ..tools.policy.gate import Gate
from ..tools.policy.policy import Policy
from ..tools.policy.rule import Answer, Rule, Subject, said
from .policy_asking import ask_person
from .policy_judging import Judging, subjects_of
from .policy_path import BadPolicyError, path_of, refused

if TYPE_CHECKING:
    from ..tools.caller import Caller
    from .call import Call
    from .settings import Settings
    from .toolset import ToolSet

logger = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks at the file; nothing but its status is read."""

SETTLE = 0.2
"""Seconds it must stay as it is before it is read: editors write in several steps."""

PATIENCE = 1.0
"""Seconds a file that is invalid, or gone, has to become a better one before that is told."""


class PolicyHome:
    """The policy of one home.

    Args:
        gate: Keeps to it.
        file: Where it is from.
        toolset: What is done with servers.
    """

    def __init__(self, gate: Gate, file: PolicyFile, toolset: ToolSet) -> None:
        self.gate = gate
        self.file = file
        self.network_rights: frozenset[str] = frozenset()
        """What the generated token allows, to explain it."""
        self._toolset = toolset
        self._judging = Judging(gate, toolset)

    async def judged(self, tool: str, arguments: dict[str, Any], call: Call) -> tuple[Call, bool]:
        """Hold one call of an own tool against it; see `Judging.judged`."""
        return await self._judging.judged(tool, arguments, call)

    async def subscribing(self, server: str, uri: str, caller: Caller) -> None:
        """Let a client subscribe to a resource of a server, or not.

        Raises:
            RefusalError: If the policy says no, or to ask.
        """
        passage = Passage("resources/subscribe", server, uri, {"uri": uri}, caller, None, None, 0.0)
        try:
            if (waiting := self.gate.admit(passage)) is not None:
                await waiting
        finally:
            passage.end()

    def approving(self, caller: Caller, server: str, tool: str = "") -> tuple[Answer | None, Rule | None]:
        """Tell what it says of a caller who is about to approve a tool, or all of a server.

        Returns:
            The answer, with the rule that gives it; `None` where it says nothing.
        """
        profile = self.gate.profile(caller)
        if profile is None:
            return None, None
        known = self.gate.library.tools.get(tool)
        subjects = [Subject(server, tool)] if known is None else subjects_of(self._toolset, known)
        rule = profile.strictest("approve", subjects)
        return (None, None) if rule is None else (rule.answer, rule)

    def approves(self, caller: Caller, server: str, tool: str) -> bool:
        """Tell whether it lets a caller approve a tool without a person: only where a rule grants just that."""
        answer, rule = self.approving(caller, server, tool)
        return answer == "allow" and rule is not None and rule.grant

    async def watch(self) -> None:
        """Look for ever whether the file has changed, and read it again then."""
        file = self.file
        while True:
            await asyncio.sleep(POLL)
            try:
                await _look(file)
            except Exception:
                logger.exception("bug while reading the policy again")


async def _look(file: PolicyFile) -> None:
    """Look whether the file has changed, and if it has and stays so, read it again."""
    patience = SETTLE
    while (stamp := file.stamp()) != file.seen:
        await asyncio.sleep(patience)
        if file.stamp() != stamp:
            patience = SETTLE
            continue
        found = await asyncio.to_thread(file.look)  # thousands of rules take a second to read
        if patience < PATIENCE and not isinstance(found.policy, Policy):
            patience = PATIENCE
        else:
            file.again(found)


@asynccontextmanager
async def policed(settings: Settings, toolset: ToolSet, *, watched: bool) -> AsyncIterator[PolicyHome]:
    """Keep a tool set to the policy of its home.

    Args:
        settings: The settings.
        toolset: The tools.
        watched: Whether to read the file again when it changes.

    Raises:
        BadPolicyError: If the file cannot be used.
    """
    router, (path, required) = toolset.router, path_of(settings)
    gate = Gate(toolset.library, router.lookup.unknown, ask_person)
    gate.own = {f"{OWN_PREFIX}{tool.name}": said(tool.hints) for tool in toolset.tools.values()}
    file = PolicyFile(path, gate, required=required)
    try:
        file.open()
    except PolicyError as error:
        raise BadPolicyError(refused(error)) from error
    home = toolset.policy = PolicyHome(gate, file, toolset)
    home.network_rights = frozenset(settings.network.rights)
    router.guards = (*router.guards, gate)
    router.sight = gate.sight
    for grants in (router.carrier.nested, *router.carrier.deputies.values()):
        if grants is not None:
            grants.sight = gate.sight

    def moved(settings: Settings) -> None:
        file.move(path_of(settings)[0], required=path_of(settings)[1])

    toolset.setters["policy"] = moved
    if gate.policy is not None:
        count = f"{len(gate.policy.rules)} rules, {len(gate.policy.limits)} limits"
        logger.info("the policy %s holds: %s", path, count)
    watching = asyncio.get_running_loop().create_task(home.watch()) if watched else None
    try:
        yield home
    finally:
        if watching is not None:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
