"""What a policy limits: calls, calls at the same time, seconds and bytes, of a client and of a session."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable
from pathlib import Path

import pytest

from policed import Gated, caller, end, written
from routed import house
from toolscore.tools.caller import Caller
from toolscore.tools.outcome import Outcome, RefusalError
from toolscore.tools.passage import Passage
from toolscore.tools.policy.gate import Gate
from toolscore.tools.policy.meter import AllUses, Bucket, Meter
from toolscore.tools.policy.rule import Limit, Rule, Selector


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def passage(by: Caller, **arguments: object) -> Passage:
    return Passage("tools/call", "s", "s__t", dict(arguments), by, None, None, 0.0)


def used(clock: Clock, **figures: int) -> tuple[Meter, Limit]:
    return Meter(clock), Limit(1, 1, Selector(), **figures)


def allowed(meter: Meter, limit: Limit, by: Caller, **arguments: object) -> Passage | RefusalError:
    one, refused = passage(by, **arguments), None
    try:
        AllUses((meter.uses(limit),)).take(one)
    except RefusalError as refusal:
        refused = refusal
    if refused is None:
        return one
    assert refused.outcome is Outcome.LIMIT
    assert not one.undo, "what is refused uses nothing"
    return refused


def retry(refusal: Passage | RefusalError) -> float:
    assert isinstance(refusal, RefusalError), "it was let through"
    return float(refusal.details["retryAfter"])


def test_a_bucket_gives_what_it_holds_at_once_and_then_as_time_goes_by() -> None:
    bucket = Bucket(60, 60.0, 0.0)
    for _ in range(60):
        assert bucket.wait(1, 0.0) == 0
        bucket.left -= 1
    assert bucket.wait(1, 0.0) == pytest.approx(1.0)
    assert bucket.wait(1, 0.5) == pytest.approx(0.5)
    assert bucket.wait(1, 1.0) == 0
    bucket.left -= 31
    assert bucket.wait(1, 1.0) == pytest.approx(31.0)
    assert bucket.wait(1000, 10_000.0) == 0, "what is more than it ever holds is taken from a full one"


def test_calls_a_minute_are_refused_with_the_time_to_come_back() -> None:
    clock = Clock()
    meter, limit = used(clock, calls_per_minute=2)
    for _ in range(2):
        assert isinstance(allowed(meter, limit, caller()), Passage)
    assert retry(allowed(meter, limit, caller())) == pytest.approx(30.0)
    assert isinstance(allowed(meter, limit, caller("bob")), Passage), "another client has its own"
    assert isinstance(allowed(meter, limit, caller(connection=2)), RefusalError), "another connection has not"
    clock.now += 30.1
    assert isinstance(allowed(meter, limit, caller()), Passage)


def test_sessions_are_counted_apart_by_their_name_or_their_connection() -> None:
    meter, limit = used(Clock(), calls_per_session=1)
    for by in (caller(), caller(connection=2), caller(session="one"), caller("bob")):
        assert isinstance(allowed(meter, limit, by), Passage)
        refusal = allowed(meter, limit, by)
        assert isinstance(refusal, RefusalError)
        assert refusal.details["retryAfter"] is None
    assert isinstance(allowed(meter, limit, caller(connection=3, session="one")), RefusalError)


def test_bytes_of_arguments_and_results_are_counted() -> None:
    clock = Clock()
    meter, limit = used(clock, bytes_per_session=100, bytes_per_hour=1000)
    one = allowed(meter, limit, caller(), a="x" * 42)  # {"a":"..."} has 50
    assert isinstance(one, Passage)
    end(one, {"b": "y" * 22})  # and this 30
    refusal = allowed(meter, limit, caller(), a="x" * 42)
    assert isinstance(refusal, RefusalError)
    assert "80 are used, and these arguments have 50" in refusal.message
    big = allowed(meter, limit, caller(session="s"), a="x")
    assert isinstance(big, Passage)
    end(big, {"b": "y" * 2000})  # an answer is given whole, and paid for afterwards
    assert retry(allowed(meter, limit, caller(session="t"), a="x")) > 3600


def test_calls_inside_of_a_call_do_not_wait_for_its_place() -> None:
    meter, limit = used(Clock(), parallel=1)
    outer = allowed(meter, limit, caller())
    assert isinstance(outer, Passage)
    inner = allowed(meter, limit, caller(depth=1))
    assert isinstance(inner, Passage)
    assert retry(allowed(meter, limit, caller(depth=1))) > 0
    assert retry(allowed(meter, limit, caller())) > 0
    end(inner)
    end(outer)
    assert isinstance(allowed(meter, limit, caller()), Passage)


async def test_what_was_used_counts_under_the_next_policy_where_the_limit_is_the_same() -> None:
    limit = '[[limit]]\nwho = "ann"\ncalls_per_session = 1\n'
    gated = Gated(limit)
    assert await gated.outcome("time__now") == "ok"
    gated.gate.take(written(f'# moved\n[[rule]]\nwho="x"\nanswer="deny"\n[[limit]]\nparallel=9\n{limit}'))
    assert await gated.outcome("time__now") == "limit"
    gated.gate.take(written(limit.replace("= 1", "= 2")))
    assert await gated.outcome("time__now") == "ok"


async def test_a_limit_counts_only_what_it_is_about() -> None:
    gated = Gated('[[limit]]\ntools = "github__*"\nhints = "destructive"\ncalls_per_session = 1')
    for _ in range(3):
        assert await gated.outcome("github__read") == "ok"
        assert await gated.outcome("time__now") == "ok"
    assert [await gated.outcome("github__delete") for _ in range(2)] == ["ok", "limit"]


async def test_all_limits_that_fit_hold_and_one_that_refuses_leaves_the_others_unused() -> None:
    gated = Gated('[[limit]]\ncalls_per_session = 2\n[[limit]]\ntools = "github__*"\ncalls_per_session = 1')
    outcomes = [await gated.outcome("github__read"), await gated.outcome("github__read")]
    outcomes += [await gated.outcome("time__now"), await gated.outcome("time__now")]
    assert outcomes == ["ok", "limit", "ok", "limit"]


# --- asking


async def test_an_answer_is_remembered_only_where_the_rule_says_so_and_no_longer_than_the_session() -> None:
    gated = Gated('[[rule]]\nhints="destructive"\nanswer="ask"\n')
    assert [await gated.outcome("github__delete") for _ in range(2)] == ["ok", "ok"]
    assert len(gated.asked) == 2
    gated = Gated('[[rule]]\nanswer="ask"\nremember="session"\n')
    for by in (
        caller(),
        caller(),
        caller(connection=2),
        caller(session="a"),
        caller(session="a", connection=9),
    ):
        assert await gated.outcome("github__delete", by) == "ok"
    assert len(gated.asked) == 3
    await gated.outcome("github__write")
    assert gated.asked[-1] == "github__write", "another tool is another question"
    before = len(gated.asked)
    for _ in range(2):  # neither a session nor a connection: there is nothing it could last as long as
        await gated.outcome("github__delete", caller(connection=0))
    assert len(gated.asked) == before + 2
    gated.gate.take(gated.gate.policy)
    await gated.outcome("github__delete")
    assert len(gated.asked) == before + 3, "another policy asks again"


async def test_a_no_is_not_remembered_and_gives_back_what_was_taken() -> None:
    gated = Gated('[[rule]]\nanswer="ask"\nremember="session"\n[[limit]]\nparallel=1\n')
    gated.agrees = False
    assert [await gated.outcome("github__delete") for _ in range(2)] == ["refused", "refused"]
    gated.agrees = True
    assert await gated.outcome("github__delete") == "ok"
    assert len(gated.asked) == 3


async def test_what_became_another_tool_or_was_denied_while_a_person_was_asked_is_not_called() -> None:
    gated = Gated('[[rule]]\nanswer="ask"\n')
    gated.meanwhile = lambda: gated.shelf.put("github__delete", {"readOnlyHint": True})
    assert await gated.outcome("github__delete") == "unavailable"
    gated.meanwhile = lambda: gated.gate.take(written('[[rule]]\nwhat="call"\nanswer="deny"'))
    assert await gated.outcome("github__delete") == "refused"


# --- in front of a real server


def guarded(library: object, text: str) -> Gate:
    async def ask(_passage: Passage, _rule: Rule) -> None:
        """Agree."""

    gate = Gate(library, lambda name: RefusalError(Outcome.UNKNOWN_TOOL, name), ask)  # type: ignore[arg-type]
    gate.take(written(text))
    return gate


async def results(calls: list[Awaitable[object]]) -> list[str]:
    done = await asyncio.gather(*calls, return_exceptions=True)
    return [str(one.outcome) if isinstance(one, RefusalError) else type(one).__name__ for one in done]


async def test_no_more_calls_run_at_the_same_time_than_may(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        one.router.guards = (guarded(one.library, "[[limit]]\nparallel = 3"),)
        calls: list[Awaitable[object]] = [one.call("sleep_safely", seconds=0.3) for _ in range(10)]
        done = await results(calls)
        assert sorted(done) == ["dict"] * 3 + ["limit"] * 7
        assert await results([one.call("add", a=1, b=2)]) == ["dict"], "the places are free again"


async def test_a_call_is_cut_off_after_its_seconds_whatever_progress_it_tells_of(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        limit = '[[limit]]\ntools = "faulty__progress"\nseconds = 0.3'
        one.router.guards = (guarded(one.library, limit),)
        refusal = await one.refused("progress", count=1000, every=0.05)
        assert refusal.outcome is Outcome.TIMED_OUT
        assert "0.3 s that the policy allows" in refusal.message
        # The server was told, and has its hands free.
        assert (await one.call("add", a=1, b=2))["content"][0]["text"] == "3"
        told = (await one.call("cancelled"))["structuredContent"]
        assert len(told["ids"]) == 1, told
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_a_client_that_cancels_is_not_told_of_a_time_that_is_over(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        one.router.guards = (guarded(one.library, "[[limit]]\nseconds = 30"),)
        call = asyncio.ensure_future(one.call("sleep", seconds=30))
        while not one.supervisor.units["faulty"].in_flight:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_what_would_have_ended_a_call_goes_with_it() -> None:
    gated = Gated("[[limit]]\nseconds = 0.01")
    assert await gated.outcome("time__now") == "ok"
    over = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.02, over.set_result, None)
    await over  # which would be cancelled


async def test_resources_are_judged_as_their_server(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        text = '[[rule]]\nservers="faulty"\nwhat="call"\nanswer="deny"\nwhy="Not here."'
        one.router.guards = (guarded(one.library, text),)
        with pytest.raises(RefusalError, match=r"use server 'faulty' \(rule 1 of the policy\). Not here\."):
            await one.router.request("faulty", "resources/read", {"uri": "x:y"}, caller())
        text = '[[rule]]\ntools="faulty__*"\nhints="read-only"\nanswer="allow"\n[[rule]]\nanswer="deny"'
        one.router.guards = (guarded(one.library, text),)
        refusal = await one.refused("add", a=1, b=2)
        assert refusal.outcome is Outcome.UNKNOWN_TOOL
        assert (await one.call("sleep_safely", seconds=0))["content"][0]["text"] == "slept"


async def test_calls_under_limits_leave_nothing_for_the_garbage_collector() -> None:
    gated = Gated("[[limit]]\nparallel = 9\nbytes_per_hour = 1000000\ncalls_per_session = 1000\nseconds = 30")
    assert await gated.outcome("time__now") == "ok"
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            assert await gated.outcome("time__now", text="x") == "ok"
        assert gc.collect() < 100
    finally:
        gc.enable()


async def test_bytes_are_counted_of_what_json_cannot_hold_as_well() -> None:
    gated = Gated("[[limit]]\nbytes_per_session = 100")
    assert await gated.outcome("time__now", text="\ud800" * 5, ratio=float("inf")) == "ok"
    assert await gated.outcome("time__now", text="x" * 90) == "limit"
