"""Which executor runs what, and who waits: on values, with no executor behind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from toolscore.sandbox.refusal import CallRefusedError
from toolscore.server.boxes.choosing import Choosing
from toolscore.server.boxes.post import Post


@dataclass(eq=False)
class Spot:
    """As much of a post as is chosen by."""

    most: int
    usable: bool = True
    taken: int = 0
    sessions: set[str] = field(default_factory=set)
    sets: set[tuple[str, ...]] = field(default_factory=set)
    choosing: Choosing | None = None

    @property
    def free(self) -> int:
        return self.most - self.taken

    def take(self) -> None:
        self.taken += 1

    def give(self) -> None:
        self.taken -= 1
        assert self.choosing is not None
        self.choosing.settle()


def among(*spots: Spot, last: Spot | None = None, patience: float = 60.0, hopeful: bool = False) -> Choosing:
    posts, rest = cast(list[Post], list(spots)), cast(Any, last)
    choosing = Choosing(lambda: (posts, rest), patience, lambda: hopeful, lambda: "There is none.")
    for spot in (*spots, *([last] if last else [])):
        spot.choosing = choosing
    return choosing


async def test_a_call_goes_where_most_is_free_and_a_session_where_fewest_are() -> None:
    small, large = Spot(2), Spot(4)
    choosing = among(small, large)
    taken: list[Any] = [await choosing.place("ann") for _ in range(6)]
    assert taken[:2] == [large, large]
    assert (small.free, large.free) == (0, 0)
    small.give()
    large.give()
    large.sessions = {"a", "b"}
    assert cast(Any, await choosing.place("ann", session=True)) is small


async def test_where_its_packages_are_made_already_a_call_has_precedence() -> None:
    busy, idle = Spot(2, taken=1, sets={("numpy",)}), Spot(2)
    choosing = among(busy, idle)
    assert cast(Any, await choosing.place("ann", ("numpy",))) is busy
    assert cast(Any, await choosing.place("ann", ("numpy",))) is idle


async def test_everybody_has_a_turn_however_many_somebody_asks_for() -> None:
    spot = Spot(1)
    choosing = among(spot)
    await choosing.place("ann")
    order: list[str] = []

    async def wait(owner: str) -> None:
        await choosing.place(owner)
        order.append(owner)
        spot.give()

    waiting = [asyncio.create_task(wait(owner)) for owner in ("ann", "ann", "ann", "bob")]
    await asyncio.sleep(0)
    assert choosing.waiting == 4
    spot.give()
    await asyncio.gather(*waiting)
    assert order == ["ann", "bob", "ann", "ann"]
    assert spot.taken == 0


async def test_one_that_is_cancelled_gives_back_the_place_it_has_just_been_given() -> None:
    spot = Spot(1)
    choosing = among(spot)
    await choosing.place("ann")
    waiting = asyncio.create_task(choosing.place("bob"))
    other = asyncio.create_task(choosing.place("cid"))
    await asyncio.sleep(0)
    spot.give()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert cast(Any, await other) is spot
    assert (spot.taken, choosing.waiting) == (1, 0)


async def test_nobody_waits_for_ever_for_what_cannot_be_used_and_nobody_at_all_once_that_is_known() -> None:
    spot = Spot(1, usable=False)
    choosing = among(spot, patience=0.01)
    with pytest.raises(CallRefusedError, match="There is none"):
        await choosing.place("ann")
    assert choosing.waiting == 0
    spot.usable = True
    choosing.settle()
    assert cast(Any, await choosing.place("ann")) is spot


async def test_the_last_resort_is_used_only_while_nothing_else_can_be() -> None:
    spot, last = Spot(1, usable=False), Spot(1)
    choosing = among(spot, last=last)
    assert cast(Any, await choosing.place("ann")) is last
    last.give()
    spot.usable = True
    assert cast(Any, await choosing.place("ann")) is spot
    waiting = asyncio.create_task(choosing.place("ann"))
    await asyncio.sleep(0)
    assert (choosing.waiting, last.taken) == (1, 0)
    spot.give()
    assert cast(Any, await waiting) is spot


async def test_whoever_waits_when_it_all_ends_is_refused() -> None:
    choosing = among(Spot(1, usable=False))
    waiting = asyncio.create_task(choosing.place("ann"))
    await asyncio.sleep(0)
    choosing.close()
    with pytest.raises(CallRefusedError, match="closed"):
        await waiting
