"""The first list of a server, which is stored together with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .record import Record

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from .approvals import Approvals


@dataclass
class FirstList:
    """What is decided of the first list of a server; see `First` in `tools/screen.py`.

    Attributes:
        approvals: Takes it over.
        server: The server.
        records: What is known of it from then on.
    """

    approvals: Approvals
    server: str
    records: list[Record]

    async def write(self, connection: AsyncConnection) -> None:
        """Write it, in the transaction that writes the server.

        Raises:
            StoreError: If it cannot be written.
        """
        from .shelf import write

        await write(connection, self.records)

    def keep(self) -> None:
        """Take it over, once that is done."""
        self.approvals.took(self.server, self.records, afresh=True)
