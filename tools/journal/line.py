"""Makes the lines of records: what goes into them on the event loop, and their end in the writer's thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from ..written import written
from .content import Mask, cleaned, cut, suspicious, without

Entry = tuple[bytes, str | None, bytes | None, bytes | None, bytes | None, int]
"""One record on its way to the writer: its members but for the following, as JSON without braces; what was said of a
failure; arguments, result and details as JSON, where they are kept; and how many bytes that is in all.

A plain tuple of texts: nothing in it can change or be kept alive by it, and the garbage collector leaves it alone.
"""


def entry(
    head: bytes, said: str | None, arguments: bytes | None, result: bytes | None, detail: bytes | None
) -> Entry:
    """Put an entry together."""
    size = len(head) + len(said or "") + len(arguments or b"") + len(result or b"") + len(detail or b"")
    return head, said, arguments, result, detail, size


LONGEST_SAID = 4096
"""Characters that are kept of what was said of a failure."""


class Lines:
    """Makes lines of entries, in the writer's thread.

    Args:
        run: What the ids of this run begin with.
        mask: Takes secrets out of a text.
        limit: Bytes that are kept of each of the contents.
    """

    def __init__(self, run: str, mask: Mask, limit: int) -> None:
        self._run = run.encode()
        self._mask = mask
        self.limit = limit
        self._number = 0

    def of(self, entries: Sequence[Entry]) -> list[bytes]:
        """Give the lines of entries, each with its end.

        Whether there is anything to take out is looked for in all of them at once, which mostly there is not.
        """
        seen: list[bytes] = []
        for _head, said, *contents, _size in entries:
            if said is not None:
                seen.append(said.encode("utf-8", "replace"))
            seen += [raw for raw in contents if raw is not None and len(raw) <= self.limit]
        whole = b"\n".join(seen)
        clean = suspicious(whole)
        if not clean:
            text = whole.decode()
            clean = self._mask(text) != text
        return [self._line(entry, clean=clean) for entry in entries]

    def _line(self, entry: Entry, *, clean: bool) -> bytes:
        head, said, arguments, result, detail, _size = entry
        self._number += 1
        line = [b'{"id":"%b-%d",%b' % (self._run, self._number, head)]
        if said is not None:
            told = without(said, self._mask) if clean or len(said) > LONGEST_SAID else said
            line += (b',"error":', written(told[:LONGEST_SAID]))
        shorter: dict[str, Any] = {}
        for name, raw in (("arguments", arguments), ("result", result), ("detail", detail)):
            if raw is None:
                continue
            text = raw
            if len(raw) > self.limit:
                text, shorter[name] = cut(raw, self.limit, self._mask)
            elif clean:
                text = cleaned(raw, self._mask)
            line.append(b',"%b":%b' % (name.encode(), text))
        if shorter:
            line += (b',"cut":', to_json(shorter))
        line.append(b"}\n")
        return b"".join(line)
