"""Saying what servers of the catalog there are, within the tokens a caller wants to spend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..tools.catalog.catalog import Offer
from ..tools.compact import tokens
from ..tools.outcome import RefusalError
from . import models_catalog as m

if TYPE_CHECKING:
    from ..tools.catalog.entry import Entry

TOOLS = 10
"""Tools of a server that are named in a list."""

LINE = 160
"""Characters of a description in a list."""

NEEDS = 8
"""Values that are named in a list, those that must be given first."""

SHORTER = (
    "Later ones are told of shortly: catalog_entry shows all of one, and a larger max_tokens says more here."
)


def fitted(
    offers: Sequence[Offer], installed: dict[str, str], most: int, remark: str | None = None
) -> m.SearchServersResult:
    """Say of the best servers what there is room for: the first ones whole, later ones shorter, then in a line.

    Blocks: it looks at this machine.

    Args:
        offers: The servers, best first. The first is told of in any case.
        installed: Names of installed servers by what they are.
        most: What the result may weigh, in bytes of compact JSON / 4.
        remark: What is to be said beside them.
    """
    whole = [described(offer, installed, brief=True) for offer in offers]
    all_of_it = m.SearchServersResult(servers=whole, note=remark)
    if _weight(all_of_it) <= most:
        return all_of_it
    answer = m.SearchServersResult(servers=[_in_a_line(one) for one in whole], note=joined(remark, SHORTER))
    told = answer.servers
    while len(told) > 1 and _weight(answer) > most:
        told.pop()
        answer.note = joined(
            remark, f"There is no room for {len(whole) - len(told)} more: give a larger max_tokens.", SHORTER
        )
    room = most - _weight(answer)
    for at, one in enumerate(whole[: len(told)]):
        before = _weight(told[at])
        form = next((form for form in (one, _shorter(one)) if _weight(form) - before <= room), None)
        if form is None:
            break  # a later one is not told of at greater length than an earlier one
        told[at] = form
        room -= _weight(form) - before
    return answer


def _shorter(one: m.OfferedServer) -> m.OfferedServer:
    """Say what installing would fetch, and what must be given for it."""
    required = [
        m.Need(name=need.name, secret=need.secret, required=True) for need in one.needs or () if need.required
    ]
    return m.OfferedServer(
        name=one.name,
        description=line(one.description or "", 100),
        score=one.score,
        fetches=one.fetches,
        needs=required or None,
        notes=None if one.install else one.notes,
        licence=one.licence,
        status=one.status,
        installed=one.installed,
        install=one.install,
    )


def _in_a_line(one: m.OfferedServer) -> m.OfferedServer:
    return m.OfferedServer(
        name=one.name,
        description=line(one.description or "", 60),
        score=one.score,
        status=one.status,
        installed=one.installed,
    )


def _weight(made: m.SearchServersResult | m.OfferedServer) -> int:
    return tokens(len(made.model_dump_json(exclude_none=True).encode()))


def described(offer: Offer, installed: dict[str, str], *, brief: bool) -> m.OfferedServer:
    """Say what is known of a server, and what installing it would do. Blocks: it looks at this machine.

    Args:
        offer: The server.
        installed: Names of installed servers by what they are.
        brief: Whether it is one of a list.
    """
    from ..tools.catalog.extras import identities, licence

    entry = offer.entry
    here = next((installed[one] for one in identities(entry) if one in installed), None)
    most = TOOLS if brief else len(offer.known)
    shown = m.OfferedServer(
        name=entry.name,
        title=entry.title or None,
        description=line(entry.description, LINE) if brief else entry.description or None,
        version=entry.version or None,
        score=round(offer.score, 3) if offer.why else None,
        why=offer.why or None,
        tools=list(offer.known[:most]) or None,
        more_tools=max(0, len(offer.known) - most) or None,
        licence=licence(entry),
        published=entry.published_at.date().isoformat() if entry.published_at else None,
        updated=entry.updated_at.date().isoformat() if entry.updated_at else None,
        source_code=entry.repository.url or None if entry.repository else None,
        status=None if entry.status == "active" else entry.status,
        installed=here,
    )
    _plan(shown, entry, brief=brief)
    return shown


def _plan(shown: m.OfferedServer, entry: Entry, *, brief: bool) -> None:
    from ..tools.catalog.plan import plan_of

    try:
        plan = plan_of(entry)
    except RefusalError as refused:
        shown.notes = [refused.message if not brief else line(refused.message, 300) or ""]
        return
    shown.fetches = line(plan.fetches, 300)
    shown.arguments = line(plan.runs, 300 if brief else 4000)
    wanted = sorted(plan.wanted.values(), key=lambda one: not one.required)
    needs = [
        m.Need(
            name=one.name,
            description=line(one.description, LINE),
            secret=one.secret or None,
            required=one.missing or None,
            default=line(one.default or "", LINE),
        )
        for one in wanted
    ]
    notes = list(plan.notes)
    if brief and len(needs) > NEEDS:
        notes.append(f"{len(needs) - NEEDS} more values can be given; catalog_entry names them")
        needs = needs[:NEEDS]
    shown.needs = needs or None
    shown.notes = [line(note, 300) or "" for note in notes[: 3 if brief else 20]] or None
    shown.install = plan.call()


def joined(*texts: str | None) -> str | None:
    """Put sentences together."""
    return " ".join(text for text in texts if text) or None


def line(text: str, most: int) -> str | None:
    """Give a text on one line, cut where it is longer."""
    said = " ".join(text.split())
    return (said if len(said) <= most else said[: most - 1] + "…") or None
