"""Gateways as processes on one real PostgreSQL, and what stands in front of them: a plain TCP balancer, and nginx."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from ports import free_port
from streams import pass_on, serving_streams
from toolscore.client import websocket
from toolscore_client import BARE, FAULTY, TOOLSCORE, WORDS_ONLY, Mode

Message = dict[str, Any]
RICH = str(Path(__file__).with_name("rich_server.py"))
PATIENCE = 120
"""Seconds for what takes less than two, on a machine that has other things to do."""

ACCEPT = {"Accept": "application/json, text/event-stream"}
INFO = {"name": "raw", "version": "1"}
MODERN = "2026-07-28"


NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Gateway:
    """A gateway that serves."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], home: Path, log: Path) -> None:
        self.name = name
        self.process = process
        self.home = home
        self.log = log
        self.http = self.ws = ""

    def serves(self) -> None:
        """Wait until it does."""
        deadline = time.monotonic() + PATIENCE
        while " serves " not in (text := self.said()):
            assert self.process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.02)  # nothing signals it
        self.http, self.ws = re.findall(r"listening on (\S+)", text)

    def kill(self) -> None:
        """End it as a crash would, with all its children."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.wait(PATIENCE)

    def drain(self) -> None:
        """Have it end in order."""
        self.process.send_signal(signal.SIGTERM)

    def port(self, scheme: str) -> int:
        """The port it listens on."""
        return int((self.http if scheme == "http" else self.ws).split(":")[2].split("/")[0])

    def said(self) -> str:
        """What it logged."""
        return self.log.read_text(errors="replace")


def environment(url: str, **more: str) -> dict[str, str]:
    """Give the environment of a gateway."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return {**kept, **BARE, **WORDS_ONLY, "TOOLSCORE_DATABASE_URL": url, **more}


def command(url: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command for a home, which must succeed."""
    done = subprocess.run(
        [TOOLSCORE, "--home", str(home), *words],
        env=environment(url),
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done


@contextmanager
def gateway(
    folder: Path, url: str, name: str, *words: str, ready: bool = True, **settings: Any
) -> Iterator[Gateway]:
    """Run a gateway; it ends with the block.

    Args:
        folder: Where its home is to be.
        url: The database.
        name: Its name.
        *words: Further options.
        ready: Whether to wait until it serves.
        **settings: What is set, with two underscores for a point.
    """
    home = folder / name / "home"
    home.parent.mkdir(parents=True, exist_ok=True)
    log = home.parent / "serve.log"
    line = [TOOLSCORE, "serve", "--standalone", "--home", str(home), *words]
    settings = {"gateway__name": name, "tools__expose": "own,*__*", **settings}
    for address in ("http://127.0.0.1:0/mcp", "ws://127.0.0.1:0/mcp"):
        line += ["--listen", address]
    for key, value in settings.items():
        line += ["--set", f"{key.replace('__', '.')}={value}"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            line,
            env=environment(url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    one = Gateway(name, process, home, log)
    try:
        if ready:
            one.serves()
        yield one
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()


@contextmanager
def gateways(folder: Path, url: str, *names: str) -> Iterator[tuple[list[Gateway], str]]:
    """Run several that start at the same time; give them and a token, and have some servers registered.

    Those are `f` (faulty), `leased` (the same, by lease) and `r` (rich).
    """
    with ExitStack() as stack:
        started = [stack.enter_context(gateway(folder, url, name, ready=False)) for name in names]
        for one in started:
            one.serves()
        done = command(url, started[0].home, "token", "create", "all", "--allow", "call,manage,register")
        token = done.stdout.split()[0]
        for name, file in (("f", FAULTY), ("leased", FAULTY), ("r", RICH)):
            told = {"name": name, "command": sys.executable, "args": ["-S", file]}
            own(started[0], token, "register_tool", **told)
        own(started[0], token, "configure_server", name="leased", settings={"isolation": "per-lease"})
        yield started, token


def own(one: Gateway, token: str, tool: str, **arguments: Any) -> None:
    """Call one of a gateway's own tools, which must succeed."""
    client = Raw(wire(), modern=True)
    params = client.with_envelope({"name": tool, "arguments": arguments})
    answer = httpx2.post(
        one.http,
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        headers={**client.headers_of("tools/call", params), "Authorization": f"Bearer {token}"},
        timeout=PATIENCE,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    said = answer_of(answer.text)
    assert not said["result"].get("isError"), said


class Balancer:
    """A plain TCP balancer: each connection goes to the next gateway that takes it."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.port = 0
        self._turn = itertools.count()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _try in self.ports:
            with suppress(OSError):
                await pass_on(reader, writer, self.ports[next(self._turn) % len(self.ports)])
                return
        writer.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Balancer]:
        """Listen meanwhile."""
        async with serving_streams(self._serve) as self.port:
            yield self


@contextmanager
def nginx(folder: Path, ports: list[int]) -> Iterator[int]:
    """Run nginx in front of gateways, as docs/balancer.md has it; give its port."""
    assert NGINX is not None
    port = free_port()
    folder.mkdir()
    servers = "\n".join(f"server 127.0.0.1:{one} max_fails=1 fail_timeout=1s;" for one in ports)
    (folder / "nginx.conf").write_text(
        f"""
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream gateways {{ {servers} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://gateways;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 1h;
      proxy_next_upstream error timeout;
    }}
  }}
}}
"""
    )
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def wire(token: str | None = None, **options: Any) -> httpx2.AsyncClient:
    """Give an HTTP client; without connections that are kept, each request is one of its own for the balancer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx2.AsyncClient(trust_env=False, timeout=PATIENCE, headers=headers, **options)


