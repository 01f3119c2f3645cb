"""What the tools do, for one user at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from .arguments import (
    LONGEST_ID,
    Arguments,
    DeleteMemory,
    ExportMemory,
    GetContext,
    ImportMemory,
    ListSessions,
    MemoryUsage,
    NewMessage,
    NewSummary,
    SaveConversation,
    SearchMemory,
)
from .context import FITTING, LATEST, composed
from .errors import MemoryToolError
from .finding import Wanted, by_words
from .message import PINNED, Message, line_of, message_of, seconds_of, summary_line, written
from .quoting import line, quotation, snippet, tokens
from .room import User
from .saving import Batch
from .shelf import Shelf, leading, messages_of
from .tables import IS_PINNED, MESSAGE
from .terms import READ, asked

PART = 400_000
"""Bytes of messages in one part of an export."""
PART_MESSAGES = 1000
DEFAULT = "default"
"""The session of those who name none."""
FIT = 0.4
"""Share of the best one's score below which a message does not fit a query."""
PINS = 100
"""Pinned messages that are looked at."""
MOST_LINES = 5000
"""Lines of one import, several times what a part of an export has."""
_CURSOR = re.compile("(s?)([0-9]{1,18})")
"""After which session with a summary a part of an export begins, or after which message."""


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom a tool is called.

    Attributes:
        principal: The user.
        session: The session of those calls that name none.
    """

    principal: str
    session: str = DEFAULT


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool gives.

    Attributes:
        document: Its structured content.
        text: The same for a model, where that is not its JSON.
    """

    document: dict[str, Any]
    text: str | None = None


@dataclass
class _Spoken:
    """What is to be imported into one session; `times` are those that its summary tells."""

    messages: list[NewMessage] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    summary: str | None = None
    times: list[float] = field(default_factory=list)

    def batch(self, session: str, messages: list[Message]) -> Batch:
        times = self.times + [message.said for message in messages]
        return Batch(session, messages, self.summary, self.places, max(times) if times else None)


class Meaning(Protocol):
    """Finds by what is meant, in step with what is kept."""

    @property
    def ready(self) -> bool:
        """Whether it has a say in searches."""
        ...

    def said(self) -> str:
        """Tell how it is, as part of a sentence."""
        ...

    def compared(self) -> str:
        """Tell how vectors are compared, and why so."""
        ...

    def saved(self, principal: str, /) -> None:
        """Take note that a user has new messages."""

    def mixed(
        self, user: User, wanted: Wanted, words: list[tuple[int, float]], limit: int
    ) -> list[tuple[int, float, str]]:
        """Put what words found and what is meant into one order; with what each was found by."""
        ...


