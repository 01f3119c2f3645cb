"""A client's session as its relay keeps it, without any process."""

from __future__ import annotations

import json
from typing import Any

from toolscore.server.relay_frames import read
from toolscore.server.relay_session import Session

Message = dict[str, Any]


def frame(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode() + b"\n"


def sent(session: Session, **message: Any) -> bool:
    whole = frame(**message)
    return session.sent(read(whole), whole)


def came(session: Session, **message: Any) -> bool:
    whole = frame(**message)
    return session.came(read(whole), whole)


def agreed(session: Session, identity: int, method: str, **params: Any) -> None:
    sent(session, id=identity, method=method, params=params)
    assert came(session, id=identity, result={})


def lost(session: Session) -> tuple[list[Message], list[Message]]:
    told, repeated = session.lost()
    return [json.loads(one) for one in told], [json.loads(one) for one in repeated]


def test_what_was_answered_or_cancelled_is_not_answered_again() -> None:
    session = Session()
    for identity in (1, "1", 2):
        sent(session, id=identity, method="tools/call", params={"name": "x"})
    came(session, id=1, result={})
    sent(session, method="notifications/cancelled", params={"requestId": 2})
    told, repeated = lost(session)
    assert [message["id"] for message in told] == ["1"]
    assert repeated == []
    assert lost(session) == ([], [])


def test_a_first_request_that_was_not_answered_is_asked_again() -> None:
    session = Session()
    sent(session, id=0, method="initialize", params={"capabilities": {}})
    told, repeated = lost(session)
    assert told == []
    assert [message["method"] for message in repeated] == ["initialize"]
    assert session.introduction() is None


def test_agreements_are_told_anew_under_ids_of_the_relay() -> None:
    session = Session()
    agreed(session, 1, "initialize", capabilities={"roots": {}})
    sent(session, method="notifications/initialized")
    agreed(session, 2, "logging/setLevel", level="info")
    agreed(session, 3, "logging/setLevel", level="error")
    for identity, uri in ((4, "a:1"), (5, "a:2"), (6, "a:1")):
        agreed(session, identity, "resources/subscribe", uri=uri)
    agreed(session, 7, "resources/unsubscribe", uri="a:2")
    sent(session, id=8, method="resources/subscribe", params={"uri": "a:3"})
    came(session, id=8, error={"code": -1, "message": "no"})
    lost(session)
    introduction = session.introduction()
    assert introduction is not None
    asked = json.loads(introduction)
    assert asked["params"] == {"capabilities": {"roots": {}}}
    messages = [json.loads(one) for one in session.agreements()]
    assert [message["method"] for message in messages] == [
        "notifications/initialized",
        "logging/setLevel",
        "resources/subscribe",
    ]
    assert [message.get("params") for message in messages] == [None, {"level": "error"}, {"uri": "a:1"}]
    for message in (asked, *messages[1:]):
        assert not came(session, id=message["id"], result={})  # not the client's


def test_late_answers_are_dropped_once_and_answers_to_the_present_pass() -> None:
    session = Session()
    came(session, id="q1", method="sampling/createMessage", params={})
    came(session, id="q2", method="elicitation/create", params={})
    assert sent(session, id="q2", result={})
    told, _ = lost(session)
    assert [message["params"]["requestId"] for message in told] == ["q1"]
    came(session, id="q3", method="sampling/createMessage", params={})
    assert not sent(session, id="q1", result={})
    assert sent(session, id="q3", result={})


def test_a_question_that_was_withdrawn_is_not_cancelled_again() -> None:
    session = Session()
    came(session, id="q", method="sampling/createMessage", params={})
    came(session, method="notifications/cancelled", params={"requestId": "q"})
    assert lost(session) == ([], [])


def test_changes_are_told_to_clients_that_said_they_are_initialized_only() -> None:
    session = Session()
    assert session.changes() == []
    agreed(session, 1, "initialize")
    assert session.changes() == []
    sent(session, method="notifications/initialized")
    assert len(session.changes()) == 3


def test_an_acknowledgement_that_never_came_is_passed_on_by_the_next_one_and_a_repeated_one_is_not() -> None:
    session = Session()
    acknowledged = {
        "method": "notifications/subscriptions/acknowledged",
        "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": 1}},
    }
    sent(session, id=1, method="subscriptions/listen", params={})
    for first in (True, False, False):
        _told, repeated = lost(session)
        assert [message["id"] for message in repeated] == [1]
        sent(session, id=1, method="subscriptions/listen", params={})
        assert came(session, **acknowledged) is first


def test_a_request_whose_id_looks_like_the_relays_own_is_answered() -> None:
    session = Session()
    for identity in ("toolscore-relay-1", "toolscore-relay-", "toolscore/drain"):
        sent(session, id=identity, method="tools/call", params={"name": "x"})
        assert came(session, id=identity, result={})


def test_a_first_request_that_was_too_long_to_be_held_gets_an_answer() -> None:
    session = Session()
    session.sent(read(frame(id=1, method="initialize", params={})), b"")
    told, repeated = lost(session)
    assert [message["id"] for message in told] == [1]
    assert repeated == []
