"""Says which rule decides about something, which came before it and why they did not, and which limits hold."""

from __future__ import annotations

from dataclasses import dataclass

from .policy import Policy
from .rule import Action, Answer, Subject

MOST_PASSED = 20
"""Rules that are told of which were passed over."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Why something is as it is.

    Attributes:
        answer: What is decided; `None` where no rule decides.
        rule: Number of the deciding rule.
        line: The line it is in.
        because: What of it fits.
        why: What it says of itself.
        grants: Whether it gives the right as well.
        passed: The rules before it, with why each does not decide.
        limits: The limits that hold, in words.
    """

    answer: Answer | None
    rule: int | None = None
    line: int | None = None
    because: str = ""
    why: str = ""
    grants: bool = False
    passed: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


def explained(policy: Policy, action: Action, principal: str, listener: str, subject: Subject) -> Explained:
    """Explain one decision.

    Args:
        policy: The policy.
        action: What is to be done.
        principal: By whom.
        listener: Where it comes in, as callers have it.
        subject: To what.
    """
    limits = tuple(
        f"limit {limit.number}, line {limit.line}: {', '.join(limit.terms())}"
        for limit in (policy.holding(principal, listener, subject) if action == "call" else ())
    )
    passed: list[str] = []
    for rule in policy.rules:
        missed = None
        if action not in rule.actions:
            missed = f"it is not about '{action}'"
        missed = missed or rule.selector.misses(principal, listener) or rule.selector.passes_by(subject)
        if missed is None:
            fitting = rule.selector.named()
            because = f"{' and '.join(fitting)} fit{'' if len(fitting) > 1 else 's'}"
            if not fitting:
                because = "it names nobody and nothing, and so fits"
            if rule.written and action not in rule.written:
                follows = "who may call may see" if action == "see" else "who may not see may not call"
                because += f"; it is about {', '.join(rule.written)}, and {follows}"
            return Explained(
                rule.answer,
                rule.number,
                rule.line,
                because,
                rule.why,
                rule.grant,
                tuple(passed[-MOST_PASSED:]),
                limits,
            )
        passed.append(f"rule {rule.number}, line {rule.line}: {missed}")
    return Explained(None, passed=tuple(passed[-MOST_PASSED:]), limits=limits)
