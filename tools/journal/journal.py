"""What goes into the journal, taken on the event loop in a few microseconds; a thread of its own writes it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..names import OWN_SERVER
from ..outcome import Outcome, RefusalError
from ..written import written
from .content import Mask, as_text, members, without
from .line import Entry, Lines, entry
from .options import Options
from .recent import Recent
from .segments import Segments
from .standing import Standing
from .subject import EXECUTE, READ, kind_of, safe_arguments, server_of
from .trace import Spans
from .writer import Writer

if TYPE_CHECKING:
    from ..caller import Caller
    from ..passage import Passage

logger = logging.getLogger(__name__)

LAST_RECORDS = 5.0
"""Seconds the last records have to be written when ToolScore ends."""

LONGEST_SUBJECT = 1000
"""Characters of the name of a tool or the uri of a resource: a client can make up any."""

FLUSHING = 2.0
"""Seconds that whoever reads waits at the most for what is not written yet."""

KNOWN_KEPT = 2000
"""Clients and tools whose descriptions are kept ready."""

REFUSED_KEPT = 64
"""Refusals that are remembered, to tell an `execute_tool` that passed one on."""


class Journal:
    """Keeps the journal of a home. Belongs to one event loop, on which everything but `note` is called.

    Args:
        folder: Where its segments lie.
        options: How it is kept.
        mask: Takes secrets out of a text; called in the writer's thread.
        version: Gives the version of a server, by its name.
    """

    def __init__(
        self,
        folder: Path,
        options: Options,
        *,
        mask: Mask = str,
        version: Callable[[str], str | None] = lambda _server: None,
    ) -> None:
        self.folder = folder
        """Where its segments lie."""
        self.run = secrets.token_hex(4)
        """What the ids of the records of this run begin with."""
        self.on_trouble: Callable[[str | None], None] = lambda _why: None
        """Told on the event loop why nothing can be written, and `None` once it can be again."""
        self.recent = Recent(self.run)
        """The last lines, for who follows."""
        self.after: Callable[[], None] = lambda: None
        """Called in a thread once the last record is written."""
        self.sent: Callable[[], tuple[int, int]] = lambda: (0, 0)
        """Gives how many spans a collector took and did not."""
        self.private: Callable[[str], bool] = lambda _server: False
        """Tells of a server whether nothing of what its tools are told and say is kept."""
        self._options = options
        self._version = version
        self._mask = mask
        self._spans = Spans()
        self._loop = asyncio.get_running_loop()
        self._fresh: list[Passage] = []
        self._refused: deque[tuple[int, str | None]] = deque(maxlen=REFUSED_KEPT)
        self._queue: deque[Entry] = deque()
        self._put_bytes = 0
        self._dropped = 0
        self._lock = threading.Lock()
        self._closed = False
        self._second, self._stamp = -1, ""
        self._clients: dict[int, tuple[str, str, str, str]] = {}
        self._known: dict[tuple[str, str, str, str, str | None], str] = {}
        self._lines = Lines(self.run, mask, options.content_bytes)
        self._segments = Segments(
            folder,
            max_bytes=options.max_bytes,
            segment_bytes=options.segment_bytes,
            max_age=options.max_age,
        )
        self.writer = Writer(
            self._queue,
            self._lines,
            self._segments,
            flush=options.flush,
            dropped=lambda: self._dropped,
            lost=self._lost,
            on_trouble=self._troubled,
        )
        self.writer.recent = self.recent

    def start(self) -> None:
        """Begin to write."""
        self.writer.start()

    def configure(self, options: Options) -> None:
        """Keep it otherwise from now on."""
        self._options = options
        self._lines.limit = options.content_bytes
        self.writer.flush = options.flush
        self._segments.max_bytes, self._segments.max_age = options.max_bytes, options.max_age
        self._segments.segment_bytes = options.segment_bytes

    @property
    def standing(self) -> Standing:
        """How it is now."""
        sent, unsent = self.sent()
        return Standing(
            self.writer.trouble,
            self.writer.written,
            self._dropped,
            len(self._queue) + len(self._fresh),
            self._segments.total,
            self._segments.deleted,
            sent,
            unsent,
        )

    # --- of the router

    def admit(self, passage: Passage) -> None:
        """Give a request its trace, and let it through unless nothing can be written and that is to stop calls.

        Raises:
            RefusalError: If it is not let through.
        """
        meta = passage.meta if passage.method == "tools/call" else passage.arguments.get("_meta")
        parent = meta.get("traceparent") if meta else None
        passage.span = self._spans.begin(passage.caller.span, parent)
        stopped = self._options.on_full == "refuse" and (self.writer.trouble or self._is_full())
        # ToolScore's own tools that only look must go on to answer, or nobody could say what is wrong.
        if stopped and not _looks(passage):
            raise RefusalError(Outcome.UNAVAILABLE, _FULL, excused=True, retryAfter=5.0)

    def watch(self, passage: Passage) -> None:
        """Take a request that is over."""
        fresh = self._fresh
        fresh.append(passage)
        if len(fresh) == 1:
            # After the answer was written, and once for all requests that end in this turn of the loop.
            self._loop.call_soon(self._take)

    def _take(self) -> None:
        fresh, self._fresh = self._fresh, []
        if self._closed:
            return
        since = time.time() - time.perf_counter()
        for passage in fresh:
            if passage.subject == EXECUTE and passage.server == OWN_SERVER and self._passed_on(passage):
                continue
            if passage.result is None and passage.said is not None:
                self._refused.append((id(passage.asker or passage.caller), passage.said))
            try:
                self._put(self._entry(passage, since), passage)
            except Exception:
                self._dropped += 1
                logger.exception("bug in the journal: a record is lost")

    def _passed_on(self, passage: Passage) -> bool:
        """Tell whether an `execute_tool` got as far as the tool it is for, whose record there is."""
        if passage.result is not None or passage.said is None:
            return True
        return (id(passage.asker or passage.caller), passage.said) in self._refused

    def _entry(self, passage: Passage, since: float) -> Entry:
        caller, server, method = passage.caller, passage.server, passage.method
        arguments, kind = passage.arguments, "call"
        if method != "tools/call":
            kind, arguments = kind_of(method), {k: v for k, v in arguments.items() if k != "_meta"}
        elif passage.tool is None and server == OWN_SERVER:
            kind, arguments = safe_arguments(passage.subject, arguments)
            server = server_of(kind, arguments, passage.result) or server
        client, session = self._client(caller, getattr(passage.asker, "peer", None))
        if caller.session:
            session = as_text(caller.session)
        span = passage.span or self._spans.begin(caller.span, None)
        asked = passage.asked() if arguments is passage.arguments else written(arguments)
        answered = passage.answered() if passage.result is not None else None
        sizes = f'"arguments":{len(asked)}' + (f',"result":{len(answered)}' if answered is not None else "")
        outcome = passage.outcome
        head = (
            f'"time":"{self._at(passage.began + since)}",{self._about(kind, method, server, passage.subject)},'
            f'"client":{client},"session":{session},"outcome":{_OUTCOMES.get(outcome) or as_text(outcome)},'
            f'"seconds":{passage.seconds:.6f},"trace":"{span[:32]}","span":"{span[33:49]}","bytes":{{{sizes}}}'
        )
        if len(span) > 50:
            head += f',"parent":"{span[50:]}"'
        if caller.depth:
            head += f',"depth":{caller.depth}'
        contents = "off" if self.private(server) else self._options.contents
        if contents != "on" or passage.subject == READ:
            answered = None
        return entry(head.encode(), passage.said, asked if contents != "off" else None, answered, None)

    def _about(self, kind: str, method: str, server: str, subject: str) -> str:
        """Write what a request is about, which for most is what it was for one before."""
        if len(subject) > LONGEST_SUBJECT:
            subject = f"{subject[:LONGEST_SUBJECT]}…"
        key = (kind, method, server, subject, self._version(server))
        known = self._known.get(key)
        if known is None:
            name = "tool" if method == "tools/call" else "subject"
            told = {
                "kind": kind,
                "method": method,
                "server": server,
                "version": key[4],
                name: without(subject, self._mask),
            }
            if len(self._known) >= KNOWN_KEPT:
                self._known.clear()
            known = self._known[key] = members(told)
        return known

    def _client(self, caller: Caller, peer: Any) -> tuple[str, str]:
        """Describe a client, and name the session its connection is; both as JSON."""
        known = self._clients.get(caller.connection)
        if known is not None and (peer is None or (known[0] == peer.name and known[1] == peer.protocol)):
            return known[2], known[3]
        told: dict[str, Any] = {
            "principal": caller.principal,
            "listener": caller.listener,
            "connection": caller.connection,
        }
        name = peer.name if peer is not None else ""
        if peer is not None and name:
            told |= {"name": name, "version": peer.version or None, "protocol": peer.protocol or None}
        client, session = f"{{{members(told)}}}", as_text(f"{self.run}.{caller.client}")
        if caller.connection and peer is not None and name:
            if len(self._clients) >= KNOWN_KEPT:
                self._clients.clear()
            self._clients[caller.connection] = (name, peer.protocol, client, session)
        return client, session

    def _at(self, seconds: float) -> str:
        """Write a time in UTC to the microsecond (RFC 3339)."""
        whole, part = divmod(int(seconds * 1_000_000), 1_000_000)
        if whole != self._second:
            try:
                self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
            except (ValueError, OverflowError, OSError):  # a clock beyond all calendars
                whole, self._stamp = 0, "1970-01-01T00:00:00"
            self._second = whole
        return f"{self._stamp}.{part:06d}Z"

    # --- of everybody else

    def note(
        self,
        kind: str,
        *,
        server: str = "",
        tool: str = "",
        outcome: str = "ok",
        said: str | None = None,
        caller: Caller | None = None,
        peer: Any = None,
        at: float | None = None,
        **detail: Any,
    ) -> None:
        """Note what is no request: a start, a failure, an approval. May be called in any thread.

        Args:
            kind: What it is, in a word such as `server_failed`.
            server: The server it is about.
            tool: The tool it is about, in full.
            outcome: What came of it.
            said: What was said of a failure.
            caller: In whose name it was done.
            peer: The client, with `name` and `version` as it calls itself.
            at: When it was, in seconds since 1970; now where it is not given.
            **detail: What else there is to know, of any JSON. Kept whatever `contents` says, so nothing of what a
                tool was asked or answered belongs here.
        """
        with self._lock:
            if self._closed:
                return
            told: dict[str, Any] = {"kind": kind}
            if server:
                told |= {"server": server, "version": self._version(server)}
            told |= {"tool": tool or None, "outcome": outcome}
            self._put(self._noted(told, detail, at=at, said=said, caller=caller, peer=peer))

    def _noted(
        self,
        told: dict[str, Any],
        detail: dict[str, Any],
        at: float | None = None,
        said: str | None = None,
        caller: Caller | None = None,
        peer: Any = None,
    ) -> Entry:
        moment = time.time() if at is None else at
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
        span = self._spans.begin(caller.span if caller is not None else "", None)
        when = {"time": f"{whole}.{int(moment % 1 * 1_000_000):06d}Z"}
        head = members(when | told | {"trace": span[:32], "span": span[33:49]})
        if caller is not None:
            client, session = self._client(caller, peer)
            head += f',"client":{client},"session":{as_text(caller.session) if caller.session else session}'
        return entry(head.encode(), said, None, None, written(detail) if detail else None)

    def _lost(self, records: int) -> Entry:
        return self._noted({"kind": "dropped", "outcome": "dropped"}, {"records": records})

    def _is_full(self) -> bool:
        return (
            len(self._queue) >= self._options.queue_records
            or self._put_bytes - self.writer.done_bytes >= self._options.queue_bytes
        )

    def _put(self, made: Entry, passage: Passage | None = None) -> None:
        waiting = self._put_bytes - self.writer.done_bytes
        size = made[5]
        full = len(self._queue) >= self._options.queue_records or waiting + size > self._options.queue_bytes
        if full and self._is_spare(passage):
            self._dropped += 1
            return
        self._put_bytes += size
        self._queue.append(made)
        if waiting > self._options.queue_bytes // 4:
            self.writer.hurry()

    def _is_spare(self, passage: Passage | None) -> bool:
        """Tell whether what finds no room is dropped."""
        # Where nothing may be done that is not written down, what was let in finds room: no more of it can come.
        if self._options.on_full == "go_on" or len(self._queue) >= 2 * self._options.queue_records:
            return True
        # What was refused, or only looked, can come without end.
        return passage is not None and (not passage.span or passage.said == _FULL or _looks(passage))

    def _troubled(self, why: str | None) -> None:
        if why is not None:
            logger.error(
                "the journal cannot be written: %s. %s; it is tried again until there is room",
                why,
                "Calls are refused meanwhile"
                if self._options.on_full == "refuse"
                else "Calls go on without it",
            )
        else:
            logger.warning("the journal is written again; %d records were dropped so far", self._dropped)
        try:
            self._loop.call_soon_threadsafe(self.on_trouble, why)
        except RuntimeError:  # the loop is over
            return

    async def flushed(self) -> None:
        """Wait a moment until what waits is in the files, so that who reads them finds it."""
        self._take()
        until = time.monotonic() + FLUSHING
        while self.writer.busy and self.writer.trouble is None and time.monotonic() < until:
            self.writer.hurry()
            await asyncio.sleep(0.005)

    async def aclose(self) -> None:
        """Write what waits, and end."""
        self._take()
        with self._lock:
            self._closed = True
        if not await asyncio.to_thread(self.writer.close, LAST_RECORDS):
            logger.error("the last records of the journal could not be written; %d wait", len(self._queue))
        await asyncio.to_thread(self.after)


def _looks(passage: Passage) -> bool:
    """Tell whether this is an own tool that changes nothing."""
    return passage.server == OWN_SERVER and bool(
        passage.hints.get("readOnlyHint") or passage.subject == EXECUTE
    )


_FULL = (
    "This ToolScore does not let anything be done that its journal cannot keep, and nothing can be written to it "
    "just now. Make room on its disk, and try again."
)
_OUTCOMES = {outcome: f'"{outcome}"' for outcome in ("ok", "error", "server_error", "cancelled", *Outcome)}
