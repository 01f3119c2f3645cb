"""What is known of one tool in one version."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .judge import OK
from .sketch import Sketch

LONGEST_TEXT = 300
"""Characters of a failure's text that are kept."""

MASKED = 1 << 16
"""Characters of a text up to which secrets are looked for; of a longer one nothing is kept, since a part of it
could end with a part of a secret."""

Key = tuple[str, str, str]
"""Server, the tool's name at the server, version (empty where none is known)."""


@dataclass(slots=True)
class Failure:
    """The last failure.

    Attributes:
        at: When, in seconds since 1970.
        kind: Its outcome.
        text: What was said of it, whole and unmasked until somebody wants to see or keep it.
        clean: Whether the text was masked and cut.
    """

    at: float
    kind: str
    text: str
    clean: bool = False

    def cleaned(self, mask: Callable[[str], str]) -> str:
        """Give the text without secrets, in one line, cut."""
        if not self.clean:
            text = self.text if len(self.text) <= MASKED else f"(a text of {len(self.text)} characters)"
            # Of words that have a letter each, so many are enough.
            words = mask(text).split(None, LONGEST_TEXT + 1)[: LONGEST_TEXT + 1]
            line = " ".join(words)[: LONGEST_TEXT + 1].encode("utf-8", "replace").decode()
            line = "".join(letter if letter.isprintable() else "?" for letter in line)
            self.text = line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"
            self.clean = True
        return self.text


class Record:
    """All that is known of one tool in one version.

    Attributes:
        name: The tool's full name when it was called last.
        since: Time of the first call, in seconds since 1970.
        at: Time of the last one.
        ok: Calls that succeeded, all of them.
        failures: Calls that failed, by outcome.
        excused: Calls whose end does not count against the tool, by outcome.
        good: Weight of those that succeeded.
        bad: Weight of those that failed.
        times: How long answers took, by weight.
        last: The last failure.
        down_at: When a call that did not reach the server was counted as evidence last.
        earlier: Calls of older versions that have no record any more, by outcome. They are no evidence of anything;
            sums that must not fall have them.
    """

    __slots__ = (
        "at",
        "bad",
        "down_at",
        "earlier",
        "excused",
        "failures",
        "good",
        "key",
        "last",
        "name",
        "ok",
        "since",
        "times",
    )

    def __init__(self, key: Key, name: str, since: float) -> None:
        self.key = key
        self.name = name
        self.since = self.at = since
        self.ok = 0
        self.failures: dict[str, int] = {}
        self.excused: dict[str, int] = {}
        self.earlier: dict[str, int] = {}
        self.good = self.bad = 0.0
        self.times = Sketch()
        self.last: Failure | None = None
        self.down_at = -math.inf

    @property
    def calls(self) -> int:
        """All calls, the excused ones too."""
        return self.ok + sum(self.failures.values()) + sum(self.excused.values())

    def count(self, calls: dict[str, int]) -> None:
        """Add all calls by outcome, the `earlier` ones too, to some that were counted before."""
        calls[OK] = calls.get(OK, 0) + self.ok
        for kinds in (self.failures, self.excused, self.earlier):
            for kind, count in kinds.items():
                calls[kind] = calls.get(kind, 0) + count

    def leap(self, seconds: float, began: float, before: float) -> None:
        """Follow a clock that was set by some seconds.

        Args:
            seconds: By how much.
            began: Since when times were told by that clock; earlier ones are of other days and stay.
            before: What it showed last.
        """
        self.at += seconds
        self.down_at += seconds
        if began <= self.since <= before:
            self.since += seconds
        self.since = min(self.since, self.at)
        if self.last is not None and began <= self.last.at <= before:
            self.last.at += seconds

    def merge(self, other: Record, factor: float) -> None:
        """Add what was kept of the same tool and version, with its weights times a factor."""
        self.since, self.at = min(self.since, other.since), max(self.at, other.at)
        self.ok += other.ok
        for mine, theirs in (
            (self.failures, other.failures),
            (self.excused, other.excused),
            (self.earlier, other.earlier),
        ):
            for kind, count in theirs.items():
                mine[kind] = mine.get(kind, 0) + count
        self.good += other.good * factor
        self.bad += other.bad * factor
        self.times.merge(other.times, factor)
        if self.last is None or (other.last is not None and other.last.at > self.last.at):
            self.last = other.last

    def as_text(self, factor: float, mask: Callable[[str], str], last: Failure | None = None) -> str:
        """Give it as it is kept, with its weights times a factor.

        Args:
            factor: The factor.
            mask: Takes secrets out of texts, which may take long.
            last: What to keep instead of its last failure: the one there was when `mask` had its time.
        """
        last = last or self.last
        kept: dict[str, Any] = {
            "name": self.name,
            "since": self.since,
            "ok": self.ok,
            "failures": self.failures,
            "excused": self.excused,
            # No more than there were, whatever the clock did.
            "good": min(self.good * factor, self.ok),
            "bad": min(self.bad * factor, sum(self.failures.values())),
            "times": self.times.as_json(factor),
        }
        if self.earlier:
            kept["earlier"] = self.earlier
        if last is not None:
            kept["last"] = [last.at, last.kind, last.cleaned(mask)]
        return json.dumps(kept, separators=(",", ":"))

    @classmethod
    def from_text(cls, key: Key, at: float, text: str) -> Record:
        """Take in what `as_text` gave.

        Raises:
            ValueError: If it is something else.
        """
        try:
            kept = json.loads(text)
            record = cls(key, str(kept["name"]), _number(kept["since"]))
            record.at = _number(at)
            record.ok = int(_number(kept["ok"]))
            record.failures, record.excused = _counts(kept["failures"]), _counts(kept["excused"])
            record.earlier = _counts(kept.get("earlier", {}))
            record.good = min(_number(kept["good"]), record.ok)
            record.bad = min(_number(kept["bad"]), sum(record.failures.values()))
            record.times = Sketch.from_json(kept["times"])
            if "last" in kept:
                when, kind, said = kept["last"]
                record.last = Failure(_number(when), str(kind), str(said)[:LONGEST_TEXT], clean=True)
        except (KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise ValueError(f"not a record: {exc}") from exc
        return record


def _counts(value: Any) -> dict[str, int]:
    return {str(kind): int(_number(count)) for kind, count in value.items()}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        raise ValueError(f"{value!r} is not a number that can be kept")
    return value
