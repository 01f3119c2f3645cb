"""A shared database: its URL, its schema, and what is said when it cannot be used."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import String, Text

from postgres import PASSWORD, TEMPLATE, Postgres, running_postgres
from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.tools.database import DatabaseUrlError, checked, explained, masked
from toolscore.tools.engines import sync_engine
from toolscore.tools.errors import NameTakenError, NewerStoreError, StoreError
from toolscore.tools.migrate import migrate
from toolscore.tools.rows import ServerRow, tool_rows
from toolscore.tools.store import Store
from toolscore.tools.tables import METADATA
from toolscore.tools.words import LongWords


def server(name: str = "time") -> ServerRow:
    spec = ServerSpec(command=name)
    return ServerRow(
        name, "cli", True, Installation(server_id=name, kind=SourceKind.REGISTERED, source=name, spec=spec)
    )


@pytest.mark.parametrize(
    "url", ["postgres://h/d", "postgresql://u:p@h:5432/d", "postgresql+psycopg:///d?host=/run/postgresql"]
)
def test_every_way_to_write_a_url_is_taken(url: str) -> None:
    assert checked(url).startswith("postgresql+psycopg://")


@pytest.mark.parametrize(
    "url", ["mysql://h/d", "postgresql://h", "postgresql+asyncpg://h/d", "h", "postgresql://h:port/d"]
)
def test_what_is_no_postgresql_database_is_refused(url: str) -> None:
    with pytest.raises(DatabaseUrlError):
        checked(url)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg://u:hush@h/d",
        "postgresql://u:hu%73h@h/d?sslmode=require&password=hush",
        "cannot reach postgresql://u:hush@h/d today",
    ],
)
def test_a_password_is_not_shown(text: str) -> None:
    assert "hush" not in masked(text)
    assert "u:" in masked(text) or "u@" in masked(text)
    assert "hu%73h" not in masked(text)


def differ(_context: object, _inspected: object, _column: object, found: Any, wanted: Any) -> bool | None:
    """Tell whether two types of texts differ but for their order, which is not always read back."""
    if not isinstance(found, String):
        return None  # as alembic has it
    return isinstance(found, Text) != isinstance(wanted, LongWords)


def test_the_tables_in_the_code_are_those_the_migrations_make(postgres: Postgres) -> None:
    engine = sync_engine(postgres.database())
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": differ})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


async def test_gateways_that_start_at_once_make_the_tables_once(postgres: Postgres) -> None:
    url = postgres.database(empty=True)
    code = (
        "import asyncio, sys\nfrom toolscore.tools.store import Store\n"
        "async def main():\n    await (await Store.open(sys.argv[1])).close()\nasyncio.run(main())"
    )
    run = (sys.executable, "-W", "error", "-c", code, url)
    started = [await asyncio.create_subprocess_exec(*run, stderr=subprocess.PIPE) for _ in range(3)]
    for process in started:
        _out, said = await process.communicate()
        assert (process.returncode, said) == (0, b"")
    store = await Store.open(url)
    assert await store.servers() == []
    await store.close()


async def test_an_older_schema_is_brought_up_and_a_newer_one_refused(postgres: Postgres) -> None:
    url = postgres.database(empty=True)
    await asyncio.to_thread(migrate, url, "0005")
    store = await Store.open(url)
    await store.put_server(server(), [])
    await store.close()
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", url)
    with pytest.raises(NewerStoreError, match="another database"):
        await Store.open(url)


async def test_a_database_of_something_else_is_left_alone(postgres: Postgres) -> None:
    url = postgres.database(empty=True)
    postgres.execute("CREATE TABLE recipes (name TEXT)", url)
    with pytest.raises(StoreError, match=r"something else \(recipes\)"):
        await Store.open(url)
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", url) == [
        ("recipes",)
    ]


async def test_a_schema_of_ones_own_beside_something_else_will_do(postgres: Postgres) -> None:
    url = postgres.database(empty=True)
    postgres.execute("CREATE TABLE recipes (name TEXT)", url)
    postgres.execute("CREATE SCHEMA score", url)
    store = await Store.open(f"{url}?options=-csearch_path%3Dscore")
    await store.put_server(server(), [])
    await store.close()
    assert postgres.execute("SELECT name FROM score.server", url) == [("time",)]


async def test_two_gateways_that_take_one_name_get_it_once(postgres: Postgres) -> None:
    url = postgres.database()
    first, second = await Store.open(url), await Store.open(url)
    tools = tool_rows("time", [{"name": "t"}])
    done = await asyncio.gather(
        *(store.put_server(server(), tools) for store in (first, second, first, second)),
        return_exceptions=True,
    )
    assert [type(one) for one in done].count(NameTakenError) == 3
    assert done.count(None) == 1
    assert [tool.name for tool in await first.tools()] == ["t"]
    await first.close()
    await second.close()


async def test_what_is_wrong_with_the_way_to_it_is_said_without_the_password(postgres: Postgres) -> None:
    name = postgres.database().rpartition("/")[2]
    nobody = postgres.url("nowhere", password=PASSWORD)
    with pytest.raises(StoreError, match=r"/nowhere does not exist.*createdb") as told:
        await Store.open(nobody)
    assert PASSWORD not in str(told.value)
    away = nobody.replace(str(postgres.port), "1")
    with pytest.raises(StoreError, match=r"cannot be reached.*Check that the server runs") as told:
        await Store.open(away)
    assert PASSWORD not in str(told.value)
    stranger = nobody.replace("toolscore:", "stranger:")
    with pytest.raises(StoreError, match=r"refuses this user.*stranger.*Correct user and password"):
        await Store.open(stranger)
    with pytest.raises(StoreError, match=r"as safely as asked.*Correct sslmode and sslrootcert"):
        await Store.open(f"{nobody}?sslmode=require")
    before = postgres.hba_file.read_text()
    postgres.hba_file.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    postgres.reload()
    try:
        wrong = postgres.url(name, password="sesame-street")
        told_of = None
        async with asyncio.timeout(60):
            while told_of is None:  # until it has read the file
                try:
                    await (await Store.open(wrong)).close()
                except StoreError as error:
                    told_of = str(error)
        assert "refuses this user" in told_of
        assert "Correct user and password" in told_of
        assert "sesame" not in told_of
        await (await Store.open(postgres.url(name, password=PASSWORD))).close()
    finally:
        postgres.hba_file.write_text(before)
        postgres.reload()


def test_a_certificate_that_is_not_there_is_not_taken_for_a_database_that_is_not_there() -> None:
    said = (
        'connection failed: connection to server at "127.0.0.1", port 5432 failed: root certificate file '
        '"/root/.postgresql/root.crt" does not exist\nEither provide the file, use the system\'s trusted roots with '
        "sslrootcert=system, or change sslmode to disable server certificate verification."
    )
    told = str(explained("postgresql+psycopg://toolscore@db/toolscore", OSError(said)))
    assert "sslrootcert in database.url" in told
    assert "createdb" not in told


async def test_a_user_without_the_right_to_write_is_told(postgres: Postgres) -> None:
    url = postgres.database()
    postgres.execute("DROP ROLE IF EXISTS reader")
    postgres.execute("CREATE ROLE reader LOGIN")
    postgres.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", url)
    store = await Store.open(url.replace("toolscore@", "reader@"))
    with pytest.raises(StoreError, match="Make the user the owner"):
        await store.put_server(server(), [])
    await store.close()
    postgres.execute("DROP OWNED BY reader", url)


async def test_a_read_only_server_is_told(postgres: Postgres) -> None:
    url = postgres.database()
    name = url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store = await Store.open(url)
    with pytest.raises(StoreError, match="read-only, a standby"):
        await store.put_server(server(), [])
    await store.close()


@pytest.fixture
def own() -> Iterator[Postgres]:
    """A server of the test's own, to be killed."""
    with running_postgres() as server:
        yield server


