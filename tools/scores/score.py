"""What is told of a tool's record: numbers for ranking and showing, and a sentence that explains them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .bounds import CONFIDENCE, expected, lower_bound, upper_bound
from .record import Record
from .sketch import Sketch

PRIOR = 2.0
"""Calls of the current version that all older ones together may weigh like, at the most."""

LEAST = 0.25
"""Weight of calls below which nothing is known: what one call weighs after two half-lives."""

QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The last failure of a tool.

    Attributes:
        at: When, in seconds since 1970.
        kind: Its outcome.
        text: What was said of it, without secrets, cut.
        version: Version of the server.
    """

    at: float
    kind: str
    text: str
    version: str | None


@dataclass(frozen=True, slots=True)
class VersionScore:
    """How one version of a tool did, or all of them together.

    Attributes:
        version: The version; `None` where it is not known, and for all together.
        bound: Lower confidence bound of the share of successes; `None` without evidence.
        expected: The share to be expected; `None` without evidence.
        weight: Calls the evidence weighs like by now.
        successes: Calls that succeeded.
        failures: Calls that failed, by outcome.
        excused: Calls whose end does not count against it, by outcome.
        seconds: Durations that 50, 90 and 99 % of the answers did not exceed; `None` where there was no answer.
        since: Time of the first call, in seconds since 1970.
        at: Time of the last one.
    """

    version: str | None
    bound: float | None
    expected: float | None
    weight: float
    successes: int
    failures: dict[str, int]
    excused: dict[str, int]
    seconds: tuple[float | None, float | None, float | None]
    since: float
    at: float


@dataclass(frozen=True, slots=True)
class ToolScore:
    """How a tool did.

    Attributes:
        name: Its full name.
        server: Its server.
        version: The version there is now.
        all: All kept versions together, but for `bound` and `expected`, which are those of the version there is
            now, with the older ones as a weak prior.
        last: The last failure.
        versions: Each version, the newest first.
    """

    name: str
    server: str
    version: str | None
    all: VersionScore
    last: LastFailure | None
    versions: tuple[VersionScore, ...]


def evidence(records: Iterable[Record], version: str, factor: float) -> tuple[float, float]:
    """Give the weight of a tool's successes and failures, as they count for its current version.

    A new version starts anew, but what older ones did makes the same more likely of it: their share counts as
    `PRIOR` calls at the most, so that a few calls of its own outweigh them.

    Args:
        records: Its records.
        version: The current version.
        factor: What makes kept weights those of now.
    """
    good = bad = older_good = older_bad = 0.0
    for record in records:
        if record.key[2] == version:
            good, bad = record.good * factor, record.bad * factor
        else:
            older_good += record.good * factor
            older_bad += record.bad * factor
    older = older_good + older_bad
    if older > PRIOR:
        older_good, older_bad = older_good * PRIOR / older, older_bad * PRIOR / older
    return good + older_good, bad + older_bad


def bound_of(good: float, bad: float) -> float | None:
    """Give the lower confidence bound, where there is evidence enough for any."""
    return lower_bound(good, bad) if good + bad >= LEAST else None


def most_of(good: float, bad: float) -> float | None:
    """Give the upper confidence bound, where there is evidence enough for any."""
    return upper_bound(good, bad) if good + bad >= LEAST else None


def score(
    name: str, records: Sequence[Record], version: str, factor: float, mask: Callable[[str], str]
) -> ToolScore:
    """Tell what records come to.

    Args:
        name: The tool's full name.
        records: Its records; there is one at least.
        version: The version there is now.
        factor: What makes kept weights those of now.
        mask: Takes secrets out of texts.
    """
    newest = sorted(records, key=lambda record: (record.key[2] == version, record.at), reverse=True)
    good, bad = evidence(records, version, factor)
    failed = max(
        (record for record in records if record.last is not None),
        key=lambda record: record.last.at if record.last else 0.0,
        default=None,
    )
    last = None
    if failed is not None and (failure := failed.last) is not None:
        last = LastFailure(failure.at, failure.kind, failure.cleaned(mask), failed.key[2] or None)
    return ToolScore(
        name=name,
        server=records[0].key[0],
        version=version or None,
        all=_told(None, newest, good, bad),
        last=last,
        versions=tuple(
            _told(record.key[2] or None, [record], record.good * factor, record.bad * factor)
            for record in newest
        ),
    )


def _told(version: str | None, records: Sequence[Record], good: float, bad: float) -> VersionScore:
    failures: Counter[str] = Counter()
    excused: Counter[str] = Counter()
    times = Sketch()
    for record in records:
        failures.update(record.failures)
        excused.update(record.excused)
        times.merge(record.times)
    known = good + bad >= LEAST
    half, most, nearly_all = times.quantiles(*QUANTILES)
    return VersionScore(
        version=version,
        bound=bound_of(good, bad),
        expected=expected(good, bad) if known else None,
        weight=good + bad,
        successes=sum(record.ok for record in records),
        failures=dict(failures),
        excused=dict(excused),
        seconds=(half, most, nearly_all),
        since=min(record.since for record in records),
        at=max(record.at for record in records),
    )


def explained(told: ToolScore) -> str:
    """Put a score into a sentence."""
    whole = told.all
    failures, excused = sum(whole.failures.values()), sum(whole.excused.values())
    counted = whole.successes + failures
    count = f"{whole.successes} of {counted} call{'' if counted == 1 else 's'} succeeded"
    if excused:
        count += f" ({excused} more {'does' if excused == 1 else 'do'} not count)"
    if whole.bound is None:
        when = "by now" if counted else "yet"
        return f"{count}; nothing is known {when} of how well it works."
    which = f"version {told.version}" if told.version else "it"
    return (
        f"{count}; with {CONFIDENCE:.0%} confidence {which} works in at least {whole.bound:.0%} of calls, "
        f"{whole.expected:.0%} are to be expected."
    )
