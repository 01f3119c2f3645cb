"""Records are found by time, kind, server, tool, client, session, outcome, trace and id."""

from __future__ import annotations

from typing import Any

import pytest

from toolscore.tools.journal.summary import sessions, stats
from toolscore.tools.journal.wanted import Wanted, moment, seconds_of, stamp

RECORD: dict[str, Any] = {
    "id": "00aa-7",
    "time": "2026-03-01T12:00:00.500000Z",
    "kind": "call",
    "method": "tools/call",
    "client": {"principal": "ana", "listener": "ws", "connection": 3, "name": "desk"},
    "session": "00aa.3",
    "server": "time",
    "tool": "time__now",
    "outcome": "timed_out",
    "seconds": 2.5,
    "bytes": {"arguments": 10, "result": 20},
    "trace": "ab" * 16,
}
NOON = seconds_of("2026-03-01T12:00:00Z")


@pytest.mark.parametrize(
    "fitting",
    [
        {},
        {"since": NOON},
        {"since": NOON + 0.5},
        {"until": NOON + 1},
        {"kinds": ("call",)},
        {"kinds": ("install", "c*")},
        {"servers": ("ti*",)},
        {"tools": ("time__*",)},
        {"tools": ("now",)},
        {"clients": ("ana",)},
        {"clients": ("desk",)},
        {"sessions": ("other", "00aa.3")},
        {"outcomes": ("timed_*",)},
        {"outcomes": ("!ok",)},
        {"outcomes": ("!ok", "!error")},
        {"tools": ("time__*", "!*__then")},
        {"trace": "ab" * 16},
        {"id": "00aa-7"},
        {"connection": ("00aa", "ana", 3)},
    ],
)
def test_a_record_fits(fitting: dict[str, Any]) -> None:
    assert Wanted(**fitting).fits(RECORD)


@pytest.mark.parametrize(
    "other",
    [
        {"since": NOON + 0.6},
        {"until": NOON + 0.5},
        {"kinds": ("install",)},
        {"servers": ("Time",)},
        {"tools": ("time",)},
        {"clients": ("an",)},
        {"sessions": ("00aa",)},
        {"outcomes": ("ok",)},
        {"outcomes": ("!timed_out",)},
        {"outcomes": ("!ok", "!timed_out")},
        {"outcomes": ("timed_*", "!*_out")},
        {"trace": "cd" * 16},
        {"id": "00aa-8"},
        {"connection": ("00ab", "ana", 3)},
        {"connection": ("00aa", "ben", 3)},
        {"connection": ("00aa", "ana", 4)},
        {"kinds": ("call",), "servers": ("mail",)},
    ],
)
def test_a_record_does_not_fit(other: dict[str, Any]) -> None:
    assert not Wanted(**other).fits(RECORD)


def test_a_record_with_little_in_it_fits_only_what_asks_for_little() -> None:
    record = {"time": "2026-03-01T12:00:00Z", "kind": "dropped", "client": None}
    assert Wanted(kinds=("dropped",)).fits(record)
    for wanted in (Wanted(servers=("x",)), Wanted(clients=("ana",)), Wanted(connection=("a", "ana", 1))):
        assert not wanted.fits(record)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 1e9 - 30),
        ("1.5h", 1e9 - 5400),
        ("2d", 1e9 - 172_800),
        ("1w", 1e9 - 604_800),
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01T13:00:00+01:00", NOON),
        ("2026-03-01 12:00", NOON),
        ("2026-03-01", NOON - 43_200),
    ],
)
def test_times_are_ago_or_dates(text: str, seconds: float) -> None:
    assert moment(text, 1e9) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "5", "5y", "-5m", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid isoformat|month must be"):
        moment(text, 1e9)


def test_times_are_in_order_as_texts_however_far_off() -> None:
    assert stamp(-1e30) < stamp(0) < stamp(1e9) < stamp(1e9 + 0.000001) < stamp(1e30)


def test_sessions_and_figures_sum_records_up() -> None:
    begun = {
        **RECORD,
        "id": "00aa-1",
        "kind": "session_begun",
        "outcome": "ok",
        "time": "2026-03-01T11:00:00.000000Z",
    }
    for key in ("method", "tool", "seconds", "bytes"):
        begun.pop(key)
    ended = {**begun, "kind": "session_ended", "time": "2026-03-01T13:00:00.000000Z"}
    other = {**RECORD, "client": {**RECORD["client"], "principal": "ben"}, "outcome": "ok"}
    dropped = {"time": RECORD["time"], "kind": "dropped", "detail": {"records": 4}}
    records = [begun, RECORD, other, dropped, ended]
    first, second = sessions(records)
    assert (first["principal"], first["calls"], first["failed"], first["ended"]) == ("ana", 1, 1, True)
    assert (first["begun"], first["last"], first["seconds"]) == (begun["time"], ended["time"], 2.5)
    assert (second["principal"], second["failed"], second["ended"]) == ("ben", 0, False)
    told = stats(records)
    assert (told["records"], told["dropped"]) == (5, 4)
    assert told["outcomes"] == {"timed_out": 1, "ok": 1}
    assert told["tools"] == [{"tool": "time__now", "calls": 2, "failed": 1, "seconds": 5.0, "bytes": 60}]
