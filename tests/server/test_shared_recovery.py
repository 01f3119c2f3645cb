"""The shared ToolScore crashes, is stopped, restarted or replaced: what clients notice of it, and what not."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import gone
from sharing import Client, Message, Sharing, owners_of, sharing, until

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")

LISTS = [f"notifications/{kind}/list_changed" for kind in ("tools", "resources", "prompts")]
RECOVERED = LISTS[2]
"""Told by a relay that has a new ToolScore, and by nobody else: lists of tools change by themselves too."""


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Sharing]:
    with sharing(tmp_path) as one:
        yield one


def outcome(answer: Message) -> str | None:
    code: str | None = answer.get("_meta", {}).get("toolscore/outcome")
    return code


def sleeping(client: Client, folder: Path) -> int:
    """Call a tool that does not answer, and wait until it is at work."""
    identity = client.ask("tools/call", name="f__sleep", arguments={"seconds": 60})
    client.call("f__add", a=1, b=1)  # the server answers calls in their order, so the other one was begun
    return identity


# --- crashes


def test_after_a_crash_calls_in_flight_have_an_unknown_outcome_and_all_goes_on(shared: Sharing) -> None:
    clients = [shared.client() for _ in range(3)]
    clients[0].register("f")
    asked = [sleeping(client, shared.folder) for client in clients]
    before = shared.crash()
    for client, identity in zip(clients, asked, strict=True):
        result = client.answer(identity)["result"]
        assert result["isError"]
        assert outcome(result) == "outcome_unknown"
        assert "may or may not" in result["content"][0]["text"]
        assert client.call("f__add", a=2, b=3)["content"][0]["text"] == "5"
        assert {message["method"] for message in client.inbox if "id" not in message} >= set(LISTS)
    assert shared.pid() != before
    assert len(owners_of(shared.home)) == 1


def test_a_crash_is_noticed_and_mended_without_anybody_asking(shared: Sharing) -> None:
    client = shared.client()
    before = shared.crash()
    client.told(RECOVERED)
    assert shared.pid() != before
    assert [entry["name"] for entry in shared.status()["clients"]] == ["sharing"]


def test_other_requests_in_flight_get_an_error_that_says_the_same(shared: Sharing) -> None:
    client = shared.client()
    client.register("f")
    shared.pause()  # so that it does not answer any more
    asked = [client.ask("prompts/list"), client.ask("ping")]
    client.settled()  # what it has not passed on yet would be held for the next one
    shared.crash()
    error = client.answer(asked[0])["error"]
    assert error["data"] == {"toolscore/outcome": "outcome_unknown"}
    assert client.answer(asked[1])["result"] == {}  # what changes nothing for sure is simply asked again


def test_what_a_client_agreed_on_holds_after_a_crash(shared: Sharing) -> None:
    client = shared.client()
    assert "result" in client.request("resources/subscribe", uri="toolscore://events")
    assert "result" in client.request("logging/setLevel", level="warning")
    shared.crash()
    client.told(RECOVERED)
    client.inbox.clear()
    client.register("f")
    assert client.told("notifications/resources/updated")["params"]["uri"] == "toolscore://events"


def test_a_listen_stream_of_a_modern_client_goes_on_after_a_crash(shared: Sharing) -> None:
    client = shared.launch(modern=True)
    stream = client.ask("subscriptions/listen", notifications={"toolsListChanged": True})
    client.told("notifications/subscriptions/acknowledged")
    before = shared.crash()
    shared.succeeded(before)
    client.register("f")
    assert client.told(LISTS[0])["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == stream
    assert [m for m in client.inbox if m.get("method", "").endswith("acknowledged")] == []


def test_a_modern_clients_call_says_in_its_own_way_that_its_outcome_is_unknown(shared: Sharing) -> None:
    client = shared.launch(modern=True)
    client.register("f")
    identity = sleeping(client, shared.folder)
    shared.crash()
    result = client.answer(identity)["result"]
    assert (result["resultType"], outcome(result)) == ("complete", "outcome_unknown")


def test_a_question_of_a_toolscore_that_crashed_is_cancelled_and_a_late_answer_is_nobodys(
    shared: Sharing,
) -> None:
    client = shared.launch()
    client.initialize(elicitation={})
    client.register("f")
    ask = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}}
    first = client.ask("tools/call", name="f__ask", arguments=ask)
    question = client.told("elicitation/create")["id"]
    shared.crash()
    assert client.told("notifications/cancelled")["params"]["requestId"] == question
    assert outcome(client.answer(first)["result"]) == "outcome_unknown"
    second = client.ask("tools/call", name="f__ask", arguments=ask)
    other = client.told("elicitation/create")["id"]
    assert other != question
    client.send(id=question, result={"action": "accept", "content": {"late": True}})
    client.send(id=other, result={"action": "decline"})
    assert "late" not in str(client.answer(second))


def test_one_that_is_killed_while_it_starts_is_started_once_more(shared: Sharing) -> None:
    client = shared.launch()
    identity = client.ask(
        "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "x", "version": "1"}
    )
    until(lambda: owners_of(shared.home))
    os.kill(owners_of(shared.home)[0], signal.SIGKILL)
    assert client.answer(identity)["result"]["serverInfo"]["name"] == "toolscore"


def test_after_crashes_in_a_row_a_relay_gives_up_and_says_so(shared: Sharing) -> None:
    client = shared.client()
    pid = 0
    for _ in range(5):
        shared.succeeded(pid)
        client.request("ping")  # it has taken the client in: one that starts still is killed by another rule
        pid = shared.crash()
    assert client.process.wait(30) == 1
    assert "crashed 5 times" in shared.said()


def test_a_toolscore_that_cannot_come_up_again_is_an_error_to_who_asks(shared: Sharing) -> None:
    client = shared.client()
    client.register("f")
    identity = sleeping(client, shared.folder)
    assert shared.run("stop").returncode == 0
    assert outcome(client.answer(identity)["result"]) == "outcome_unknown"
    (shared.home / "config.toml").write_text("[process]\ntimeot = 1\n")
    answer = client.request("tools/call", name="f__add", arguments={})
    assert outcome(answer["result"]) == "unavailable"
    assert client.process.wait(30) == 3
    assert "timeot" in shared.said()


# --- ends in order


def test_a_stop_lets_calls_finish_and_starts_nothing_until_somebody_asks(shared: Sharing) -> None:
    client = shared.client()
    client.register("f")
    identity = client.ask("tools/call", name="f__sleep", arguments={"seconds": 1})
    client.call("f__add", a=1, b=1)
    assert shared.run("stop").returncode == 0
    assert "isError" not in client.answer(identity)["result"]
    assert shared.owner is None
    assert client.process.poll() is None
    assert client.call("f__add", a=2, b=2)["content"][0]["text"] == "4"
    assert shared.owner is not None


def test_a_restart_keeps_the_sessions_and_the_new_one_stays(shared: Sharing) -> None:
    clients = [shared.client(), shared.client()]
    clients[0].register("f")
    before = shared.pid()
    stop = threading.Event()
    answers: list[Message] = []

    def calling() -> None:
        while not stop.is_set():
            answers.append(clients[1].call("f__add", a=1, b=1))

    thread = threading.Thread(target=calling)
    thread.start()
    done = shared.run("restart")
    stop.set()
    thread.join(60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"stopped: process {before}, mode shared"
    assert answers
    assert [answer for answer in answers if answer.get("isError")] == []
    assert clients[0].call("f__add", a=1, b=1)["content"][0]["text"] == "2"
    owner = shared.owner
    assert owner is not None
    assert (owner.mode, owner.pid != before) == ("background", True)
    until(lambda: len(shared.status()["clients"]) == 2)


def test_a_client_that_leaves_while_nothing_runs_leaves_in_peace(shared: Sharing) -> None:
    client = shared.client()
    assert shared.run("stop").returncode == 0
    assert client.close() == 0
    assert shared.owner is None


# --- upgrades


def test_a_newer_relay_replaces_an_older_toolscore_without_a_call_lost(shared: Sharing) -> None:
    old = shared.client(TOOLSCORE_TEST_VERSION="1.0")
    old.register("f")
    assert shared.status()["owner"]["version"] == "1.0"
    before = shared.pid()
    identity = old.ask("tools/call", name="f__sleep", arguments={"seconds": 1})
    old.call("f__add", a=1, b=1)
    new = shared.client(TOOLSCORE_TEST_VERSION="2.0")
    assert "isError" not in old.answer(identity)["result"]
    owner = shared.owner
    assert owner is not None
    assert (owner.version, owner.mode, owner.pid != before) == ("2.0", "shared", True)
    for client in (old, new):
        assert client.call("f__add", a=1, b=1)["content"][0]["text"] == "2"
    assert shared.pid() == owner.pid
    until(lambda: gone(before))  # it gave the home up before it ended


def test_an_older_relay_joins_a_newer_toolscore(shared: Sharing) -> None:
    shared.client(TOOLSCORE_TEST_VERSION="2.0")
    pid = shared.pid()
    old = shared.client(TOOLSCORE_TEST_VERSION="1.0")
    assert old.call("list_servers")["structuredContent"]["servers"] == []
    assert shared.pid() == pid


def test_one_that_was_started_by_hand_is_replaced_by_one_that_is_started_alike(shared: Sharing) -> None:
    assert (
        shared.run("start", "--listen", "ws://127.0.0.1:0/mcp", TOOLSCORE_TEST_VERSION="1.0").returncode == 0
    )
    before = shared.pid()
    shared.client(TOOLSCORE_TEST_VERSION="2.0")
    owner = shared.owner
    assert owner is not None
    assert (owner.version, owner.mode, owner.pid != before) == ("2.0", "background", True)
    assert owner.listening[0].startswith("ws://127.0.0.1:")


def test_one_that_belongs_to_a_client_is_not_replaced(shared: Sharing) -> None:
    alone = shared.launch("--standalone", TOOLSCORE_TEST_VERSION="1.0")
    alone.initialize()
    pid = shared.pid()
    new = shared.client(TOOLSCORE_TEST_VERSION="2.0")
    assert new.call("list_servers")["structuredContent"]["servers"] == []
    assert shared.pid() == pid
    assert alone.process.poll() is None


# --- large messages


def test_large_messages_pass_and_a_client_that_does_not_read_keeps_nobody_else_waiting(
    shared: Sharing,
) -> None:
    client, other = shared.client(), shared.client()
    client.register("f")
    text = "é" * (6 << 20)
    result = client.call("f__echo", text=text)
    assert result["structuredContent"]["arguments"]["text"] == text
    for _ in range(4):  # more than all the pipes between them hold
        client.ask("tools/call", name="f__big", arguments={"bytes": 4 << 20})
    stdout = client.process.stdout
    assert stdout is not None
    assert select.select([stdout], [], [], 60)[0]  # they begin to come
    began = time.monotonic()
    for _ in range(20):
        assert other.call("list_servers")["structuredContent"]["servers"]
    assert time.monotonic() - began < 20
    assert client.process.poll() is None
