"""Calls that wait for a modern client's input: whose state it is, what it is bound to, and that nothing is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import until
from toolscore.runners.errors import FaultError
from toolscore.runners.patron import ProgressSink
from toolscore.server import parking as module
from toolscore.server.exchange import Exchange
from toolscore.server.parking import Parking
from toolscore.server.peer import Peer
from toolscore.tools.caller import Caller

Params = dict[str, Any]
Outcome = tuple[str, dict[str, Any]]
ELICIT = "elicitation/create"
NAME: Params = {"message": "What is your name?"}
AGE: Params = {"message": "How old are you?"}
CALL: Params = {"name": "f__form", "arguments": {"a": 1, "b": {"x": [1, 2], "y": None}}}


class Client(Peer):
    """A modern client, which is told things by answers alone."""

    def __init__(self, principal: str = "owner") -> None:
        super().__init__(Caller(principal=principal, listener="test"))
        self.modern = True

    def notify(self, method: str, params: dict[str, Any] | None, *, droppable: bool = False) -> None:
        raise AssertionError("nothing is told in these tests")

    async def ask(
        self, exchange: Exchange, method: str, params: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        raise AssertionError("a modern client is not sent requests")


class Reply:
    """Where the answer to one request of a client goes."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def put(self, member: str, value: dict[str, Any]) -> None:
        self.answer.set_result((member, value))  # raises at a second answer


class Desk:
    """The parking, and calls that are served as `server.serving` does it."""

    def __init__(self, expiry: float = 60.0) -> None:
        self.parking = Parking(expiry=expiry)
        self.works: list[asyncio.Task[None]] = []

    def call(
        self, work: Callable[[Exchange], Awaitable[Params]], client: Client | None = None, **params: Any
    ) -> tuple[Exchange, Reply]:
        """A client's request; `work` is what becomes of it."""
        reply = Reply()
        exchange = Exchange(client or Client(), "tools/call", {**CALL, **params}, reply, self.parking)

        async def serve() -> None:
            try:
                result = await work(exchange)
            except asyncio.CancelledError:
                self.parking.abandoned(exchange)
                raise
            except FaultError as exc:
                self.parking.finished(exchange, "error", exc.as_error())
            else:
                self.parking.finished(exchange, "result", result)

        exchange.work = task = asyncio.get_running_loop().create_task(serve())
        self.works.append(task)
        return exchange, reply

    async def asked(
        self, work: Callable[[Exchange], Awaitable[Params]], client: Client | None = None, **params: Any
    ) -> tuple[Exchange, Params]:
        """A call up to where its client is asked for input."""
        exchange, reply = self.call(work, client, **params)
        return exchange, questions(await within(reply.answer))

    async def retry(
        self,
        state: str,
        client: Client | None = None,
        method: str = "tools/call",
        *,
        request: Params | None = None,
        **responses: Any,
    ) -> Outcome:
        """The client comes back with the state it was given."""
        params = {**(CALL if request is None else request), "requestState": state}
        params["inputResponses"] = {key.replace("_", "-"): answer for key, answer in responses.items()}
        return await self.parking.resume(Exchange(client or Client(), method, params, Reply(), self.parking))

    def resuming(self, state: str, client: Client | None = None, **responses: Any) -> asyncio.Task[Outcome]:
        return asyncio.get_running_loop().create_task(self.retry(state, client, **responses))


async def within(waited: Awaitable[Any]) -> Any:
    async with asyncio.timeout(30):
        return await waited


async def turns(count: int = 5) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


def questions(outcome: Outcome) -> Params:
    member, value = outcome
    assert (member, value["resultType"]) == ("result", "input_required")
    return value


def ask(params: Params = NAME) -> Callable[[Exchange], Awaitable[Params]]:
    """The work of a call that asks one thing and gives the answer as its result."""

    async def work(exchange: Exchange) -> Params:
        return {"got": await exchange.parking.ask(exchange, ELICIT, params)}

    return work


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """A desk at which, in the end, no call runs and none is parked."""
    made = Desk()
    yield made
    assert made.parking.parked == 0
    assert made.parking._names == {}
    assert all(task.done() for task in made.works)


async def test_a_call_asks_its_client_and_goes_on_with_the_answer(desk: Desk) -> None:
    _, asked = await desk.asked(ask())
    assert asked["inputRequests"] == {"input-1": {"method": ELICIT, "params": NAME}}
    assert desk.parking.is_own(asked["requestState"])
    assert desk.parking.parked == 1
    given_back = await within(desk.retry(asked["requestState"], input_1={"action": "accept"}))
    assert given_back == ("result", {"got": {"action": "accept"}})


