"""The door: attacks by Host, by Origin and by guessed tokens, and who comes in as whom."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from starlette.datastructures import Headers as StarletteHeaders
from websockets.datastructures import Headers as WebsocketHeaders

from toolscore.server.admission import Door, OpenDoorError, TurnedAwayError
from toolscore.server.endpoint import parse_endpoint
from toolscore.server.home import Home
from toolscore.server.tokens import Identity, Tokens

CALL = frozenset({"call"})
LOOPBACK, LAN, ANY = "ws://127.0.0.1:8765", "ws://192.168.1.5:8765", "ws://0.0.0.0:8765"


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(Home.at(tmp_path), CALL)


def door(tokens: Tokens | None, endpoint: str = LOOPBACK, **options: object) -> Door:
    return Door(tokens, parse_endpoint(endpoint), **options)  # type: ignore[arg-type]


def headers(host: str | None = "127.0.0.1:8765", **others: str) -> Callable[[str], str | None]:
    given = {name.lower(): value for name, value in others.items()}
    if host is not None:
        given["host"] = host
    return given.get


def refused(act: Callable[[], object], status: int, said: str) -> TurnedAwayError:
    with pytest.raises(TurnedAwayError, match=said) as caught:
        act()
    assert caught.value.status == status
    assert caught.value.message == str(caught.value)
    return caught.value


# --- hosts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        (LOOPBACK, "127.0.0.1:8765"),
        (LOOPBACK, "127.0.0.1"),
        (LOOPBACK, "localhost:1"),
        (LOOPBACK, "LOCALHOST:8765"),
        (LOOPBACK, "[::1]:8765"),
        (LOOPBACK, "[0:0:0:0:0:0:0:1]"),
        ("ws://127.0.0.9", "127.0.0.9:8765"),
        ("ws://[::1]", "[::1]:8765"),
        ("ws://localhost:0", "localhost:33333"),
        (LAN, "192.168.1.5:8765"),
        ("ws://tools.example", "Tools.Example"),
        (ANY, "192.168.1.5:8765"),
        (ANY, "127.0.0.1:8765"),
        (ANY, "[fe80::1]:8765"),
        (ANY, "localhost:8765"),
        (ANY, f"{socket.gethostname()}:8765"),
        ("ws://[::]:8765", "10.0.0.1"),
    ],
)
def test_a_listener_answers_to_its_own_names(endpoint: str, host: str) -> None:
    door(None if parse_endpoint(endpoint).is_loopback else _any(), endpoint).check_origin(headers(host))


def _any() -> Tokens:
    return Tokens(Home.at("/nowhere"), CALL)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        (LOOPBACK, "evil.example"),
        (LOOPBACK, "evil.example:8765"),
        (LOOPBACK, "localhost.evil.example:8765"),
        (LOOPBACK, "127.0.0.1.evil.example"),
        (LOOPBACK, "evil-localhost"),
        (LOOPBACK, "0.0.0.0:8765"),
        (LOOPBACK, "127.0.0.2:8765"),
        (LOOPBACK, "2130706433:8765"),
        (LOOPBACK, "127.1:8765"),
        (LOOPBACK, "192.168.1.5:8765"),
        (LAN, "evil.example:8765"),
        (LAN, "localhost:8765"),
        (LAN, "192.168.1.6:8765"),
        (ANY, "evil.example:8765"),
        (ANY, "192.168.1.5.nip.io:8765"),
        (ANY, "tools.example"),
    ],
)
def test_a_name_that_was_made_to_point_here_is_misdirected(endpoint: str, host: str) -> None:
    checked = door(_any(), endpoint)
    refused(lambda: checked.check_origin(headers(host)), 421, r"network\.allowed_hosts")
    refused(lambda: checked.admit("/mcp?token=x", headers(host)), 421, r"network\.allowed_hosts")


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        "127.0.0.1:8765,evil",
        "127.0.0.1:x",
        "user@127.0.0.1",
        "127.0.0.1/x",
        "::1",
        "[::1",
        "[x]",
        "[12]",
        "127.0.0.1:123456",
        "127.0.0.1\r\nX: y",
        "höst",
        "127.0.0.1\0",
    ],
)
def test_a_malformed_host_is_a_bad_request(host: str) -> None:
    refused(lambda: door(None).check_origin(headers(host)), 400, "Host")


def test_without_a_host_nothing_is_served() -> None:
    refused(lambda: door(None).check_origin(headers(None)), 400, "no Host header")


def test_further_names_are_allowed_by_the_settings() -> None:
    for endpoint in (LOOPBACK, LAN, ANY):
        checked = door(_any(), endpoint, allowed_hosts=("Tools.Example", "[FE80::0:1]"))
        checked.check_origin(headers("tools.example:443"))
        checked.check_origin(headers("[fe80::1]:443"))
        checked.check_origin(headers("tools.example", origin="https://tools.example"))
        refused(partial(checked.check_origin, headers("a.tools.example")), 421, "allowed_hosts")


# --- origins -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "host", "origin"),
    [
        (LOOPBACK, "127.0.0.1:8765", "http://127.0.0.1:8765"),
        (LOOPBACK, "127.0.0.1:8765", "http://localhost:3000"),
        (LOOPBACK, "localhost:8765", "https://[::1]"),
        (LOOPBACK, "127.0.0.1:8765", "HTTP://LocalHost"),
        (LAN, "192.168.1.5:8765", "http://192.168.1.5"),
        (ANY, "192.168.1.5:8765", "http://192.168.1.5:8765"),
    ],
)
def test_pages_of_the_same_host_may_connect(endpoint: str, host: str, origin: str) -> None:
    door(_any(), endpoint).check_origin(headers(host, origin=origin))


@pytest.mark.parametrize(
    ("endpoint", "host", "origin"),
    [
        (LOOPBACK, "127.0.0.1:8765", "https://evil.example"),
        (LOOPBACK, "127.0.0.1:8765", "http://localhost.evil.example"),
        (LOOPBACK, "127.0.0.1:8765", "http://evil.example#@localhost"),
        (LOOPBACK, "127.0.0.1:8765", "http://localhost@evil.example"),
        (LOOPBACK, "127.0.0.1:8765", "http://evil.example/localhost"),
        (LOOPBACK, "127.0.0.1:8765", "http://localhost, https://evil.example"),
        (LOOPBACK, "127.0.0.1:8765", "null"),
        (LOOPBACK, "127.0.0.1:8765", ""),
        (LOOPBACK, "127.0.0.1:8765", "localhost"),
        (LOOPBACK, "127.0.0.1:8765", "file://"),
        (LOOPBACK, "127.0.0.1:8765", "chrome-extension://localhost"),
        (LOOPBACK, "127.0.0.1:8765", "http://0.0.0.0:8765"),
        (LAN, "192.168.1.5:8765", "http://localhost"),
        (ANY, "192.168.1.5:8765", "http://203.0.113.9"),
        (ANY, "192.168.1.5:8765", "http://evil.example"),
    ],
)
def test_a_page_from_elsewhere_may_not_connect(tokens: Tokens, endpoint: str, host: str, origin: str) -> None:
    token = tokens.default()
    checked = door(tokens, endpoint)
    refused(lambda: checked.check_origin(headers(host, origin=origin)), 403, r"network\.allowed_origins")
    good = headers(host, origin=origin, authorization=f"Bearer {token}")
    refused(lambda: checked.admit("/mcp", good), 403, r"network\.allowed_origins")


def test_further_origins_are_allowed_by_the_settings() -> None:
    allowed = ("https://App.Example/", "http://dev.example:3000", "https://p.example:443", "app://x")
    checked = door(None, allowed_origins=allowed)
    for origin in ("https://app.example", "http://dev.example:3000", "https://p.example", "app://x"):
        checked.check_origin(headers(origin=origin))
    for origin in (
        "http://app.example",
        "https://app.example:8443",
        "http://dev.example",
        "https://x.app.example",
    ):
        refused(partial(checked.check_origin, headers(origin=origin)), 403, "allowed_origins")


def test_null_cannot_be_allowed() -> None:
    refused(lambda: door(None, allowed_origins=("null",)).check_origin(headers(origin="null")), 403, "Origin")


# --- tokens --------------------------------------------------------------------------------------------------


def test_a_token_is_shown_in_the_header_or_in_the_query(tokens: Tokens) -> None:
    token, checked = tokens.default(), door(tokens)
    me = Identity("token", CALL)
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert checked.admit("/mcp", headers(authorization=f"{scheme} {token}")) == me
    for query in (f"token={token}", f"access_token={token}", f"name=x&token={token}", f"token={token}#x"):
        assert checked.admit(f"/mcp?{query}", headers()) == me
    assert checked.admit(f"/mcp?token={token}", headers(authorization="Basic eDp5")) == me


def test_a_named_token_comes_in_as_itself(tokens: Tokens) -> None:
    token = tokens.create("robot", {"call", "register"})
    found = door(tokens).admit(f"/register?name=x&token={token}", headers())
    assert found == Identity("robot", frozenset({"call", "register"}))


@pytest.mark.parametrize(
    "target", ["/mcp", "/mcp?", "/mcp?token=", "/mcp?Token=x", "/mcp#?token=x", "//[", ""]
)
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic eDp5", "Digest x"])
def test_without_a_token_it_says_where_to_find_one(
    tokens: Tokens, target: str, authorization: str | None
) -> None:
    tokens.default()
    given = headers() if authorization is None else headers(authorization=authorization)
    error = refused(lambda: door(tokens).admit(target, given), 401, "toolscore token show")
    assert error.headers == {"WWW-Authenticate": 'Bearer realm="toolscore"'}


def test_a_wrong_token_is_refused_and_never_repeated(tokens: Tokens) -> None:
    token, checked = tokens.default(), door(tokens)
    for given, target in (
        (headers(authorization="Bearer s3cret-guess"), "/mcp"),
        (headers(), "/mcp?token=s3cret-guess"),
        (headers(authorization="Bearer s3cret-guess"), f"/mcp?token={token}"),  # the header counts
        (headers(authorization=f"Bearer {token} s3cret-guess"), "/mcp"),
        (headers(authorization="Bearer \ud800s3cret-guess"), "/mcp"),
    ):
        error = refused(partial(checked.admit, target, given), 401, "not valid")
        assert "s3cret" not in str(error)
        assert token not in str(error)
        assert 'error="invalid_token"' in error.headers["WWW-Authenticate"]


def test_two_tokens_are_one_too_many(tokens: Tokens) -> None:
    token = tokens.default()
    query = f"/mcp?token={token}&access_token={token}"
    refused(lambda: door(tokens).admit(query, headers()), 400, "more than one token")
    refused(lambda: door(tokens).admit("/mcp?" + "a=b&" * 200, headers()), 400, "too many parameters")


def test_a_revoked_token_is_refused_at_the_next_request(tokens: Tokens) -> None:
    token, checked = tokens.create("n", CALL), door(tokens)
    assert checked.admit(f"/?token={token}", headers()).principal == "n"
    tokens.revoke("n")
    refused(lambda: checked.admit(f"/?token={token}", headers()), 401, "not any more")


def test_tokens_that_cannot_be_read_let_nobody_in_and_are_told_in_the_log_once(
    tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    token, checked = tokens.default(), door(tokens)
    tokens.file.chmod(0o644)
    for _ in range(3):
        error = refused(lambda: checked.admit(f"/?token={token}", headers()), 503, "log says why")
        assert str(tokens.file) not in str(error)
    assert [record.message for record in caplog.records if str(tokens.file) in record.message][1:] == []
    tokens.file.chmod(0o600)
    assert checked.admit(f"/?token={token}", headers()).principal == "token"


def test_without_tokens_anybody_on_this_machine_comes_in_with_the_rights_of_the_settings() -> None:
    checked = door(None, anonymous=frozenset({"call", "manage"}))
    expected = Identity("anyone", frozenset({"call", "manage"}))
    assert checked.admit("/mcp", headers()) == expected
    assert checked.admit("/mcp?token=x", headers(authorization="Bearer y")) == expected


@pytest.mark.parametrize("endpoint", [LAN, ANY, "wss://tools.example", "http://[::]:1"])
def test_without_tokens_other_machines_must_not_reach_it(endpoint: str) -> None:
    with pytest.raises(OpenDoorError, match=r"--no-token.*127\.0\.0\.1"):
        door(None, endpoint)


# --- real headers --------------------------------------------------------------------------------------------


def test_headers_of_both_libraries_are_understood(tokens: Tokens) -> None:
    token, checked = tokens.default(), door(tokens)
    given = [("Host", "localhost:8765"), ("Authorization", f"Bearer {token}")]
    plain = StarletteHeaders(raw=[(name.lower().encode(), value.encode()) for name, value in given])
    for lookup in (
        WebsocketHeaders(given).get,
        WebsocketHeaders(given).get_all,
        plain.get,
        plain.getlist,
    ):
        assert checked.admit("/mcp", lookup).principal == "token"


@pytest.mark.parametrize("name", ["Host", "Origin", "Authorization"])
def test_a_header_that_comes_twice_is_refused(tokens: Tokens, name: str) -> None:
    tokens.default()
    given = [
        ("Host", "localhost:8765"),
        ("Origin", "http://localhost"),
        ("Authorization", "Bearer x"),
        (name, "y"),
    ]
    raw = [(key.lower().encode(), value.encode()) for key, value in given]
    for lookup in (
        WebsocketHeaders(given).get,
        WebsocketHeaders(given).get_all,
        StarletteHeaders(raw=raw).getlist,
    ):
        refused(partial(door(tokens).admit, "/mcp", lookup), 400, f"more than one {name}")