class Memory:
    """The tools.

    Args:
        shelf: Where everything is kept.
        meaning: Finds by meaning; `None` where that is not installed or switched off.
        without: Why there is none.
    """

    def __init__(self, shelf: Shelf, meaning: Meaning | None = None, without: str = "switched off") -> None:
        self._shelf = shelf
        self._meaning = meaning
        self._without = without
        self._tools: dict[str, Callable[[Asker, Any], Answer]] = {
            "save_conversation": self._save,
            "get_context": self._context,
            "search_memory": self._search,
            "list_sessions": self._sessions,
            "export_memory": self._export,
            "import_memory": self._import,
            "delete_memory": self._delete,
            "memory_usage": self._usage,
        }

    @property
    def search(self) -> str:
        """How searches are done at this moment."""
        return "words and meaning" if self._meaning is not None and self._meaning.ready else "words"

    def call(self, name: str, arguments: Arguments, asker: Asker) -> Answer:
        """Do what a tool does; blocks.

        Raises:
            MemoryToolError: If it cannot be done; nothing was changed.
            StoreError: If the database cannot be used; nothing was changed.
        """
        try:
            return self._tools[name](asker, arguments)
        except UnicodeEncodeError:
            raise MemoryToolError(
                "A text holds half of a character (a lone surrogate), which is no text. Send whole characters; "
                "nothing was changed."
            ) from None

    def _save(self, asker: Asker, given: SaveConversation) -> Answer:
        session = given.session or asker.session
        if not given.messages and given.summary is None:
            raise MemoryToolError("There is nothing to save: give messages, a summary, or both.")
        messages = self._messages(given.messages)
        (saved,), user, dropped = self._shelf.save(asker.principal, [Batch(session, messages, given.summary)])
        if self._meaning is not None and saved.new:
            self._meaning.saved(asker.principal)
        told = {"session": session, "saved": saved.new, "known": saved.known, "dropped": dropped}
        return Answer({**told, "messages": user.messages, "bytes": user.bytes})

    def _messages(self, given: list[NewMessage]) -> list[Message]:
        now = self._shelf.clock()
        return [message_of(one, now, self._shelf.limits.message) for one in given]

    def _context(self, asker: Asker, given: GetContext) -> Answer:
        shelf, name = self._shelf, given.session or asker.session
        most = (
            4 * given.max_tokens + 1
        )  # characters that no budget has room for; more of them need not be read
        with shelf.reading() as connection:
            user = shelf.user(connection, asker.principal)
            session = shelf.session(connection, user, name) if user else None
            pinned: list[Message] = []
            latest: list[Message] = []
            fitting: list[tuple[Message, str]] = []
            if user is not None:
                every = messages_of(user, shelf.oldest())
                newest = MESSAGE.c.number.desc()
                number = session.number if session is not None else -1
                mine = (MESSAGE.c.pinned == PINNED.index("user")) | (MESSAGE.c.session == number)
                pinned = leading(connection, every.where(IS_PINNED, mine).order_by(newest).limit(PINS), most)
                latest = leading(
                    connection, every.where(MESSAGE.c.session == number).order_by(newest).limit(LATEST), most
                )
        if user is not None and given.query and given.query.strip():
            wanted = Wanted(given.query, session=None if given.other_sessions else name)
            found = self._found(user, wanted, FITTING, most)
            least = FIT * max((score for _one, score, _why in found), default=0.0)
            fitting = [(one, why) for one, score, why in found if score >= least]
        summary = session.summary if session is not None else None
        context = composed(given.max_tokens, summary, pinned, fitting, latest)
        text = context.text()
        there = sum(message.session == name for message, _why in context.messages)
        told = {
            "session": name,
            "summary": context.summary,
            "messages": context.documents(),
            "tokens": tokens(text),
            "omitted": max((session.messages if session is not None else 0) - there, 0),
            "search": self.search,
        }
        return Answer(told, text)

    def _found(self, user: User, wanted: Wanted, limit: int, most: int) -> list[tuple[Message, float, str]]:
        shelf, meaning = self._shelf, self._meaning
        with shelf.reading() as connection:
            words = by_words(shelf, connection, user, wanted, max(limit, 80) if meaning else limit)
        ranked = [(number, score, "words") for number, score in words]
        if meaning is not None and meaning.ready:
            ranked = meaning.mixed(user, wanted, words, limit)
        with shelf.reading() as connection:
            messages = shelf.by_number(connection, user, [number for number, _score, _why in ranked], most)
        return [(messages[number], score, why) for number, score, why in ranked if number in messages][:limit]

    def _search(self, asker: Asker, given: SearchMemory) -> Answer:
        since, until = (None if one is None else seconds_of(one) for one in (given.since, given.until))
        wanted = Wanted(given.query, given.session, given.role, since, until)
        with self._shelf.reading() as connection:
            user = self._shelf.user(connection, asker.principal)
        found = self._found(user, wanted, given.limit, READ) if user else []
        words = asked(given.query)
        hits = []
        for message, score, why in found:
            hit = message.document()
            hit.pop("metadata", None)
            hit.pop("pinned", None)
            hit["snippet"] = snippet(hit.pop("content"), words)
            hits.append({**hit, "score": round(score, 4), "why": why})
        told: dict[str, Any] = {"hits": hits, "search": self.search}
        if not hits:
            told["note"] = "Nothing fits. Try other words, or leave filters out."
            if self._meaning is not None and not self._meaning.ready:
                told["note"] += f" It was searched by words only ({self._meaning.said()})."
        return Answer(told, quotation(line(hit) for hit in hits) if hits else told["note"])

    def _sessions(self, asker: Asker, given: ListSessions) -> Answer:
        rows, total = self._shelf.sessions(asker.principal, given.limit, given.offset)
        told = [
            {
                "session": row.name,
                "messages": row.messages,
                "latest": written(row.latest),
                "summary": row.summary[:300] if row.summary else None,
            }
            for row in rows
        ]
        return Answer({"sessions": told, "total": total}, quotation(line(one) for one in told))

    def _export(self, asker: Asker, given: ExportMemory) -> Answer:
        place = _CURSOR.fullmatch(given.cursor or "s0")
        if place is None:
            raise MemoryToolError(
                "`cursor` must be the next_cursor of the part before; leave it out to begin."
            )
        after, room = int(place[2]), PART
        lines: list[str] = []
        if place[1]:  # summaries come first
            rows, further = self._shelf.summaries(asker.principal, given.session, after, PART)
            lines = [summary_line(row.name, row.summary, row.latest) for row in rows]
            if further:
                return _part(lines, 0, f"s{further}")
            after, room = 0, PART - sum(map(len, lines))
        messages, further = self._shelf.part(asker.principal, given.session, after, PART_MESSAGES, room)
        lines += map(line_of, messages)
        return _part(lines, len(messages), str(further) if further else None)

    def _import(self, asker: Asker, given: ImportMemory) -> Answer:
        batches = self._batches(given.lines)
        if not batches:
            return Answer({"saved": 0, "known": 0, "dropped": 0, "sessions": []})
        found, _user, dropped = self._shelf.save(asker.principal, batches, keep=True)
        saved = sum(len(one.new) for one in found)
        if self._meaning is not None and saved:
            self._meaning.saved(asker.principal)
        told = {"saved": saved, "known": sum(len(one.known) for one in found)}
        names = [batch.session for batch in batches]
        return Answer({**told, "dropped": dropped, "sessions": names})

    def _batches(self, text: str) -> list[Batch]:
        """Read JSON lines; those of one session are one batch."""
        spoken: dict[str, _Spoken] = {}
        many = 0
        for at, one in enumerate(text.split("\n"), 1):
            if not one.strip():
                continue
            many += 1
            if many > MOST_LINES:
                raise MemoryToolError(
                    f"There are more than {MOST_LINES:,} lines. Import them in parts, such as export_memory gives; "
                    "nothing was saved."
                )
            try:
                told = json.loads(one)
                kind, session = told.pop("type", "message"), told.pop("session", DEFAULT)
                if not isinstance(session, str) or not 0 < len(session) <= LONGEST_ID:
                    raise ValueError(f"session must be a text of 1 to {LONGEST_ID} characters")
                mine = spoken.setdefault(session, _Spoken())
                if kind == "summary":
                    given = NewSummary.model_validate(told)
                    mine.summary = given.summary
                    mine.times += [seconds_of(given.time)] if given.time else []
                elif kind == "message":
                    mine.messages.append(NewMessage.model_validate(told))
                    mine.places.append(at)
                else:
                    raise ValueError("type must be message or summary")
            except ValidationError as error:
                raise _wrong_line(at, problems(error)) from None
            except (ValueError, AttributeError, RecursionError, MemoryToolError) as error:
                raise _wrong_line(at, str(error)) from None
        return [one.batch(name, self._messages(one.messages)) for name, one in spoken.items()]

    def _delete(self, asker: Asker, given: DeleteMemory) -> Answer:
        if given.everything:
            if given.ids is not None or given.session is not None:
                raise MemoryToolError(
                    "`everything` goes without ids and session. Leave one or the other out; nothing was deleted."
                )
            gone, sessions = self._shelf.delete_all(asker.principal)
        elif given.session is None and given.ids is None:
            raise MemoryToolError(
                "Say what to delete: ids (with their session), a session, or everything=true. Nothing was deleted."
            )
        else:
            session = given.session or asker.session
            gone, sessions = self._shelf.delete(asker.principal, session, given.ids)
        return Answer({"deleted": gone, "sessions": sessions})

    def _usage(self, asker: Asker, _given: MemoryUsage) -> Answer:
        messages, size, sessions = self._shelf.usage(asker.principal)
        limits = self._shelf.limits
        told = {
            "user": asker.principal,
            "messages": messages,
            "bytes": size,
            "sessions": sessions,
            "limits": limits.model_dump(),
            "database": self._shelf.kind,
            "search": self.search,
            "meaning": self._meaning.said() if self._meaning is not None else self._without,
            "vectors": self._meaning.compared() if self._meaning is not None else "there are none",
        }
        return Answer(told)


def _part(lines: list[str], messages: int, cursor: str | None) -> Answer:
    text = "".join(f"{one}\n" for one in lines)
    return Answer({"lines": text, "messages": messages, "next_cursor": cursor})


def _wrong_line(at: int, why: str) -> MemoryToolError:
    return MemoryToolError(
        f"Line {at} cannot be imported: {why[:300]}. Correct it, or leave it out; nothing was saved."
    )


def problems(error: ValidationError) -> str:
    """Say what is wrong with arguments, without what was given for them."""
    told = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False)[:5]:
        place = ".".join(map(str, fault["loc"]))
        told.append(f"{place}: {fault['msg']}" if place else fault["msg"])
    return "; ".join(told)
