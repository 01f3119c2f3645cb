"""What a server asks and tells by itself: each question is answered once, by the patron, or not at all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import CLIENT_INFO, call, installation, runner_at, until
from toolscore.runners import watch as watch_module
from toolscore.runners.base import Channel, Message
from toolscore.runners.codec import decode, encode
from toolscore.runners.errors import ChildFaultError, ChildGoneError, ChildTimeoutError, FaultError
from toolscore.runners.patron import Ask, Patron
from toolscore.runners.session import ChildSession
from toolscore.runners.spec import ServerSpec
from toolscore.runners.watch import Watch

RICH = Path(__file__).parent.parent / "rich_server.py"
SAMPLE = "sampling/createMessage"


class Oracle:
    """A patron that answers what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.capabilities: dict[str, Any] = {"sampling": {}}
        self.asks: list[Ask] = []
        self.answers: list[asyncio.Future[dict[str, Any]]] = []
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.cancelled = 0

    async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
        self.asks.append(ask)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        try:
            return await answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def told(self, session: ChildSession, method: str, params: dict[str, Any]) -> None:
        self.heard.append((method, params))


class Echo(Oracle):
    """A patron that answers at once with what it was asked."""

    async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
        self.asks.append(ask)
        return {"method": ask.method, "params": ask.params}


class Memory(Channel):
    """A line without a server: the test is the server. What is written has been JSON all the same."""

    def __init__(self) -> None:
        self.written: list[Message] = []
        self._receive: Callable[[Message], None] | None = None
        self._over = asyncio.Event()

    async def run(self, receive: Callable[[Message], None]) -> None:
        self._receive = receive
        await self._over.wait()

    def send(self, message: Message) -> None:
        if self._over.is_set():
            raise ChildGoneError("it hung up", written=False)
        self.written.append(decode(encode(message)))

    @property
    def congested(self) -> bool:
        return False

    async def drain(self) -> None:
        raise AssertionError("it is never congested")

    async def aclose(self) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        self._over.set()

    def say(self, *messages: Message) -> None:
        assert self._receive is not None
        for message in messages:
            self._receive({"jsonrpc": "2.0", **message})

    def ask(self, identity: Any, method: str = SAMPLE, **params: Any) -> None:
        self.say({"id": identity, "method": method, "params": params})

    @property
    def answers(self) -> list[Message]:
        return [message for message in self.written if "method" not in message]

    def sent(self, method: str) -> list[Message]:
        return [message for message in self.written if message.get("method") == method]


@asynccontextmanager
async def in_memory(patron: Patron | None) -> AsyncIterator[tuple[ChildSession, Memory]]:
    line = Memory()
    session = ChildSession(line, client_info=CLIENT_INFO, epitaph=lambda: "it hung up", patron=patron)
    session.open()
    await turns()
    try:
        yield session, line
    finally:
        line.hang_up()
        await session.closed.wait()
        await session.aclose()
        await turns()
        assert session.in_flight == 0
        assert session._board.incoming == 0


@asynccontextmanager
async def with_rich(folder: Path, patron: Patron | None, *faults: str) -> AsyncIterator[ChildSession]:
    """A session with the real rich server, after the handshake."""
    runner = runner_at(folder)
    spec = ServerSpec(command=sys.executable, args=("-S", str(RICH), *faults))
    child = await runner.start_server(installation(spec))
    session = ChildSession(child.channel, client_info=CLIENT_INFO, epitaph=child.epitaph, patron=patron)
    session.open()
    try:
        await session.handshake()
        yield session
    finally:
        await runner.stop_server("faulty", 0)
        await session.aclose()


async def turns(count: int = 5) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def within(waited: asyncio.Future[Any]) -> Any:
    async with asyncio.timeout(30):
        return await waited


# --- real servers


async def test_a_servers_question_in_a_call_is_answered_by_the_patron(tmp_path: Path) -> None:
    patron = Echo()
    async with with_rich(tmp_path, patron) as session:
        asked = {"method": SAMPLE, "params": {"messages": [], "x-unknown": {"kept": 2**70}}}
        reply = await session.request(
            "tools/call", {"name": "question", "arguments": asked}, owner="ada", timeout=20
        )
        assert reply["structuredContent"]["result"] == asked
        assert [ask.owners for ask in patron.asks] == [["ada"]]
        assert session.owners == []


