"""What the own tools about the catalog do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..tools.catalog.catalog import Catalog, Offer
from ..tools.catalog.finding import EMPTY
from ..tools.catalog.source import placed
from ..tools.outcome import Outcome, RefusalError
from ..tools.servers import Servers
from ..tools.sight import CURRENT
from . import models_catalog as m
from .call import Call
from .catalog_answer import described, fitted, joined
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.catalog.sync import Synced

LONGEST_QUERY = 10_000

NOTHING = (
    "No server of the catalog fits. Say it in other words, or bring the catalog up to date with sync_catalog. A "
    "server that is in no catalog is installed by its package: install_server(source='pypi:NAME')."
)


class CatalogTools:
    """The own tools about the catalog.

    Args:
        catalog: The catalog.
        servers: What is installed, and who may change that.
    """

    def __init__(self, catalog: Catalog, servers: Servers) -> None:
        self._catalog = catalog
        self._servers = servers
        self.handlers: dict[str, Handler] = {
            "search_servers": self._search,
            "sync_catalog": self._sync,
            "catalog_entry": self._entry,
            "catalog_sources": self._sources,
        }

    async def _search(self, args: m.SearchServersArguments, call: Call) -> m.SearchServersResult:
        from ..tools.search.tokens import words

        if not words(args.query[:LONGEST_QUERY]):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                "The query has no word that tells one server from another: say what the server should be able to do, "
                "such as 'read and send e-mail'.",
            )
        offers = await self._catalog.search(args.query[:LONGEST_QUERY], args.limit)
        if not offers:
            note = EMPTY if await self._catalog.is_empty() else NOTHING
            return m.SearchServersResult(servers=[], note=joined(self._catalog.remark(), note))
        installed, remark = self._installed(), self._catalog.remark()
        return await asyncio.to_thread(fitted, offers, installed, args.max_tokens, remark)

    async def _entry(self, args: m.CatalogEntryArguments, call: Call) -> m.CatalogEntryResult:
        name, version = args.name.removeprefix("registry:"), args.version
        if version is None and "@" in name:
            name, _, version = name.partition("@")
        entry = await self._catalog.find(name, version)
        if entry is None:
            raise RefusalError(Outcome.UNKNOWN_SERVER, await self._catalog.missing(name, version))
        versions = await self._catalog.versions(entry.name)
        offer = Offer(entry, 0, "", known=tuple(await self._catalog.tools_of(entry)))
        installed = self._installed()
        return m.CatalogEntryResult(
            server=await asyncio.to_thread(described, offer, installed, brief=False),
            versions=list(dict.fromkeys(one for one, status, _source in versions if status != "deleted")),
            source=next((source for _version, _status, source in versions), ""),
        )

    async def _sync(self, args: m.SyncCatalogArguments, call: Call) -> m.SyncCatalogResult:
        self._servers.may_manage(call.caller)
        if args.forget:
            if args.source == "all":
                raise RefusalError(Outcome.INVALID_ARGUMENTS, "Name the source to forget.")
            forgotten = placed(args.source, call.caller.cwd)
            count = await self._catalog.forget(forgotten)
            return m.SyncCatalogResult(sources=[], note=f"Forgot {forgotten} with its {count} servers.")
        source = None if args.source == "all" else placed(args.source, call.caller.cwd)
        done = await self._catalog.sync(source, full=args.full, report=call.report)
        if all(one.problem for one in done):
            raise RefusalError(Outcome.UNAVAILABLE, "\n".join(one.problem or "" for one in done))
        return m.SyncCatalogResult(
            sources=[_synced(one) for one in done], note=joined(self._catalog.remark(), _unusable(done))
        )

    async def _sources(self, args: m.CatalogSourcesArguments, call: Call) -> m.CatalogSourcesResult:
        return m.CatalogSourcesResult(
            sources=[
                m.CatalogSource(
                    source=one.name,
                    configured=one.configured,
                    servers=one.servers,
                    complete=one.state.read_at or one.state.complete if one.state else None,
                    unfinished=one.state is not None and one.state.cursor is not None,
                    problem=one.state.problem if one.state else None,
                )
                for one in await self._catalog.sources()
            ]
        )

    def _installed(self) -> dict[str, str]:
        """Give the names of the installed servers by what they are."""
        from ..tools.catalog.extras import identities_of

        sight = CURRENT.get()
        return {
            identity: row.name
            for row in self._servers.library.servers.values()
            if sight is None or sight.server(row.name)
            for identity in identities_of(row.installation)
        }


def _synced(one: Synced) -> m.SyncedSource:
    return m.SyncedSource(
        source=one.source,
        complete=one.complete,
        servers=one.servers,
        new=one.counts.new,
        updated=one.counts.updated,
        removed=one.counts.removed,
        skipped=one.skipped,
        reasons=one.reasons,
        pages=one.pages,
        seconds=round(one.seconds, 3),
        problem=one.problem,
    )


def _unusable(done: list[Synced]) -> str | None:
    skipped = sum(one.skipped for one in done)
    return (
        f"{skipped} of what came could not be read as entries; the reasons are of the first."
        if skipped
        else None
    )
