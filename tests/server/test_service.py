"""ToolScore as a service: told to its manager, with a token that is given, and without losing calls at its end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from helpers import until
from listening import Serving, raw, register, serving
from toolscore.server.given_token import given
from toolscore.server.home import Home
from toolscore.server.private_file import PrivateFileError
from toolscore.server.tokens import Identity, Tokens
from toolscore_client import TOOLSCORE, connected, execute, register_faulty

SERVICE = ("--service", "--no-token")
WITH_TOKEN = ("--service",)
BOTH = ("ws://127.0.0.1:0/mcp", "http://127.0.0.1:0/mcp")
TOKEN = "a-token-that-somebody-has-given"
OTHER = "another-token-that-is-given-later"
MODERN = "2026-07-28"
LONG = 5
"""Seconds of calls that are to be under way together."""

HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": MODERN,
    "Mcp-Method": "tools/call",
    "Mcp-Name": "slow__sleep",
}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
ASKED = {
    "jsonrpc": "2.0",
    "id": "http",
    "method": "tools/call",
    "params": {"name": "slow__sleep", "arguments": {"seconds": LONG}, "_meta": META},
}


class Told:
    """What a service manager is told, as systemd hears it."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def next(self) -> str:
        return self._line.recv(4096).decode()

    def rest(self, quiet: float = 1.5) -> int:
        """How much is still to be heard until it is quiet."""
        self._line.settimeout(quiet)
        heard = 0
        try:
            while self.next():
                heard += 1
        except TimeoutError:
            return heard
        raise AssertionError("the line was closed")

    def until(self, said: str) -> str:
        while said not in (found := self.next()):
            pass
        return found


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(60)
        line.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield Told(line)


def page(one: Serving, path: str, **headers: str) -> httpx2.Response:
    return httpx2.get(one.page(path), headers=headers, trust_env=False, timeout=30)


