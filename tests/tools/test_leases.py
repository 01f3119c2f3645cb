"""Leases: an instance for one episode, nobody else's meanwhile, and as new for the next."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from helpers import call, faulty, supervising, until
from toolscore.runners.keeping import Keeping
from toolscore.runners.spec import Installation
from toolscore.tools.caller import Caller
from toolscore.tools.leases import Leases
from toolscore.tools.outcome import Outcome, RefusalError

ME = Caller("me", "unix", 1)
ME_AGAIN = replace(ME, connection=2)
OTHER = Caller("other", "ws", 3)


def leased(**keeping: object) -> Installation:
    return faulty().model_copy(
        update={"keeping": Keeping.model_validate({"isolation": "per-lease", **keeping})}
    )


async def test_each_lease_has_a_process_of_its_own_and_the_next_one_a_new_one(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased())
        leases = Leases(supervisor)
        one, two = await asyncio.gather(leases.acquire("faulty", ME), leases.acquire("faulty", OTHER))
        pids = [int(await call(await lease.unit.ready(), "pid")) for lease in (one, two)]
        assert pids[0] != pids[1]
        leases.release(one.id, ME)
        await until(lambda: not psutil.pid_exists(pids[0]))
        assert psutil.pid_exists(pids[1])
        again = await leases.acquire("faulty", ME)
        assert int(await call(await again.unit.ready(), "pid")) not in pids


async def test_a_lease_is_of_use_to_its_principal_only(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased())
        leases = Leases(supervisor)
        lease = await leases.acquire("faulty", ME)
        assert leases.unit("faulty", ME_AGAIN, lease.id) is lease.unit
        for attempt in (
            lambda: leases.unit("faulty", OTHER, lease.id),
            lambda: leases.release(lease.id, OTHER),
            lambda: leases.renew(lease.id, OTHER),
        ):
            with pytest.raises(RefusalError, match="no such lease of yours"):
                attempt()


async def test_a_connection_with_one_lease_need_not_name_it(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased())
        leases = Leases(supervisor)
        with pytest.raises(RefusalError, match=r"acquire_server\(name='faulty'\)"):
            leases.unit("faulty", ME, None)
        lease = await leases.acquire("faulty", ME)
        assert leases.unit("faulty", ME, None) is lease.unit
        with pytest.raises(RefusalError, match="used by lease"):
            leases.unit("faulty", ME_AGAIN, None)
        await leases.acquire("faulty", ME)
        with pytest.raises(RefusalError, match="holds 2"):
            leases.unit("faulty", ME, None)


async def test_a_lease_ends_with_its_time_unless_it_is_renewed(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased(lease_ttl=0.3))
        leases = Leases(supervisor)
        lease = await leases.acquire("faulty", ME)
        kept = await leases.acquire("faulty", ME)
        leases.renew(kept.id, ME, ttl=60)
        await until(lambda: leases.of("faulty") == [kept])
        with pytest.raises(RefusalError, match="its time is over"):
            leases.renew(lease.id, ME)


async def test_all_taken_is_an_answer_or_a_wait_as_asked_for(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased(max_instances=1))
        leases = Leases(supervisor)
        first = await leases.acquire("faulty", ME)
        with pytest.raises(RefusalError) as refusal:
            await leases.acquire("faulty", OTHER)
        assert refusal.value.outcome is Outcome.LIMIT
        waiting = asyncio.ensure_future(leases.acquire("faulty", OTHER, wait=10))
        await asyncio.sleep(0)
        leases.release(first.id, ME)
        assert (await waiting).caller == OTHER


async def test_a_reset_tool_makes_the_same_process_as_new(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased(reset="cancelled", max_instances=1))
        leases = Leases(supervisor)
        lease = await leases.acquire("faulty", ME)
        first = await call(await lease.unit.ready(), "pid")
        leases.release(lease.id, ME)
        again = await leases.acquire("faulty", OTHER, wait=10)
        assert await call(await again.unit.ready(), "pid") == first


async def test_a_reset_that_fails_is_a_new_process(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased(reset="failed", max_instances=1))
        leases = Leases(supervisor)
        lease = await leases.acquire("faulty", ME)
        first = await call(await lease.unit.ready(), "pid")
        leases.release(lease.id, ME)
        again = await leases.acquire("faulty", OTHER, wait=10)
        assert await call(await again.unit.ready(), "pid") != first


async def test_only_servers_that_are_leased_can_be(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(faulty())
        leases = Leases(supervisor)
        with pytest.raises(RefusalError, match="is not leased, it is shared"):
            await leases.acquire("faulty", ME)
        with pytest.raises(RefusalError, match="no server named 'x'"):
            await leases.acquire("x", ME)
