"""Saying what was found out about the needs of a task, within the tokens a caller wants to spend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..tools.compact import compact, purpose, tokens
from ..tools.gap.gap import overall
from ..tools.gap.proposal import UNREAD
from . import models_gap as m

if TYPE_CHECKING:
    from ..tools.finder import Found
    from ..tools.gap.gap import Judged
    from ..tools.gap.proposal import Proposal

_Answer = TypeVar("_Answer", bound=m.FindToolGapResult)

_FITTING = 0.2
"""Score from which on a tool of a need that is not covered is likely enough to be called to show its arguments."""

_OWN = "install_server a server you know, or register_tool a function of your own"
"""What can be done where no server is known."""

_STAGES = (
    (2000, 160, 3, 3),
    (800, 120, 3, 2),
    (400, 100, 2, 2),
    (240, 80, 1, 1),
    (0, 60, 1, 1),
    (0, 0, 1, 1),
)
"""The less room, the less is said: bytes of a tool's arguments, characters of a text, tools and servers of a need."""


def answer(
    judged: Sequence[Judged],
    kind: type[_Answer],
    *,
    split: Literal["given", "rules", "model"],
    notes: list[str],
    max_tokens: int,
    **more: Any,
) -> _Answer:
    """Make the answer; blocks for a moment.

    Args:
        judged: The needs.
        kind: Which answer.
        split: Who split the task.
        notes: What else is to be said.
        max_tokens: What it may take. The needs and calls are said in any case.
        more: Further members of the answer.
    """
    label = overall(judged)
    declined = any(one.done == "declined" for one in more.get("done", ()))
    unread = any(note.startswith(UNREAD) for note in notes)
    made: _Answer | None = None
    for room, chars, tools, servers in _STAGES:
        shown: set[str] = set()
        needs = [_need(one, room, chars, tools, servers, shown) for one in judged]
        said = _next(judged, declined, unread)
        made = kind(label=label, needs=needs, split=split, next=said, notes=notes, **more)
        if tokens(len(made.model_dump_json(exclude_none=True).encode())) <= max_tokens:
            break
    assert made is not None
    return made


def _need(one: Judged, room: int, chars: int, tools: int, servers: int, shown: set[str]) -> m.GapNeed:
    return m.GapNeed(
        need=one.need if chars else purpose(one.need, 60),
        label=one.label,
        confidence=round(one.confidence, 2),
        tools=[
            _tool(
                found,
                room if found.score >= _FITTING or (first and one.label == "covered") else 0,
                chars,
                shown,
                one.label == "gap",
            )
            for first, found in zip((True, False, False), one.tools[:tools], strict=False)
        ],
        servers=[_server(proposal, chars) for proposal in one.proposals[:servers]],
    )


def _tool(found: Found, room: int, chars: int, shown: set[str], doubtful: bool) -> m.GapTool:
    arguments = None
    if room and not doubtful and found.tool.name not in shown:
        shown.add(found.tool.name)
        arguments = compact(found.tool.definition.get("inputSchema"), room)
    return m.GapTool(
        name=found.tool.name,
        purpose=purpose(found.tool.description, chars) if chars else "",
        score=round(found.score, 3),
        why=found.why,
        arguments=arguments,
        doubtful=doubtful or None,
    )


def _server(one: Proposal, chars: int) -> m.GapServer:
    return m.GapServer(
        name=one.name,
        score=round(one.score, 3),
        why=one.why,
        about=purpose(one.about, chars) if chars and one.about else "",
        fetches=(one.fetches or None) if chars else None,
        requires=list(one.missing) or None,
        licence=one.licence if chars else None,
        published=one.published if chars else None,
        call=m.GapCall(tool=one.tool, arguments=one.arguments),
    )


def _next(judged: Sequence[Judged], declined: bool, unread: bool) -> str:
    """Say in one sentence what to do now."""
    missing = [one for one in judged if one.label == "gap"]
    doubtful = [one for one in judged if one.label == "unsure"]
    if not missing and not doubtful:
        return "All needs are covered: call the tools, through execute_tool where they are not listed."
    if declined:
        return (
            "A person declined a server: do what can be done without it, and install nothing in its place unless "
            "they agree."
        )
    if unread and not any(one.proposals for one in (*missing, *doubtful)):
        return f"The catalog could not be read: notes says what to do about that; then ask again. Or {_OWN}."
    said = [_of_gaps(missing)] if missing else []
    if doubtful:
        said.append(_of_doubtful(doubtful))
    return " ".join(said)


def _of_doubtful(doubtful: Sequence[Judged]) -> str:
    """Say what to do about needs that may be covered."""
    foreign = any(one.foreign for one in doubtful)
    steps = ["call their tools if they fit"] if any(one.tools for one in doubtful) else []
    if any(_fitting(one) for one in doubtful):
        steps.append("make the call named at one of their servers")
    if foreign:
        steps.append("ask again with needs=[...] in English")
    if not steps:
        return f"Nothing known fits the unsure needs: say them in other words, or {_OWN}."
    said = "Look at the unsure needs: " + ", else ".join(steps)
    return said + ("." if len(steps) > 1 or foreign else "; no server is known for them.")


def _of_gaps(missing: Sequence[Judged]) -> str:
    """Say what to do about needs that nothing covers."""
    rest = [one for one in missing if not _fitting(one)]
    firsts = [found[0] for one in missing if (found := _fitting(one))]
    unfit = any(one.unfit is not None for one in rest)
    named = any(one.proposals for one in rest)
    if not firsts:
        if unfit:
            far = ", and those named fit far less well" if named else ""
            return f"The server that fits the gap best cannot be installed here{far}: see notes, or {_OWN}."
        far = " (those named only share a word with it)" if named else ""
        return f"No known server fills the gap{far}. sync_catalog brings more servers into the catalog; or {_OWN}."
    said = (
        f"For each gap {'with a server that fits ' if rest else ''}make one of the calls named at its servers"
    )
    own = [first.name for first in firsts if first.shared]
    if own:
        said += (
            ", with values in place of '...' and '(as given)', or call ensure_tools with them under the server's "
            f'name: settings={{"{own[0]}": {{...}}}}.'
        )
    elif all(first.missing for first in firsts):
        said += ", with what it requires in place of '...'."
    elif any(first.missing or first.values for first in firsts):
        said += (
            ", with values in place of '...' and '(as given)', or call ensure_tools with them as settings."
        )
    else:
        said += ", the first fits best; or call ensure_tools."
    if rest:
        notes = "see notes, or " if unfit else "sync_catalog brings more servers into the catalog, or "
        said += f" No server that can be had fills the others: {notes}{_OWN}."
    return said


def _fitting(one: Judged) -> list[Proposal]:
    """Give the servers of a need that are worth a try."""
    return [near for near in one.proposals if near.score >= one.least]
