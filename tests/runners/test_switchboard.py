"""The table of one line, by properties: whatever crosses whatever, each request leaves it once, as itself."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from toolscore.runners.base import Message
from toolscore.runners.switchboard import Incoming, Outgoing, Switchboard

STEPS = settings(max_examples=120, stateful_step_count=60, deadline=None)
PICK = st.integers(min_value=0, max_value=10_000)
SIDE = st.sampled_from([0, 1])

IDS: list[str | int] = ["7", 7, "", 0, "0", -1, "ts-1", "ts-2", 1, "1", 2**70, "日本"]
"""Ids a peer may choose: some are alike but for their type, some are those this side chooses."""

NO_IDS: list[Any] = [None, True, False, 7.0, 1.5, [], ["7"], {}, {"id": 7}]
ODD = st.sampled_from([*NO_IDS, *IDS, "ts-0", "ts-99", "unknown"])
PARAMS: st.SearchStrategy[Any] = st.one_of(st.none(), st.lists(st.integers()), st.just("text"), st.just({}))


def request(identity: Any, **params: Any) -> Message:
    return {"jsonrpc": "2.0", "id": identity, "method": "m", "params": params}


def answer(identity: Any, **result: Any) -> Message:
    return {"jsonrpc": "2.0", "id": identity, "result": result}


def cancellation(identity: Any) -> Message:
    return {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": identity},
    }


def progress(token: Any) -> Message:
    return {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": token},
    }


@dataclass(eq=False)
class Asked:
    """What one side knows of a request it made."""

    number: int
    outcomes: list[str] = field(default_factory=list)
    steps: int = 0
    entry: Outgoing[Asked] | None = None


@dataclass(eq=False)
class Work:
    """What one side knows of a request it serves; it may be at it still when nobody waits any more."""

    entry: Incoming
    number: int
    withdrawn: bool = False


class Side:
    """One end of a line: a board, what is on its way to it, and the truth it is compared with."""

    def __init__(self) -> None:
        self.board: Switchboard[Asked] = Switchboard()
        self.inbox: deque[Message] = deque()
        self.other: Side
        self.asked: list[Asked] = []
        self.at_work: list[Work] = []

    @property
    def waiting(self) -> list[Asked]:
        return [asked for asked in self.asked if not asked.outcomes]

    def ask(self) -> None:
        asked = Asked(len(self.asked))
        identity = self.board.next_id()
        asked.entry = self.board.send(identity, "m", asked, owner=asked.number)
        self.asked.append(asked)
        self.other.inbox.append(request(identity, number=asked.number))

    def withdraw(self, asked: Asked) -> None:
        assert asked.entry is not None
        open_still = not asked.outcomes
        assert self.board.withdraw(asked.entry.id) is open_still
        if open_still:
            asked.outcomes.append("withdrawn")
            self.other.inbox.append(cancellation(asked.entry.id))

    def finish(self, work: Work, times: int) -> None:
        """Write an answer, as often as a bad peer may."""
        self.at_work.remove(work)
        assert self.board.finished(work.entry) is not work.withdrawn
        assert not self.board.finished(work.entry)
        if not work.withdrawn:
            self.other.inbox.extend([answer(work.entry.id, number=work.number)] * times)

    def take(self) -> None:
        message = self.inbox.popleft()
        params: Any = message.get("params")
        match message.get("method"):
            case None:
                entry = self.board.answered(message)
                if entry is not None:
                    asked = entry.waiter
                    assert message["result"].get("number") == asked.number
                    assert entry is asked.entry
                    asked.outcomes.append("answered")
            case "notifications/progress":
                if (entry := self.board.progressed(params)) is not None:
                    assert not entry.waiter.outcomes
                    entry.waiter.steps += 1
            case "notifications/cancelled":
                if (cancelled := self.board.cancelled(params)) is not None:
                    assert not cancelled.work.withdrawn
                    cancelled.work.withdrawn = True
            case _:
                admitted = self.board.admit(message)
                assert admitted is not None, "ids chosen by a board are never used twice"
                admitted.work = Work(admitted, params["number"])
                self.at_work.append(admitted.work)

    def close(self) -> None:
        outgoing, incoming = self.board.close()
        assert [entry.waiter for entry in outgoing] == self.waiting
        for entry in outgoing:
            entry.waiter.outcomes.append("closed")
        assert [entry.work for entry in incoming] == [work for work in self.at_work if not work.withdrawn]
        for served in incoming:
            served.work.withdrawn = True

    def check(self) -> None:
        assert [entry.waiter for entry in self.board.outgoing] == self.waiting
        assert [entry.owner for entry in self.board.outgoing] == [asked.number for asked in self.waiting]
        assert self.board.incoming == len([work for work in self.at_work if not work.withdrawn])
        assert all(len(asked.outcomes) <= 1 for asked in self.asked)


def pick(choices: list[Any], number: int) -> Any:
    return choices[number % len(choices)]


class TwoBoards(RuleBasedStateMachine):
    """Two boards face to face over two queues that deliver in order."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = [Side(), Side()]
        self.sides[0].other, self.sides[1].other = self.sides[1], self.sides[0]
        self.closed = False

    @precondition(lambda self: not self.closed)
    @rule(side=SIDE)
    def ask(self, side: int) -> None:
        self.sides[side].ask()

    @rule(side=SIDE, number=PICK, times=st.sampled_from([1, 1, 1, 2, 3]))
    def finish(self, side: int, number: int, times: int) -> None:
        if work := self.sides[side].at_work:
            self.sides[side].finish(pick(work, number), times)

    @rule(side=SIDE, number=PICK)
    def withdraw(self, side: int, number: int) -> None:
        """Also what was answered or withdrawn before."""
        if asked := self.sides[side].asked:
            self.sides[side].withdraw(pick(asked, number))

    @rule(side=SIDE, number=PICK)
    def progress(self, side: int, number: int) -> None:
        if work := self.sides[side].at_work:
            self.sides[side].other.inbox.append(progress(pick(work, number).entry.id))

    @precondition(lambda self: not self.closed)
    @rule(side=SIDE, count=st.integers(min_value=1, max_value=4))
    def deliver(self, side: int, count: int) -> None:
        for _ in range(min(count, len(self.sides[side].inbox))):
            self.sides[side].take()

    @rule(side=SIDE, identity=st.sampled_from([*NO_IDS, 7, 0, -1, 2**70, "7", "", "ts-0", "unknown"]))
    def disturb(self, side: int, identity: Any) -> None:
        """Answers, progress and cancellations of what never was."""
        self.sides[side].inbox.extend([answer(identity), progress(identity), cancellation(identity)])

    @rule(side=SIDE, params=PARAMS)
    def disturb_with_params(self, side: int, params: Any) -> None:
        for method in ("notifications/progress", "notifications/cancelled"):
            self.sides[side].inbox.append({"jsonrpc": "2.0", "method": method, "params": params})

    @precondition(lambda self: not self.closed)
    @rule()
    def close(self) -> None:
        self.closed = True
        for side in self.sides:
            side.close()
            side.inbox.clear()

    @invariant()
    def the_tables_hold_what_is_open(self) -> None:
        for side in self.sides:
            side.check()

    def teardown(self) -> None:
        while any(side.inbox or side.at_work for side in self.sides):
            for side in self.sides:
                while side.inbox and not self.closed:
                    side.take()
                side.inbox.clear()
                for work in list(side.at_work):
                    side.finish(work, 1)
        for side in self.sides:
            side.check()
            assert not side.board.outgoing
            assert not side.board.incoming
            assert all(len(asked.outcomes) == 1 for asked in side.asked)
            assert side.board.close() == ([], [])


