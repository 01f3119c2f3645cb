"""Addresses to serve on: what they mean, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolscore.server.endpoint import EndpointError, canonical_host, parse_endpoint
from toolscore.server.folders import SOCKET_PATH_LIMIT
from toolscore.server.pages import PATHS


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "path"),
    [
        ("ws://127.0.0.1:8765/mcp", "ws", "127.0.0.1", 8765, "/mcp"),
        ("ws://127.0.0.1", "ws", "127.0.0.1", 8765, "/mcp"),
        ("wss://tools.example", "wss", "tools.example", 8765, "/mcp"),
        ("http://localhost", "http", "localhost", 8000, "/mcp"),
        ("https://0.0.0.0:443/a/b-c", "https", "0.0.0.0", 443, "/a/b-c"),
        ("ws://[::1]:0", "ws", "::1", 0, "/mcp"),
        ("http://[0:0::1]:9/x/", "http", "::1", 9, "/x"),
        ("ws://[::ffff:127.0.0.1]:1", "ws", "127.0.0.1", 1, "/mcp"),
        (" WS://LocalHost:1/MCP ", "ws", "localhost", 1, "/MCP"),
        ("ws://h/healthy", "ws", "h", 8765, "/healthy"),
        ("unix:/run/x.sock", "unix", "", 0, "/run/x.sock"),
        ("unix:///run/../x.sock", "unix", "", 0, "/x.sock"),
    ],
)
def test_an_address_is_read(text: str, scheme: str, host: str, port: int, path: str) -> None:
    found = parse_endpoint(text)
    assert (found.scheme, found.host, found.port, found.path) == (scheme, host, port, path)
    assert found.text == text.strip()
    assert parse_endpoint(found.url()).url() == found.url()


def test_a_tilde_in_a_sockets_path_is_the_users_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_endpoint("unix:~/x.sock").path == f"{tmp_path}/x.sock"


def test_the_url_takes_the_port_that_was_found_in_the_end() -> None:
    assert parse_endpoint("ws://[::1]:0").url(4711) == "ws://[::1]:4711/mcp"
    assert parse_endpoint("http://127.0.0.1:0/x").url() == "http://127.0.0.1:0/x"
    assert parse_endpoint("unix:/x").url() == "unix:/x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ws://127.0.0.1", True),
        ("ws://127.9.8.7", True),
        ("ws://[::1]", True),
        ("ws://[::ffff:127.0.0.1]", True),
        ("ws://localhost", True),
        ("unix:/x", True),
        ("ws://0.0.0.0", False),
        ("ws://[::]", False),
        ("ws://10.0.0.1", False),
        ("ws://localhost.example", False),
        ("ws://127.0.0.1.example", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(text: str, expected: bool) -> None:
    assert parse_endpoint(text).is_loopback is expected


def test_every_address_of_the_machine_is_a_wildcard() -> None:
    assert parse_endpoint("ws://0.0.0.0").is_wildcard
    assert parse_endpoint("ws://[::]").is_wildcard
    assert not parse_endpoint("ws://127.0.0.1").is_wildcard
    assert not parse_endpoint("unix:/x").is_wildcard
    assert parse_endpoint("wss://h").is_secure
    assert not parse_endpoint("http://h").is_secure


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("ws://127.0.0.1 :1", "blanks"),
        ("ws://127.0.0.1\x00", "control characters"),
        ("127.0.0.1:8765", "does not begin with"),
        ("localhost:8765", "does not begin with"),
        ("tcp://127.0.0.1", "does not begin with"),
        ("ws:127.0.0.1", "does not begin with"),
        ("ws://", "must name a host"),
        ("ws://:8765", "0.0.0.0 for every address"),
        ("ws://*:8765", "0.0.0.0 for every address"),
        ("ws://127.1", "an IP address in full"),
        ("ws://2130706433", "an IP address in full"),
        ("ws://0x7f000001", "an IP address in full"),
        ("ws://-a", "must name a host"),
        ("ws://[::1", "malformed"),
        ("ws://[x]:1", "malformed"),
        ("ws://h:65536", "malformed"),
        ("ws://h:-1", "malformed"),
        ("ws://h:x", "malformed"),
        ("ws://user@h", "user information"),
        ("ws://user:secret@h", "user information"),
        ("ws://h/mcp?token=x", "without ? or #"),
        ("ws://h/mcp?", "without ? or #"),
        ("ws://h/mcp#x", "without ? or #"),
        ("ws://h/", "the path /"),
        ("ws://h//mcp", "of its path"),
        ("ws://h/a/../health", "of its path"),
        ("ws://h/%68ealth", "of its path"),
        ("ws://h/health/mine", "uses /health for itself"),
        ("ws://h/metrics/", "uses /metrics for itself"),
        ("ws://h/register", "uses /register for itself"),
        ("unix:x.sock", "absolute path"),
        ("unix:", "absolute path"),
        ("unix:/run/", "absolute path"),
        ("unix://host/x", "must not have a host"),
        ("unix:~nobody-of-that-name/x", "cannot be resolved"),
        ("unix:/" + "x" * SOCKET_PATH_LIMIT, "longer than a Unix socket's path"),
        *((f"http://h{path}", "must not have the path") for path in PATHS),
    ],
)
def test_a_wrong_address_is_told_with_examples(text: str, why: str) -> None:
    with pytest.raises(EndpointError, match=r"ws://127\.0\.0\.1:8765/mcp") as caught:
        parse_endpoint(text)
    assert why in str(caught.value)


def test_a_host_has_one_way_to_be_written() -> None:
    assert canonical_host("[0::0:1]") == canonical_host("::1") == "::1"
    assert canonical_host("LOCALHOST") == "localhost"
    assert canonical_host("[::FFFF:7f00:1]") == "127.0.0.1"
