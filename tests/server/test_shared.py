"""Many clients, one ToolScore: what is shared, what is each client's own, and what outlives whom."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from helpers import gone
from sharing import Client, Sharing, owners_of, sharing, until
from toolscore_client import FAULTY, TOOLSCORE

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Sharing]:
    with sharing(tmp_path) as one:
        yield one


def removed(folder: Path) -> bool:
    """Remove a folder; tell whether that is done, as whoever lives there may put something into it meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def faulty_pid(client: Client) -> str:
    text: str = client.call("f__pid")["content"][0]["text"]
    return text


# --- one for all


def test_clients_that_start_at_once_share_one_toolscore_and_its_servers(shared: Sharing) -> None:
    clients = [shared.launch() for _ in range(5)]
    threads = [threading.Thread(target=client.initialize) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(owners_of(shared.home)) == 1
    clients[0].register("f")
    assert len({faulty_pid(client) for client in clients}) == 1


def test_it_is_nobodys_child_and_has_nothing_of_the_client_that_started_it(shared: Sharing) -> None:
    client = shared.client(SOME_TOKEN="secret", LC_ALL="C.UTF-8", UV_CACHE_DIR="/tmp/x")
    process = psutil.Process(shared.pid())
    assert client.process.pid not in [parent.pid for parent in process.parents()]
    assert os.getsid(process.pid) != os.getsid(client.process.pid)
    environment = process.environ()
    assert "SOME_TOKEN" not in environment
    assert environment["UV_CACHE_DIR"] == "/tmp/x"
    assert environment["LC_ALL"] == "C.UTF-8"
    if sys.platform == "linux":
        streams = {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)}
        assert streams == {"/dev/null", str(shared.home / "logs" / "toolscore.err")}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_has_no_descriptor_and_no_blocked_signal_of_the_client_that_started_it(shared: Sharing) -> None:
    reading, writing = os.pipe()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.set_inheritable(writing, True)
    try:
        client = Client(
            subprocess.Popen(
                [TOOLSCORE, "serve", "--home", str(shared.home)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=shared.environment(),
                close_fds=False,
            )
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(writing)
    with client.process, open(reading, "rb") as end:
        client.initialize()
        pid = shared.pid()
        assert client.close() == 0
        assert select.select([end], [], [], 10)[0], "somebody still holds the client's pipe"
        assert end.read() == b""
    status = Path(f"/proc/{pid}/status").read_text()
    assert "SigBlk:\t0000000000000000" in status


def test_one_whose_home_was_removed_leaves_the_next_one_of_that_name_alone(tmp_path: Path) -> None:
    with sharing(tmp_path) as shared:
        one = shared.client()
        before = shared.pid()
        until(lambda: removed(shared.home))
        other = shared.client()
        assert shared.pid() != before
        os.kill(before, signal.SIGTERM)
        until(lambda: gone(before))
        assert shared.client().call("list_servers")["structuredContent"]["servers"] == []
        for client in (one, other):  # the first one moves in as well
            assert client.call("list_servers")["structuredContent"]["servers"] == []


def test_it_outlives_the_client_that_started_it_and_ends_after_the_last(tmp_path: Path) -> None:
    with sharing(tmp_path, "[shared]\nlinger = 0.3\n") as shared:
        first = shared.client()
        second = shared.client()
        pid = shared.pid()
        assert first.close() == 0
        assert second.call("list_servers")["structuredContent"]["servers"] == []
        assert second.close() == 0
        until(lambda: gone(pid))
        until(lambda: shared.owner is None)


def test_a_command_counts_as_a_client(tmp_path: Path) -> None:
    with sharing(tmp_path, "[shared]\nlinger = 0.2\ndrain = 0\n") as shared:
        client = shared.client()
        client.register("f")
        words = [TOOLSCORE, "call", "f__sleep", '{"seconds": 2}', "--home", str(shared.home)]
        with subprocess.Popen(words, env=shared.environment(), stdout=subprocess.PIPE, text=True) as command:
            until(lambda: len(client.call("f__cancelled")["structuredContent"]["begun"]) > 1)
            assert client.close() == 0
            said, _ = command.communicate(timeout=60)
        assert (command.returncode, said) == (0, "slept\n")


def test_it_waits_for_its_first_client_also_where_it_does_not_stay_after_the_last(tmp_path: Path) -> None:
    with sharing(tmp_path, "[shared]\nlinger = 0\n") as shared:
        client = shared.client()
        pid = shared.pid()
        assert not client.register("f").get("isError")
        assert shared.pid() == pid
        assert client.close() == 0
        until(lambda: gone(pid))


def test_one_that_was_started_by_hand_is_joined_and_stays(tmp_path: Path) -> None:
    with sharing(tmp_path, "[shared]\nlinger = 0\n") as shared:
        assert shared.run("start").returncode == 0
        pid = shared.pid()
        assert shared.client().close() == 0
        assert shared.pid() == pid
        assert shared.run("start").stdout.startswith(f"already running: process {pid}")


def test_status_tells_mode_and_clients(shared: Sharing) -> None:
    one, other = shared.client(cwd=shared.folder), shared.client()
    status = shared.status()
    assert status["owner"]["mode"] == "shared"
    assert [client["name"] for client in status["clients"]] == ["sharing", "sharing"]
    assert str(shared.folder) in [client["cwd"] for client in status["clients"]]
    assert f"client: sharing, over unix, from {shared.folder}" in shared.run("status").stdout
    for client in (one, other):
        assert client.close() == 0
    until(lambda: shared.status()["clients"] == [])


def test_settings_of_a_launch_are_said_to_have_no_effect_and_have_none(shared: Sharing) -> None:
    client = shared.client("--set", "tools.page_size=1", TOOLSCORE_LOG_LEVEL="debug")
    assert "--set tools.page_size, TOOLSCORE_LOG_LEVEL has no effect" in shared.said()
    client.register("f")
    assert len(client.call("list_tools", server="f")["structuredContent"]["tools"]) > 1


def test_settings_that_are_wrong_are_said_with_status_3(shared: Sharing) -> None:
    (shared.home / "config.toml").write_text("[process]\ntimeot = 1\n")
    client = shared.launch()
    assert client.process.wait(30) == 3
    assert "timeot" in shared.said()
    wrong = shared.launch("--set", "tools.expose=server:x,all")
    assert wrong.process.wait(30) == 3
    assert "tools.expose" in shared.said(2)


def test_a_store_that_cannot_be_used_is_explained(shared: Sharing) -> None:
    (shared.home / "toolscore.db").mkdir()
    client = shared.launch()
    identity = client.ask("initialize")
    answer = client.answer(identity)
    assert "not available" in answer["error"]["message"]
    assert client.process.wait(30) == 1
    assert "ended at once" in shared.said()


# --- each client's own


def test_each_client_is_shown_what_it_asked_for(shared: Sharing) -> None:
    plain = shared.client()
    plain.register("f")
    every = shared.client("--expose", "all")
    alone = shared.client(TOOLSCORE_TOOLS_EXPOSE="server:f")
    assert "list_tools" in plain.names()
    assert "f__add" not in plain.names()
    assert {"list_tools", "f__add"} <= set(every.names())
    assert "add" in alone.names()
    assert "list_tools" not in alone.names()
    assert alone.call("add", a=1, b=2)["content"][0]["text"] == "3"
    assert plain.call("add")["_meta"]["toolscore/outcome"] == "unknown_tool"


def test_a_client_that_is_shown_one_server_hears_of_changes_of_that_one_only(shared: Sharing) -> None:
    plain = shared.client()
    plain.register("f")
    plain.told("notifications/tools/list_changed")  # or it would come to those who join now
    alone = shared.client("--expose", "server:f")
    listening = shared.launch("--expose", "server:f", modern=True)
    listening.ask("subscriptions/listen", notifications={"toolsListChanged": True})
    listening.told("notifications/subscriptions/acknowledged")
    for one in (alone, plain, listening):
        one.inbox.clear()
    plain.register("g")
    plain.told("notifications/tools/list_changed")
    for one in (alone, listening):
        one.names()
        assert [message for message in one.inbox if "list_changed" in message.get("method", "")] == []
    plain.call("f__change_tools", name="brand_new")
    for one in (alone, listening):
        one.told("notifications/tools/list_changed")


def test_servers_are_told_each_clients_own_roots(shared: Sharing) -> None:
    one = shared.client("--set", "process.roots=/srv/one")
    other = shared.client(TOOLSCORE_PROCESS_ROOTS="/srv/other,/srv/more")
    bare = shared.client()
    one.register("f")
    for client, wanted in ((one, ["/srv/one"]), (other, ["/srv/other", "/srv/more"]), (bare, [])):
        asked = client.call("f__ask", method="roots/list")["structuredContent"]
        assert [root["uri"] for root in asked["result"]["roots"]] == [f"file://{path}" for path in wanted]


def test_relative_folders_are_those_of_the_client_that_names_them(shared: Sharing) -> None:
    place = shared.folder / "project"
    place.mkdir()
    (place / "start.sh").write_text(f"#!/bin/sh\nexec {sys.executable} {FAULTY}\n")
    (place / "start.sh").chmod(0o755)
    client = shared.client(cwd=place)
    added = client.call("register_tool", name="f", command="./start.sh")
    assert not added.get("isError"), added
    missing = client.call("install_server", source="./nothing")
    assert str(place / "nothing") in missing["content"][0]["text"]


def test_a_variable_is_lent_by_a_client_that_has_it_and_kept_nowhere(shared: Sharing) -> None:
    poor = shared.client()
    refused = poor.register("f", env={"PLACE": "${SOME_PLACE}"})
    assert "SOME_PLACE" in refused["content"][0]["text"]
    rich = shared.client(SOME_PLACE="lent-value-123", ANOTHER="not-asked-for-456")
    added = rich.register("f", env={"PLACE": "${SOME_PLACE}"})
    assert not added.get("isError"), added
    assert poor.call("f__env")["structuredContent"]["PLACE"] == "lent-value-123"
    assert rich.close() == 0
    # The server comes up again also when nobody is there any more who could lend it.
    assert not poor.call("manage_server", name="f", action="restart").get("isError")
    assert poor.call("f__env")["structuredContent"]["PLACE"] == "lent-value-123"
    for path in shared.home.rglob("*"):
        with suppress(FileNotFoundError):  # what was written beside a file, to take its place, has taken it
            assert not path.is_file() or b"lent-value" not in path.read_bytes(), path
    assert "ANOTHER" not in psutil.Process(shared.pid()).environ()


def test_a_server_that_failed_for_a_variable_is_started_when_a_client_has_it(shared: Sharing) -> None:
    rich = shared.client(SOME_KEY="lent")
    rich.register("f", env={"KEY": "${SOME_KEY}"})
    assert rich.close() == 0
    assert shared.run("stop").returncode == 0
    poor = shared.client()
    until(lambda: poor.call("list_servers")["structuredContent"]["servers"][0]["state"] == "FAILED")
    rich = shared.client(SOME_KEY="lent")
    until(lambda: poor.call("list_servers")["structuredContent"]["servers"][0]["state"] == "READY")
    assert poor.call("f__env")["structuredContent"]["KEY"] == "lent"


def test_what_is_between_relay_and_toolscore_is_not_for_clients(shared: Sharing) -> None:
    client = shared.client()
    for method in ("toolscore/drain", "toolscore/clients", "toolscore/environment"):
        assert "not for clients" in client.request(method)["error"]["message"]
    client.send(method="notifications/toolscore/hello", params={"version": "9", "cwd": "/", "names": []})
    assert client.call("list_servers")["structuredContent"]["servers"] == []


def test_a_signal_ends_a_relay_and_not_the_toolscore(shared: Sharing) -> None:
    one, other = shared.client(), shared.client()
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(10) == 0
    assert other.call("list_servers")["structuredContent"]["servers"] == []
