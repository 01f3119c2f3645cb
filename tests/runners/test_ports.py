"""Ports that are lent to servers, and who has those that are taken."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from helpers import faulty, supervising
from ports import free_port
from toolscore.runners.diagnosis import taken_port
from toolscore.runners.errors import StartError
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.port_owner import local_port, owner, stranger, taken
from toolscore.runners.ports import PortRange, is_free, is_taken
from toolscore.runners.spec import ServerSpec

GIVE_UP = RestartPolicy(limit=0)
LISTEN = """
import socket, subprocess, sys
if sys.argv[2:]:
    program = [sys.executable, "-c", sys.argv[2], sys.argv[1]]
    sys.exit(subprocess.run(program, start_new_session=True).returncode)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
sys.stdin.read()
"""


@contextmanager
def listening(port: int, *, by_a_grandchild: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process that listens, or whose child does, in a session of its own."""
    command = [sys.executable, "-c", LISTEN, str(port), *([LISTEN] if by_a_grandchild else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == "listening\n"
            yield process
        finally:
            process.stdin.close()


def test_no_port_is_lent_twice_and_one_that_is_given_back_can_be_lent_again() -> None:
    first = free_port(3)
    ports = PortRange(first, first + 2)
    lent = {name: ports.lend(name) for name in "abc"}
    assert set(lent.values()) == {first, first + 1, first + 2}
    with pytest.raises(StartError, match=f"no port between {first} and {first + 2} is free"):
        ports.lend("d")
    ports.give_back("b")
    assert ports.lend("d") == lent["b"]


def test_a_port_somebody_listens_on_is_passed_over() -> None:
    first = free_port(2)
    with socket.create_server(("127.0.0.1", first)):
        assert not is_free(first)
        assert PortRange(first, first + 1).lend("a") == first + 1
    assert is_free(first)


def test_a_server_that_starts_again_does_not_use_the_range_up() -> None:
    first = free_port(2)
    ports = PortRange(first, first + 1)
    assert len({ports.lend("a") for _ in range(10)}) <= 2


def test_a_port_that_was_just_used_is_taken_last() -> None:
    first = free_port(3)
    ports = PortRange(first, first + 2)
    lent = [ports.lend("a") for _ in range(4)]
    assert len(set(lent[:3])) == 3
    assert lent[3] == lent[0]


def test_giving_back_what_was_never_lent_is_nothing() -> None:
    PortRange(52000, 52001).give_back("nobody")


def test_two_of_one_machine_rarely_begin_at_the_same_port() -> None:
    assert len({PortRange(52000, 59999).lend("a") for _ in range(10)}) > 5


def test_a_range_without_a_port_lends_none() -> None:
    with pytest.raises(StartError):
        PortRange(52001, 52000).lend("a")


# --- taken ones ------------------------------------------------------------------------------------------


def test_a_port_is_taken_on_the_addresses_its_url_may_mean() -> None:
    port = free_port()
    assert not is_taken(port)
    assert taken("localhost", port, {}) is None
    with socket.create_server(("127.0.0.1", port)):
        assert is_taken(port)
        assert taken("127.0.0.1", port, {}) == "this ToolScore itself"
        assert taken("0.0.0.0", port, {}) is not None
    if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            assert taken("127.0.0.1", port, {}) is None
            assert taken("localhost", port, {}) is not None


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://127.0.0.1:8123/mcp", ("127.0.0.1", 8123)),
        ("ws://LOCALHOST:8123", ("localhost", 8123)),
        ("ws://[::1]:8123", ("::1", 8123)),
        ("https://localhost/mcp", ("localhost", 443)),
        ("http://192.0.2.7:8123/mcp", None),
        ("http://example.com:8123/mcp", None),
        ("http://localhost:none/mcp", None),
    ],
)
def test_only_urls_of_this_machine_have_a_port_to_look_at(url: str, place: tuple[str, int] | None) -> None:
    assert local_port(url) == place


def test_who_has_a_port_is_told_by_process_or_by_server() -> None:
    port = free_port()
    with listening(port) as process:
        who = taken("127.0.0.1", port, {})
        assert who is not None
        assert f"process {process.pid}" in who
        assert "`python" in who
        assert f"user {psutil.Process().username()}" in who
        assert taken("127.0.0.1", port, {"web": process.pid}) == "server 'web' of this ToolScore"
    with listening(port, by_a_grandchild=True) as process:
        assert taken("127.0.0.1", port, {"web": process.pid}) == "server 'web' of this ToolScore"


def test_a_port_that_only_connections_which_ended_hold_is_said_to_be_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            served, _ = listener.accept()
            served.close()  # first: the state TIME_WAIT is on this side then
    assert owner("127.0.0.1", port, {}) == "a connection that ended just now"