async def test_an_error_of_the_patrons_is_the_servers_answer(tmp_path: Path) -> None:
    class Refusing(Oracle):
        async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
            raise FaultError(-32042, "not today", {"until": "Friday"})

    async with with_rich(tmp_path, Refusing()) as session:
        reply = await call(session, "question", method="elicitation/create")
        assert reply["error"] == {"code": -32042, "message": "not today", "data": {"until": "Friday"}}


async def test_a_bug_of_the_patrons_is_an_internal_error_that_tells_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Buggy(Oracle):
        async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
            raise ZeroDivisionError("a secret")

    async with with_rich(tmp_path, Buggy()) as session:
        reply = await call(session, "question", method="roots/list")
        assert reply["error"]["code"] == -32603
        assert "secret" not in str(reply)
        assert "bug while answering roots/list" in caplog.text
        assert await call(session, "ping") == {"id": "q2", "jsonrpc": "2.0", "result": {}}


async def test_a_question_that_the_server_withdraws_ends_the_patrons_work(tmp_path: Path) -> None:
    patron = Oracle()
    async with with_rich(tmp_path, patron) as session:
        asking = asyncio.ensure_future(call(session, "question", method=SAMPLE, id="w"))
        await until(lambda: patron.asks)
        assert await call(session, "withdraw", id="w") == "withdrawn"
        assert await within(asking) == {"withdrawn": True}
        assert patron.cancelled == 1
        # Whatever was written meanwhile would have been read before this.
        assert (await call(session, "heard", method="reply"))["heard"] == [{"method": "reply", "params": {}}]


async def test_a_server_is_told_what_its_patron_can_do(tmp_path: Path) -> None:
    patron = Echo()
    async with in_memory(patron) as (session, line):
        shaking = asyncio.ensure_future(session.handshake())
        await turns()
        (hello,) = line.sent("initialize")
        assert hello["params"]["capabilities"] == {"sampling": {}}
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}}
        line.say({"id": hello["id"], "result": result})
        await within(shaking)


@pytest.mark.parametrize("kind", ["tools", "resources", "prompts"])
async def test_each_changed_list_is_told_by_its_name(tmp_path: Path, kind: str) -> None:
    patron = Echo()
    async with with_rich(tmp_path, patron) as session:
        changed: asyncio.Queue[str] = asyncio.Queue()
        session.on_list_changed = changed.put_nowait
        await call(session, "change", kind=kind, name="rich://new")
        async with asyncio.timeout(30):
            assert await changed.get() == kind
        items = await session.list_all(f"{kind}/list", kind)
        assert "rich://new" in {item["uri" if kind == "resources" else "name"] for item in items}
        assert patron.heard == []


async def test_other_notifications_reach_the_patron_as_they_are(tmp_path: Path) -> None:
    patron = Echo()
    async with with_rich(tmp_path, patron) as session:
        await call(session, "log", levels=["info"])
        await call(session, "touch", uri="rich://note")
        assert patron.heard == [
            ("notifications/message", {"level": "info", "logger": "mine", "data": {"said": "info"}}),
            ("notifications/resources/updated", {"uri": "rich://note"}),
        ]


# --- watching


async def updates(session: ChildSession, patron: Oracle, uri: str) -> bool:
    """Whether an update of a resource is told. The notification stands before the answer on the line."""
    patron.heard.clear()
    await call(session, "touch", uri=uri)
    told = [params["uri"] for method, params in patron.heard if method.endswith("resources/updated")]
    return told == [uri]


async def test_a_handshake_server_is_subscribed_to_by_requests_of_their_own(tmp_path: Path) -> None:
    patron = Echo()
    async with with_rich(tmp_path, patron) as session:
        watch = Watch(session)
        watch.start()
        await watch.add("rich://note")
        assert await call(session, "subscribed") == {"uris": ["rich://note"]}
        with pytest.raises(ChildFaultError, match="no such page"):
            await watch.add("rich://missing")
        await watch.drop("rich://note")
        await watch.drop("rich://missing")
        assert await call(session, "subscribed") == {"uris": []}
        watch.close()


