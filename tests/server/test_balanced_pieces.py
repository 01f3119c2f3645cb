"""Pieces of one gateway among several, where what they do depends on what comes at the same time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from helpers import until
from postgres import Postgres
from toolscore.server.balanced.events import AllEvents
from toolscore.server.balanced.link import Links
from toolscore.server.balanced.remembered import Remembered
from toolscore.server.balanced.sessions import HttpSessions
from toolscore.server.events import KEPT
from toolscore.server.front import Front
from toolscore.server.parking import Parking
from toolscore.server.tokens import Identity
from toolscore.server.visit import SCOPE_KEY
from toolscore.tools.caller import Caller
from toolscore.tools.exposure import Exposure
from toolscore.tools.gateways.events import _LOCK, SharedEvents
from toolscore.tools.gateways.gateway import Gateway
from toolscore.tools.gateways.sessions import KeptSession
from toolscore.tools.store import Store


async def test_events_that_come_while_others_are_written_down_are_not_lost(postgres: Postgres) -> None:
    import psycopg

    url = postgres.database()
    store = await Store.open(url)
    registry: Any = SimpleNamespace(registry=SimpleNamespace(me=SimpleNamespace(name="me")))
    events = AllEvents(registry, SharedEvents(store, 2 * KEPT), "all")
    for number in range(KEPT):
        events.take({"event": "e", "n": number})
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        writing = asyncio.create_task(events.run())
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await until(lambda: bool(postgres.execute(waiting, url)), 60)
        for number in range(KEPT, KEPT + 10):
            events.take({"event": "e", "n": number})
    count = "SELECT count(*) FROM event"
    await until(lambda: postgres.execute(count, url)[0][0] >= KEPT + 10, 60)
    last = await SharedEvents(store, KEPT).after(KEPT - 1, 20)
    assert [event["n"] for event in last] == list(range(KEPT - 1, KEPT + 10))
    writing.cancel()
    await asyncio.wait([writing])
    await store.close()


async def test_what_is_kept_of_a_session_is_what_it_became_last() -> None:
    kept: list[str] = []
    first = asyncio.Event()

    async def keep(one: Remembered) -> None:
        state = one.state
        if not first.is_set():
            first.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # the first one is slow
        kept.append(state)

    one = Remembered("s", "c", {}, keep)
    await asyncio.gather(one.follows("a://1", wanted=True), one.follows("a://2", wanted=True))
    assert kept[-1] == one.state


async def test_what_a_session_becomes_while_its_subscriptions_are_said_again_is_kept_after_that() -> None:
    kept: list[str] = []

    async def keep(one: Remembered) -> None:
        kept.append(one.state)

    one = Remembered.read("s", "c", Remembered("s", "c", {}, keep).state, keep)
    await one.follows("a://1", wanted=True)  # of its client, which is served already
    assert kept == []
    await one.goes_on()
    assert kept == [one.state]
    assert "a://1" in one.state


async def test_requests_in_a_session_wait_until_it_is_taken_over_for_the_first_of_them() -> None:
    """As of a client that reads its stream and asks something, whose gateway is gone."""
    state = Remembered("s", "c", {}, forgotten).state
    claimed, made, answered = asyncio.Event(), asyncio.Event(), []

    class Kept:
        async def find(self, identity: str) -> KeptSession:
            return KeptSession(identity, "me" if claimed.is_set() else "dead", "ann call", state)

        async def claim(self, _found: KeptSession, _gateway: str) -> bool:
            claimed.set()
            return True

    class Host:
        here_now = False

        def has(self, _identity: str) -> bool:
            return self.here_now

        async def adopt(self, *_session: object) -> bool:
            await made.wait()
            self.here_now = True
            return True

        async def here(self, scope: Any, *_rest: object) -> None:
            answered.append((scope["name"], self.here_now))

    registry: Any = SimpleNamespace(me=SimpleNamespace(id="me"), timeout=60.0, get=lambda _identity: None)
    kept: Any = Kept()
    host: Any = Host()
    none: Any = SimpleNamespace()
    sessions = HttpSessions(registry, none, kept)
    sessions.hosts = [host]

    async def asked(name: str) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        visit = SimpleNamespace(identity=Identity("ann", frozenset({"call"})))
        scope: Any = {"method": "GET", "name": name, SCOPE_KEY: visit}
        await sessions.serve(host, "s", scope, receive, none)

    first = asyncio.create_task(asked("first"))
    await claimed.wait()
    second = asyncio.create_task(asked("second"))
    await asyncio.wait([second], timeout=0.1)
    made.set()
    await asyncio.gather(first, second)
    assert sorted(answered) == [("first", True), ("second", True)]


async def forgotten(_one: Remembered) -> None:
    """Keep nothing."""


async def test_a_line_that_was_cut_is_nobody_elses_though_it_is_given_back_after_that() -> None:
    async def stay(wire: ServerConnection) -> None:
        await wire.wait_closed()

    async with serve(stay, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        async def dial(*_asked: object) -> Any:
            return await connect(f"ws://127.0.0.1:{port}")

        gateways: Any = SimpleNamespace(dialer=SimpleNamespace(dial=dial))
        links, other = Links(gateways), Gateway("o", "other", "", 1, "1", 0, 0, "serving")
        good = await links.take(other)
        links.give_back(other, good)
        again = await links.take(other)
        assert again.wire is good.wire
        links.cut(again)
        links.give_back(other, again)
        fresh = await links.take(other)
        assert fresh.wire is not good.wire
        links.cut(fresh)
        await links.aclose()


async def test_a_request_that_is_cancelled_while_gateways_are_met_does_not_keep_others_from_it() -> None:
    async def never() -> Any:
        raise AssertionError("it is open")

    opened: Any = SimpleNamespace()
    front = Front(never, Exposure.parse(["own"]), Parking())
    front._open, front.balance = opened, asyncio.get_running_loop().create_future()
    caller = Caller("owner", "stdio", 1)
    exchange: Any = SimpleNamespace(peer=SimpleNamespace(caller=caller), params={}, carried=False)
    asked = asyncio.create_task(front.answer(exchange))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    balance: Any = SimpleNamespace()
    front.balance.set_result(balance)
    assert await front.balanced() is balance
