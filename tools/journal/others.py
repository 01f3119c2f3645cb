"""Reads the journal over all gateways of a shared store: this one's files, and what the others have sent.

Nothing of SQLAlchemy is imported before somebody reads.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .reader import Reader, Record
from .wanted import Wanted

PAGE = 500
"""Lines that are read at once."""


class AllReader(Reader):
    """Reads the records of a folder together with those of other gateways, each with its gateway's name.

    Args:
        folder: Where the segments of this gateway lie.
        gateway: Its name.
        where: The URL of the shared database.
    """

    def __init__(self, folder: Path, gateway: str, where: str) -> None:
        super().__init__(folder)
        self._gateway = gateway
        self._where = where

    def records(self, wanted: Wanted) -> Iterator[Record]:
        """Give the records that are wanted, in the order of their times."""
        own = (self._named(record) for record in super().records(wanted))
        yield from heapq.merge(own, self._others(wanted, newest=False), key=_time)

    def last(self, wanted: Wanted, count: int) -> list[Record]:
        """Give the last so many of those that are wanted, in the order of their times."""
        found = [self._named(record) for record in super().last(wanted, count)]
        for record, _number in zip(self._others(wanted, newest=True), range(count), strict=False):
            found.append(record)
        return sorted(found, key=_time)[-count:]

    def _named(self, record: Record) -> Record:
        record["gateway"] = self._gateway
        return record

    def _others(self, wanted: Wanted, *, newest: bool) -> Iterator[Record]:
        try:
            for gateway, line in self._lines(wanted, newest=newest):
                if (record := self._record(line.encode(), wanted)) is not None:
                    record["gateway"] = gateway
                    yield record
        except StoreError as error:
            self.unreadable["journals of other gateways"] = str(error)

    def _lines(self, wanted: Wanted, *, newest: bool) -> Iterator[tuple[str, str]]:
        from sqlalchemy import literal, select, tuple_

        from ..engines import ERRORS, explained, sync_engine
        from ..tables import JOURNAL

        columns = (JOURNAL.c.at, JOURNAL.c.gateway, JOURNAL.c.segment, JOURNAL.c.position)
        query = select(*columns, JOURNAL.c.line).where(JOURNAL.c.gateway != self._gateway)
        if wanted.since is not None:
            query = query.where(JOURNAL.c.at >= wanted.since - 1)
        if wanted.until is not None:
            query = query.where(JOURNAL.c.at <= wanted.until + 1)
        query = query.order_by(*(column.desc() if newest else column for column in columns)).limit(PAGE)
        engine = sync_engine(self._where)
        try:
            with engine.connect() as connection:
                after: tuple[Any, ...] | None = None
                while True:
                    page = query
                    if after is not None:
                        typed = zip(after, columns, strict=True)
                        place = tuple_(*(literal(value, column.type) for value, column in typed))
                        page = query.where(tuple_(*columns) < place if newest else tuple_(*columns) > place)
                    rows = connection.execute(page).all()
                    connection.rollback()  # whoever reads on slowly must not keep a transaction open
                    for row in rows:
                        yield row.gateway, row.line
                    if len(rows) < PAGE:
                        return
                    after = tuple(rows[-1])[:4]
        except ERRORS as error:
            raise explained(self._where, error) from error
        finally:
            engine.dispose()


def _time(record: Record) -> str:
    return str(record["time"])