def in_flight(one: Serving) -> int:
    found = re.search(r"^toolscore_calls_in_flight (\d+)", page(one, "/metrics").text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_the_manager_hears_that_it_is_ready_once_it_is_and_when_it_begins_to_end(
    tmp_path: Path, told: Told
) -> None:
    with serving(tmp_path / "home", options=SERVICE) as one:
        assert one.url in told.until("READY=1")
        assert page(one, "/health/ready").status_code == 200
        one.process.terminate()
        assert "STOPPING=1" in told.next()
        assert one.process.wait(30) == 0


def test_a_watchdog_is_given_signs_of_life_and_none_while_the_process_is_stuck(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with serving(tmp_path / "home", options=SERVICE) as one:
        told.until("READY=1")
        assert [told.next() for _ in range(3)] == ["WATCHDOG=1"] * 3
        one.process.send_signal(signal.SIGSTOP)
        try:
            assert told.rest() < 60  # what was on its way
        finally:
            one.process.send_signal(signal.SIGCONT)


def test_the_programs_of_a_service_are_no_services_of_that_manager(tmp_path: Path, told: Told) -> None:
    with serving(tmp_path / "home", options=("--no-token",)):
        assert told.rest(0.2) == 0  # who did not ask for --service is a child of a service at the most


async def test_calls_in_flight_on_every_listener_are_answered_before_it_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    register(home, "slow")
    with serving(home, *BOTH, options=SERVICE, shared__drain=30) as one:
        http = next(url for url in one.urls if url.startswith("http"))
        async with raw(one.url) as line, httpx2.AsyncClient(trust_env=False, timeout=60) as client:
            await line.call("ws", "slow__sleep", seconds=LONG)
            calling = asyncio.create_task(client.post(http, json=ASKED, headers=HEADERS))
            async with asyncio.timeout(30):
                while await asyncio.to_thread(in_flight, one) < 2:
                    await asyncio.sleep(0.02)
            one.process.terminate()
            answer = await line.receive()
            assert answer["id"] == "ws"
            assert not answer["result"].get("isError"), answer
            answered = await calling
            assert '"result"' in answered.text, answered.text
            assert '"isError":true' not in answered.text, answered.text
        assert await asyncio.to_thread(one.process.wait, 30) == 0


async def test_a_call_that_takes_longer_than_the_drain_holds_up_the_end_no_longer(tmp_path: Path) -> None:
    home = tmp_path / "home"
    register(home, "slow")
    with serving(home, options=SERVICE, shared__drain=0.5) as one:
        async with raw(one.url) as line:
            await line.call("ws", "slow__sleep", seconds=600)
            async with asyncio.timeout(30):
                while await asyncio.to_thread(in_flight, one) < 1:
                    await asyncio.sleep(0.02)
            one.process.terminate()
            assert await asyncio.to_thread(one.process.wait, 60) == 0


def test_a_second_signal_ends_the_drain(tmp_path: Path, told: Told) -> None:
    home = tmp_path / "home"
    register(home, "slow")

    async def calling() -> None:
        async with raw(one.url) as line:
            await line.call("ws", "slow__sleep", seconds=600)
            await until(lambda: in_flight(one) == 1, 30)
            one.process.terminate()
            await asyncio.to_thread(told.until, "STOPPING=1")
            one.process.terminate()
            assert await asyncio.to_thread(one.process.wait, 60) == 0

    with serving(home, options=SERVICE, shared__drain=3600) as one:
        told.until("READY=1")
        asyncio.run(calling())


def test_its_manager_restarts_it_and_toolscore_restart_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serving(home, options=SERVICE) as one:
        done = subprocess.run(
            [TOOLSCORE, "--home", str(home), "restart"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert "service manager" in done.stderr
        assert one.process.poll() is None


def test_a_service_begins_when_whoever_has_its_home_ends(tmp_path: Path, told: Told) -> None:
    home = tmp_path / "home"
    with serving(home, options=("--no-token",)) as other:
        words = [TOOLSCORE, "serve", "--service", "--home", str(home)]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as service:
            try:
                assert service.stderr is not None
                assert "begins when that one ends" in service.stderr.readline()
                other.process.terminate()
                told.until("READY=1")
                service.terminate()
                assert service.wait(60) == 0
            finally:
                service.kill()


# --- a token that is given


def test_a_given_token_lets_in_and_no_other_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLSCORE_TOKEN", TOKEN)
    home = tmp_path / "home"
    with serving(home, options=WITH_TOKEN) as one:
        assert page(one, "/metrics").status_code == 401
        assert page(one, "/metrics", Authorization=f"Bearer {OTHER}").status_code == 401
        assert page(one, "/metrics", Authorization=f"Bearer {TOKEN}").status_code == 200
        assert not (home / "token").exists()
        assert TOKEN not in one.log.read_text()
        # Which every program of the same user could read.
        assert TOKEN.encode() not in Path(f"/proc/{one.process.pid}/environ").read_bytes()
        shown = subprocess.run(
            [TOOLSCORE, "--home", str(home), "token", "show"], check=True, capture_output=True, text=True
        )
        assert shown.stdout.strip() == TOKEN


async def test_no_server_is_given_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"TOOLSCORE_TOKEN": TOKEN, "TOOLSCORE_PROCESS_PASS_ENV": "TOOLSCORE_TOKEN"}
    async with connected(tmp_path / "home", env=environ) as client:
        await register_faulty(client, "faulty")
        answer = await execute(client, "faulty__env")
        assert TOKEN not in str(answer)
        assert "PATH" in str(answer.structured_content)


def test_a_token_in_a_file_may_change_and_the_old_one_is_good_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o440)
    monkeypatch.setenv("TOOLSCORE_TOKEN_FILE", str(file))
    with serving(tmp_path / "home", options=WITH_TOKEN) as one:
        assert page(one, "/metrics", Authorization=f"Bearer {TOKEN}").status_code == 200
        fresh = tmp_path / "fresh"
        fresh.write_text(OTHER)
        fresh.chmod(0o440)
        fresh.replace(file)  # as a volume of secrets changes
        assert page(one, "/metrics", Authorization=f"Bearer {TOKEN}").status_code == 401
        assert page(one, "/metrics", Authorization=f"Bearer {OTHER}").status_code == 200


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [(None, 0o400, "does not exist"), (TOKEN, 0o444, "open to every user"), ("short", 0o400, "20 or more")],
)
def test_a_file_that_gives_no_token_ends_the_start_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, mode: int, said: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    monkeypatch.setenv("TOOLSCORE_TOKEN_FILE", str(file))
    words = [TOOLSCORE, "serve", "--service", "--home", str(tmp_path / "home"), "--listen", BOTH[0]]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_given_token_counts_like_the_generated_one(tmp_path: Path) -> None:
    file = tmp_path / "given"
    file.write_text(TOKEN)
    file.chmod(0o600)
    environ = {"TOOLSCORE_TOKEN_FILE": str(file)}
    tokens = Tokens(Home.at(tmp_path), frozenset({"call"}), given(environ))
    assert tokens.default() == TOKEN
    assert tokens.check(TOKEN) == Identity("token", frozenset({"call"}))
    assert len(tokens.good()) == 1
    file.unlink()
    with pytest.raises(PrivateFileError, match="does not exist"):
        tokens.check(TOKEN)
    assert given({}) is None
    assert given({"TOOLSCORE_TOKEN_FILE": " "}) is None


def test_a_background_toolscore_gets_the_given_token(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = {**os.environ, "TOOLSCORE_TOKEN": TOKEN}
    run = [TOOLSCORE, "--home", str(home)]
    subprocess.run([*run, "start", "--listen", BOTH[1]], check=True, env=environ, timeout=90)
    try:
        listed = subprocess.run([*run, "status", "--json"], check=True, capture_output=True, text=True)
        found = re.search(r"http://127\.0\.0\.1:\d+", listed.stdout)
        assert found is not None, listed.stdout
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx2.get(f"{found[0]}/metrics", headers=headers, trust_env=False, timeout=30)
        assert answer.status_code == 200
    finally:
        subprocess.run([*run, "stop", "--force"], check=True, timeout=90)