async def test_a_modern_server_is_listened_to_by_one_request_that_is_made_anew(tmp_path: Path) -> None:
    patron = Echo()
    async with with_rich(tmp_path, patron, "modern-only") as session:
        watch = Watch(session)
        changed: list[str] = []
        session.on_list_changed = changed.append
        watch.start()
        await until(lambda: session.in_flight == 1)
        await call(session, "change", kind="prompts", name="new")
        assert changed == ["prompts"]
        assert not await updates(session, patron, "rich://note")
        for uri in ("rich://note", "shared://page"):
            await watch.add(uri)
            await until_subscribed(session, uri)
        assert await updates(session, patron, "rich://note")
        await watch.drop("rich://note")
        await until_subscribed(session, "shared://page", alone=True)
        assert not await updates(session, patron, "rich://note")
        assert await updates(session, patron, "shared://page")
        await call(session, "change", kind="resources", name="rich://new")
        assert changed == ["prompts", "resources"]
        assert session.in_flight == 1
        watch.close()
        await until(lambda: session.in_flight == 0)
        assert await call(session, "subscribed") == {"uris": []}


async def until_subscribed(session: ChildSession, uri: str, *, alone: bool = False) -> None:
    async with asyncio.timeout(30):
        while True:
            uris = (await call(session, "subscribed"))["uris"]
            if uri in uris and (not alone or uris == [uri]):
                return


async def modern(session: ChildSession, **capabilities: Any) -> Watch:
    session.use_version("2026-07-28")
    session.capabilities = capabilities
    return Watch(session)


async def test_a_modern_server_that_ends_a_listen_stream_is_listened_to_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch_module, "LISTEN_AGAIN", 0.0)
    async with in_memory(None) as (session, line):
        watch = await modern(session, tools={"listChanged": True}, prompts={"listChanged": False})
        watch.start()
        for number in range(1, 4):
            await until(lambda number=number: len(line.sent("subscriptions/listen")) == number)  # type: ignore[misc]
            asked = line.sent("subscriptions/listen")[-1]
            assert asked["params"]["notifications"] == {"toolsListChanged": True}
            line.say({"id": asked["id"], "result": {}})
        await until(lambda: session.in_flight == 1)
        watch.close()
        await turns()
        (cancelled,) = line.sent("notifications/cancelled")
        assert cancelled["params"]["requestId"] == line.sent("subscriptions/listen")[-1]["id"]


async def test_a_modern_server_that_refuses_to_be_listened_to_is_left_alone() -> None:
    async with in_memory(None) as (session, line):
        watch = await modern(session, tools={"listChanged": True})
        watch.start()
        await turns()
        (asked,) = line.sent("subscriptions/listen")
        line.say({"id": asked["id"], "error": {"code": -32601, "message": "what?"}})
        await turns()
        assert len(line.sent("subscriptions/listen")) == 1
        await watch.add("x://y")
        await turns()
        asked = line.sent("subscriptions/listen")[-1]
        assert asked["params"]["notifications"]["resourceSubscriptions"] == ["x://y"]
        watch.close()


async def test_a_modern_server_with_nothing_to_tell_is_not_listened_to() -> None:
    async with in_memory(None) as (session, line):
        watch = await modern(session, tools={})
        watch.start()
        await watch.add("x://y")
        await watch.drop("x://y")
        await turns()
        assert line.written == []
        watch.close()


async def test_the_end_of_the_line_ends_the_listening() -> None:
    async with in_memory(None) as (session, line):
        watch = await modern(session, tools={"listChanged": True})
        watch.start()
        await turns()
        line.hang_up()
        assert watch._listening is not None
        await within(watch._listening)


# --- ids, progress and the crossing of everything, on a line that does as it is told