async def test_one_question_after_the_other_is_a_round_each(desk: Desk) -> None:
    async def work(exchange: Exchange) -> Params:
        name = await exchange.parking.ask(exchange, ELICIT, NAME)
        age = await exchange.parking.ask(exchange, ELICIT, AGE)
        return {"name": name["is"], "age": age["is"]}

    _, asked = await desk.asked(work)
    second = questions(await within(desk.retry(asked["requestState"], input_1={"is": "Ada"})))
    assert second["inputRequests"] == {"input-2": {"method": ELICIT, "params": AGE}}
    outcome = await within(desk.retry(second["requestState"], input_2={"is": 36}))
    assert outcome == ("result", {"name": "Ada", "age": 36})


async def test_an_error_after_the_answer_reaches_who_came_back(desk: Desk) -> None:
    async def work(exchange: Exchange) -> Params:
        await exchange.parking.ask(exchange, ELICIT, NAME)
        raise FaultError(-32050, "out of order", [1])

    _, asked = await desk.asked(work)
    outcome = await within(desk.retry(asked["requestState"], input_1={}))
    assert outcome == ("error", {"code": -32050, "message": "out of order", "data": [1]})


def reordered(value: Any) -> Any:
    """The same JSON with the members of all objects the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


async def test_the_order_of_members_and_what_changes_from_round_to_round_do_not_matter(desk: Desk) -> None:
    _, asked = await desk.asked(ask(), _meta={"progressToken": 1})
    again = {"_meta": {"progressToken": 2, "trace": "x"}, **reordered(CALL)}
    assert json.dumps(again) != json.dumps(CALL)
    outcome = await within(desk.retry(asked["requestState"], request=again, input_1={}))
    assert outcome[0] == "result"


@pytest.mark.parametrize(
    "changed",
    [
        {"request": {**CALL, "name": "f__other"}},
        {"request": {**CALL, "arguments": {**CALL["arguments"], "a": 2}}},
        {"request": {**CALL, "arguments": {**CALL["arguments"], "a": "1"}}},
        {"request": {**CALL, "arguments": {**CALL["arguments"], "a": True}}},
        {"request": {**CALL, "arguments": {"a": 1, "b": {"x": [2, 1], "y": None}}}},
        {"request": {**CALL, "arguments": {"a": 1, "b": {"x": [1, 2]}}}},
        {"request": {**CALL, "more": None}},
        {"request": {"name": "f__form"}},
        {"method": "prompts/get"},
        {"client": Client("somebody")},
    ],
)
async def test_a_state_is_of_no_use_to_others_or_for_other_requests(
    desk: Desk, changed: dict[str, Any]
) -> None:
    _, asked = await desk.asked(ask())
    with pytest.raises(FaultError, match="belongs to another caller or to other arguments") as refused:
        await desk.retry(asked["requestState"], input_1={"stolen": True}, **changed)
    assert refused.value.data == {"reason": "invalid_state"}
    outcome = await within(desk.retry(asked["requestState"], input_1={"mine": True}))
    assert outcome == ("result", {"got": {"mine": True}})


async def test_the_same_principal_may_come_back_on_another_connection(desk: Desk) -> None:
    _, asked = await desk.asked(ask(), Client("ada"))
    assert (await within(desk.retry(asked["requestState"], Client("ada"), input_1={})))[0] == "result"


async def test_no_byte_of_a_state_can_be_changed(desk: Desk) -> None:
    _, asked = await desk.asked(ask())
    state: str = asked["requestState"]
    for place, byte in enumerate(state):
        for other in {"A", "B", "0", ".", "=", "\0", "é", "\ud800"} - {byte}:
            forged = state[:place] + other + state[place + 1 :]
            with pytest.raises(FaultError, match="was changed"):
                await desk.retry(forged, input_1={})
        for forged in (
            state[:place],
            state[:place] + state[place + 1 :],
            state[:place] + "A" + state[place:],
        ):
            with pytest.raises(FaultError, match="was changed"):
                await desk.retry(forged, input_1={})
    assert (await within(desk.retry(state, input_1={})))[0] == "result"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_text_passes_for_a_state(data: st.DataObject) -> None:
    async def run() -> None:
        desk = Desk()
        _, asked = await desk.asked(ask())
        parts = asked["requestState"].split(".")
        drawn = data.draw(
            st.one_of(
                st.text(),
                st.lists(st.one_of(st.sampled_from(parts), st.text(max_size=3)), max_size=7).map(".".join),
            )
        )
        if drawn != asked["requestState"]:
            with pytest.raises(FaultError, match="was changed"):
                await desk.retry(drawn, input_1={})
        assert (await within(desk.retry(asked["requestState"], input_1={})))[0] == "result"
        assert desk.parking.parked == 0

    asyncio.run(run())


async def test_states_of_other_gateways_are_not_its_own(desk: Desk) -> None:
    other = Desk()
    _, asked = await desk.asked(ask())
    _, elsewhere = await other.asked(ask())
    assert not desk.parking.is_own(elsewhere["requestState"])
    assert not other.parking.is_own(asked["requestState"])
    states: list[Any] = [None, 1, ["ts1."], {}, "", "ts1", "ts1.", b"ts1.", "opaque"]
    for state in states:
        assert not desk.parking.is_own(state)
    with pytest.raises(FaultError, match="not valid here"):
        await desk.retry(elsewhere["requestState"], input_1={})
    for one, own in ((desk, asked["requestState"]), (other, elsewhere["requestState"])):
        assert (await within(one.retry(own, input_1={})))[0] == "result"
    assert other.parking.parked == 0


async def test_a_call_whose_client_does_not_come_back_in_time_is_cancelled() -> None:
    desk = Desk(expiry=0.05)
    exchange, asked = await desk.asked(ask())
    assert exchange.work is not None
    with pytest.raises(asyncio.CancelledError):
        await within(exchange.work)
    assert desk.parking.parked == 0
    with pytest.raises(FaultError, match="came too late") as late:
        await desk.retry(asked["requestState"], input_1={})
    assert late.value.data == {"reason": "expired"}


async def test_the_time_does_not_run_while_the_call_goes_on_for_its_client() -> None:
    desk = Desk(expiry=3)
    go_on = asyncio.Event()

    async def work(exchange: Exchange) -> Params:
        await exchange.parking.ask(exchange, ELICIT, NAME)
        await go_on.wait()
        return {}

    _, asked = await desk.asked(work)
    back = desk.resuming(asked["requestState"], input_1={})
    asyncio.get_running_loop().call_later(4, go_on.set)
    assert await within(back) == ("result", {})
    assert desk.parking.parked == 0


async def test_each_round_has_the_whole_time() -> None:
    desk = Desk(expiry=3)
    loop = asyncio.get_running_loop()
    _, asked = await desk.asked(ask())
    began = loop.time()
    while loop.time() - began < 4:
        # It comes back with nothing each time, long before the time of that round is over.
        due = loop.create_future()
        loop.call_later(0.4, due.set_result, None)
        await due
        asked = questions(await within(desk.retry(asked["requestState"])))
    assert (await within(desk.retry(asked["requestState"], input_1={})))[0] == "result"
    assert desk.parking.parked == 0


async def two(exchange: Exchange) -> Params:
    """The work of a call that asks two things at once."""
    name, age = await asyncio.gather(
        exchange.parking.ask(exchange, ELICIT, NAME), exchange.parking.ask(exchange, ELICIT, AGE)
    )
    return {"name": name, "age": age}


@pytest.mark.parametrize("order", [("input_1", "input_2"), ("input_2", "input_1")])
async def test_two_questions_at_once_are_answered_in_any_order(desk: Desk, order: tuple[str, str]) -> None:
    _, asked = await desk.asked(two)
    await turns()
    state = asked["requestState"]
    first, last = order
    first_answer: dict[str, Any] = {first: {"of": first}}
    left = questions(await within(desk.retry(state, **first_answer)))
    assert list(left["inputRequests"]) == [last.replace("_", "-")]
    last_answer: dict[str, Any] = {last: {"of": last}}
    outcome = await within(desk.retry(left["requestState"], **last_answer))
    assert outcome == ("result", {"name": {"of": "input_1"}, "age": {"of": "input_2"}})


async def test_two_questions_may_be_answered_in_one_round(desk: Desk) -> None:
    _, asked = await desk.asked(two)
    await turns()
    outcome = await within(desk.retry(asked["requestState"], input_1={"n": 1}, input_2={"n": 2}))
    assert outcome == ("result", {"name": {"n": 1}, "age": {"n": 2}})


@pytest.mark.parametrize("responses", [None, [], "x", {}, {"input-1": "no object"}, {"input-9": {}}])
async def test_who_comes_back_without_the_answer_is_asked_again(desk: Desk, responses: Any) -> None:
    _, asked = await desk.asked(ask())
    params = {**CALL, "requestState": asked["requestState"], "inputResponses": responses}
    back = Exchange(Client(), "tools/call", params, Reply(), desk.parking)
    again = questions(await within(desk.parking.resume(back)))
    assert again["inputRequests"] == asked["inputRequests"]
    assert (await within(desk.retry(again["requestState"], input_1={})))[0] == "result"


async def test_answers_that_are_given_twice_count_once(desk: Desk) -> None:
    go_on = asyncio.Event()

    async def work(exchange: Exchange) -> Params:
        got = await exchange.parking.ask(exchange, ELICIT, NAME)
        await go_on.wait()
        return got

    _, asked = await desk.asked(work)
    state = asked["requestState"]
    first = desk.resuming(state, input_1={"n": 1})
    await turns()
    with pytest.raises(FaultError, match="given already"):
        await desk.retry(state, input_1={"n": 2})
    go_on.set()
    assert await within(first) == ("result", {"n": 1})
    with pytest.raises(FaultError, match="came too late"):
        await desk.retry(state, input_1={"n": 3})


async def test_an_old_state_with_old_answers_is_asked_what_is_open_now(desk: Desk) -> None:
    async def work(exchange: Exchange) -> Params:
        await exchange.parking.ask(exchange, ELICIT, NAME)
        return await exchange.parking.ask(exchange, ELICIT, AGE)

    _, asked = await desk.asked(work)
    await within(desk.retry(asked["requestState"], input_1={"n": 1}))
    again = questions(await within(desk.retry(asked["requestState"], input_1={"n": 1})))
    assert list(again["inputRequests"]) == ["input-2"]
    assert await within(desk.retry(again["requestState"], input_2={"n": 2})) == ("result", {"n": 2})


async def test_a_call_that_ends_while_nobody_waits_is_given_to_the_next_who_comes_back(desk: Desk) -> None:
    async def work(exchange: Exchange) -> Params:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(exchange.parking.ask(exchange, ELICIT, NAME), 0.01)
        return {"without": "it"}

    exchange, asked = await desk.asked(work)
    assert exchange.work is not None
    await within(exchange.work)
    assert desk.parking.parked == 1
    assert await within(desk.retry(asked["requestState"], input_1={})) == ("result", {"without": "it"})


async def test_an_outcome_that_nobody_comes_back_for_is_dropped_in_time() -> None:
    desk = Desk(expiry=3)
    gone = asyncio.get_running_loop().create_future()

    async def work(exchange: Exchange) -> Params:
        asyncio.get_running_loop().create_task(
            exchange.parking.ask(exchange, ELICIT, NAME)
        ).add_done_callback(lambda task: gone.set_result(task.exception()))
        await turns()
        return {}

    exchange, asked = await desk.asked(work)
    assert exchange.work is not None
    await within(exchange.work)
    assert desk.parking.parked == 1
    await until(lambda: not desk.parking.parked)
    with pytest.raises(FaultError, match="came too late"):
        await desk.retry(asked["requestState"])
    assert isinstance(await within(gone), FaultError)


async def test_a_question_that_outlives_the_call_it_was_asked_in_is_answered_all_the_same(desk: Desk) -> None:
    """It may be that of another call of the same client: a server's questions do not say whose they are."""
    open_question: asyncio.Task[Params]
    end = asyncio.Event()

    async def work(exchange: Exchange) -> Params:
        nonlocal open_question
        open_question = asyncio.create_task(exchange.parking.ask(exchange, ELICIT, NAME))
        await end.wait()
        return {"done": True}

    exchange, asked = await desk.asked(work)
    assert exchange.work is not None
    end.set()
    await within(exchange.work)
    assert not open_question.done()
    again = questions(await within(desk.retry(asked["requestState"])))
    assert await within(desk.retry(again["requestState"], input_1={"n": 1})) == ("result", {"done": True})
    assert await within(open_question) == {"n": 1}
    assert desk.parking.parked == 0


