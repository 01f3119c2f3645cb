"""Places in which code runs: how many at a time, in which order, and given up while it waits for a tool."""

from __future__ import annotations

import asyncio

import pytest

from toolscore.sandbox.places import Places


async def test_no_more_run_at_a_time_than_there_are_places_and_in_the_order_they_came() -> None:
    places, order, most, now = Places(2), [], 0, 0

    async def work(number: int) -> None:
        nonlocal most, now
        async with places.taken():
            now += 1
            most = max(most, now)
            order.append(number)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(work(number) for number in range(10)))
    assert most == 2
    assert order == list(range(10))


async def test_who_waits_for_a_tool_lets_what_the_tool_needs_have_the_only_place() -> None:
    places = Places(1)
    async with asyncio.timeout(5):
        async with places.taken() as outer:
            with outer.given_up():
                async with places.taken() as inner:
                    with inner.given_up():
                        async with places.taken():
                            pass
        async with places.taken():
            pass


async def test_who_waits_for_several_tools_at_once_gives_only_one_place_up() -> None:
    places = Places(1)
    async with places.taken() as place:
        with place.given_up(), place.given_up():
            async with asyncio.timeout(5), places.taken():
                waiting = asyncio.create_task(places.taken().__aenter__())
                await asyncio.sleep(0)
                assert not waiting.done()
            await asyncio.wait_for(waiting, 5)


async def test_a_place_taken_back_counts_before_those_that_wait() -> None:
    places = Places(1)
    entered = asyncio.Event()

    async def other() -> None:
        async with places.taken():
            entered.set()

    async with places.taken() as place:
        with place.given_up():
            await asyncio.wait_for(other(), 5)
        entered.clear()
        waiting = asyncio.create_task(other())
        await asyncio.sleep(0)
        assert not entered.is_set()
    await asyncio.wait_for(waiting, 5)


async def test_who_gives_up_waiting_takes_no_place_along() -> None:
    places = Places(1)
    async with places.taken():
        waiting = asyncio.create_task(places.taken().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(5), places.taken():
        pass


async def test_everybody_has_a_turn_however_many_places_one_of_them_asks_for() -> None:
    places, order = Places(1), []

    async def work(owner: str) -> None:
        async with places.taken(owner):
            order.append(owner)

    async with places.taken("ann"):
        waiting = [asyncio.create_task(work(owner)) for owner in ("ann", "ann", "ann", "bob", "bob", "cy")]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == ["ann", "bob", "cy", "ann", "bob", "ann"]
