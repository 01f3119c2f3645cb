"""A registry of MCP servers on loopback, with the API v0.1, that can be told to misbehave."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

OFFICIAL = "io.modelcontextprotocol.registry/official"

Fault = Callable[["Handler"], None]


def item(name: str = "io.example/weather", version: str = "1.0.0", **fields: Any) -> dict[str, Any]:
    """An item of a reply; fields `status`, `latest` and `updated` are the registry's own."""
    official = {
        "status": fields.pop("status", "active"),
        "publishedAt": fields.pop("published", "2025-11-01T10:00:00Z"),
        "updatedAt": fields.pop("updated", "2025-11-01T10:00:00Z"),
        "isLatest": fields.pop("latest", True),
    }
    meta = fields.pop("meta", {})
    server = {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": name,
        "description": f"What {name} does",
        "version": version,
        "packages": [
            {
                "registryType": "pypi",
                "identifier": name.rpartition("/")[2],
                "version": version,
                "transport": {"type": "stdio"},
            }
        ],
    }
    return {"server": {**server, **fields}, "_meta": {OFFICIAL: official, **meta}}


def items(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [item(f"io.example/server-{number:05}", **fields) for number in range(count)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def do_GET(self) -> None:
        registry = self.registry
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        with registry.lock:
            registry.requests.append((parts.path, query, dict(self.headers)))
            number = len(registry.requests)
        fault = registry.faults.get(number) or registry.fault
        if fault is not None:
            fault(self)
            return
        if registry.token is not None and self.headers.get("Authorization") != f"Bearer {registry.token}":
            self.answer(401, {"error": "no token"})
            return
        if parts.path in registry.paths:
            self.answer(200, registry.page(query))
            return
        base, _, version = parts.path.rpartition("/versions/")
        folder, _, name = base.rpartition("/")
        found = registry.one(unquote(name), unquote(version)) if folder in registry.paths else None
        if found is None:
            self.answer(404, {"error": "not found"})
        else:
            self.answer(200, found)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(timestamp or time.time() + self.registry.ahead)

    def answer(self, status: int, document: Any, **headers: str) -> None:
        self.body(status, json.dumps(document).encode(), **{"Content-Type": "application/json", **headers})

    def body(self, status: int, body: bytes, **headers: str) -> None:
        if self.registry.zipped and status == 200:
            body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Registry:
    """What it lists, how it answers, and what it was asked."""

    def __init__(self, listed: list[dict[str, Any]]) -> None:
        self.items = listed
        self.page_size = 100
        self.token: str | None = None
        self.paths = ["/v0.1/servers"]
        self.snake = False
        self.zipped = False
        self.ahead = 0.0
        """Seconds its clock is ahead of that of this machine."""
        self.fault: Fault | None = None
        self.faults: dict[int, Fault] = {}
        """By the number of the request, from 1."""
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.url = ""

    def page(self, query: dict[str, str]) -> dict[str, Any]:
        found = self.items
        if since := query.get("updated_since"):
            moment = datetime.fromisoformat(since)
            found = [
                one for one in found if datetime.fromisoformat(one["_meta"][OFFICIAL]["updatedAt"]) >= moment
            ]
        else:
            found = [
                one for one in found if one.get("_meta", {}).get(OFFICIAL, {}).get("status") != "deleted"
            ]
        if query.get("version") == "latest":
            found = [one for one in found if one.get("_meta", {}).get(OFFICIAL, {}).get("isLatest", True)]
        at = int(query.get("cursor", "at:0").removeprefix("at:"))
        end = at + min(int(query["limit"]), self.page_size)
        cursor = "next_cursor" if self.snake else "nextCursor"
        metadata = {"count": len(found[at:end])} | ({cursor: f"at:{end}"} if end < len(found) else {})
        return {"servers": found[at:end], "metadata": metadata}

    def one(self, name: str, version: str) -> dict[str, Any] | None:
        for found in self.items:
            server, official = found["server"], found["_meta"][OFFICIAL]
            wanted = official["isLatest"] if version == "latest" else server["version"] == version
            if wanted and server["name"] == name and official["status"] != "deleted":
                return found
        return None

    def withdraw(self, at: int, newest: int | None = None) -> None:
        """Withdraw a version, as the official registry does: of what is the newest then, no change is told."""
        self.items[at]["_meta"][OFFICIAL].update(status="deleted", isLatest=False, updatedAt=recently())
        if newest is not None:
            self.items[newest]["_meta"][OFFICIAL]["isLatest"] = True

    @property
    def cursors(self) -> list[str | None]:
        return [query.get("cursor") for _path, query, _headers in self.requests]


def recently(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).isoformat().replace("+00:00", "Z")


# --- faults ----------------------------------------------------------------------------------------------


def gone(handler: Handler) -> None:
    """Hang up without an answer."""
    handler.close_connection = True
    handler.connection.close()


def busy(handler: Handler) -> None:
    handler.answer(503, {"error": "busy"})


def garbage(handler: Handler) -> None:
    handler.body(200, b"<!doctype html><p>hello", **{"Content-Type": "text/html"})


def half(handler: Handler) -> None:
    handler.body(200, b'{"servers": [{"server": {"name": "io.exa', **{"Content-Type": "application/json"})


def dripping(handler: Handler) -> None:
    """Send a byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    try:
        while not handler.registry.over.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()
    except OSError:
        pass


def endless(handler: Handler) -> None:
    """Say that a gigabyte is coming, and send it for as long as somebody reads."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(1 << 30))
    handler.end_headers()
    try:
        for _number in range(1 << 10):
            handler.wfile.write(b" " * (1 << 20))
    except OSError:
        handler.close_connection = True


def bomb(handler: Handler) -> None:
    """Send little that unpacks to much."""
    handler.body(200, _bomb(), **{"Content-Type": "application/json", "Content-Encoding": "gzip"})


@cache
def _bomb() -> bytes:
    return gzip.compress(b" " * (16 << 20), 1)


def redirecting(where: str) -> Fault:
    def redirect(handler: Handler) -> None:
        handler.body(302, b"", Location=where)

    return redirect


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what is tested."""


@contextmanager
def serving(listed: list[dict[str, Any]] | None = None) -> Iterator[Registry]:
    registry = Registry(listed if listed is not None else [])
    handler = type("OwnHandler", (Handler,), {"registry": registry})
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    registry.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.over.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def registry() -> Iterator[Registry]:
    """One that serves nothing until a test says so."""
    with serving() as registry:
        yield registry
