"""A recording that is read: an index of its requests in memory, the lines themselves in the file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ...runners.codec import FrameError, decode
from .cover import HIDDEN
from .event import FORMAT, MARK, TapeError, glance
from .likeness import key_of, likeness, subject_of

LONG = 16 * 1024
"""Bytes from which on a line is only glanced at until it is needed."""

PROBLEMS = 100
"""Lines that are told as unreadable, at the most."""

_FOLLOWING = frozenset({"told", "question", "reply", "answer", "cancelled"})
_HIDDEN = HIDDEN.encode()


class Entry:
    """One recorded request, and where the lines about it are.

    Attributes:
        number: Its number.
        session: Number of its session.
        at: When it was made, in seconds since the recording began.
        line: Number of its line.
        method: Its method.
        subject: What it is about, in words.
        key: Equal for requests that are the same.
        hidden: Whether something in it was hidden when it was recorded.
        lines: What happened in its course, in order: kind, time, offset and length of each line.
        ended: `result`, `error`, `cancelled`, or empty where the recording ended before it did.
        over: Number of the line at which it ended; of the last one where it did not.
    """

    __slots__ = (
        *("at", "ended", "hidden", "key", "length", "line", "lines", "method", "number", "offset", "over"),
        *("session", "subject"),
    )

    def __init__(self, session: int, number: int, at: float, line: int, place: tuple[int, int]) -> None:
        self.session = session
        self.number = number
        self.at = at
        self.line = line
        self.offset, self.length = place
        self.method = self.subject = ""
        self.key = b""
        self.hidden = False
        self.lines: list[tuple[str, float, int, int]] = []
        self.ended = ""
        self.over = 1 << 60

    @property
    def answered(self) -> bool:
        """Whether it was answered when it was recorded."""
        return self.ended in ("result", "error")


class Tape:
    """One recording.

    Args:
        path: Its file.

    Attributes:
        path: Its file.
        entries: Its requests, in the order they were made.
        by_key: The same, by what they ask.
        sessions: Their numbers, in the order of their first requests.
        lists: What the first client would have been shown, by method, whether it asked or not.
        instructions: What clients were told in the beginning; `None` where nothing was.
        known: Names of all tools that there were.
        problems: What of the file could not be used, in words: the first of them.
        problem_count: How much of it could not be used.
        made_by: Version of the ToolScore that recorded it.

    Raises:
        TapeError: If it cannot be read, or is no recording that this version understands.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.by_key: dict[bytes, list[Entry]] = {}
        self.sessions: list[int] = []
        self.lists: dict[str, dict[str, Any]] = {}
        self.instructions: str | None = None
        self.known: dict[str, Any] = {}
        self.problems: list[str] = []
        self.problem_count = 0
        self.made_by = ""
        self._open: dict[tuple[int, int], Entry] = {}
        self._last: dict[int, Entry] = {}
        self._seen: set[int] = set()
        self._runs = 0
        try:
            if path.exists() and not path.is_file():
                raise TapeError(f"{path} is not a file: name one that `toolscore --record FILE` wrote.")
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise TapeError(f"The recording {path} cannot be read: {error.strerror}.") from error
        try:
            self._read()
        except OSError as error:
            self._file.close()
            raise TapeError(f"The recording {path} cannot be read: {error.strerror}.") from error
        except BaseException:
            self._file.close()
            raise
        self._open.clear()
        self._last.clear()

    def _read(self) -> None:
        offset = 0
        for number, raw in enumerate(self._file, 1):
            offset += len(raw)
            # An editor may have put a byte order mark before the first line.
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            start = offset - len(line)
            if not line.strip():
                continue
            torn = not line.endswith(b"\n")
            try:
                head = glance(line) if len(line) > LONG and not torn else None
                value = decode(line) if head is None or head["kind"] == "request" else head
                if not self._runs or MARK in value:
                    self._begin(value)
                else:
                    self._take(value, line, number, (start, len(line)))
            except FrameError as exc:
                if not self._runs:
                    raise TapeError(
                        f"{self.path} is no recording of ToolScore: its first line is no JSON object."
                    ) from exc
                self._problem(number, "it was not written to its end" if torn else str(exc))
            except (KeyError, TypeError, ValueError, AttributeError) as exc:
                self._problem(
                    number, f"it lacks what it must have, or has something else in its place: {exc}"
                )
        if not self._runs:
            raise TapeError(f"{self.path} is empty: nothing was recorded to it.")

    def _problem(self, number: int, reason: str) -> None:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS:
            self.problems.append(f"line {number} is left out: {reason}")

    def _begin(self, value: dict[str, Any]) -> None:
        """Take a header. A recording that was gone on with by another ToolScore has several."""
        made = value.get(MARK)
        if not isinstance(made, int) or isinstance(made, bool):
            raise TapeError(f"{self.path} is no recording of ToolScore: its first line does not say so.")
        self.made_by = str(value.get("toolscore", "?"))
        if made > FORMAT:
            raise TapeError(
                f"{self.path} was recorded by ToolScore {self.made_by} in format {made}; this one reads formats "
                f"up to {FORMAT}. Update ToolScore, or record anew."
            )
        self._runs += 1
        self._open.clear()

    def _take(self, value: dict[str, Any], line: bytes, number: int, place: tuple[int, int]) -> None:
        kind, session = value["kind"], (self._runs << 32) + _whole(value["session"])
        match kind:
            case "request":
                self._request(value, line, session, number, place)
            case "note":
                # It belongs to what is under way, or else to what was answered last.
                entry = next((e for e in reversed(self._open.values()) if e.session == session), None)
                entry = entry or self._last.get(session)
                if entry is not None:
                    entry.lines.append((kind, float(value["at"]), *place))
            case _ if kind in _FOLLOWING:
                key = (session, _whole(value["request"]))
                entry = self._open.get(key)
                if entry is None:
                    raise ValueError("it belongs to no request that is under way")
                entry.lines.append((kind, float(value["at"]), *place))
                if kind in ("answer", "cancelled"):
                    entry.ended = _member(value) if kind == "answer" else kind
                    entry.over = number
                    del self._open[key]
                    self._last[session] = entry
            case "surface":
                for method, answer in (value.get("answers") or {}).items():
                    if isinstance(answer, dict):
                        self.lists.setdefault(method, answer)
            case "introduced":
                if self.instructions is None:
                    self.instructions = str(value["result"].get("instructions") or "")
            case "tools":
                self.known.update(value["known"])
            case "session" | "left":
                pass
            case _:
                raise ValueError(f"'{kind}' is nothing this version knows")

    def _request(
        self, value: dict[str, Any], line: bytes, session: int, number: int, place: tuple[int, int]
    ) -> None:
        entry = Entry(session, _whole(value["request"]), float(value["at"]), number, place)
        params = value.get("params") or {}
        if not isinstance(params, dict) or not isinstance(value["method"], str):
            raise TypeError("method and params must be a text and an object")
        entry.method = value["method"]
        alike = likeness(entry.method, params)
        entry.subject = sys.intern(subject_of(entry.method, alike))
        entry.key = key_of(entry.method, alike)
        entry.hidden = _HIDDEN in line
        self.entries.append(entry)
        self.by_key.setdefault(entry.key, []).append(entry)
        self._open[session, entry.number] = entry
        if session not in self._seen:
            self._seen.add(session)
            self.sessions.append(session)

    def of(self, session: int) -> list[Entry]:
        """Give the requests of one session, in their order."""
        return [entry for entry in self.entries if entry.session == session]

    def params(self, entry: Entry) -> dict[str, Any]:
        """Read the parameters of a request.

        Raises:
            TapeError: If the file is not as it was.
        """
        params = self._line(entry.offset, entry.length).get("params")
        return params if isinstance(params, dict) else {}

    def course(self, entry: Entry) -> Iterator[tuple[str, float, dict[str, Any]]]:
        """Read what happened in the course of a request: kind, time and line of each event.

        Raises:
            TapeError: If the file is not as it was.
        """
        for kind, at, offset, length in entry.lines:
            yield kind, at, self._line(offset, length)

    def _line(self, offset: int, length: int) -> dict[str, Any]:
        try:
            self._file.seek(offset, os.SEEK_SET)
            return decode(self._file.read(length))
        except (FrameError, OSError, ValueError) as exc:
            raise TapeError(f"{self.path} cannot be read any more, or was changed: {exc}") from exc

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _member(value: dict[str, Any]) -> str:
    for member in ("result", "error"):
        if member in value:
            if value[member] is not None and not isinstance(value[member], dict):
                raise TypeError(f"its {member} is no object")
            return member
    raise KeyError("result")
