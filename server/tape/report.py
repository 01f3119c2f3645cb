"""What was asked of a recording, what was answered, what was not found, and what was left over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...tools.replace import replace_file
from .event import LISTS
from .likeness import subject_of
from .nearest import shortened

if TYPE_CHECKING:
    from .nearest import Near
    from .tape import Entry, Tape

KEPT = 200
"""Requests that were not found, and answers that were left over, which are told one by one; the rest is counted."""


class Account:
    """What one client asked.

    Args:
        number: Its number, in the order of first requests.
        recorded: Number of the recorded session that answers it, from 1; `None` where all do, or none is left.
    """

    def __init__(self, number: int, recorded: int | None) -> None:
        self.number = number
        self.recorded = recorded
        self.client = ""
        self.asked = self.answered = self.missed = 0
        self.misses: list[dict[str, Any]] = []
        self.disagreements: list[dict[str, Any]] = []
        self.diverged = False
        self.left: list[Entry] = []
        """In the strict mode, the recorded requests that were not made so far."""

    @property
    def not_asked(self) -> list[Entry]:
        """What of the recording was not asked, and must have been; what its client gave up need not."""
        return [entry for entry in self.left if entry.answered]

    def miss(self, outcome: str, message: str, method: str, alike: dict[str, Any], near: list[Near]) -> None:
        """Take note of a request that was not answered from the recording."""
        self.missed += 1
        if outcome == "diverged":
            self.diverged = True
        if len(self.misses) < KEPT:
            self.misses.append(
                {
                    "outcome": outcome,
                    "subject": subject_of(method, alike),
                    "arguments": shortened(alike.get("arguments")),
                    "message": message,
                    "nearest": [one.described() for one in near],
                }
            )

    def disagree(self, what: str, differs: list[dict[str, Any]]) -> None:
        """Take note of a question that was answered otherwise than it was recorded."""
        if len(self.disagreements) < KEPT:
            told = [{key: shortened(value) for key, value in one.items()} for one in differs]
            self.disagreements.append({"question": what, "differences": told})


class Report:
    """The report of one replay.

    Args:
        tape: The recording.
        strict: Whether its order counts.
    """

    def __init__(self, tape: Tape, *, strict: bool) -> None:
        self._tape = tape
        self._strict = strict
        self.accounts: list[Account] = []
        self.used: set[int] = set()
        """Lines of the recorded requests that were answered from."""

    @property
    def diverged(self) -> bool:
        """Whether a client did something else than was recorded, or not all of it; strict mode only."""
        return self._strict and any(one.diverged or one.missed or one.not_asked for one in self.accounts)

    def unused(self) -> list[Entry]:
        """Give the recorded requests that nobody made, lists left aside."""
        return [
            entry
            for entry in self._tape.entries
            if entry.line not in self.used and entry.method not in LISTS and entry.answered
        ]

    def described(self) -> dict[str, Any]:
        """Give it as it is written."""
        unused = self.unused()
        return {
            "recording": str(self._tape.path),
            "recorded_by": self._tape.made_by,
            "toolscore": __version__,
            "mode": "strict" if self._strict else "content",
            "diverged": self.diverged,
            "asked": sum(one.asked for one in self.accounts),
            "answered": sum(one.answered for one in self.accounts),
            "not_found": sum(one.missed for one in self.accounts),
            "unused": len(unused),
            "unused_requests": [self._entry(entry) for entry in unused[:KEPT]],
            "problems": self._tape.problems,
            "problem_count": self._tape.problem_count,
            "sessions": [self._session(one) for one in self.accounts],
        }

    def _session(self, one: Account) -> dict[str, Any]:
        left = one.not_asked
        return {
            "number": one.number,
            "client": one.client,
            "recorded_session": one.recorded,
            "asked": one.asked,
            "answered": one.answered,
            "not_found": one.missed,
            "diverged": self._strict and bool(one.diverged or one.missed or left),
            "requests_not_found": one.misses,
            "questions_answered_otherwise": one.disagreements,
            "not_asked": len(left),
            "requests_not_asked": [self._entry(entry) for entry in left[:KEPT]],
        }

    def _entry(self, entry: Entry) -> dict[str, Any]:
        from .likeness import likeness

        alike = likeness(entry.method, self._tape.params(entry))
        return {
            "line": entry.line,
            "subject": entry.subject,
            "arguments": shortened(alike.get("arguments")),
        }

    def text(self) -> str:
        """Say it in a few lines, for standard error."""
        said = self.described()
        lines = [
            f"replayed {said['recording']} ({said['mode']}): {said['asked']} asked, {said['answered']} answered, "
            f"{said['not_found']} not found, {said['unused']} recorded but not asked"
        ]
        lines += said["problems"][:5]
        for session in said["sessions"]:
            for miss in session["requests_not_found"][:10]:
                lines.append(f"session {session['number']}: {miss['message']}")
            for one in session["requests_not_asked"][:10] if self._strict else ():
                lines.append(
                    f"session {session['number']}: {one['subject']} (line {one['line']}) was not asked"
                )
            for other in session["questions_answered_otherwise"][:10]:
                lines.append(f"session {session['number']}: {other['question']} was answered otherwise")
        if self.diverged:
            lines.append("what was asked is not what was recorded")
        return "\n".join(lines)

    def as_json(self) -> str:
        """Give it as JSON."""
        return json.dumps(self.described(), ensure_ascii=False, indent=1, default=str)

    def write(self, path: Path) -> None:
        """Write it to a file, as a whole or not at all.

        Raises:
            OSError: If that cannot be.
        """
        replace_file(path, self.as_json().encode("utf-8", "replace") + b"\n")
