"""Which gateways send their journals to the database that they share."""

from __future__ import annotations

from pathlib import Path

from fleet import until
from postgres import Postgres
from toolscore.server.database_home import sending
from toolscore.server.home import Home, prepare
from toolscore.server.settings import load
from toolscore.tools.store import Store


async def test_a_gateway_that_is_to_keep_its_journal_does_not_send_it(
    tmp_path: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    store = await Store.open(url)

    def home_of(name: str) -> Home:
        home = Home.at(str(tmp_path / name))
        prepare(home)
        home.journal_dir.mkdir()
        (home.journal_dir / "00000001.jsonl").write_text('{"time": "2026-01-01T00:00:00.000000Z"}\n')
        home.gateway_file.write_text(name)
        return home

    async def sent() -> list[str]:
        return [row[0] for row in postgres.execute("SELECT gateway FROM journal", url)]

    shared = {"database.url": url, "journal.max_age": "0"}  # so that nothing goes again for its age
    kept = load({**shared, "journal.shared": "false"}, home=str(tmp_path / "keeps"), environ={})
    told = load(shared, home=str(tmp_path / "tells"), environ={})
    async with (
        sending(store, kept.settings, home_of("keeps")),
        sending(store, told.settings, home_of("tells")),
    ):
        assert await until(sent, bool) == ["tells"]
    await store.close()
