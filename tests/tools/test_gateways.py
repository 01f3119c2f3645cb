"""Gateways on one store: who there is, who is dead, and tickets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from itertools import count

import pytest

from postgres import Postgres
from toolscore.tools.gateways import claims
from toolscore.tools.gateways.claims import Claims
from toolscore.tools.gateways.gateway import Gateway, preferred
from toolscore.tools.gateways.registry import Registry
from toolscore.tools.gateways.tickets import issue, redeem
from toolscore.tools.store import Store

PATIENCE = 60


@pytest.fixture
async def listening() -> AsyncIterator[str]:
    """Give the address of somebody who takes connections."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


Join = Callable[..., Awaitable[Registry]]


@pytest.fixture
async def join(postgres: Postgres, listening: str) -> AsyncIterator[Join]:
    """Give what makes a gateway of one database."""
    url = postgres.database()
    async with AsyncExitStack() as stack:

        async def join(name: str, timeout: float = 2.0, address: str = listening) -> Registry:
            store = await Store.open(url)
            stack.push_async_callback(store.close)
            registry = Registry(store, name, address, "1", timeout)
            await registry.open()
            stack.push_async_callback(registry.leave)
            return registry

        yield join


@asynccontextmanager
async def looked(registry: Registry, seen: Callable[[], bool]) -> AsyncIterator[None]:
    """Wait, after the block, until a gateway sees something."""
    event = asyncio.Event()

    def look(_look: object) -> None:
        if seen():
            event.set()

    yield
    registry.on_look.append(look)
    look(None)
    async with asyncio.timeout(PATIENCE):
        await event.wait()
    registry.on_look.remove(look)


def more_than(looks: int) -> Callable[[], bool]:
    """What is seen once it was looked so often, and once more."""
    numbers = count(1)
    return lambda: next(numbers) > looks


def names(registry: Registry) -> list[str]:
    return [one.name for one in registry.gateways]


async def test_gateways_see_who_comes_and_who_leaves_at_once(join: Join) -> None:
    first = await join("first", 600)  # nobody would be seen by looking now and then
    assert names(first) == ["first"]
    async with looked(first, lambda: names(first) == ["first", "second"]):
        second = await join("second", 600)
    assert names(second) == ["first", "second"]
    assert second.me.epoch > first.me.epoch
    async with looked(first, lambda: names(first) == ["first"]):
        await second.leave()
    assert not second.holds()


async def test_one_that_drains_is_known_to(join: Join) -> None:
    first, second = await join("first", 600), await join("second", 600)
    async with looked(second, lambda: [one.state for one in second.gateways] == ["draining", "serving"]):
        await first.drain()
    chosen = [preferred(f"server-{number}", second.gateways) for number in range(20)]
    assert {one.id for one in chosen if one is not None} == {second.me.id}


async def test_one_whose_connection_broke_lives_as_long_as_it_is_listening(
    join: Join, postgres: Postgres
) -> None:
    first, second = await join("first", 60), await join("second", 60)
    life = first.me.id
    where = first.store.where
    assert isinstance(where, str)
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_postmaster_start_time%' "
        "AND pid <> pg_backend_pid()",
        where,
    )
    async with looked(second, more_than(8)):
        pass
    assert {one.id for one in second.gateways} == {life, second.me.id}
    assert first.holds()


async def test_one_that_is_silent_is_dead_after_the_time_out_and_knows_it_before(join: Join) -> None:
    first, second = await join("first"), await join("second")
    life, fenced = first.me.id, asyncio.Event()
    first.on_fenced.append(lambda _why: fenced.set())
    first._is_heard = lambda: False  # type: ignore[method-assign]
    first._pulse._is_heard = lambda: False
    async with looked(second, lambda: names(second) == ["second"]):
        async with asyncio.timeout(PATIENCE):
            await fenced.wait()
        assert not first.holds()
        assert first.get(life) is not None
    first._pulse._is_heard = lambda: True
    async with looked(first, lambda: first.me.id != life and first.holds()):
        pass


