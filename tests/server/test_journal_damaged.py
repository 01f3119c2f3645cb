"""A journal that somebody has edited, or a client has tried to write lines into, is read all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli_shell import Shell
from toolscore.server.cli.journal import line
from toolscore.tools.journal.reader import Reader, is_record
from toolscore.tools.journal.wanted import Wanted

GOOD: dict[str, Any] = {
    "id": "a-1",
    "time": "2026-11-22T07:00:00.000000Z",
    "kind": "call",
    "method": "tools/call",
    "server": "s",
    "tool": "s__t",
    "client": {"principal": "owner", "listener": "stdio", "connection": 1, "name": "c", "version": "1"},
    "session": "a.1",
    "outcome": "ok",
    "seconds": 0.5,
    "trace": "0" * 31 + "1",
    "span": "0" * 15 + "1",
    "bytes": {"arguments": 2},
    "arguments": {},
}
DAMAGE: tuple[dict[str, Any], ...] = (
    {"time": 5},
    {"kind": ["call"]},
    {"client": 7},
    {"client": {"principal": "owner", "name": 5}},
    {"session": {}},
    {"seconds": "long"},
    {"seconds": float("inf")},
    {"bytes": [2]},
    {"bytes": {"arguments": "2"}},
    {"trace": 5},
    {"tool": []},
    {"detail": 5},
    {"cut": 5},
)
NONE = (b"\x00\xff\xfe", b"[]", b"null", b'{"time":"\xff","kind":"call"}', b"[" * 100_000)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: json.dumps(damage)[:30])
def test_what_has_not_the_shape_of_a_record_is_none(damage: dict[str, Any]) -> None:
    assert is_record(GOOD)
    assert not is_record(GOOD | damage)


@pytest.mark.parametrize(
    "words",
    [(), ("stats",), ("sessions",), ("export", "--format", "otlp"), ("export", "--format", "trajectory")],
)
def test_every_command_shows_what_is_left_of_a_damaged_journal(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    shell = Shell(tmp_path / "home", tmp_path)
    folder = shell.home / "journal"
    folder.mkdir(parents=True, mode=0o700)
    shell.home.chmod(0o700)
    bad = [json.dumps(GOOD | damage).encode() for damage in DAMAGE]
    (folder / "00000001.jsonl").write_bytes(b"\n".join((*bad, *NONE, json.dumps(GOOD).encode(), b"")))
    done = shell("journal", *words)
    assert done.returncode == 0, done.stderr
    assert f"{len(DAMAGE) + len(NONE)} lines are no records" in done.stderr
    assert ("a.1" if words[:1] in (("sessions",), ("export",)) else "s__t") in done.stdout


def test_what_a_client_makes_up_is_no_line_of_its_own() -> None:
    forged = "x\n2026-11-22 07:00:00.000Z  call  ok  owner  harmless"
    client = {**GOOD["client"], "name": forged}
    shown = line({**GOOD, "client": client, "tool": forged, "error": forged})
    assert len(shown.splitlines()) == 1
    assert shown.count("harmless") == 3


def test_half_a_record_is_none(tmp_path: Path) -> None:
    (tmp_path / "00000001.jsonl").write_bytes(json.dumps(GOOD).encode()[:50] + b"\n")
    reader = Reader(tmp_path)
    assert list(reader.records(Wanted())) == []
    assert reader.skipped == 1
