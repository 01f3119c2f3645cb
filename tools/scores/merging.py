"""Scores of several gateways in one table: what each adds is added to what is there, and nothing is overwritten.

Of each record it is known how it stood in the table last. What differs from that now, others have added; it is added
here, and what comes of it is written if the table still stands so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .record import Key, Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stood:
    """How a record stood in the table.

    Attributes:
        at: Time of its last call.
        text: The record.
    """

    at: float
    text: str


class Merging:
    """What is known of the table.

    Args:
        growth: Gives what a call weighs that was made at a time.
    """

    def __init__(self, growth: Callable[[float], float]) -> None:
        self._growth = growth
        self.stood: dict[Key, Stood] = {}
        self._tried: dict[Key, str] = {}

    def added(self, rows: Iterable[Any]) -> list[Record]:
        """Give what others have added, by rows as they stand now."""
        found = []
        for row in rows:
            key: Key = (row.server, row.tool, row.version)
            before = self.stood.get(key)
            now = Stood(row.last_at, row.record)
            if before == now:
                continue
            self.stood[key] = now
            if self._tried.pop(key, None) == now.text:
                continue  # it was written, though nobody could tell
            try:
                theirs = Record.from_text(key, now.at, now.text)
                base = None if before is None else Record.from_text(key, before.at, before.text)
            except ValueError as error:
                logger.warning(
                    "the kept score of %s %s cannot be understood, and begins anew: %s", *key[:2], error
                )
                continue
            if base is not None:
                theirs = _without(theirs, base, self._growth(base.at) / self._growth(theirs.at))
            found.append(theirs)
        return found

    def trying(self, rows: Sequence[tuple[Key, float, str]]) -> None:
        """Take note of what is about to be written: whether it was may stay unknown."""
        self._tried.update({key: text for key, _at, text in rows})

    def wrote(
        self, tried: Sequence[tuple[Key, float, str]], written: Sequence[tuple[Key, float, str]]
    ) -> None:
        """Take note of what of it was written; with the rest, others came first, maybe with the very same text."""
        for key, _at, _text in tried:
            self._tried.pop(key, None)
        for key, at, text in written:
            self.stood[key] = Stood(at, text)


def _without(record: Record, base: Record, factor: float) -> Record:
    """Give what a record has more than an earlier one of its own, whose weights are less by a factor now."""
    more = Record(record.key, record.name, record.since)
    more.at, more.last = record.at, record.last
    more.ok = max(0, record.ok - base.ok)
    for name in ("failures", "excused", "earlier"):
        now, before = getattr(record, name), getattr(base, name)
        setattr(
            more, name, {kind: n - before.get(kind, 0) for kind, n in now.items() if n > before.get(kind, 0)}
        )
    more.good = max(0.0, record.good - base.good * factor)
    more.bad = max(0.0, record.bad - base.bad * factor)
    for at, weight in record.times.classes.items():
        if (rest := weight - base.times.classes.get(at, 0.0) * factor) > 1e-3:
            more.times.classes[at] = rest
    return more
