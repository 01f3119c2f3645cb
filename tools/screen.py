"""What the library asks before it shows what a server listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .rows import ServerRow, ToolRow

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a tool callers are shown.

    Attributes:
        definition: What they are told of it.
        digest: The digest of that.
        held: Why it is in quarantine; empty where it is not.
    """

    definition: dict[str, Any]
    digest: str
    held: str = ""


@dataclass(frozen=True, slots=True)
class Screened:
    """What came of a look at a list.

    Attributes:
        held: Tools that are in quarantine and that nobody was told of yet, by their names at the server.
        approved: Tools that are approved from now on.
        differs: Whether what is shown of the server is other than before, though its list may be the same.
    """

    held: tuple[str, ...] = ()
    approved: tuple[str, ...] = ()
    differs: bool = False


class First(Protocol):
    """What is decided of the first list of a server, to be stored together with it."""

    async def write(self, connection: AsyncConnection) -> None:
        """Write it, in the transaction that writes the server."""
        ...

    def keep(self) -> None:
        """Take it over, once that is done."""
        ...


class Screen(Protocol):
    """Decides what of servers' lists is shown."""

    async def first(self, server: ServerRow, rows: Sequence[ToolRow]) -> First:
        """Decide on the tools of a server that is being added."""
        ...

    async def review(self, server: ServerRow, rows: Sequence[ToolRow]) -> Screened:
        """Decide on what a server lists now, and write that down."""
        ...

    def shown(self, server: ServerRow, row: ToolRow) -> Shown:
        """Say what of a tool is shown; never what was not decided on."""
        ...

    def forget(self, server: str) -> None:
        """Forget a server that was removed."""
        ...

    def notes(self, server: str) -> list[str]:
        """Say what somebody who has just added a server should know of its tools."""
        ...

    async def expect_anew(self, server: str) -> None:
        """Take the next list of a server as its first one: somebody has just made another server of it."""
        ...