class ForeignPeer(RuleBasedStateMachine):
    """A board whose other side chooses ids as it likes, and uses them again."""

    def __init__(self) -> None:
        super().__init__()
        self.board: Switchboard[None] = Switchboard()
        self.open: dict[tuple[type, Any], Incoming] = {}
        self.over: list[Incoming] = []

    @rule(identity=st.sampled_from(IDS))
    def ask(self, identity: str | int) -> None:
        key = (type(identity), identity)
        entry = self.board.admit(request(identity))
        assert (entry is None) is (key in self.open)
        if entry is not None:
            assert (entry.id, type(entry.id)) == (identity, type(identity))
            self.open[key] = entry

    @rule(identity=ODD)
    def cancel(self, identity: Any) -> None:
        expected = (
            self.open.pop((type(identity), identity), None) if isinstance(identity, str | int) else None
        )
        assert self.board.cancelled({"requestId": identity}) is expected
        if expected is not None:
            self.over.append(expected)

    @rule(params=PARAMS)
    def cancel_nothing(self, params: Any) -> None:
        assert self.board.cancelled(params) is None

    @precondition(lambda self: self.open)
    @rule(number=PICK)
    def finish(self, number: int) -> None:
        key = pick(list(self.open), number)
        entry = self.open.pop(key)
        assert self.board.finished(entry)
        self.over.append(entry)

    @precondition(lambda self: self.over)
    @rule(number=PICK)
    def finish_late(self, number: int) -> None:
        """What was cancelled, answered or closed before is not answered, though its id may be in use anew."""
        assert not self.board.finished(pick(self.over, number))

    @rule()
    def close(self) -> None:
        outgoing, incoming = self.board.close()
        assert (outgoing, incoming) == ([], list(self.open.values()))
        self.over += incoming
        self.open.clear()

    @invariant()
    def the_table_holds_what_is_open(self) -> None:
        assert self.board.incoming == len(self.open)

    def teardown(self) -> None:
        for entry in self.open.values():
            assert self.board.finished(entry)
        assert self.board.incoming == 0