async def test_one_that_was_taken_for_dead_has_nothing_before_it_knows_of_that(join: Join) -> None:
    first, second = await join("first"), await join("second")
    claims, life = Claims(first), first.me.id
    assert await claims.claim("s") is None
    still = claims.still("s")
    assert still()

    def fenced(_why: str) -> None:
        claims.lost()

    first.on_fenced.append(fenced)
    first._pulse._is_heard = lambda: False  # as one that is stopped
    async with looked(second, lambda: names(second) == ["second"]):
        pass
    first._pulse._is_heard = lambda: True
    deadline = time.monotonic() + PATIENCE
    while first._pulse._me.id == life or first._pulse._witnessed is False:
        assert time.monotonic() < deadline
        time.sleep(
            0.01
        )  # it is one of them again, and its loop, which stands still here, is yet to hear of it
    time.sleep(first._pulse._pause + 0.1)  # for a sign of life of the new one
    assert first.me.id == life
    assert not first.holds()
    async with looked(first, lambda: first.me.id != life and first.holds()):
        pass
    assert not still()  # what it had is not its own by that
    assert await Claims(second).claim("s") is None


async def test_whose_machine_is_gone_does_not_hold_up_the_signs_of_life_of_others(
    join: Join, postgres: Postgres
) -> None:
    first = await join("first", 8)
    where = first.store.where
    assert isinstance(where, str)
    with full() as address:
        for number in range(20):  # each would be waited for as long as a sign of life may take
            postgres.execute(
                "INSERT INTO gateway (id, name, url, epoch, version, began_at, seen_at, state, unable) VALUES "
                f"('g{number}', 'g{number}', '{address}', {1000 + number}, '1', 0, "
                "extract(epoch from clock_timestamp()) + 3600, 'serving', '{}')",
                where,
            )
        fenced = asyncio.Event()
        first.on_fenced.append(lambda _why: fenced.set())
        async with looked(first, more_than(2)):
            pass
        assert len(first.gateways) == 21
        assert not fenced.is_set()