@asynccontextmanager
async def over_http(
    url: str, mode: Mode, token: str | None = None, *, kept: bool = True, **options: Any
) -> AsyncIterator[Client]:
    """Connect a client of the SDK; `kept` tells whether it uses a connection again."""
    limits = httpx2.Limits(max_keepalive_connections=None if kept else 0)
    async with (
        wire(token, limits=limits) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, cache=None, **options) as client,
    ):
        yield client


@asynccontextmanager
async def over_websocket(
    url: str, mode: Mode, token: str | None = None, **options: Any
) -> AsyncIterator[Client]:
    """Connect one over WebSocket."""
    async with Client(websocket(url, token=token), mode=mode, cache=None, **options) as client:
        yield client


class Raw:
    """A client over Streamable HTTP that says itself which gateway each request goes to.

    Args:
        http: Its connections.
        modern: Whether it speaks the modern era, in which there are no sessions.
        capabilities: What it says that it can be asked for.
    """

    def __init__(self, http: httpx2.AsyncClient, *, modern: bool = False, **capabilities: Any) -> None:
        self.http = http
        self.headers = dict(ACCEPT)
        self.modern = modern
        self.capabilities = capabilities
        self._numbers = itertools.count(1)

    async def post(self, url: str, method: str, *, told: bool = False, **params: Any) -> httpx2.Response:
        """Send a request, or a notification where `told`."""
        message: Message = {"jsonrpc": "2.0", "method": method, "params": params}
        if not told:
            message["id"] = next(self._numbers)
        message["params"] = params = self.with_envelope(params)
        return await self.http.post(url, json=message, headers=self.headers_of(method, params))

    def with_envelope(self, params: Message) -> Message:
        """Give parameters with what each request of the modern era carries."""
        if not self.modern:
            return params
        envelope = "io.modelcontextprotocol/"
        meta = {
            f"{envelope}protocolVersion": MODERN,
            f"{envelope}clientCapabilities": self.capabilities,
            **params.get("_meta", {}),
        }
        return {**params, "_meta": meta}

    def headers_of(self, method: str, params: Message) -> dict[str, str]:
        """Give the headers of a request."""
        if not self.modern:
            return dict(self.headers)
        headers = {**self.headers, "MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        named = params.get("name") or params.get("uri")
        return headers | ({"Mcp-Name": named} if named else {})

    async def begin(self, url: str) -> None:
        """Begin a session."""
        answer = await self.post(
            url,
            "initialize",
            protocolVersion="2025-11-25",
            capabilities=self.capabilities,
            clientInfo=INFO,
        )
        assert answer.status_code == 200, answer.text
        self.headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
        self.headers["Mcp-Protocol-Version"] = "2025-11-25"
        assert (await self.post(url, "notifications/initialized", told=True)).status_code == 202

    async def call(self, url: str, tool: str, **arguments: Any) -> Message:
        """Call a tool, and give the message that answers."""
        return await self.ask(url, "tools/call", name=tool, arguments=arguments)

    async def ask(self, url: str, method: str, **params: Any) -> Message:
        """Send a request, and give the message that answers."""
        answer = await self.post(url, method, **params)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer_of(answer.text)


def answer_of(text: str) -> Message:
    """Give the answer in a stream of events, or in a body of JSON."""
    import json

    if text.lstrip().startswith("{"):
        found: Message = json.loads(text)
        return found
    messages = [
        json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:") and line[5:].strip()
    ]
    answer: Message = next(one for one in messages if "result" in one or "error" in one)
    return answer


def text_of(answer: Message) -> str:
    """Join the text of a tool's result."""
    return "\n".join(block["text"] for block in answer["result"]["content"])
