"""How the journal is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Contents = Literal["on", "arguments", "off"]
OnFull = Literal["go_on", "refuse"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """How the journal is kept.

    Attributes:
        contents: What of the contents is kept: `on` (arguments and results), `arguments`, or `off`.
        content_bytes: Bytes of JSON that are kept of the arguments, and as many of the result.
        max_bytes: Bytes all segments together have at the most.
        max_age: Seconds after which a segment that is written no more is deleted; 0 is never.
        on_full: What becomes of calls while nothing can be written: they `go_on`, or are refused.
        flush: Seconds after which a record is written at the latest.
        queue_records: Records that may wait to be written.
        queue_bytes: Bytes of them.
    """

    contents: Contents = "on"
    content_bytes: int = 16 * 1024
    max_bytes: int = 256 * MIB
    max_age: float = 0.0
    on_full: OnFull = "go_on"
    flush: float = 0.25
    queue_records: int = 50_000
    queue_bytes: int = 64 * MIB

    @property
    def segment_bytes(self) -> int:
        """Bytes of one segment: a sixteenth of all, so that little goes at once when the oldest is deleted."""
        return max(4096, min(16 * MIB, self.max_bytes // 16))
