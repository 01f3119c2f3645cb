"""What should be known before the next answer, within a budget of tokens.

In this order: the session's summary, what is pinned, older messages that fit the query, the latest messages. When
not all of it fits, summary and pinned facts have up to half of the budget, the latest messages half of the rest
first, messages that fit the query the other half, and what is left then goes to the latest again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .message import Message, written
from .quoting import cut, line, quotation, tokens

LATEST = 400
"""Of a session's messages, as many are looked at, the newest."""
FITTING = 30
"""Messages that fit the query, at the most."""
_FRAME = tokens(quotation([])) + 1
_WORTH = 12
"""Tokens of content below which a cut message tells nothing."""


@dataclass
class Context:
    """What was chosen.

    Attributes:
        summary: The session's, if it has one and there was room.
        messages: In order, each with what it is there for.
        cut: Ids of numbers whose content was cut.
        budget: Tokens that are left.
    """

    budget: int
    summary: str | None = None
    messages: list[tuple[Message, str]] = field(default_factory=list)
    cut: set[int] = field(default_factory=set)

    def lines(self) -> list[str]:
        """Give the lines of the quotation."""
        first = [line({"summary": self.summary})] if self.summary else []
        return [*first, *(line(shown(message)) for message, _why in self.messages)]

    def text(self) -> str:
        """Give the quotation."""
        return quotation(self.lines())

    def documents(self) -> list[dict[str, Any]]:
        """Give the messages as clients see them."""
        return [
            {**message.document(), "why": why, **({"cut": True} if message.number in self.cut else {})}
            for message, why in self.messages
        ]


def shown(message: Message) -> dict[str, Any]:
    """Give what of a message stands in a prompt."""
    told = {"id": message.id, "session": message.session, "role": message.role}
    if message.name:
        told["name"] = message.name
    return {**told, "time": written(message.said)[:19] + "Z", "content": message.content}


def composed(
    budget: int,
    summary: str | None,
    pinned: Sequence[Message],
    fitting: Sequence[tuple[Message, str]],
    latest: Sequence[Message],
) -> Context:
    """Choose what fits.

    Args:
        budget: Tokens of the whole.
        summary: The session's.
        pinned: The newest first.
        fitting: Messages that fit the query, the best first, and why.
        latest: Of the session, the newest first.
    """
    context = Context(max(budget - _FRAME, 0))
    half = context.budget // 2
    there: set[int] = set()
    if summary:
        context.summary = cut(summary, max(half // 2, _WORTH))
        context.budget -= _cost({"summary": context.summary})
    head = _taken(context, pinned, half - (budget - _FRAME - context.budget), there, last=False)
    room = context.budget
    share = room if not fitting else room // 2
    tail = _taken(context, latest, share, there, last=True)
    why = {message.number: reason for message, reason in fitting}
    found = _taken(context, [message for message, _ in fitting], context.budget, there, last=False)
    rest = [message for message in latest if message.number not in there]
    # Only what follows on without a gap: a conversation with holes in it reads like another one.
    if tail and not any(message.number in context.cut for message in tail):
        tail += _taken(context, rest, context.budget, there, last=True)
    context.messages = [
        *((message, "pinned") for message in _ordered(head)),
        *((message, why[message.number]) for message in _ordered(found)),
        *((message, "recent") for message in _ordered(tail)),
    ]
    return context


def _taken(
    context: Context, some: Iterable[Message], share: int, there: set[int], *, last: bool
) -> list[Message]:
    """Take messages while they fit into a share of the budget.

    Args:
        context: What is being made.
        some: In the order they are wanted.
        share: Tokens they may have.
        there: Numbers of what was taken.
        last: Whether to stop at the first that does not fit: the rest would leave a gap.
    """
    found: list[Message] = []
    share = min(share, context.budget)
    for one in some:
        message = one
        if message.number in there:
            continue
        price = _cost(shown(message))
        if price > share:
            room = share - _cost(shown(replace(message, content=""))) - 1
            # Of one that is long by itself there is a part at least; the rest can be searched.
            if room >= _WORTH and (not found or price > 400):
                message = _cut_to(message, room)
                context.cut.add(message.number)
                price = _cost(shown(message))
            if price > share:
                if last:
                    break
                continue
        share -= price
        context.budget -= price
        there.add(message.number)
        found.append(message)
        if last and message.number in context.cut:
            break
    return found


def _cut_to(message: Message, room: int) -> Message:
    """Cut a message; what JSON adds to it (line ends, quotes) is counted as well."""
    short = replace(message, content=cut(message.content, room))
    over = _cost(shown(short)) - _cost(shown(replace(message, content=""))) - room
    return replace(message, content=cut(message.content, max(room - over, 1))) if over > 0 else short


def _cost(told: dict[str, Any]) -> int:
    return tokens(line(told)) + 1


def _ordered(some: Iterable[Message]) -> list[Message]:
    return sorted(some, key=lambda message: message.number)
