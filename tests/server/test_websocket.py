"""The WebSocket listener: real sockets, real servers behind, every limit met, nobody left hanging."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from certificate import self_signed
from helpers import until
from listening import Serving, raw, register, resident, serving
from toolscore_client import TOOLSCORE


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One ToolScore for the tests that leave it as it was."""
    home = tmp_path_factory.mktemp("websocket") / "home"
    register(home, "f")
    with serving(home, network__max_message=2) as started:
        yield started


def fetched(url: str, **headers: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def closed(line: Any) -> tuple[int | None, str | None]:
    """The code and reason with which the other side closes."""
    async with asyncio.timeout(20):
        await line.wait_closed()
    return line.close_code, line.close_reason


async def test_the_subprotocol_is_echoed_and_not_required(one: Serving) -> None:
    async with raw(one.url) as client:
        assert client.line.subprotocol == "mcp"
    async with raw(one.url, subprotocols=None) as client:
        assert client.line.subprotocol is None
        assert "tools" in (await client.request("tools/list"))["result"]


async def test_binary_and_fragmented_frames_are_messages_too(one: Serving) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with raw(one.url) as client:
        await client.line.send(json.dumps(ping).encode())
        assert (await client.receive())["id"] == 1
        text = json.dumps(ping | {"id": "é"}, ensure_ascii=False)
        await client.line.send([text[:5], text[5:9], text[9:]])
        assert (await client.receive())["id"] == "é"


@pytest.mark.parametrize(
    ("frame", "code", "identity"),
    [
        ("nonsense", -32700, None),
        ("", -32700, None),
        ("[]", -32600, None),
        ('[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
        ('{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}', -32700, None),
        ('{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
        ('{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600, None),
        ('{"jsonrpc":"1.0","id":5,"method":"ping"}', -32600, 5),
        ('{"jsonrpc":"2.0","id":6,"method":"no/such"}', -32601, 6),
        ('{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":7}}', -32602, 7),
        ('{"jsonrpc":"2.0","id":8,"method":"resources/read","params":{"uri":"none://x"}}', -32002, 8),
    ],
)
async def test_what_is_wrong_is_answered_and_the_line_goes_on(
    one: Serving, frame: str, code: int, identity: Any
) -> None:
    async with raw(one.url) as client:
        await client.line.send(frame)
        answer = await client.receive()
        assert (answer["error"]["code"], answer["id"]) == (code, identity)
        assert (await client.request("ping"))["result"] == {}


async def test_an_id_in_use_is_refused_and_answers_to_nothing_are_ignored(one: Serving) -> None:
    async with raw(one.url) as client:
        await client.call("same", "f__sleep", seconds=3)
        await client.call("same", "f__echo")
        refused, answered = await client.receive(), await client.receive()
        assert (refused["error"]["code"], answered["id"]) == (-32600, "same")
        assert "result" in answered
        for stray in (
            {"id": "ts-1", "result": {}},
            {"id": 99, "error": {"code": 1, "message": "x"}},
            {"method": "notifications/cancelled", "params": {"requestId": "gone"}},
            {"method": "notifications/progress", "params": {"progressToken": "gone", "progress": 1}},
            {"method": "notifications/cancelled", "params": {"requestId": ["odd"]}},
        ):
            await client.send({"jsonrpc": "2.0", **stray})
        assert (await client.request("ping"))["result"] == {}


async def test_a_message_over_the_limit_closes_with_its_code(one: Serving) -> None:
    async with raw(one.url) as client:
        echoed = await client.request(
            "tools/call", name="f__echo", arguments={"text": "x" * (2 * 1024 * 1024 - 300)}
        )
        assert len(json.dumps(echoed)) > 2_000_000
        await client.line.send("x" * (2 * 1024 * 1024 + 1))
        code, _reason = await closed(client.line)
        assert code == 1009


async def test_a_frame_that_claims_100_mib_is_refused_before_it_is_read(one: Serving) -> None:
    before = resident(one.process.pid)
    async with raw(one.url) as client:
        sock = client.line.transport.get_extra_info("socket")
        client.line.transport.write(
            bytes([0x82, 0xFF]) + (100 << 20).to_bytes(8, "big") + b"mask" + b"x" * 65536
        )
        assert sock is not None
        code, _reason = await closed(client.line)
        assert code == 1009
    assert resident(one.process.pid) - before < 20 << 20


async def test_a_client_that_vanishes_has_its_calls_cancelled(one: Serving) -> None:
    async with raw(one.url) as client:
        await client.call("long", "f__sleep", seconds=600)
        await client.request("ping")
        client.line.transport.abort()
    async with raw(one.url) as client:
        async with asyncio.timeout(10):
            while True:
                answer = await client.request("tools/call", name="f__cancelled", arguments={})
                if answer["result"]["structuredContent"]["ids"]:
                    break


def test_the_pages_are_beside_it(one: Serving) -> None:
    for path in ("/", "/health", "/health/live", "/health/liveness", "/health/ready", "/health/readiness"):
        status, body = fetched(one.page(path))
        assert (status, type(json.loads(body))) == (200, dict), path
    detailed = json.loads(fetched(one.page("/health/detailed"))[1])
    assert {"kind": "server", "name": "f"}.items() <= detailed["components"][-1].items()
    status, metrics = fetched(one.page("/metrics"))
    assert status == 200
    assert "toolscore_calls_total" in metrics
    assert fetched(one.page("/nothing"))[0] == 404
    status, body = fetched(one.page("/mcp"))
    assert (status, "WebSocket" in body) == (426, True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_other_hosts_and_origins_are_turned_away(one: Serving, headers: dict[str, str], status: int) -> None:
    for path in ("/mcp", "/health", "/metrics"):
        assert fetched(one.page(path), **headers)[0] == status


async def test_a_browsers_page_from_here_may_connect(one: Serving) -> None:
    origin = one.page("").rstrip("/")
    async with raw(one.url, additional_headers={"Origin": origin}) as client:
        assert (await client.request("ping"))["result"] == {}


async def test_a_token_is_needed_unless_said_otherwise(tmp_path: Path) -> None:
    with serving(tmp_path / "home", options=()) as started:
        token = started.token
        assert token in started.log.read_text()  # once, when it was made
        assert (tmp_path / "home" / "token").stat().st_mode & 0o777 == 0o600
        for url in (started.url, f"{started.url}?token=wrong", f"{started.url}?token={token}x"):
            with pytest.raises(InvalidStatus) as raised:
                async with raw(url):
                    pass
            assert raised.value.response.status_code == 401
        async with raw(f"{started.url}?token={token}") as client:
            answer = await client.request(
                "tools/call", name="register_tool", arguments={"name": "x", "command": "true"}
            )
            assert answer["result"]["_meta"]["toolscore/outcome"] == "needs_approval"
        async with raw(started.url, additional_headers={"Authorization": f"Bearer {token}"}) as client:
            assert (await client.request("ping"))["result"] == {}
        assert fetched(started.page("/health/ready"))[0] == 200
        assert fetched(started.page("/health/detailed"))[0] == 401
        assert fetched(started.page("/metrics"))[0] == 401
        assert fetched(started.page("/metrics"), Authorization=f"Bearer {token}")[0] == 200
        assert started.log.read_text().count(token) == 1


async def test_over_the_number_of_clients_the_reason_is_told(tmp_path: Path) -> None:
    with serving(tmp_path / "home", network__max_connections=2) as started:
        async with raw(started.url), raw(started.url):
            async with raw(started.url, handshake=False) as third:
                code, reason = await closed(third.line)
            assert (code, "network.max_connections" in (reason or "")) == (1013, True)


async def test_an_idle_client_is_closed_with_the_reason_and_a_busy_one_is_not(tmp_path: Path) -> None:
    register(tmp_path / "home", "f")
    with serving(tmp_path / "home", network__idle_timeout=3) as started:
        async with raw(started.url) as busy:
            await busy.call("long", "f__sleep", seconds=7)
            async with raw(started.url) as idle:
                code, reason = await closed(idle.line)
            assert (code, "network.idle_timeout" in (reason or "")) == (1008, True)
            assert (await busy.receive())["id"] == "long"


async def test_a_half_open_connection_is_noticed(tmp_path: Path) -> None:
    register(tmp_path / "home", "f")
    with serving(tmp_path / "home", network__ping_interval=0.2, network__ping_timeout=3) as started:
        async with raw(started.url, close_timeout=0.1) as client:
            await client.call("long", "f__sleep", seconds=600)
            await client.request("ping")
            # From here on it is as if the cable were cut: nothing is read, so no ping is answered.
            client.line.transport.pause_reading()
            metrics = started.page("/health/detailed")
            await until(lambda: '"clients": 0' in fetched(metrics)[1], within=30)


async def test_a_client_that_does_not_read_is_closed_and_is_no_reason_to_grow(tmp_path: Path) -> None:
    register(tmp_path / "home", "f")
    with serving(tmp_path / "home", network__slow_timeout=1) as started:
        async with raw(started.url) as other:
            before = resident(started.process.pid)
            async with asyncio.timeout(20), raw(started.url) as slow:
                await slow.request("ping")
                slow.line.transport.pause_reading()
                with contextlib.suppress(ConnectionClosed):
                    for number in itertools.count():
                        await slow.call(number, "f__echo", text="x" * 1_000_000)
                        assert resident(started.process.pid) - before < 128 << 20
            page = started.page("/health/detailed")
            await until(lambda: '"clients": 1' in fetched(page)[1])
            assert (await other.request("ping"))["result"] == {}


async def test_it_says_goodbye_when_it_ends(tmp_path: Path) -> None:
    with serving(tmp_path / "home") as started:
        async with raw(started.url) as client:
            started.process.terminate()
            code, _reason = await closed(client.line)
            assert code == 1001
        assert await asyncio.to_thread(started.process.wait, 10) == 0


async def test_several_listeners_serve_at_once(tmp_path: Path) -> None:
    path = tmp_path / "own.sock"
    with serving(
        tmp_path / "home", "ws://127.0.0.1:0/mcp", "ws://localhost:0/other", f"unix:{path}"
    ) as started:
        assert len(started.urls) == 3
        for url in started.urls[:2]:
            async with raw(url) as client:
                assert (await client.request("ping"))["result"] == {}
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        async with asyncio.timeout(5):
            assert json.loads(await reader.readline())["id"] == 1
        writer.close()
    assert not path.exists()


async def test_tls_by_certificate_files(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    trust = ssl.create_default_context(cafile=str(certificate))
    with serving(
        tmp_path / "home", "wss://127.0.0.1:0/mcp", network__tls_cert=certificate, network__tls_key=key
    ) as started:
        async with raw(started.url, ssl=trust) as client:
            assert (await client.request("ping"))["result"] == {}
        with pytest.raises((ssl.SSLError, OSError, ConnectionClosed)):
            async with connect(started.url, proxy=None, ssl=ssl.create_default_context()):
                pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--listen", "ws://0.0.0.0:0/mcp", "--no-token"], "--no-token would let anybody in"),
        (["--listen", "wss://127.0.0.1:0/mcp"], "network.tls_cert"),
        (["--listen", "wss://127.0.0.1:0/mcp", "--set", "network.tls_cert=/none.pem"], "/none.pem"),
        (["--listen", "unix:/nonexistent-folder/x.sock"], "/nonexistent-folder/x.sock"),
    ],
)
def test_a_listener_that_cannot_be_is_an_error_that_says_what_to_do(
    tmp_path: Path, options: list[str], words: str
) -> None:
    done = subprocess.run(
        [TOOLSCORE, "serve", "--standalone", "--home", str(tmp_path / "home"), *options],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )
    assert (done.returncode, words in done.stderr) == (3, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"ws://127.0.0.1:{taken.getsockname()[1]}/mcp"
        done = subprocess.run(
            [TOOLSCORE, "serve", "--standalone", "--home", str(tmp_path / "home"), "--listen", address],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=30,
        )
    assert (done.returncode, "cannot be listened on" in done.stderr) == (3, True), done.stderr
    assert urlsplit(address).netloc in done.stderr
