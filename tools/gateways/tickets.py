"""Tickets by which a gateway lets another in: each good for one connection, for one purpose, for half a minute.

There is no standing secret between gateways. Whoever can write into the store makes a ticket for another one, which
takes it out of the store when it is shown; what is stored is its digest only. Importing this imports SQLAlchemy.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Double, delete, func, insert, select, type_coerce

from ..tables import GATEWAY, TICKET

if TYPE_CHECKING:
    from ..store import Store

LIFETIME = 30.0
"""Seconds a ticket is good for, by the database's clock."""


def now() -> ColumnElement[float]:
    """Give the database's time in a statement: seconds since 1970, not those of the transaction's beginning."""
    return type_coerce(func.extract("epoch", func.clock_timestamp()), Double)


async def issue(store: Store, sender: str, receiver: str, purpose: str) -> str:
    """Make a ticket.

    Args:
        store: The store all gateways share.
        sender: The id of the gateway that will show it.
        receiver: The id of the one that will take it.
        purpose: What it is for: the path and query that are asked for.

    Raises:
        StoreError: If it cannot be written.
    """
    ticket = secrets.token_urlsafe(32)
    values = {
        "digest": _digest(ticket),
        "receiver": receiver,
        "sender": sender,
        "purpose": purpose,
        "until": now() + LIFETIME,
    }
    async with store.transaction() as connection:
        await connection.execute(insert(TICKET).values(values))
    return ticket


async def redeem(store: Store, receiver: str, ticket: str, purpose: str) -> str | None:
    """Take a ticket, which is good no more then.

    Returns:
        The id of the gateway that shows it; `None` if it is no good, or that gateway is not among us.

    Raises:
        StoreError: If the store cannot be asked.
    """
    taken = (
        delete(TICKET)
        .where(
            TICKET.c.digest == _digest(ticket),
            TICKET.c.receiver == receiver,
            TICKET.c.purpose == purpose,
            TICKET.c.until > now(),
            TICKET.c.sender.in_(select(GATEWAY.c.id)),
        )
        .returning(TICKET.c.sender)
    )
    async with store.transaction() as connection:
        sender: str | None = (await connection.execute(taken)).scalar_one_or_none()
        return sender


async def sweep(store: Store) -> None:
    """Delete those nobody took in time.

    Raises:
        StoreError: If they cannot be.
    """
    async with store.transaction() as connection:
        await connection.execute(delete(TICKET).where(TICKET.c.until <= now()))


def _digest(ticket: str) -> str:
    # No salt: it is as random as a key.
    return sha256(ticket.encode()).hexdigest()