@contextmanager
def full() -> Iterator[str]:
    """Give an address that neither takes connections nor refuses them: those that wait there are too many."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"ws://127.0.0.1:{server.getsockname()[1]}"


async def test_a_server_that_is_not_stored_yet_is_waited_for_and_never_another_gateways(join: Join) -> None:
    first, second = Claims(await join("first", 600)), Claims(await join("second", 600))
    assert await second.claim("s") is None
    claiming = asyncio.create_task(first.claim("s", alone="new"))
    owner = await first.claim("s")
    assert owner is not None
    assert owner.name == "second"
    second.release("s")
    async with asyncio.timeout(PATIENCE):
        assert await claiming is None
    assert first.is_held("s")


async def test_what_could_not_be_let_go_of_is_let_go_of_later(join: Join, postgres: Postgres) -> None:
    first, second = Claims(await join("first", 600)), Claims(await join("second", 600))
    where = first.registry.store.where
    assert isinstance(where, str)
    assert await first.claim("s") is None
    assert await first.claim("t") is None
    # As a database that cannot be written just then; the gateways themselves live on.
    postgres.execute("ALTER SEQUENCE gateway_epoch RENAME TO away", where)
    first.release("s")
    first.release("t")
    await first.settled()
    postgres.execute("ALTER SEQUENCE away RENAME TO gateway_epoch", where)
    assert await first.claim("t") is None  # which it has anew
    first.release_again()
    await first.settled()
    assert await second.claim("s") is None
    owner = await second.claim("t")
    assert owner is not None
    assert owner.name == "first"


async def test_one_that_is_gone_is_dead_long_before_the_time_out(join: Join) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = f"ws://127.0.0.1:{nobody.getsockname()[1]}"
        first, second = await join("first", 40), await join("second", 40, gone)
        second._pulse.stop()  # as a process that was killed: its connections are closed, and its row is there
        await first.poke()
        async with looked(first, lambda: names(first) == ["first"]):
            pass
    assert first.gateways[0].age < 40


async def test_all_choose_the_same_gateway_and_share_the_load() -> None:
    three = [Gateway(str(n), f"gateway-{n}", "", n, "1", 0, 0, "serving") for n in range(3)]
    servers = [f"server-{n}" for n in range(300)]
    chosen = {server: preferred(server, three) for server in servers}
    assert chosen == {server: preferred(server, reversed(three)) for server in servers}
    counts = [list(chosen.values()).count(one) for one in three]
    assert min(counts) > 60
    left = {server: preferred(server, three[1:]) for server in servers}
    assert all(left[server] == one for server, one in chosen.items() if one is not three[0])
    assert preferred("any", []) is None


async def test_a_ticket_is_good_once_for_one_gateway_and_one_purpose(join: Join) -> None:
    first, second = await join("first", 600), await join("second", 600)
    ticket = await issue(first.store, first.me.id, second.me.id, "/peer?server=a")
    assert await redeem(first.store, first.me.id, ticket, "/peer?server=a") is None
    assert await redeem(second.store, second.me.id, ticket, "/peer?server=b") is None
    assert await redeem(second.store, second.me.id, "another", "/peer?server=a") is None
    assert await redeem(second.store, second.me.id, ticket, "/peer?server=a") == first.me.id
    assert await redeem(second.store, second.me.id, ticket, "/peer?server=a") is None


async def test_a_ticket_is_no_good_once_it_is_old_or_its_gateway_gone(join: Join, postgres: Postgres) -> None:
    first, second = await join("first", 600), await join("second", 600)
    where = first.store.where
    assert isinstance(where, str)
    old = await issue(first.store, first.me.id, second.me.id, "/peer")
    postgres.execute("UPDATE ticket SET until = 1", where)
    assert await redeem(second.store, second.me.id, old, "/peer") is None
    fresh = await issue(first.store, first.me.id, second.me.id, "/peer")
    await first.leave()
    assert await redeem(second.store, second.me.id, fresh, "/peer") is None
    stored = postgres.execute("SELECT digest FROM ticket", where)
    assert fresh not in {digest for (digest,) in stored}


async def test_two_servers_that_change_places_at_once_are_seen_to(join: Join, postgres: Postgres) -> None:
    first, second = await join("first", 600), await join("second", 600)
    where = first.store.where
    assert isinstance(where, str)
    for server, state in (("a", "ready"), ("b", "stopped")):
        postgres.execute(f"INSERT INTO lease VALUES ('{server}', '{first.me.id}', 1, '{state}')", where)

    def states() -> dict[str, str]:
        return {name: lease.state for name, lease in second.leases.items()}

    async with looked(second, lambda: states() == {"a": "ready", "b": "stopped"}):
        pass
    postgres.execute(
        "UPDATE lease SET state = CASE state WHEN 'ready' THEN 'stopped' ELSE 'ready' END", where
    )
    async with looked(second, lambda: states() == {"a": "stopped", "b": "ready"}):
        pass


async def test_what_was_taken_in_an_earlier_life_is_not_held_in_the_next(
    join: Join, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    monkeypatch.setattr(claims, "ASKED", PATIENCE)
    first = await join("first")
    where = first.store.where
    assert isinstance(where, str)
    life, mine = first.me.id, Claims(first)
    with psycopg.connect(where.replace("+psycopg", "")) as other:
        postgres.execute("INSERT INTO lease VALUES ('s', '', 1, '')", where)
        other.execute("SELECT * FROM lease FOR UPDATE")
        claiming = asyncio.create_task(mine.claim("s"))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%lease%'"
        )
        while postgres.execute(waiting, where)[0][0] == 0:
            await asyncio.sleep(0.01)
        postgres.execute(f"DELETE FROM gateway WHERE id = '{life}'", where)
        async with looked(first, lambda: first.me.id != life):
            pass
    async with asyncio.timeout(PATIENCE):
        assert await claiming is None
    assert mine.is_held("s")
    assert postgres.execute("SELECT gateway FROM lease", where)[0][0] == first.me.id
