"""Arguments and results of the own tools about the catalog."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, WithJsonSchema

from .models import MOST_TOKENS, Arguments


class SearchServersArguments(Arguments):
    """Arguments of `search_servers`."""

    query: str = Field(description="What is needed, in plain words.")
    limit: int = Field(5, ge=1, le=25)
    max_tokens: int = Field(1500, ge=100, le=MOST_TOKENS)


class SyncCatalogArguments(Arguments):
    """Arguments of `sync_catalog`."""

    source: str = Field(
        "all",
        description="Address of a registry, a folder or a file; all: those of the setting catalog.sources.",
    )
    full: bool = Field(False, description="Read all again, not only what changed.")
    forget: bool = Field(False, description="Drop this source and what it gave instead of reading it.")


class CatalogEntryArguments(Arguments):
    """Arguments of `catalog_entry`."""

    name: str = Field(description="Name as in search_servers.")
    version: str | None = Field(None, description="By default the newest.")


class CatalogSourcesArguments(Arguments):
    """Arguments of `catalog_sources`: none."""


class Need(BaseModel):
    """A value a server wants before it is installed."""

    name: str
    description: str | None = None
    secret: bool | None = None
    required: bool | None = None
    default: str | None = None


class OfferedServer(BaseModel):
    """A server that could be installed; what is not known is left out."""

    name: str
    title: str | None = None
    description: str | None = None
    version: str | None = None
    score: float | None = None
    why: str | None = None
    tools: list[str] | None = None
    more_tools: int | None = None
    fetches: str | None = None
    arguments: str | None = None
    needs: list[Need] | None = None
    notes: list[str] | None = None
    licence: str | None = None
    published: str | None = None
    updated: str | None = None
    source_code: str | None = None
    status: str | None = None
    installed: str | None = None
    install: str | None = None


# Their fields speak for themselves; a schema of them would be in every client's context.
_Offered = Annotated[OfferedServer, WithJsonSchema({"type": "object"})]


class SearchServersResult(BaseModel):
    """Result of `search_servers`."""

    servers: list[_Offered]
    note: str | None = None


class CatalogEntryResult(BaseModel):
    """Result of `catalog_entry`."""

    server: _Offered
    versions: list[str]
    source: str


class SyncedSource(BaseModel):
    """What came of one source."""

    source: str
    complete: bool
    servers: int
    new: int
    updated: int
    removed: int
    skipped: int
    reasons: list[str] = Field(default_factory=list)
    pages: int
    seconds: float
    problem: str | None = None


class SyncCatalogResult(BaseModel):
    """Result of `sync_catalog`."""

    sources: list[SyncedSource]
    note: str | None = None


class CatalogSource(BaseModel):
    """One source of the catalog."""

    source: str
    configured: bool
    servers: int
    complete: str | None = Field(None, description="When it was last read to its end.")
    unfinished: bool = Field(False, description="Whether the next sync goes on where the last one broke off.")
    problem: str | None = None


class CatalogSourcesResult(BaseModel):
    """Result of `catalog_sources`."""

    sources: list[CatalogSource]
