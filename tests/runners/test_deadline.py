"""Time limits: one timer for all requests of a line."""

from __future__ import annotations

import asyncio

import pytest

from toolscore.runners.deadline import Deadline, Deadlines
from toolscore.runners.errors import ChildTimeoutError


class Line:
    """Requests that wait."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiting: list[Deadline] = []
        self.deadlines = Deadlines(self.loop, lambda: self.waiting)

    def ask(self, timeout: float | None) -> tuple[Deadline, asyncio.Future[None]]:
        future: asyncio.Future[None] = self.loop.create_future()
        deadline = Deadline(self.deadlines, "tools/call", timeout, future)
        self.waiting.append(deadline)
        deadline.extend()
        return deadline, future


async def failed(future: asyncio.Future[None]) -> str:
    async with asyncio.timeout(30):
        with pytest.raises(ChildTimeoutError) as caught:
            await future
    return caught.value.message


async def test_each_request_fails_at_its_own_time_whatever_the_order_they_came_in() -> None:
    line = Line()
    order: list[str] = []
    asked = {
        name: line.ask(timeout)[1] for name, timeout in (("second", 0.2), ("first", 0.01), ("third", 0.4))
    }
    for name, future in asked.items():
        future.add_done_callback(lambda _future, name=name: order.append(name))  # type: ignore[misc]
    assert await failed(asked["third"]) == "tools/call got no answer within 0.4 s"
    assert order == ["first", "second", "third"]
    await failed(asked["first"])
    await failed(asked["second"])


async def test_progress_sets_only_its_own_request_back() -> None:
    line = Line()
    working, future = line.ask(0.3)
    _silent, other = line.ask(0.3)
    began = line.loop.time()
    line.loop.call_later(0.15, working.extend)
    await failed(other)
    assert not future.done()
    await failed(future)
    assert line.loop.time() - began >= 0.44


async def test_no_time_passes_while_the_server_itself_waits() -> None:
    line = Line()
    held, future = line.ask(0.05)
    held.hold()
    held.hold()
    _other, other = line.ask(0.1)
    await failed(other)
    held.release()
    held.extend()  # progress meanwhile begins nothing
    assert held.until == float("inf")
    held.release()
    assert held.until < float("inf")
    await failed(future)


async def test_what_was_answered_or_has_no_limit_is_left_alone() -> None:
    line = Line()
    _answered, answered = line.ask(0.01)
    answered.set_result(None)
    _endless, endless = line.ask(None)
    _last, last = line.ask(0.05)
    await failed(last)
    assert answered.exception() is None
    assert not endless.done()


async def test_many_requests_share_one_timer_and_none_is_left_once_they_are_over() -> None:
    line = Line()
    for _ in range(100):
        deadline, _future = line.ask(60)
        line.waiting.remove(deadline)
    assert line.deadlines.rings < float("inf")
    _last, last = line.ask(0.01)
    await failed(last)
    line.waiting.clear()
    async with asyncio.timeout(30):
        while line.deadlines.rings < float("inf"):
            await asyncio.sleep(0)
    line.ask(60)
    line.deadlines.close()
    assert line.deadlines.rings == float("inf")