@dataclass(eq=False)
class Call:
    """A request of a client or a server on its way through the relay and back."""

    secret: int
    identity: str | int
    cancelled: bool = False
    replies: list[int] = field(default_factory=list)


class Party:
    """A peer at one end of the relay that speaks JSON-RPC by itself, with ids of its own choice."""

    def __init__(self) -> None:
        self.to_relay: deque[Message] = deque()
        self.inbox: deque[Message] = deque()
        self.calls: list[Call] = []
        self.serving: dict[str, int] = {}
        """Requests of the relay's it has not answered: the secret of each."""
        self.was_cancelled: set[str] = set()

    @property
    def pending(self) -> list[Call]:
        return [call for call in self.calls if not call.cancelled and not call.replies]

    def ask(self, secret: int, identity: str | int) -> bool:
        if any(_key(call.identity) == _key(identity) for call in self.pending):
            return False
        self.calls.append(Call(secret, identity))
        self.to_relay.append(request(identity, secret=secret))
        return True

    def cancel(self, call: Call) -> None:
        call.cancelled = True
        self.to_relay.append(cancellation(call.identity))

    def take(self) -> None:
        message = self.inbox.popleft()
        identity = message.get("id")
        if message.get("method") == "m":
            assert identity not in self.serving, "an id of the relay's came twice"
            assert isinstance(identity, str)
            self.serving[identity] = message["params"]["secret"]
        elif "method" in message:
            identity = message["params"]["requestId"]
            self.was_cancelled.add(identity)
        else:
            for call in self.calls:
                # Which one of those under the same id an answer is for cannot be seen: its secret tells the truth.
                if _key(call.identity) == _key(identity) and call.secret == message["result"]["secret"]:
                    call.replies.append(call.secret)
                    return
            raise AssertionError(f"nobody asked what {message} answers")

    def answer(self, identity: str, times: int = 1) -> None:
        """Answer, perhaps although it was cancelled."""
        self.to_relay.extend([answer(identity, secret=self.serving.pop(identity))] * times)


def _key(identity: Any) -> tuple[type, Any]:
    return type(identity), identity


