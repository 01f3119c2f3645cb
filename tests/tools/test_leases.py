"""Leases: an instance for one episode, nobody else's meanwhile, and as new for the next."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from helpers import FAULTY, call, faulty, supervising, until
from toolscore.runners.keeping import Keeping
from toolscore.runners.lifecycle import State
from toolscore.runners.spec import Installation, ServerSpec
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


async def test_who_waits_for_an_instance_of_a_server_that_is_removed_is_told_so(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased(max_instances=1))
        leases = Leases(supervisor)
        await leases.acquire("faulty", ME)
        waiting = asyncio.ensure_future(leases.acquire("faulty", OTHER, wait=30))
        await asyncio.sleep(0)
        removing = asyncio.ensure_future(supervisor.remove("faulty"))
        with pytest.raises(RefusalError, match="Server 'faulty' is being removed") as refusal:
            await asyncio.wait_for(waiting, 10)
        assert refusal.value.outcome is Outcome.UNAVAILABLE
        with pytest.raises(RefusalError):  # and none is made anew meanwhile, which nobody would end
            await leases.acquire("faulty", OTHER)
        await removing
        assert supervisor.all_units() == []


async def test_a_lease_whose_instance_was_ended_says_so(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased())
        leases = Leases(supervisor)
        lease = await leases.acquire("faulty", ME)
        await supervisor.instances("faulty").end()
        with pytest.raises(RefusalError, match="instance of this lease was ended"):
            leases.unit("faulty", ME, lease.id)
        assert leases.of("faulty") == []


async def test_an_instance_that_is_being_reset_while_the_server_is_stopped_is_ended(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased(reset="cancelled"))
        leases = Leases(supervisor)
        lease = await leases.acquire("faulty", ME)
        leases.release(lease.id, ME)
        await supervisor.instances("faulty").end()
        assert supervisor.instances_now("faulty") == []


async def test_neither_a_lease_nor_a_spare_is_stopped_for_being_idle_but_what_is_left_over_is(
    tmp_path: Path,
) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased(idle_timeout=0.2, spares=1, reset="cancelled"))
        leases = Leases(supervisor)
        lease, over = [await leases.acquire("faulty", ME) for _ in range(2)]
        await until(lambda: len(supervisor.instances_now("faulty")) == 3)
        spare = next(
            unit for unit in supervisor.instances_now("faulty") if unit not in (lease.unit, over.unit)
        )
        await spare.ready()
        leases.release(over.id, ME)
        await until(lambda: over.unit.life.state is State.STOPPED)
        assert (lease.unit.life.state, spare.life.state) == (State.READY, State.READY)


async def test_who_waits_is_served_as_soon_as_more_instances_may_run(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased(max_instances=1))
        leases = Leases(supervisor)
        await leases.acquire("faulty", ME)
        waiting = asyncio.ensure_future(leases.acquire("faulty", OTHER, wait=30))
        await asyncio.sleep(0)
        supervisor.reconfigure(leased(max_instances=2))
        assert (await asyncio.wait_for(waiting, 10)).caller == OTHER


async def test_a_turn_that_somebody_else_took_does_not_send_its_waiter_to_the_end(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased(max_instances=1))
        instances = supervisor.instances("faulty")
        await instances.take("first").ready()
        order: list[str] = []

        async def wait(who: str) -> None:
            await (await instances.take_within(who, 30)).ready()
            order.append(who)

        waiting = [asyncio.ensure_future(wait(who)) for who in ("second", "third")]
        await asyncio.sleep(0)
        instances._next()  # woken, and finds that it is taken
        await asyncio.sleep(0.01)
        instances.let_go("first")
        await until(lambda: order)
        instances.let_go(order[0])
        await asyncio.gather(*waiting)
        assert order == ["second", "third"]


async def test_a_spare_that_was_given_up_is_tried_once_more_by_who_gets_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    script = (
        f"import os, sys; os.path.exists({str(broken)!r}) and sys.exit(1); "
        f"sys.argv = ['x']; exec(open({str(FAULTY)!r}).read())"
    )
    server = leased(spares=1, restart_limit=0).model_copy(
        update={"spec": ServerSpec(command=sys.executable, args=("-S", "-c", script))}
    )
    async with supervising(tmp_path) as supervisor:
        supervisor.boot(supervisor.add(server))
        (spare,) = supervisor.instances_now("faulty")
        await until(lambda: spare.life.state is State.FAILED)
        broken.unlink()
        lease = await Leases(supervisor).acquire("faulty", ME)
        assert lease.unit is spare


async def test_a_disabled_server_is_not_leased(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased()).enabled = False
        with pytest.raises(RefusalError, match="is disabled"):
            await Leases(supervisor).acquire("faulty", ME)


async def test_a_lease_whose_process_died_says_that_its_state_is_lost(tmp_path: Path) -> None:
    async with supervising(tmp_path) as supervisor:
        supervisor.add(leased())
        leases = Leases(supervisor)
        lease = await leases.acquire("faulty", ME)
        pid = int(await call(await lease.unit.ready(), "pid"))
        psutil.Process(pid).kill()
        await until(lambda: lease.unit.life.restarts == 1)
        with pytest.raises(RefusalError, match=r"ended by itself \(.*SIGKILL.*what it held is lost"):
            leases.unit("faulty", ME, lease.id)
        with pytest.raises(RefusalError, match="no such lease of yours"):
            leases.unit("faulty", ME, lease.id)
