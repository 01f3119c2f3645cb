"""One message: as it is given, kept, and written down as a line of JSON."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .arguments import NewMessage
from .errors import MemoryToolError

PINNED = (None, "session", "user")
"""What `pinned` means as a number."""

EARLIEST, LATEST = -62135596800.0, 253402300799.0
"""The first and the last second that ISO 8601 can say with four digits, in UTC."""

DEEPEST = 64
"""Levels of metadata. Readers of JSON give up at some 200, and what was deeper could be saved, but not read again."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        id: Its id in the session.
        role: Whose it is.
        content: Its text.
        said: When, in seconds since 1970.
        name: Who said it, if known.
        metadata: Whatever else, as compact JSON.
        pinned: Index in `PINNED`.
        session: Its session, where that is known.
        number: Its place in the order of all, once it is kept.
    """

    id: str
    role: str
    content: str
    said: float
    name: str | None = None
    metadata: str | None = None
    pinned: int = 0
    session: str = ""
    number: int = 0

    @property
    def bytes(self) -> int:
        """What it counts against the limits."""
        texts = (self.id, self.role, self.content, self.name or "", self.metadata or "")
        return sum(len(text.encode()) for text in texts)

    def same(self, other: Message) -> bool:
        """Tell whether it says the same as one of its id that is kept; when it was said is no part of that."""
        one = (self.role, self.content, self.name, self.metadata, self.pinned)
        return one == (other.role, other.content, other.name, other.metadata, other.pinned)

    def document(self) -> dict[str, Any]:
        """Give it as clients see it."""
        told: dict[str, Any] = {
            "id": self.id,
            "session": self.session,
            "role": self.role,
            "time": written(self.said),
            "content": self.content,
        }
        if self.name:
            told["name"] = self.name
        if self.metadata:
            told["metadata"] = json.loads(self.metadata)
        if self.pinned:
            told["pinned"] = PINNED[self.pinned]
        return told


def message_of(given: NewMessage, now: float, limit: int) -> Message:
    """Make a message of what was given.

    Args:
        given: What was given.
        now: When it was said if it does not tell.
        limit: Bytes it may have.

    Raises:
        MemoryToolError: If it cannot be kept.
        UnicodeEncodeError: If it holds half of a character.
    """
    content = given.content if isinstance(given.content, str) else _texts(given.content)
    metadata = None
    if given.metadata:
        if _deeper(given.metadata, DEEPEST):
            raise MemoryToolError(
                f"metadata is nested more than {DEEPEST} levels deep. Save it as a text in it; nothing was saved."
            )
        try:
            metadata = json.dumps(given.metadata, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (ValueError, RecursionError) as error:
            raise MemoryToolError(
                f"metadata cannot be written as JSON ({error}). Nothing was saved."
            ) from None
    said = now if given.time is None else seconds_of(given.time)
    number = PINNED.index(given.pinned)
    made = Message(
        given.id or f"m-{secrets.token_hex(8)}",
        given.role,
        content,
        said,
        given.name or None,
        metadata,
        number,
    )
    size = made.bytes
    if size > limit:
        raise MemoryToolError(
            f"A message of {size:,} bytes is longer than the {limit:,} that one may have (memory.max_message). Save "
            "it in parts, or save where it lies instead; nothing was saved."
        )
    return made


def _deeper(value: Any, most: int) -> bool:
    """Tell whether lists and objects lie deeper in each other than so many levels."""
    level = [value]
    for _ in range(most):
        inner = [one for some in level for one in (some.values() if isinstance(some, dict) else some)]
        level = [one for one in inner if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def _texts(blocks: list[dict[str, Any]]) -> str:
    """Give the texts of content blocks; of what is no text, what it is."""
    said = []
    for block in blocks:
        text = block.get("text")
        said.append(text if isinstance(text, str) else f"[{str(block.get('type', 'block'))[:40]}]")
    return "\n".join(said)


def seconds_of(text: str) -> float:
    """Read a time; one without a zone is UTC.

    Raises:
        MemoryToolError: If it is none.
    """
    try:
        found = datetime.fromisoformat(text.strip())
        seconds = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        seconds = math.inf
    if not EARLIEST <= seconds <= LATEST:
        raise MemoryToolError(
            f"'{text[:40]}' is no time. Write it as ISO 8601 has it, such as 2026-03-01T09:30:00Z."
        )
    return seconds


def written(seconds: float) -> str:
    """Write a time."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line_of(message: Message) -> str:
    """Write a message as a line of an export."""
    return json.dumps({"type": "message", **message.document()}, ensure_ascii=False, separators=(",", ":"))


def summary_line(session: str, summary: str, latest: float) -> str:
    """Write a session's summary as a line of an export, with when it was last spoken in."""
    told = {"type": "summary", "session": session, "time": written(latest), "summary": summary}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def row_values(message: Message) -> Mapping[str, Any]:
    """Give the columns that are the message's own."""
    return {
        "id": message.id,
        "role": message.role,
        "name": message.name,
        "content": message.content,
        "metadata": message.metadata,
        "said": message.said,
        "pinned": message.pinned,
        "bytes": message.bytes,
    }
