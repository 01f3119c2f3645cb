"""The journal of all gateways, sent behind the calls: an outage of the database loses nothing of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import gateways, tools, until
from postgres import Postgres, running_postgres
from toolscore.server.database_home import sending
from toolscore.server.home import Home
from toolscore.server.settings import Settings
from toolscore.tools.journal.others import AllReader
from toolscore.tools.journal.sending import Sending
from toolscore.tools.journal.wanted import Wanted
from toolscore.tools.store import Store
from toolscore_client import TOOLSCORE, call, execute, register_faulty


@pytest.fixture
def own() -> Iterator[Postgres]:
    """A server of the test's own, to be killed."""
    with running_postgres() as server:
        yield server


async def test_the_journal_is_that_of_all_gateways_also_of_the_time_the_database_was_away(
    tmp_path: Path, own: Postgres
) -> None:
    url = own.database()
    async with gateways(tmp_path, url, "a", "b") as (a, b):
        await register_faulty(a, "f")
        # What is called before b has heard of it stands in the journal too, as a call that found no tool.
        await until(lambda: tools(b), lambda named: "f__echo" in named)
        assert not (await execute(b, "f__echo", text="0")).is_error
        for number in range(5):
            await execute(a, "f__echo", text=f"before {number}")
        own.kill()
        for number in range(5):
            assert not (await execute(a, "f__echo", text=f"away {number}")).is_error
        own.start()

        def texts(records: list[dict[str, Any]]) -> list[str]:
            return [one["arguments"]["text"] for one in records if one.get("arguments")]

        wanted = ["0", *(f"{when} {number}" for when in ("before", "away") for number in range(5))]
        seen = await until(
            lambda: call(b, "read_journal", kind="call", tool="f__echo", limit=200, contents=True),
            lambda told: len(told["records"]) >= len(wanted),
        )
        assert sorted(texts(seen["records"])) == sorted(wanted)
        assert len({one["id"] for one in seen["records"]}) == len(wanted)
    environment = {**os.environ, "TOOLSCORE_DATABASE_URL": url}
    command = [TOOLSCORE, "--home", str(tmp_path / "b" / "home"), "journal", "--tool", "f__echo", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["records"]
    assert len({one["gateway"] for one in told}) == 2
    assert len([one for one in told if one["kind"] == "call"]) == len(wanted)


async def test_lines_are_sent_once_whatever_happens_on_the_way_and_go_with_their_segments(
    tmp_path: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    folder = tmp_path / "journal"
    folder.mkdir()

    def line(number: int) -> bytes:
        return (
            json.dumps({"time": "2026-01-01T00:00:00.000000Z", "kind": "call", "n": number}).encode() + b"\n"
        )

    def sent() -> list[int]:
        rows = postgres.execute("SELECT line FROM journal ORDER BY segment, position", url)
        return [json.loads(row[0])["n"] for row in rows]

    (folder / "00000001.jsonl").write_bytes(b"".join(map(line, range(700))) + b'{"torn')
    store = await Store.open(url)
    sending = Sending(store, "me", folder, 0.0)
    while await sending.send():
        pass
    assert sent() == list(range(700))
    with (folder / "00000001.jsonl").open("rb+") as file:
        file.seek(-6, os.SEEK_END)
        file.write(line(700))
        file.truncate()
    (folder / "00000003.jsonl").write_bytes(line(701))
    again = Sending(store, "me", folder, 0.0)  # as after a restart, or where nobody knows whether it came
    while await again.send():
        pass
    assert sent() == list(range(702))
    assert again.missed == 1
    (folder / "00000001.jsonl").unlink()
    await again._prune()
    assert sent() == [701]
    await store.close()


async def test_a_journal_that_was_deleted_and_begun_anew_is_sent_from_its_beginning(
    tmp_path: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    file = tmp_path / "00000001.jsonl"

    def lines(*texts: str) -> bytes:
        return b"".join(
            json.dumps({"time": "2026-01-01T00:00:00.000000Z", "text": text}).encode() + b"\n"
            for text in texts
        )

    store = await Store.open(url)
    sending = Sending(store, "me", tmp_path, 0.0)
    file.write_bytes(lines("old 1", "old 2", "old 3"))
    await sending.send()
    file.unlink()
    file.write_bytes(lines("new 1", "new 2"))
    await sending.send()
    rows = postgres.execute("SELECT line FROM journal ORDER BY position", url)
    assert [json.loads(row[0])["text"] for row in rows] == ["new 1", "new 2", "old 3"]
    await store.close()


async def test_who_reads_the_journals_of_others_slowly_keeps_no_transaction_open(
    tmp_path: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    line = '{"time": "2026-01-01T00:00:00.000000Z", "kind": "call", "id": "1"}'
    postgres.execute(f"INSERT INTO journal VALUES ('other', 1, 0, 1, '{line}')", url)
    records = AllReader(tmp_path, "me", url).records(Wanted())
    assert next(records)["gateway"] == "other"
    # Those of the test's own connections that are closed may not have ended yet.
    states = (
        "SELECT DISTINCT state FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert postgres.execute(states, url) == [("idle",)]
    assert list(records) == []


async def test_the_last_of_a_journal_is_sent_when_a_gateway_ends(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.server.database_home.LAST_LINES", 60.0)  # on a machine that is busy
    url = postgres.database()
    home = Home.at(tmp_path)
    home.journal_dir.mkdir()
    store = await Store.open(url)
    async with sending(store, Settings(home=tmp_path), home):
        (home.journal_dir / "00000001.jsonl").write_bytes(b'{"time": "2026-01-01T00:00:00.000000Z"}\n')
    assert len(postgres.execute("SELECT line FROM journal", url)) == 1
    await store.close()
