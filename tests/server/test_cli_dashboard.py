"""`toolscore dashboard`, typed: it opens the page of the ToolScore that runs, or says what is missing."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from cli_shell import Shell, shell_in
from listening import serving
from toolscore.server.cli.dashboard import page_of
from toolscore.server.home import Home
from toolscore.server.tokens import Tokens

BROWSER = """
import socket, sys, urllib.request
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args): return None
def get(url):
    try:
        return urllib.request.build_opener(Stay).open(url)
    except urllib.error.HTTPError as error:
        return error
root = sys.argv[1].rsplit("/", 1)[0]
idle = socket.create_connection(("127.0.0.1", int(root.rsplit(":", 1)[1])))  # as browsers do, ahead of time
with open(sys.argv[2], "w") as file:
    for url in (root + "/favicon.ico", sys.argv[1]):
        answer = get(url)
        print(answer.status, answer.headers["Location"], answer.headers["Set-Cookie"], file=file)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return shell_in(tmp_path)


def test_it_says_how_to_start_what_does_not_run(shell: Shell) -> None:
    done = shell("dashboard")
    assert (done.returncode, done.stdout) == (1, "")
    assert "toolscore start --listen" in done.stderr


def test_it_says_how_to_get_a_network_listener(shell: Shell, tmp_path: Path) -> None:
    with serving(shell.home, f"unix:{tmp_path / 'a.sock'}", options=()):
        done = shell("dashboard", "--print")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no network listener" in done.stderr
    assert "toolscore restart --listen" in done.stderr


def test_it_prints_the_address_and_opens_it_without_the_token_in_a_command_line(
    shell: Shell, tmp_path: Path
) -> None:
    # Nor in an address, which stays in the history of the browser with what is behind the `#`.
    with serving(shell.home, options=()) as one:
        printed = shell("dashboard", "--print").stdout.strip()
        assert printed == f"{one.page('/')}#token={one.token}"
        assert shell.document("dashboard")["address"] == printed
        with urlopen(Request(printed.partition("#")[0], headers={"Accept": "text/html"}), timeout=60) as page:
            assert b"<html" in page.read()
        program, seen = tmp_path / "browser.py", tmp_path / "seen"
        program.write_text(BROWSER)
        shell.environ |= {"DISPLAY": ":99", "BROWSER": f"{sys.executable} {program} %s {seen}"}
        done = shell("dashboard")
        assert done.stdout.strip() == f"opened: {one.page('/')}", done.stderr
        nothing, found = seen.read_text().splitlines()
        assert nothing == "404 None None"
        told = re.fullmatch(
            r"302 (\S+)#once=(\w+) toolscore-(\w+)=([^;]+); Path=/; Max-Age=60; SameSite=Strict", found
        )
        assert told is not None, found
        assert told.group(1, 4) == (one.page("/"), one.token)
        assert told[2] == told[3]


def test_it_prints_what_no_browser_opens(shell: Shell) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        shell.environ.pop(name, None)
    with serving(shell.home, options=()) as one:
        done = shell("dashboard")
        if sys.platform == "linux":
            assert done.stdout.strip().endswith(f"#token={one.token}")
            assert "Open this address yourself" in done.stderr


def test_to_manage_it_makes_a_token_of_its_own_each_time(shell: Shell) -> None:
    with serving(shell.home, options=()):
        first, second = (shell("dashboard", "--print", "--manage").stdout.strip() for _ in range(2))
    known = Tokens(Home.at(shell.home), frozenset({"call"}))
    tokens = [re.sub(".*#token=", "", address) for address in (first, second)]
    assert known.check(tokens[0]) is None
    identity = known.check(tokens[1])
    assert identity is not None
    assert identity.principal == "dashboard"
    assert identity.rights == {"call", "manage"}


@pytest.mark.parametrize(
    ("listening", "page"),
    [
        (("unix:/run/x.sock",), None),
        (("http://127.0.0.1:1/mcp", "ws://127.0.0.1:2/mcp"), "http://127.0.0.1:2/"),
        (("wss://tools.example/mcp",), "https://tools.example/"),
        (("ws://0.0.0.0:5/mcp",), "http://127.0.0.1:5/"),
        (("ws://[::]:5/mcp",), "http://[::1]:5/"),
    ],
)
def test_the_page_is_where_a_browser_of_this_machine_finds_it(
    listening: tuple[str, ...], page: str | None
) -> None:
    assert page_of(listening) == page
    assert page is None or urlsplit(page).port != 1
