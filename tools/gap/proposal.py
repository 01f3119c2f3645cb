"""Servers that would fill a gap: what installing or enabling one means, and the call that does it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ..library import Library
from ..outcome import RefusalError
from ..sight import CURRENT, visible_tools

if TYPE_CHECKING:
    from ..catalog.catalog import Catalog, Offer
    from ..catalog.plan import Plan
    from ..search.index import Hit, Index

logger = logging.getLogger(__name__)

NO_CATALOG = (
    "no catalog yet, or an empty one: sync_catalog fills it, and servers that fill a gap are found in it then"
)

UNREAD = "the catalog could not be read, so that only what is installed was looked at: "

GIVEN = "(as given)"
"""Stands in a call for a value that was given."""

_SHOWN = 300
"""Characters of what is fetched and run in an answer; a person who is asked is told all of it."""

OFFERS = 6
"""Servers of the catalog that are looked at for one need."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One server that would fill a gap.

    Attributes:
        name: Its name in the catalog, or of the installed server that is disabled.
        score: How well it fits, 0 to 1.
        why: What it was found by.
        about: What it says it does.
        fetches: What would be fetched and run, or reached; cut short, for an answer.
        missing: What has to be given before, one line for each.
        values: Names of the values that were given for it, or for any that asks for them.
        shared: Those of them that were given for no server by name. They are passed on only where a person agrees to
            it, for whoever wrote an entry chose what it asks for.
        secrets: Names of the secrets it requires.
        licence: Its licence, where known.
        published: When its version was published (a date), where known.
        tool: The own tool that does it.
        arguments: That tool's arguments, with places to fill in for required values and for those that were given:
            these are for nobody to read again.
        given: The same, with all values that were given, and
        own: with those alone that nobody has to agree to.
        lacking: Those of `shared` that it requires.
        plan: What installing it would do; `None` where nothing is to be installed.
    """

    name: str
    score: float
    why: str
    about: str
    fetches: str
    missing: tuple[str, ...]
    values: tuple[str, ...]
    shared: tuple[str, ...]
    secrets: tuple[str, ...]
    licence: str | None
    published: str | None
    tool: Literal["install_server", "manage_server"]
    arguments: dict[str, Any]
    given: dict[str, Any] = field(repr=False)
    own: dict[str, Any] = field(repr=False)
    lacking: tuple[str, ...] = ()
    plan: Plan | None = field(default=None, repr=False)

    @property
    def uncertainty(self) -> tuple[int, int]:
        """What is not known of it, and how young it is: the less the better."""
        young = int("".join(one for one in self.published or "" if one.isdigit())[:8] or 0)
        return (self.licence is None) + (self.published is None), young

    @property
    def lacks(self) -> list[dict[str, Any]]:
        """What has to be given before, as a refusal for want of it names it."""
        given = self.given.get("settings") or {}
        wanted = self.plan.missing if self.plan is not None else []
        return [one.as_dict() for one in wanted if given.get(one.name) in (None, "")]

    @property
    def where(self) -> str:
        """Say how to give values for this server alone."""
        return f'"settings": {{"{self.name}": {{...}}}}'

    def having(self, values: Mapping[str, Any]) -> Proposal:
        """Give it with values that a person gave for it."""
        given = {**self.given, "settings": {**(self.given.get("settings") or {}), **values}}
        own = {**self.own, "settings": {**(self.own.get("settings") or {}), **values}}
        return replace(self, given=given, own=own, missing=())

    def away(self, name: str) -> str:
        """Give the call that takes back what was done.

        Args:
            name: Its server.
        """
        if self.plan is None:
            return f'manage_server {{"name": "{name}", "action": "disable"}}'
        tool = "unregister_tool" if self.plan.source is None else "uninstall_server"
        return f'{tool} {{"name": "{name}"}}'

    @property
    def anyway(self) -> str:
        """The call that does it, for whom it did not serve."""
        return f"{self.tool} {json.dumps(self.arguments, ensure_ascii=False)}"

    def doing(self, cwd: str | None = None) -> str:
        """Say all that it would do, as in "asks to ...".

        Args:
            cwd: Where relative paths begin.

        Raises:
            RefusalError: If a value cannot be, so that there is nothing to ask about.
        """
        if self.plan is None:
            return f"enable the installed server '{self.name}'"
        from ..catalog.question import question

        told = question(self.plan, self.given.get("settings") or {}, {}, cwd)
        return f"install the server {self.name}: {told}"


def to_enable(server: str, hit: Hit) -> Proposal:
    """Propose to enable a server that is there."""
    arguments = {"name": server, "action": "enable"}
    why = f"installed, but disabled; {hit.why}"
    return Proposal(
        name=server,
        score=hit.score,
        why=why,
        about="",
        fetches="",
        missing=(),
        values=(),
        shared=(),
        secrets=(),
        licence=None,
        published=None,
        tool="manage_server",
        arguments=arguments,
        given=arguments,
        own=arguments,
    )


@dataclass(frozen=True, slots=True)
class Unfit:
    """A server that fits a need, and cannot be installed here.

    Attributes:
        name: Its name in the catalog.
        score: How well it fits, 0 to 1.
        why: Why it cannot be installed.
    """

    name: str
    score: float
    why: str

    def note(self, need: str) -> str:
        """Say so."""
        return f"{self.name} fits '{need[:80]}' best, but was passed over: {self.why}"


@dataclass(frozen=True, slots=True)
class Offered:
    """What a need finds in a catalog.

    Attributes:
        hits: All of it, best first.
        here: What of that are tools of servers that are installed and enabled. They are weighed as all others in the
            catalog are, which among the few that are installed they may not be.
        proposals: What of it could be installed.
        unfit: What of it could not.
    """

    hits: Sequence[Hit] = ()
    here: Sequence[Hit] = ()
    proposals: Sequence[Proposal] = ()
    unfit: Sequence[Unfit] = ()


def best_first(hits: Sequence[Hit]) -> list[Hit]:
    """Order hits of several searches."""
    return sorted(hits, key=lambda hit: (not hit.exact, -hit.score))


class Proposals:
    """Finds servers in a catalog that are not installed.

    Args:
        catalog: The catalog.
        library: What is installed.
    """

    def __init__(self, catalog: Catalog, library: Library) -> None:
        self._catalog = catalog
        self._library = library
        self._problem: str | None = None

    async def tools(self) -> Index | None:
        """Give the index of the tools that the catalog knows, if there is one."""
        from ..catalog.errors import CatalogError

        try:
            return await self._catalog.tools()
        except CatalogError as exc:
            self._problem = str(exc)
            return None

    async def of(self, need: str, settings: Mapping[str, Any], weighed_by: Index | None = None) -> Offered:
        """Give what a need finds in the catalog; `weighed_by` also tells how rare words are."""
        from ..catalog.errors import CatalogError

        try:
            offers = await self._catalog.search(need, OFFERS, weighed_by=weighed_by)
            return await asyncio.to_thread(self._proposed, offers, settings)
        except CatalogError as exc:
            self._problem = str(exc)
            return Offered()

    async def notes(self) -> list[str]:
        """Give what should be known of the catalog: that there is none yet, what is wrong with it, or was."""
        from ..catalog.errors import CatalogError

        empty = False
        try:
            empty = await self._catalog.is_empty()
        except CatalogError as exc:
            self._problem = str(exc)
        problem, self._problem = self._problem, None
        # A damaged file is set aside by whoever opens it first; what came of it is told once.
        remark = self._catalog.remark()
        if problem:
            return [UNREAD + problem]
        return [one for one in (remark, NO_CATALOG if empty else None) if one]

    def _proposed(self, offers: Sequence[Offer], settings: Mapping[str, Any]) -> Offered:
        from ..catalog.extras import identities, identities_of

        sight = CURRENT.get()
        installed = {
            identity: row
            for row in list(self._library.servers.values())
            if sight is None or sight.server(row.name)
            for identity in identities_of(row.installation)
        }
        hits: list[Hit] = []
        here: list[Hit] = []
        proposals: list[Proposal] = []
        unfit: list[Unfit] = []
        for offer in offers:
            hits += offer.hits
            rows = [installed[one] for one in identities(offer.entry) if one in installed]
            if rows:  # under whatever name; a disabled one is found by its own tools
                known = [tool for row in rows if row.enabled for tool in self._library.of(row.name)]
                tools = {tool.original for tool in visible_tools(known)}
                here += [hit for hit in offer.hits if hit.key.partition("\n")[2] in tools]
                continue
            try:
                proposals.append(_proposal(offer, settings))
            except RefusalError as exc:
                logger.debug("%s is not proposed: %s", offer.entry.name, exc.message)
                unfit.append(Unfit(offer.entry.name, offer.score, " ".join(exc.message.split())[:240]))
        return Offered(best_first(hits), best_first(here), tuple(proposals), tuple(unfit))


def _proposal(offer: Offer, settings: Mapping[str, Any]) -> Proposal:
    """Make a proposal of an offer.

    Raises:
        RefusalError: If it cannot be installed here.
    """
    from ..catalog.extras import licence
    from ..catalog.plan import plan_of

    entry, plan = offer.entry, plan_of(offer.entry)
    named = settings.get(entry.name)
    own = dict(named) if isinstance(named, Mapping) else {}
    # Only what it asks for by name: the rest is for other servers.
    flat = {name: settings[name] for name in plan.wanted if name in settings and name not in own}
    flat = {name: value for name, value in flat.items() if not isinstance(value, Mapping)}
    values = {**flat, **own}
    source: dict[str, Any] = {"source": entry.source}
    missing = [one for one in plan.missing if values.get(one.name) in (None, "")]
    places = {**dict.fromkeys(values, GIVEN), **{one.name: "..." for one in missing}}
    fetches = f"{plan.fetches} {plan.runs}".strip() if plan.source else plan.fetches
    return Proposal(
        name=entry.name,
        score=offer.score,
        why=offer.why,
        about=entry.description,
        fetches=fetches if len(fetches) <= _SHOWN else f"{fetches[:_SHOWN]}...",
        missing=tuple(one.line()[:200] for one in missing),
        values=tuple(values),
        shared=tuple(flat),
        lacking=tuple(one.name for one in plan.missing if one.name in flat),
        secrets=tuple(one.name for one in plan.missing if one.secret),
        licence=licence(entry),
        published=entry.published_at.date().isoformat() if entry.published_at else None,
        tool="install_server",
        arguments={**source, "settings": places} if places else source,
        given={**source, "settings": values} if values else source,
        own={**source, "settings": own} if own else source,
        plan=plan,
    )
