"""Asking the person at a client whether one call may be made, where the policy says to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from ..runners.errors import FaultError
from ..tools.errors import echoed
from ..tools.outcome import Outcome, RefusalError
from ..tools.policy.rule import Rule
from .consent import clear_yes

if TYPE_CHECKING:
    from ..tools.passage import Passage

HEAD, TAIL = 1_000, 400
"""Characters of the arguments that are shown, from their beginning and from their end."""

_FORM = {
    "type": "object",
    "properties": {"allow": {"type": "boolean", "title": "Allow it", "default": True}},
}


async def ask_person(passage: Passage, rule: Rule) -> None:
    """Return only if the person at the client agrees to one request.

    Raises:
        RefusalError: If nobody could be asked (`needs_approval`), or nobody agreed (`refused`).
    """
    what = _told(passage)
    refused = f"The policy asks a person before this is done (rule {rule.number})"
    if passage.asker is None:
        raise RefusalError(
            Outcome.NEEDS_APPROVAL,
            f"{refused}, and there is nobody to ask. Nothing was called.",
            excused=True,
        )
    who = "" if passage.caller.principal == "owner" else f" ('{passage.caller.principal}')"
    inside = ", from code that it runs," if passage.caller.depth else ""
    why = f" The policy says: {rule.why}" if rule.why else ""
    lasting = " Your answer holds for the rest of the session." if rule.remember else ""
    message = f"A client of ToolScore{who} is about to{inside} {what}.{why} Allow it?{lasting}"
    try:
        answer = await passage.asker.ask("elicitation/create", {"message": message, "requestedSchema": _FORM})
    except FaultError as exc:
        raise RefusalError(
            Outcome.NEEDS_APPROVAL,
            f"{refused}, and nobody could be asked: {echoed(exc.message)}. Nothing was called.",
            excused=True,
        ) from exc
    if not clear_yes(answer):
        raise RefusalError(
            Outcome.REFUSED,
            f"'{echoed(passage.subject)}' was not called: the person asked did not agree.",
            excused=True,
        )


def _told(passage: Passage) -> str:
    if passage.method == "tools/call":
        return f"call the tool {plain(passage.subject)} with {shown(passage.arguments)}"
    subject = f" {plain(passage.subject)}" if passage.subject else ""
    return f"make the request {passage.method}{subject} of the server {passage.server}"


def shown(arguments: dict[str, Any]) -> str:
    """Give arguments as a person is to see them: everything visible, on one line, and no more than can be read."""
    if not arguments:
        return "no arguments"
    text = to_json(arguments).decode()
    if len(text) > HEAD + TAIL:
        left_out = len(text) - HEAD - TAIL
        text = (
            f"{plain(text[:HEAD])} [... {left_out} characters that are not shown ...] {plain(text[-TAIL:])}"
        )
        return f"the arguments {text}"
    return f"the arguments {plain(text)}"


def plain(text: str) -> str:
    """Give a text with whatever does not show, or turns what is around it, written out as its number."""
    return "".join(one if one.isprintable() else f"\\u{{{ord(one):x}}}" for one in text)
