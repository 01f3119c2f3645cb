"""A look at the gateways of a shared store without being one of them. Importing this imports SQLAlchemy."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, inspect, select

from ...tools.engines import ERRORS, explained, sync_engine
from ...tools.gateways.tickets import now
from ...tools.tables import GATEWAY, LEASE


@dataclass(frozen=True, slots=True)
class Seen:
    """A gateway.

    Attributes:
        name: Its name.
        state: Its state.
        age: Seconds since its last sign of life.
        servers: How many servers it runs for all.
    """

    name: str
    state: str
    age: float
    servers: int


def seen(where: str) -> list[Seen]:
    """Give the gateways there are in a database, those of commands left out.

    Raises:
        StoreError: If it cannot be read.
    """
    engine = sync_engine(where)
    count = select(func.count()).where(LEASE.c.gateway == GATEWAY.c.id).scalar_subquery()
    query = (
        select(GATEWAY.c.name, GATEWAY.c.state, now() - GATEWAY.c.seen_at, count)
        .where(GATEWAY.c.state != "passing")
        .order_by(GATEWAY.c.name)
    )
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(GATEWAY.name):
                return []  # nobody has used it yet
            return [
                Seen(name, state, float(age), int(servers))
                for name, state, age, servers in connection.execute(query)
            ]
    except ERRORS as error:
        raise explained(where, error) from error
    finally:
        engine.dispose()