def test_a_server_answers_itself_also_by_a_process_it_started() -> None:
    port = free_port()
    for by_a_grandchild in (False, True):
        with listening(port, by_a_grandchild=by_a_grandchild) as process:
            assert stranger("localhost", port, process.pid, {"web": process.pid}) is None
            assert stranger("localhost", port, process.pid, {}) is None


def test_somebody_who_was_there_before_a_server_answers_in_its_stead() -> None:
    port = free_port(2)
    with listening(port) as older, listening(port + 1) as server:
        who = stranger("localhost", port, server.pid, {"web": server.pid})
        assert who is not None
        assert f"process {older.pid}" in who
        pids = {"web": server.pid, "db": older.pid}
        assert stranger("localhost", port, server.pid, pids) == "server 'db' of this ToolScore"
        # One that came later may have been asked for by the server, as a container's is by `docker run`.
        assert stranger("localhost", port + 1, older.pid, {}) is None
        assert stranger("localhost", port + 1, older.pid, pids) == "server 'web' of this ToolScore"


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("OSError: [Errno 98] Address already in use", 0),
        (
            "2026-11-21 10:23:45,123 ERROR: [Errno 98] error while attempting to bind on address "
            "('127.0.0.1', 8123): address already in use",
            8123,
        ),
        (
            "Error: listen EADDRINUSE: address already in use :::8123\n    at Server (node:net:1817:16)\n"
            "  code: 'EADDRINUSE',\n  port: 8123\n}",
            8123,
        ),
        ("thread 'main' panicked at src/main.rs:12:5:\nOs { code: 98, kind: AddrInUse }", 0),
        ("2026/11/21 10:20:30 listen tcp :8123: bind: address already in use", 8123),
        ("Web server failed to start. Port 8123 was already in use.", 8123),
        ("java.net.BindException: Address already in use\n\tat sun.nio.ch.Net.bind(Net.java:459)", 0),
        ("it listens on port 8123", None),
    ],
)
def test_what_servers_say_of_a_port_that_is_taken_is_understood(text: str, port: int | None) -> None:
    assert taken_port(text, ServerSpec(command="x")) == port


# --- servers on fixed ports ------------------------------------------------------------------------------


async def test_a_server_whose_port_is_taken_is_not_started_and_told_by_whom(tmp_path: Path) -> None:
    port = free_port()
    async with supervising(tmp_path, policy=GIVE_UP) as supervisor:
        unit = supervisor.add(faulty(f"ws={port}", url=f"ws://127.0.0.1:{port}"))
        with listening(port) as process:
            unit.start()
            assert await unit.settled() is State.FAILED
            assert f"port {port} is taken by" in str(unit.life.reason)
            assert f"process {process.pid}" in str(unit.life.reason)
            assert "${PORT}" in str(unit.life.reason)
        unit.start()
        assert await unit.settled() is State.READY


async def test_two_servers_with_one_port_are_told_of_each_other(tmp_path: Path) -> None:
    port = free_port()
    async with supervising(tmp_path, policy=GIVE_UP) as supervisor:
        units = [
            supervisor.add(faulty(f"ws={port}", name=name, url=f"ws://127.0.0.1:{port}")) for name in "ab"
        ]
        for unit in units:
            unit.start()
        for unit in units:
            await unit.settled()
        up = [unit for unit in units if unit.life.state is State.READY]
        down = [unit for unit in units if unit.life.state is State.FAILED]
        assert len(up) == len(down) == 1
        assert f"server '{up[0].name}' of this ToolScore" in str(down[0].life.reason)


@pytest.mark.parametrize("named", [True, False])
async def test_a_server_that_dies_of_a_taken_port_is_told_whose_it_is(tmp_path: Path, named: bool) -> None:
    port = free_port()
    # The port is no part of the program: since Python 3.13 a traceback shows the lines of what `-c` is given.
    program = "import socket, sys; socket.socket().bind(('127.0.0.1', int(sys.argv[1])))"
    if named:
        program = (
            "import asyncio\n"
            "async def main():\n"
            f"    await asyncio.start_server(print, '127.0.0.1', {port})\n"
            "asyncio.run(main())"
        )
    spec = ServerSpec(command=sys.executable, args=("-c", program, str(port)))
    async with supervising(tmp_path, policy=GIVE_UP) as supervisor:
        unit = supervisor.add(faulty().model_copy(update={"spec": spec}))
        with listening(port) as process:
            unit.start()
            assert await unit.settled() is State.FAILED
        reason = str(unit.life.reason)
    assert "may be no MCP server" not in reason
    if named:
        assert f"Port {port} is taken by" in reason
        assert f"process {process.pid}" in reason
    else:
        assert "The port it listens on is taken by somebody else" in reason
