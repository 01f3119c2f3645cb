"""Where entries of the catalog come from."""

from __future__ import annotations

from pydantic import field_validator
from pydantic_core import PydanticCustomError

from .settings_base import Group, setting


class CatalogSettings(Group):
    """The catalog of servers that can be installed. Nothing is fetched unless asked for, here or by `sync_every`."""

    sources: tuple[str, ...] = setting(
        ("https://registry.modelcontextprotocol.io",),
        "a list of addresses of MCP registries, and of files or folders of server.json entries",
        "Where `sync_catalog` reads from: addresses of registries (API v0.1), files and folders. Where several have "
        "a server of one name, the first one counts.",
    )
    headers: tuple[str, ...] = setting(
        (),
        'a list of texts such as "https://registry.example Authorization: Bearer ${REGISTRY_TOKEN}"',
        "What is sent to private registries: the address, a header, and its value, in which ${NAME} stands for an "
        "environment variable or a secret; a value without one is refused.",
    )
    sync_every: float = setting(
        0.0,
        "a number of hours, 0 for never",
        "Hours after which a running ToolScore brings the catalog up to date by itself; 0 is never.",
        ge=0,
        le=8760,
    )
    timeout: float = setting(
        900.0,
        "a number of seconds above 0",
        "Seconds one source may take in one sync; the next one goes on from there.",
        gt=0,
    )

    @field_validator("sources")
    @classmethod
    def _sources(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        from ..tools.catalog.errors import CatalogError
        from ..tools.catalog.source import normal

        for source in sources:
            try:
                normal(source)
            except CatalogError as error:
                raise PydanticCustomError("catalog", "{why}", {"why": str(error)}) from error
        return sources

    @field_validator("headers")
    @classmethod
    def _headers(cls, headers: tuple[str, ...]) -> tuple[str, ...]:
        from ..tools.catalog.source import split_line

        for line in headers:
            try:
                split_line(line)
            except ValueError as error:
                raise PydanticCustomError("catalog", "{why}", {"why": f"{error}."}) from error
        return headers