async def test_who_comes_back_and_cancels_cancels_the_call(desk: Desk) -> None:
    async def work(exchange: Exchange) -> Params:
        await exchange.parking.ask(exchange, ELICIT, NAME)
        await asyncio.Event().wait()
        return {}

    exchange, asked = await desk.asked(work)
    back = desk.resuming(asked["requestState"], input_1={})
    await turns()
    back.cancel()
    for task in (back, exchange.work):
        assert task is not None
        with pytest.raises(asyncio.CancelledError):
            await within(task)
    assert desk.parking.parked == 0


async def test_a_client_that_leaves_cancels_what_it_was_asked(desk: Desk) -> None:
    ada, bob = Client("ada"), Client("bob")
    exchange, _ = await desk.asked(ask(), ada)
    _, asked_bob = await desk.asked(ask(), bob)
    desk.parking.left(ada)
    assert exchange.work is not None
    with pytest.raises(asyncio.CancelledError):
        await within(exchange.work)
    assert desk.parking.parked == 1
    assert (await within(desk.retry(asked_bob["requestState"], bob, input_1={})))[0] == "result"


async def test_who_came_back_on_another_connection_is_told_when_the_call_is_cancelled(desk: Desk) -> None:
    """The call runs in the name of the first connection, and ends with it."""

    async def work(exchange: Exchange) -> Params:
        await exchange.parking.ask(exchange, ELICIT, NAME)
        await asyncio.Event().wait()
        return {}

    first, second = Client("ada"), Client("ada")
    exchange, asked = await desk.asked(work, first)
    back = desk.resuming(asked["requestState"], second, input_1={})
    await turns()
    desk.parking.left(first)
    assert desk.parking.parked == 1
    assert exchange.work is not None
    exchange.work.cancel()
    member, error = await within(back)
    assert member == "error"
    assert "was cancelled" in error["message"]
    await asyncio.wait([exchange.work])


