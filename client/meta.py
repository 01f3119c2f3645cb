"""What a client says with each of its requests, and what it answers those of servers with."""

from __future__ import annotations

from collections.abc import Sequence

from .line import Answerer, Message

LEASE_KEY = "toolscore/lease"
"""Member of a request's `_meta` that names the lease it is made in."""

SESSION_KEY = "toolscore/session"
"""Member of a request's `_meta` by which the steps of an episode are known in the journal."""

LONGEST_SESSION = 128
"""Characters of such a name."""


def meta_of(before: Message, session: str | None, trace: str | None, lease: str | None) -> Message:
    """Give the `_meta` of requests: that of before, and what is to be said besides.

    Raises:
        ValueError: If a name or id cannot be used.
    """
    if session is not None and not 0 < len(session) <= LONGEST_SESSION:
        raise ValueError(f"the name of a session has 1 to {LONGEST_SESSION} characters")
    if trace is not None and (
        len(trace) != 32 or set(trace) - set("0123456789abcdef") or not trace.strip("0")
    ):
        raise ValueError("a trace is 32 hexadecimal digits in lower case, not all zero (W3C Trace Context)")
    given = {SESSION_KEY: session, "traceparent": trace, LEASE_KEY: lease}
    return before | {key: value for key, value in given.items() if value is not None}


def answerers_of(
    elicitation: Answerer | None, sampling: Answerer | None, roots: Sequence[str] | None
) -> dict[str, Answerer]:
    """Give who answers what, by method; what nobody answers is not offered to servers."""
    answerers: dict[str, Answerer] = {}
    if elicitation is not None:
        answerers["elicitation/create"] = elicitation
    if sampling is not None:
        answerers["sampling/createMessage"] = sampling
    if roots is not None:

        async def listed(_params: Message) -> Message:
            return {"roots": [{"uri": uri} for uri in roots]}

        answerers["roots/list"] = listed
    return answerers
