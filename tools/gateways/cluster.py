"""The name that all gateways of one store have in common. It is no secret. Importing imports SQLAlchemy."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from ..tables import COMMON

if TYPE_CHECKING:
    from ..store import Store

_KIND = "cluster"


async def cluster(store: Store) -> str:
    """Give it; whoever comes first makes it.

    Raises:
        StoreError: If it can be neither read nor written.
    """
    made = insert(COMMON).values(
        kind=_KIND, name="id", version=1, body=secrets.token_hex(6), by="", at=time.time()
    )
    async with store.transaction() as connection:
        await connection.execute(made.on_conflict_do_nothing())
        body: str = (
            await connection.execute(select(COMMON.c.body).where(COMMON.c.kind == _KIND))
        ).scalar_one()
        return body