async def test_questions_are_answered_under_the_ids_they_came_with() -> None:
    async with in_memory(Echo()) as (_, line):
        identities = ["7", 7, "", 0, -1, 2**70, "日本", "ts-1"]
        for number, identity in enumerate(identities):
            line.ask(identity, number=number)
        await turns()
        assert [answer["id"] for answer in line.answers] == identities
        assert [answer["result"]["params"]["number"] for answer in line.answers] == list(range(8))


@pytest.mark.parametrize("identity", [None, True, False, 1.5, 1.0, [], ["a"], {}, {"a": 1}])
async def test_a_question_under_no_id_at_all_is_refused(identity: Any) -> None:
    patron = Echo()
    async with in_memory(patron) as (_, line):
        line.ask(identity)
        line.ask(identity, "ping")
        await turns()
        assert [answer["error"]["code"] for answer in line.answers] == [-32600, -32600]
        assert patron.asks == []


@pytest.mark.parametrize("identity", [float("inf"), [float("-inf")]])
async def test_an_id_that_cannot_be_written_is_refused_without_it(identity: Any) -> None:
    async with in_memory(Echo()) as (_, line):
        line.ask(identity)
        line.ask("next")
        await turns()
        assert [answer["id"] for answer in line.answers] == [None, "next"]


@pytest.mark.parametrize("method", [None, 7, [], {}, True])
async def test_a_question_whose_method_is_no_text_is_refused_or_taken_for_an_answer_to_nothing(
    method: Any,
) -> None:
    async with in_memory(Echo()) as (_, line):
        line.say({"id": 1, "method": method})
        line.say({"method": method})
        await turns()
        assert [answer["error"]["code"] for answer in line.answers] == ([] if method is None else [-32600])


async def test_an_id_that_is_in_use_is_refused_and_the_first_question_answered() -> None:
    patron = Oracle()
    async with in_memory(patron) as (_, line):
        line.ask("a")
        line.ask("a")
        line.ask("a", "ping")
        await turns()
        refused, pinged = line.answers
        assert (refused["id"], refused["error"]["code"]) == ("a", -32600)
        assert pinged["result"] == {}
        patron.answers[0].set_result({"first": True})
        await turns()
        assert line.answers[2:] == [{"jsonrpc": "2.0", "id": "a", "result": {"first": True}}]
        assert len(patron.asks) == 1
        line.ask("a")
        await turns()
        patron.answers[1].set_result({"second": True})
        await turns()
        assert line.answers[3]["result"] == {"second": True}


async def test_a_cancelled_question_is_not_answered_and_its_id_is_free_at_once() -> None:
    patron = Oracle()
    async with in_memory(patron) as (_, line):
        cancel = {"method": "notifications/cancelled", "params": {"requestId": 7}}
        line.ask(7, number=1)
        line.say(cancel)  # before its first step
        line.ask(7, number=2)
        line.ask("7", number=3)
        await turns()
        line.say(cancel)  # in the middle
        line.ask(7, number=4)
        await turns()
        assert [ask.params["number"] for ask in patron.asks] == [2, 3, 4]
        assert patron.cancelled == 1
        for answer, ask in zip(patron.answers, patron.asks, strict=True):
            if not answer.done():
                answer.set_result(ask.params)
        await turns()
        line.say(cancel)  # after its end
        assert [(answer["id"], answer["result"]["number"]) for answer in line.answers] == [("7", 3), (7, 4)]


async def test_an_answer_of_a_patron_that_does_not_let_itself_be_cancelled_is_dropped() -> None:
    class Stubborn(Oracle):
        async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
            try:
                return await super().asked(session, ask)
            except asyncio.CancelledError:
                return {"too": "late"}

    patron = Stubborn()
    async with in_memory(patron) as (_, line):
        line.ask(1)
        await turns()
        line.say({"method": "notifications/cancelled", "params": {"requestId": 1}})
        await turns()
        assert patron.cancelled == 1
        assert line.answers == []