async def test_the_end_of_the_gateway_cancels_everything_and_leaves_nobody_waiting(desk: Desk) -> None:
    async def work(exchange: Exchange) -> Params:
        await exchange.parking.ask(exchange, ELICIT, NAME)
        await asyncio.Event().wait()
        return {}

    parked, _ = await desk.asked(work)
    resumed, asked = await desk.asked(work)
    back = desk.resuming(asked["requestState"], input_1={})
    await turns()
    desk.parking.close()
    assert desk.parking.parked == 0
    assert (await within(back))[0] == "error"
    for exchange in (parked, resumed):
        assert exchange.work is not None
        with pytest.raises(asyncio.CancelledError):
            await within(exchange.work)


async def test_a_question_that_comes_too_late_parks_nothing(desk: Desk) -> None:
    exchange, asked = await desk.asked(ask())
    await within(desk.retry(asked["requestState"], input_1={}))
    with pytest.raises(FaultError, match="is over"):
        await within(desk.parking.ask(exchange, ELICIT, AGE))


async def test_a_question_that_its_server_withdraws_leaves_the_call_waiting(desk: Desk) -> None:
    withdrawn = asyncio.Event()

    async def work(exchange: Exchange) -> Params:
        question = asyncio.create_task(exchange.parking.ask(exchange, ELICIT, NAME))
        await turns()
        question.cancel()
        await asyncio.wait([question])
        withdrawn.set()
        return await exchange.parking.ask(exchange, ELICIT, AGE)

    _, asked = await desk.asked(work)
    await within(withdrawn.wait())
    await turns()
    left = questions(await within(desk.retry(asked["requestState"], input_1={"n": 1})))
    assert left["inputRequests"] == {"input-2": {"method": ELICIT, "params": AGE}}
    assert await within(desk.retry(left["requestState"], input_2={"n": 2})) == ("result", {"n": 2})


async def test_one_client_cannot_keep_all_others_from_being_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARE", 2)
    for _ in range(2):
        await desk.asked(ask(), Client("many"))
    _, reply = desk.call(ask(), Client("many"))
    member, error = await within(reply.answer)
    assert (member, "too many calls" in error["message"]) == ("error", True)
    _, asked = await desk.asked(ask(), Client("other"))
    assert asked["inputRequests"]
    desk.parking.close()
    await asyncio.wait(desk.works)


async def test_no_more_calls_are_parked_than_the_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 2)
    states = [(await desk.asked(ask()))[1]["requestState"] for _ in range(2)]
    exchange, reply = desk.call(ask())
    assert exchange.work is not None
    member, error = await within(reply.answer)
    assert (member, "too many calls" in error["message"]) == ("error", True)
    for state in states:
        assert (await within(desk.retry(state, input_1={})))[0] == "result"
    assert (await desk.asked(ask()))[1]["requestState"] not in states
    desk.parking.close()
    await asyncio.wait(desk.works)
