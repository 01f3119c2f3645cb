"""The guard that keeps every request to the policy, and what each caller may know of."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..functions.names import EXECUTOR
from ..functions.names import SERVER as FUNCTIONS
from ..names import OWN_SERVER
from ..outcome import Outcome, RefusalError
from ..sight import Sight, looking
from .meter import Meter
from .policy import Policy, Profile, Profiles, Verdict
from .rule import Rule, said

if TYPE_CHECKING:
    from ..caller import Caller
    from ..library import Library
    from ..passage import Passage

REMEMBERED = 10_000
"""Agreements that are remembered at the most."""

_OF_FUNCTION = f"{FUNCTIONS}#"
_EXECUTE = f"{EXECUTOR}__python_execute"

_UNASKED = frozenset({"completion/complete", "resources/subscribe"})
"""Requests that come by themselves while somebody types or looks, so that nobody is asked for each."""

Ask = Callable[["Passage", Rule], Awaitable[None]]
"""Asks the person at a client; raises `RefusalError` unless they agree."""


class Gate:
    """Lets through what the policy lets through. Without a policy it lets everything through.

    Args:
        library: What there is.
        unknown: Gives the refusal of a tool that there is not.
        ask: Asks a person.
    """

    def __init__(self, library: Library, unknown: Callable[[str], RefusalError], ask: Ask) -> None:
        self.library = library
        self.own: dict[str, frozenset[str]] = {}
        """What the annotations of ToolScore's own tools come to, by their full names."""
        self._unknown = unknown
        self._ask = ask
        self._meter = Meter()
        self._profiles: Profiles | None = None
        self._agreed: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self.on_change: Callable[[], None] = lambda: None
        """Called when another policy holds."""

    @property
    def policy(self) -> Policy | None:
        """The policy that holds; `None` without one."""
        return self._profiles.policy if self._profiles is not None else None

    def take(self, policy: Policy | None) -> None:
        """Let another policy hold from now on. What was agreed before is forgotten, what was used is not."""
        self._profiles = None if policy is None else Profiles(policy, self.library, self._meter, self.own)
        self._meter.keep(() if policy is None else policy.limits)
        self._agreed.clear()
        self.on_change()

    def profile(self, caller: Caller) -> Profile | None:
        """Give what holds for a caller; `None` without a policy."""
        return None if self._profiles is None else self._profiles.of(caller)

    def sight(self, caller: Caller) -> Sight | None:
        """Give what of the library a caller may know of; `None` is all."""
        profiles = self._profiles
        if profiles is None:
            return None
        profile = profiles.of(caller)
        return profile if profile.hides else None

    def admit(self, passage: Passage) -> Awaitable[None] | None:
        """Let a request through, or not; see `Guard`."""
        profiles = self._profiles
        if profiles is None:
            return None
        profile = profiles.of(passage.caller)
        tool = passage.tool
        if tool is not None:
            verdict = profile.calls.get(tool.name)
            if verdict is None or verdict.of is not tool:
                verdict = profile.call(tool)
            if verdict.free:
                return None
            if _is_own_body(passage):
                return None
        elif passage.server == OWN_SERVER:
            verdict = profile.own(passage.subject, said(passage.own_hints or {}))
        elif passage.method.startswith("tasks/"):
            # The task is of a call that was let through, and only who made that finds it.
            if not profile.may_call_any(passage.server):
                raise _denied(passage, profile.request(passage.server).rule)
            return None
        else:
            verdict = profile.request(passage.server)
        return self._judged(passage, profile, verdict)

    def _judged(self, passage: Passage, profile: Profile, verdict: Verdict) -> Awaitable[None] | None:
        if verdict.answer == "deny":
            if passage.method == "tools/call" and profile.hides:
                known = (
                    profile.tool(passage.tool)
                    if passage.tool is not None
                    else profile.named(passage.subject, passage.server)
                )
                if not known:
                    with looking(profile):
                        raise self._unknown(passage.subject)
            raise _denied(passage, verdict.rule)
        if verdict.uses is not None:
            verdict.uses.take(passage)
        if verdict.answer == "ask":
            assert verdict.rule is not None
            if passage.method in _UNASKED:
                raise RefusalError(
                    Outcome.NEEDS_APPROVAL,
                    f"The policy asks a person before server '{passage.server}' is used "
                    f"({_named(verdict.rule)}), and nobody is asked for {passage.method}.",
                    excused=True,
                )
            return self._asked(passage, verdict)
        if verdict.seconds is not None:
            _end_after(verdict.seconds, passage)
        return None

    async def _asked(self, passage: Passage, verdict: Verdict) -> None:
        rule = verdict.rule
        assert rule is not None
        caller = passage.caller
        episode = caller.session or caller.connection
        key = (caller.principal, episode, rule.number, passage.method, passage.server, passage.subject)
        if key not in self._agreed:
            policy = self.policy
            await self._ask(passage, rule)
            self._still(passage)
            # Whoever has neither a session nor a connection has nothing that an agreement could last as long as.
            if rule.remember and episode and policy is self.policy:
                self._agreed[key] = None
                if len(self._agreed) > REMEMBERED:
                    self._agreed.popitem(last=False)
        if verdict.seconds is not None:
            _end_after(verdict.seconds, passage)

    def _still(self, passage: Passage) -> None:
        """Make sure that what a person agreed to is what would be called: they may take their time.

        Raises:
            RefusalError: If it is not.
        """
        tool, profile = passage.tool, self.profile(passage.caller)
        if tool is None:
            return
        if self.library.tools.get(tool.name) is not tool:
            raise RefusalError(
                Outcome.UNAVAILABLE,
                f"'{tool.name}' became another tool while the person was asked about it, and was not called. "
                "Look at it with describe_tool, and call it again.",
                excused=True,
            )
        if profile is not None and (verdict := profile.call(tool)).answer == "deny":
            raise _denied(passage, verdict.rule)


def _is_own_body(passage: Passage) -> bool:
    """Tell whether this is a function's own code being run, which the call of the function was judged for."""
    parent = passage.caller.parent
    return passage.subject == _EXECUTE and parent is not None and parent.startswith(_OF_FUNCTION)


def _named(rule: Rule) -> str:
    return f"rule {rule.number} of the policy"


def _denied(passage: Passage, rule: Rule | None) -> RefusalError:
    named = "no rule" if rule is None else _named(rule)
    why = f" {rule.why.rstrip('.')}." if rule is not None and rule.why else ""
    what = f"call '{passage.subject}'" if passage.method == "tools/call" else f"use server '{passage.server}'"
    return RefusalError(
        Outcome.REFUSED,
        f"The policy does not let '{passage.caller.principal}' {what} ({named}).{why} explain_policy says more.",
        excused=True,
    )


def _end_after(seconds: float, passage: Passage) -> None:
    """Cancel a request once its time is over, and have it refused then. One timer is cheaper than a scope."""
    task = asyncio.current_task()
    assert task is not None

    def late() -> None:
        passage.late = RefusalError(
            Outcome.TIMED_OUT,
            f"'{passage.subject}' took longer than the {seconds:g} s that the policy allows it, and was cancelled. "
            "Whether it took effect is not known.",
            excused=True,
        )
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, late)
    passage.at_end(lambda _passage: timer.cancel())
