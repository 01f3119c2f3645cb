"""How the journal is, for those who look after it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """How the journal is.

    Attributes:
        trouble: Why nothing can be written; `None` where all is well.
        written: Records that were written since the start.
        dropped: Records that found no room.
        waiting: Records that wait to be written.
        bytes: Bytes of all segments.
        deleted: Segments that were deleted to keep within the size or the age.
        sent: Spans that a collector took; with `unsent`, those it did not. 0 where there is none.
        unsent: See `sent`.
    """

    trouble: str | None
    written: int
    dropped: int
    waiting: int
    bytes: int
    deleted: int
    sent: int = 0
    unsent: int = 0
