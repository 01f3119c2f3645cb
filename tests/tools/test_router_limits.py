"""The time a call has, the queue it waits in, and the server that is left alone since it never answers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from helpers import until
from routed import House, house, unlisted
from toolscore.runners.breaker import BreakerPolicy, Circuit
from toolscore.tools.caller import OWNER, Caller
from toolscore.tools.outcome import Outcome, RefusalError


async def test_one_time_limit_holds_for_the_start_the_storing_and_the_call(tmp_path: Path) -> None:
    async with unlisted(tmp_path, "slow-start=3") as made:
        never = asyncio.create_task(asyncio.Event().wait())
        made.library.arriving("faulty", never)  # type: ignore[arg-type]
        began = time.monotonic()
        with pytest.raises(RefusalError) as caught:
            await made.router.call("faulty__nothing_of_this_name", {}, OWNER, timeout=6.0)
        assert time.monotonic() - began < 9  # with the start on top it would be more
        assert caught.value.outcome is Outcome.TIMED_OUT
        assert "was not stored within 6 s" in caught.value.message
        never.cancel()
        await made.library.arrived()
        began = time.monotonic()
        with pytest.raises(RefusalError) as caught:
            await made.router.call("faulty__sleep", {"seconds": 20}, OWNER, timeout=0.3)
        assert caught.value.outcome is Outcome.TIMED_OUT
        assert time.monotonic() - began < 15


async def test_a_start_takes_from_the_time_of_the_call_that_waited_for_it(tmp_path: Path) -> None:
    async with unlisted(tmp_path, "slow-start=3") as made:
        began = time.monotonic()
        with pytest.raises(RefusalError) as caught:
            await made.router.call("faulty__sleep", {"seconds": 20}, OWNER, timeout=6.0)
        assert caught.value.outcome is Outcome.TIMED_OUT
        assert time.monotonic() - began < 9


async def test_a_call_over_its_time_says_that_its_outcome_is_not_known(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        with pytest.raises(RefusalError) as refusal:
            await made.router.call("faulty__sleep", {"seconds": 60}, OWNER, timeout=0.1)
        assert refusal.value.outcome is Outcome.TIMED_OUT
        assert "0.1 s" in refusal.value.message


async def test_a_full_queue_is_an_answer_and_nothing_is_sent(tmp_path: Path) -> None:
    async with house(tmp_path, max_parallel=1, max_queue=1) as here:
        busy = asyncio.ensure_future(here.call("sleep", seconds=60))
        unit = here.supervisor.units["faulty"]
        await until(lambda: unit.in_flight == 1)
        waiting = asyncio.ensure_future(here.call("add", a=1, b=2))
        await until(lambda: unit.queued == 1)
        refusal = await here.refused("add", a=1, b=1)
        assert refusal.outcome is Outcome.QUEUE_FULL
        assert "Nothing was sent" in refusal.message
        assert refusal.details["retryAfter"] > 0
        busy.cancel()
        assert (await waiting)["content"][0]["text"] == "3"
        await asyncio.wait([busy])
        assert (unit.in_flight, unit.queued) == (0, 0)


async def test_time_in_the_queue_counts_and_what_was_not_sent_is_said_to_be_without_effect(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, max_parallel=1) as here:
        busy = asyncio.ensure_future(here.call("sleep", seconds=60))
        unit = here.supervisor.units["faulty"]
        await until(lambda: unit.in_flight == 1)
        with pytest.raises(RefusalError, match="It was not sent, so it had no effect") as refusal:
            await here.router.call("faulty__add", {"a": 1, "b": 1}, OWNER, timeout=0.05)
        assert refusal.value.outcome is Outcome.TIMED_OUT
        busy.cancel()
        await asyncio.wait([busy])


async def test_a_greedy_client_does_not_starve_another(tmp_path: Path) -> None:
    greedy, modest = Caller("owner", "unix", 1), Caller("owner", "unix", 2)
    async with house(tmp_path, max_parallel=2) as here:
        many = [
            asyncio.ensure_future(here.router.call("faulty__sleep", {"seconds": 0.05}, greedy))
            for _ in range(60)
        ]
        unit = here.supervisor.units["faulty"]
        await until(lambda: unit.queued > 50)
        await here.router.call("faulty__add", {"a": 1, "b": 1}, modest)
        # In its turn it is the second; some of the others are answered while it is.
        assert sum(call.done() for call in many) < 30
        await asyncio.gather(*many)


async def unhurried(here: House) -> dict[str, Any]:
    """Call a tool with more time than a call to its server has otherwise."""
    return await here.router.call("faulty__add", {"a": 1, "b": 1}, OWNER, timeout=30.0)


async def test_a_server_that_answers_nothing_is_left_alone_with_a_reason_and_a_time(tmp_path: Path) -> None:
    async with house(tmp_path, timeout=0.05) as here:
        unit = here.supervisor.units["faulty"]
        for _ in range(unit.breaker.policy.limit):
            assert (await here.refused("sleep", seconds=5)).outcome is Outcome.TIMED_OUT
        refusal = await here.refused("add", a=1, b=1)
        assert refusal.outcome is Outcome.UNAVAILABLE
        assert "did not answer 5 calls in a row" in refusal.message
        await asyncio.sleep(refusal.details["retryAfter"])
        for _ in range(2):  # the trial, which closes the circuit again, and one more
            assert "isError" not in await unhurried(here)


async def test_a_server_that_gives_a_sign_of_life_is_tried_again_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, timeout=0.05) as here:
        breaker = here.supervisor.units["faulty"].breaker
        breaker.policy = BreakerPolicy(first_delay=60)
        for _ in range(breaker.policy.limit):
            await here.refused("sleep", seconds=5)
        assert breaker.circuit is Circuit.OPEN
        await until(lambda: breaker.circuit is Circuit.HALF_OPEN)  # it answered a ping
        assert "isError" not in await unhurried(here)


async def test_a_client_in_a_hurry_does_not_make_a_server_unavailable_to_others(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        for _ in range(8):
            with pytest.raises(RefusalError):
                await here.router.call("faulty__sleep", {"seconds": 5}, OWNER, timeout=0.02)
        assert "isError" not in await here.call("add", a=1, b=1)


async def test_a_start_is_part_of_the_time_a_call_has(tmp_path: Path) -> None:
    async with house(tmp_path, start_timeout=30.0) as here:
        unit = here.supervisor.units["faulty"]
        unit.stop()
        await unit.stopped()
        hangs = unit.installation.spec.model_copy(
            update={"args": (*unit.installation.spec.args, "hang-handshake")}
        )
        unit.installation = unit.installation.model_copy(update={"spec": hangs})
        with pytest.raises(RefusalError, match="is still starting") as refusal:
            await here.router.call("faulty__add", {"a": 1, "b": 1}, OWNER, timeout=0.2)
        assert refusal.value.outcome is Outcome.UNAVAILABLE
        assert refusal.value.details["retryAfter"] == 1
