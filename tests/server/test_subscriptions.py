"""Who is told of which resource, also when processes come, go and take over each other's numbers."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from helpers import FAULTY, call, installation, supervising, until
from toolscore.runners.keeping import Keeping
from toolscore.runners.spec import Installation, ServerSpec
from toolscore.server.subscriptions import Subscriptions

RICH = FAULTY.with_name("rich_server.py")
URI = "rich://note"


def rich(**keeping: object) -> Installation:
    server = installation(ServerSpec(command=sys.executable, args=("-S", str(RICH))), "rich")
    return server.model_copy(update={"keeping": Keeping.model_validate(keeping)})


async def test_a_clients_subscription_goes_to_its_next_process_and_not_to_whoever_gets_the_number(
    tmp_path: Path,
) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(rich(isolation="per-client"))
        subscriptions = Subscriptions(supervisor)
        supervisor.on_change = lambda unit: subscriptions.came_up(unit) if unit.session else None
        told: list[str] = []
        subscriptions.on_update = told.append
        await subscriptions.add(object(), "first's", "rich", URI, client=1)
        instances = supervisor.instances("rich")
        assert instances.take(1).key == "rich#1"
        await instances.end()  # a restart by hand
        second, first = instances.take(2), instances.take(1)
        assert second.key == "rich#1"
        await asyncio.gather(first.ready(), second.ready())

        async def subscribed() -> None:
            session = await first.ready()
            while (await call(session, "subscribed"))["uris"] != [URI]:
                await asyncio.sleep(0.005)

        await asyncio.wait_for(subscribed(), 10)
        assert (await call(await second.ready(), "subscribed"))["uris"] == []
        subscriptions.updated(second.key, URI)
        assert told == []
        subscriptions.updated(first.key, URI)
        assert told == ["first's"]


async def test_a_client_that_is_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        unit = supervisor.add(rich())
        subscriptions = Subscriptions(supervisor)
        who = object()
        await subscriptions.add(who, URI, "rich", URI, client=1)
        assert unit.watch is not None
        assert unit.watch.wanted
        await subscriptions.left(who)
        await until(lambda: unit.watch is not None and not unit.watch.wanted)
        assert not subscriptions._wanted
