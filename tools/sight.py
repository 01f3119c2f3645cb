"""What of the library one caller may know of. Nobody is told of the rest, not even that it is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .library import Library
    from .outcome import RefusalError
    from .tool import Tool


class Sight(Protocol):
    """What one caller may know of."""

    def tool(self, tool: Tool) -> bool:
        """Tell whether a tool may be known; also one of ToolScore's own, of the server `toolscore`."""
        ...

    def named(self, name: str, server: str) -> bool:
        """Tell whether a tool may be known: one of ToolScore's own, or of which there is only the name any more."""
        ...

    def server(self, name: str) -> bool:
        """Tell whether a server may be known: it may itself, or one of its tools."""
        ...

    def offers(self, name: str) -> bool:
        """Tell whether the resources and prompts of a server may be known."""
        ...


CURRENT: ContextVar[Sight | None] = ContextVar("toolscore_sight", default=None)
"""What the caller may know of in whose name this runs; `None` is all there is."""


@contextmanager
def looking(sight: Sight | None) -> Iterator[None]:
    """Do something with the eyes of a caller."""
    reset = CURRENT.set(sight)
    try:
        yield
    finally:
        CURRENT.reset(reset)


def visible(names: Iterable[str]) -> list[str]:
    """Give the names of servers that may be known here."""
    sight = CURRENT.get()
    return [name for name in names if sight is None or sight.server(name)]


def visible_tools(tools: Iterable[Tool]) -> list[Tool]:
    """Give the tools that may be known here."""
    sight = CURRENT.get()
    return [tool for tool in tools if sight is None or sight.tool(tool)]


def unseen(library: Library, name: str) -> RefusalError | None:
    """Give the refusal of a server that may not be known here, in the words for one there is not; else `None`."""
    sight = CURRENT.get()
    if sight is None or sight.server(name):
        return None
    from .groups import unknown

    return unknown(name, visible(library.servers))