async def test_a_server_that_is_killed_and_comes_back_is_used_again(own: Postgres) -> None:
    store = await Store.open(own.database())
    await store.put_server(server(), [])
    own.kill()
    with pytest.raises(StoreError, match=r"cannot be reached|does not answer any more"):
        await store.put_server(server("other"), [])
    with pytest.raises(StoreError):
        await store.servers()
    own.start()
    assert await store.names() == {"time"}  # by the ping before each use; nobody is told
    await store.put_server(server("other"), [])
    await store.close()


async def test_a_server_that_hangs_holds_nobody_for_ever(
    own: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.open_database.CLOSING", 0.5)
    store = await Store.open(own.database())
    await store.put_server(server(), [])
    store._steps.longest = 0.5  # from now on: a server that is only busy is no such server
    own.hang()
    try:
        with pytest.raises(StoreError, match=r"does not answer any more|cannot be reached"):
            await store.put_server(server("other"), [])
        late = asyncio.create_task(store.names())
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(StoreError):
            await late
    finally:
        own.go_on()


async def test_a_connection_that_is_lost_in_a_transaction_leaves_nothing(postgres: Postgres) -> None:
    url = postgres.database()
    store = await Store.open(url)
    name = url.rpartition("/")[2]

    async def cut(_connection: object) -> None:
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        await asyncio.to_thread(postgres.execute, ended)

    with pytest.raises(StoreError, match=r"look whether your change is there"):
        await store.put_server(server(), tool_rows("time", [{"name": "t"}]), also=cut)
    assert await store.names() == set()
    await store.put_server(server(), [])
    await store.close()


async def test_a_disk_that_is_full_is_told_and_nothing_is_changed(postgres: Postgres) -> None:
    url = postgres.database()
    store = await Store.open(url)
    postgres.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END$$",
        url,
    )
    postgres.execute("CREATE TRIGGER f BEFORE INSERT ON tool FOR EACH ROW EXECUTE FUNCTION full_disk()", url)
    with pytest.raises(StoreError, match=r"disk is full.*nothing was changed"):
        await store.put_server(server(), tool_rows("time", [{"name": "t"}]))
    assert await store.names() == set()
    await store.close()


def test_without_the_extra_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    code = (
        "import sys, asyncio\nsys.modules['psycopg'] = None\n"
        "import importlib.util\nimportlib.util.find_spec = lambda name, *rest: None\n"
        "from toolscore.tools.store import Store\n"
        "asyncio.run(Store.open('postgresql://h/d'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'toolscore[postgres]'" in done.stderr


def test_the_template_of_the_tests_is_of_the_newest_schema(postgres: Postgres) -> None:
    assert postgres.execute("SELECT count(*) FROM server", TEMPLATE) == [(0,)]