class Line:
    """The relay's end of a line: its board, and which request is open under which id."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self.board: Switchboard[tuple[Line, Incoming]] = Switchboard()
        self.other: Line
        self.open: dict[tuple[type, Any], int] = {}
        self.gone = False

    def write(self, message: Message) -> None:
        if not self.gone:
            self.party.inbox.append(message)

    def reply(self, entry: Incoming, secret: int) -> None:
        """Answer a request of the party; what is written under an id is about what is open under it now."""
        if self.board.finished(entry):
            expected = self.open.pop(_key(entry.id))
            assert secret in (expected, LOST)
            self.write(answer(entry.id, secret=expected))

    def withdraw(self, identity: str) -> None:
        if self.board.withdraw(identity):
            self.write(cancellation(identity))

    def take(self) -> None:
        message = self.party.to_relay.popleft()
        identity = message.get("id")
        if message.get("method") == "m":
            entry = self.board.admit(message)
            if entry is None:
                assert _key(identity) in self.open
                return
            secret = self.open[_key(identity)] = message["params"]["secret"]
            if self.other.gone:
                self.reply(entry, LOST)
                return
            passed = entry.work = self.other.board.next_id()
            self.other.board.send(passed, "m", (self, entry))
            self.other.write(request(passed, secret=secret))
        elif "method" in message:
            if (cancelled := self.board.cancelled(message["params"])) is not None:
                del self.open[_key(cancelled.id)]
                self.other.withdraw(cancelled.work)
        elif (answered := self.board.answered(message)) is not None:
            line, entry = answered.waiter
            line.reply(entry, message["result"]["secret"])

    def close(self) -> None:
        outgoing, incoming = self.board.close()
        self.gone = True
        self.open.clear()
        for sent in outgoing:
            line, entry = sent.waiter
            line.reply(entry, LOST)
        for entry in incoming:
            self.other.withdraw(entry.work)


LOST = -1
"""The secret in the answer to what got lost with a line."""


class Relay(RuleBasedStateMachine):
    """A client and a server with the gateway between them: both ask, both answer, both cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.parties = [Party(), Party()]
        self.lines = [Line(party) for party in self.parties]
        self.lines[0].other, self.lines[1].other = self.lines[1], self.lines[0]
        self.secrets = 0

    @rule(side=SIDE, identity=st.sampled_from(IDS))
    def ask(self, side: int, identity: str | int) -> None:
        if self.parties[side].ask(self.secrets, identity):
            self.secrets += 1

    @rule(side=SIDE, number=PICK, times=st.sampled_from([1, 1, 2]))
    def answer(self, side: int, number: int, times: int) -> None:
        party = self.parties[side]
        if party.serving:
            party.answer(pick(list(party.serving), number), times)

    @rule(side=SIDE, number=PICK)
    def cancel(self, side: int, number: int) -> None:
        if pending := self.parties[side].pending:
            self.parties[side].cancel(pick(pending, number))

    @rule(side=SIDE, number=PICK)
    def cancel_and_ask_anew(self, side: int, number: int) -> None:
        party = self.parties[side]
        if pending := party.pending:
            call = pick(pending, number)
            party.cancel(call)
            assert party.ask(self.secrets, call.identity)
            self.secrets += 1

    @rule(side=SIDE, count=st.integers(min_value=1, max_value=4))
    def relay(self, side: int, count: int) -> None:
        for _ in range(min(count, len(self.parties[side].to_relay))):
            if not self.lines[side].gone:
                self.lines[side].take()

    @rule(side=SIDE, count=st.integers(min_value=1, max_value=4))
    def receive(self, side: int, count: int) -> None:
        for _ in range(min(count, len(self.parties[side].inbox))):
            self.parties[side].take()

    @precondition(lambda self: len(self.secrets_seen()) > 3)
    @rule(side=SIDE)
    def hang_up(self, side: int) -> None:
        if not self.lines[side].gone:
            self.lines[side].close()

    def secrets_seen(self) -> list[int]:
        return [call.secret for party in self.parties for call in party.calls]

    @invariant()
    def every_entry_has_its_counterpart(self) -> None:
        for line in self.lines:
            assert line.board.incoming == len(line.open) == len(line.other.board.outgoing)

    @invariant()
    def nothing_is_answered_twice(self) -> None:
        assert all(len(call.replies) <= 1 for party in self.parties for call in party.calls)

    def teardown(self) -> None:
        while any(
            (party.to_relay and not line.gone) or party.inbox or party.serving
            for party, line in zip(self.parties, self.lines, strict=True)
        ):
            for party, line in zip(self.parties, self.lines, strict=True):
                while party.to_relay and not line.gone:
                    line.take()
                while party.inbox:
                    party.take()
                for identity in list(party.serving):
                    party.answer(identity)
        for party, line in zip(self.parties, self.lines, strict=True):
            assert not line.board.outgoing
            assert not line.board.incoming
            assert not line.open
            if not line.gone:
                unanswered = [call for call in party.calls if not call.cancelled and not call.replies]
                assert not unanswered


TestTwoBoards = TwoBoards.TestCase
TestTwoBoards.settings = STEPS
TestForeignPeer = ForeignPeer.TestCase
TestForeignPeer.settings = STEPS
TestRelay = Relay.TestCase
TestRelay.settings = STEPS


def test_a_text_and_a_number_that_look_alike_are_two_requests() -> None:
    board: Switchboard[None] = Switchboard()
    text, number = board.admit(request("7")), board.admit(request(7))
    assert text is not None
    assert number is not None
    assert board.admit(request(7)) is None
    assert board.cancelled({"requestId": "7"}) is text
    assert not board.finished(text)
    assert board.finished(number)
    assert board.incoming == 0


@pytest.mark.parametrize("identity", [1, 1.0, True, None, [], {}])
def test_an_answer_under_an_id_that_was_never_sent_is_to_nothing(identity: Any) -> None:
    board: Switchboard[None] = Switchboard()
    sent = board.send(board.next_id(), "m", None)
    assert board.answered(answer(identity)) is None
    assert board.progressed({"progressToken": identity}) is None
    assert board.cancelled({"requestId": identity}) is None
    assert board.outgoing == [sent]


def test_a_true_that_equals_one_cancels_nothing() -> None:
    board: Switchboard[None] = Switchboard()
    entry = board.admit(request(1))
    assert board.cancelled({"requestId": True}) is None
    assert board.cancelled({"requestId": 1.0}) is None
    assert board.cancelled({"requestId": 1}) is entry


@given(st.lists(st.sampled_from(["send", "answer", "withdraw"]), max_size=60))
def test_ids_are_never_used_twice(actions: list[str]) -> None:
    board: Switchboard[None] = Switchboard()
    seen: list[str] = []
    for action in actions:
        if action == "send":
            seen.append(board.send(board.next_id(), "m", None).id)
        elif seen and action == "answer":
            board.answered(answer(seen[-1]))
        elif seen:
            board.withdraw(seen[0])
    assert len(set(seen)) == len(seen)
    assert not any(identity.isdigit() for identity in seen)
