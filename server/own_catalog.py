"""ToolScore's own tools about the catalog of servers that can be installed."""

from __future__ import annotations

from . import models_catalog as m
from .own_tool import READS, OwnTool

TOOLS: tuple[OwnTool, ...] = (
    OwnTool(
        "search_servers",
        "Search for a server",
        "Find servers that could be installed for a need said in plain words, best first: their tools, what "
        "installing fetches and runs, what it needs, and the install_server call to make.",
        m.SearchServersArguments,
        m.SearchServersResult,
        READS,
    ),
    OwnTool(
        "sync_catalog",
        "Update the catalog",
        "Update the catalog of installable servers from an MCP registry, or from a folder or file of server.json "
        "entries. Only what changed is fetched; one that broke off goes on there. After it, search_servers needs no "
        "network.",
        m.SyncCatalogArguments,
        m.SyncCatalogResult,
        {"destructiveHint": False, "idempotentHint": True, "openWorldHint": True},
        listed=False,
    ),
    OwnTool(
        "catalog_entry",
        "Show a server of the catalog",
        "Show one server of the catalog: what installing it fetches and runs, all it can be given, and its versions.",
        m.CatalogEntryArguments,
        m.CatalogEntryResult,
        READS,
        listed=False,
    ),
    OwnTool(
        "catalog_sources",
        "Sources of the catalog",
        "List where the catalog comes from, and how far each source was read.",
        m.CatalogSourcesArguments,
        m.CatalogSourcesResult,
        READS,
        listed=False,
    ),
)