async def test_an_answer_without_a_json_form_becomes_an_error() -> None:
    class Odd(Oracle):
        async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
            assert ask.on_progress is not None
            ask.on_progress(float("inf"), None, "dropped")
            return {"text": ask.params["text"]}

    async with in_memory(Odd()) as (_, line):
        for number, odd in enumerate(["\ud800", [-1e999], {"x": 1e999}]):
            line.ask(number, text=odd, _meta={"progressToken": 1})
        await turns()
        assert [(answer["id"], answer["error"]["code"]) for answer in line.answers] == [
            (number, -32603) for number in range(3)
        ]
        assert line.sent("notifications/progress") == []


@pytest.mark.parametrize("token", ["t", 0, 7, "7"])
async def test_progress_of_an_answer_bears_the_servers_own_token(token: Any) -> None:
    class Slow(Oracle):
        async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
            assert ask.on_progress is not None
            ask.on_progress(1, 2, "half")
            ask.on_progress(2.5, None, "")
            return {}

    async with in_memory(Slow()) as (_, line):
        line.ask("a", _meta={"progressToken": token})
        await turns()
        assert [message.get("params") for message in line.written] == [
            {"progressToken": token, "progress": 1, "total": 2, "message": "half"},
            {"progressToken": token, "progress": 2.5},
            None,
        ]


@pytest.mark.parametrize("params", [{}, {"_meta": None}, {"_meta": []}, {"_meta": {"progressToken": None}}])
async def test_who_asks_without_a_token_is_told_no_progress(params: dict[str, Any]) -> None:
    patron = Echo()
    async with in_memory(patron) as (_, line):
        line.ask(1, **params)
        line.say({"id": 2, "method": SAMPLE, "params": ["no", "object"]})
        line.say({"id": 3, "method": SAMPLE})
        await turns()
        assert [ask.on_progress for ask in patron.asks] == [None] * 3
        assert [ask.params for ask in patron.asks] == [params, {}, {}]


async def test_a_question_that_outlives_the_line_is_given_up() -> None:
    patron = Oracle()
    async with in_memory(patron) as (session, line):
        line.ask("open")
        asking = asyncio.ensure_future(session.request("tools/call", {}, owner="ada"))
        await turns()
        written = len(line.written)
        line.hang_up()
        with pytest.raises(ChildGoneError) as gone:
            await within(asking)
        assert gone.value.written
        await turns()
        assert patron.cancelled == 1
        assert len(line.written) == written


async def test_a_question_whose_answer_comes_when_the_line_is_gone_harms_nobody() -> None:
    patron = Oracle()
    async with in_memory(patron) as (session, line):
        line.ask("open")
        await turns()
        patron.answers[0].set_result({})
        line.hang_up()
        await session.closed.wait()
        await turns()
        assert line.answers == []


async def test_without_a_patron_only_a_ping_is_answered() -> None:
    async with in_memory(None) as (_, line):
        line.ask(1, "ping")
        line.ask(2, "roots/list")
        line.say({"method": "notifications/message", "params": {}})
        await turns()
        assert [message.get("result", message.get("error", {}).get("code")) for message in line.written] == [
            {},
            -32601,
        ]


async def test_a_modern_server_may_not_ask() -> None:
    patron = Echo()
    async with in_memory(patron) as (session, line):
        session.use_version("2026-07-28")
        line.ask(1)
        await turns()
        assert line.answers[0]["error"]["code"] == -32601
        assert patron.asks == []


# --- time


def later(seconds: float) -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    due: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, due.set_result, None)
    return due


async def test_a_call_does_not_run_out_of_time_while_somebody_is_asked_in_its_course() -> None:
    patron = Oracle()
    async with in_memory(patron) as (session, line):
        calling = asyncio.ensure_future(session.request("tools/call", {}, timeout=0.1, owner="ada"))
        await turns(1)  # just so long that it is sent: its time runs
        line.ask("who")
        line.ask("what")
        await turns()
        await later(0.3)
        patron.answers[0].set_result({})
        await later(0.2)  # one question is still open
        assert not calling.done()
        patron.answers[1].set_result({})
        await turns(1)  # just so long that the question is over: the time runs again
        assert line.answers
        line.say({"id": line.sent("tools/call")[0]["id"], "result": {"done": True}})
        assert await within(calling) == {"done": True}


