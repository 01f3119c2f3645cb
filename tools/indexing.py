"""The index over a library's tools: how it is made, and brought in step with them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .tool import Tool

if TYPE_CHECKING:
    from .search.document import Document
    from .search.index import Hit, Index

logger = logging.getLogger(__name__)

Held = tuple[list[Tool], str]
"""What is indexed of a server: the very list of tools, and the title."""


class Searched(Protocol):
    """An index: `search.index.Index`, or `search.semantic.SemanticIndex`, which finds by meaning too."""

    def put(self, server: str, documents: Sequence[Document]) -> None:
        """Replace everything that is known of one server."""

    def drop(self, server: str) -> None:
        """Forget one server."""

    def search(self, query: str, limit: int = 10, *, servers: Collection[str] | None = None) -> list[Hit]:
        """Find tools, the best first."""
        ...

    @property
    def words(self) -> Index:
        """What finds by words alone."""
        ...

    def stop(self) -> None:
        """Let work in the background come to its end."""

    def close(self) -> None:
        """End; nothing is found any more."""


def made(vectors: Path | None, told: Callable[[], None]) -> Searched:
    """Make an empty index. Blocks while libraries are loaded.

    Args:
        vectors: Where vectors of meanings are kept; `None` for one that goes by words alone.
        told: Called in the thread that encodes meanings, after each step.
    """
    from .search.index import Index

    if vectors is not None:
        from .search.semantic import semantic_index

        try:
            if (semantic := semantic_index(vectors, told)) is not None:
                return semantic
        except Exception:  # whatever is wrong with a model: words find tools too
            logger.exception("tools are searched by words only")
    return Index()


def bring(
    index: Searched, changed: dict[str, Held], gone: list[str], stopped: Callable[[], bool]
) -> dict[str, Held]:
    """Take changes into an index. Blocks.

    Args:
        index: The index.
        changed: What is new of servers, by name.
        gone: Servers that are to be forgotten.
        stopped: Whether to come to an end.

    Returns:
        The changes that were taken in before it was to stop.
    """
    from .search.document import document_of

    done: dict[str, Held] = {}
    for name in gone:
        index.drop(name)
    for name, (tools, title) in changed.items():
        if stopped():
            break
        done[name] = tools, title
        try:
            index.put(
                name, [document_of(tool.name, tool.server, title, tool.definition) for tool in list(tools)]
            )
        except Exception:  # whatever one server sent: the others' tools are still to be found
            logger.exception("the tools of server %s cannot be searched", name)
    return done