@pytest.mark.parametrize("end", ["answered", "refused", "withdrawn"])
async def test_the_time_runs_again_from_when_the_question_is_over(end: str) -> None:
    patron = Oracle()
    async with in_memory(patron) as (session, line):
        calling = asyncio.ensure_future(session.request("tools/call", {}, timeout=0.2, owner="ada"))
        await turns(1)
        line.ask("who")
        await turns()
        await later(0.3)
        began = asyncio.get_running_loop().time()
        match end:
            case "answered":
                patron.answers[0].set_result({})
            case "refused":
                patron.answers[0].set_exception(FaultError(1, "no"))
            case _:
                line.say({"method": "notifications/cancelled", "params": {"requestId": "who"}})
        with pytest.raises(ChildTimeoutError):
            await within(calling)
        assert asyncio.get_running_loop().time() - began > 0.15
        assert len(line.sent("notifications/cancelled")) == 1


async def test_what_is_nobodys_call_runs_out_of_time_all_the_same() -> None:
    patron = Oracle()
    async with in_memory(patron) as (session, line):
        line.ask("who")
        asking = asyncio.ensure_future(session.request("tools/list", {}, timeout=0.05))
        await turns()
        line.ask("what")
        with pytest.raises(ChildTimeoutError):
            await within(asking)


# --- by properties

IDS = st.sampled_from(["a", "7", 7, 0, None, 1.5, [7]])
SAID = st.one_of(
    st.tuples(st.just("ask"), IDS),
    st.tuples(st.just("cancel"), IDS),
    st.tuples(st.just("answer"), st.integers(0, 9)),
    st.tuples(st.just("refuse"), st.integers(0, 9)),
    st.tuples(st.just("turn"), st.just(0)),
    st.tuples(st.just("call"), st.just(0)),
    st.tuples(st.just("end a call"), st.integers(0, 9)),
    st.tuples(st.just("progress"), st.one_of(IDS, st.sampled_from(["ts-1", "ts-2"]))),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SAID, max_size=40))
def test_every_question_is_answered_once_or_cancelled_whatever_crosses_it(
    said: list[tuple[str, Any]],
) -> None:
    async def run() -> None:
        patron = Oracle()
        refused: list[Any] = []
        open_ids: list[Any] = []
        withdrawn = asked = 0
        async with in_memory(patron) as (session, line):
            calls: list[asyncio.Task[Any]] = []
            for what, value in said:
                waiting = [answer for answer in patron.answers if not answer.done()]
                match what:
                    case "ask":
                        asked += 1
                        before = len(line.answers)
                        line.ask(value)
                        refused += line.answers[before:]
                        if len(line.answers) == before:
                            open_ids.append(value)
                    case "cancel":
                        before = session._board.incoming
                        line.say({"method": "notifications/cancelled", "params": {"requestId": value}})
                        withdrawn += before - session._board.incoming
                    case "answer" if waiting:
                        waiting[value % len(waiting)].set_result({})
                    case "refuse" if waiting:
                        waiting[value % len(waiting)].set_exception(FaultError(1, "no"))
                    case "turn":
                        await turns()
                    case "call":
                        calls.append(asyncio.create_task(session.request("m", {}, owner=len(calls))))
                        await turns()
                    case "end a call" if line.sent("m"):
                        sent = line.sent("m")
                        line.say({"id": sent[value % len(sent)]["id"], "result": {}})  # perhaps twice
                    case "progress":
                        params = {"progressToken": value, "progress": 1}
                        line.say({"method": "notifications/progress", "params": params})
            await turns()
            for answer in patron.answers:
                if not answer.done():
                    answer.set_result({})
            await turns()
            for sent_call in line.sent("m"):
                line.say({"id": sent_call["id"], "result": {}})
            for done in calls:
                assert await within(done) == {}
            assert session._board.incoming == 0
            assert len(line.answers) == asked - withdrawn
            assert len(open_ids) + len(refused) == asked
            assert all(answer["error"]["code"] == -32600 for answer in refused)

    asyncio.run(run())
