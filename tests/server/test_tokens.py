"""Tokens: made once, kept private, known by their hashes, and gone at once when revoked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from toolscore.server.home import Home, HomeError
from toolscore.server.private_file import PrivateFileError
from toolscore.server.tokens import Identity, TokenError, Tokens, UnknownTokenError

CALL = frozenset({"call"})
BOTH = frozenset({"call", "manage"})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path)


@pytest.fixture
def tokens(home: Home) -> Tokens:
    return Tokens(home, CALL)


def test_the_generated_token_is_made_once_and_for_the_owner_alone(home: Home, tokens: Tokens) -> None:
    previous = os.umask(0)
    try:
        token = tokens.default()
    finally:
        os.umask(previous)
    assert len(token) >= 43
    assert tokens.default() == Tokens(home, BOTH).default() == token
    assert tokens.file.read_text() == f"{token}\n"
    assert {path.name for path in home.path.iterdir()} == {"token", "tokens.lock"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in home.path.iterdir())


def test_looking_makes_no_token_and_lets_nobody_in(home: Home, tokens: Tokens) -> None:
    assert tokens.check("x") is None
    assert tokens.check("") is None
    assert tokens.names() == []
    assert list(home.path.iterdir()) == []


def test_the_generated_token_has_the_rights_of_the_settings(home: Home) -> None:
    token = Tokens(home, CALL).default()
    assert Tokens(home, BOTH).check(token) == Identity("token", BOTH)
    assert Tokens(home, frozenset()).check(token) == Identity("token", frozenset())


def test_a_named_token_is_kept_as_a_hash_with_its_rights(home: Home, tokens: Tokens) -> None:
    token = tokens.create("editor", BOTH)
    assert tokens.check(token) == Identity("editor", BOTH)
    content = (home.path / "tokens.json").read_bytes()
    assert token.encode() not in content
    assert (home.path / "tokens.json").stat().st_mode & 0o777 == 0o600
    (entry,) = tokens.named()
    assert (entry.name, entry.rights) == ("editor", BOTH)
    assert entry.created.endswith("+00:00")
    assert json.loads(content)["editor"]["sha256"] == entry.digest.hex()


@pytest.mark.parametrize(
    "change", [str.upper, str.swapcase, lambda t: t[:-1], lambda t: t + "x", lambda t: " " + t]
)
def test_what_only_resembles_a_token_is_none(tokens: Tokens, change: object) -> None:
    assert callable(change)
    for token in (tokens.default(), tokens.create("a", CALL)):
        assert tokens.check(change(token)) is None


@pytest.mark.parametrize("presented", ["\ud800", "\0", "x" * 1_000_000, "ünï"])
def test_nothing_that_is_presented_breaks_the_check(tokens: Tokens, presented: str) -> None:
    tokens.default()
    assert tokens.check(presented) is None


def test_the_hash_that_is_kept_is_not_itself_a_token(home: Home, tokens: Tokens) -> None:
    tokens.create("a", CALL)
    kept = json.loads((home.path / "tokens.json").read_text())["a"]["sha256"]
    assert tokens.check(kept) is None


def test_what_another_process_creates_or_revokes_counts_at_once(home: Home, tokens: Tokens) -> None:
    other = Tokens(home, CALL)
    for round_ in range(50):  # within one tick of the clock, so that only the content differs
        token = other.create("n", CALL)
        assert tokens.check(token) == Identity("n", CALL), round_
        other.revoke("n")
        assert tokens.check(token) is None, round_
    first = other.default()
    assert tokens.check(first) == Identity("token", CALL)
    tokens.file.unlink()
    assert tokens.check(first) is None
    second = other.default()
    assert second != first
    assert tokens.check(second) == Identity("token", CALL)


def test_a_file_that_has_not_changed_is_not_read_again(home: Home, tokens: Tokens) -> None:
    token = tokens.default()
    # An old change time is what only waiting gives, so the clock is told to be later.
    script = (
        "import sys, time\n"
        "from toolscore.server.home import Home\n"
        "from toolscore.server.tokens import Tokens\n"
        "real = time.time_ns; time.time_ns = lambda: real() + 10**9\n"
        "tokens = Tokens(Home.at(sys.argv[1]), frozenset())\n"
        "assert tokens.check(sys.argv[2])\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(args) if event == 'open' else None)\n"
        "assert tokens.check(sys.argv[2]) and not tokens.check('x')\n"
        "print(len(opened))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(home.path), token], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "x" * 65, "a\n", "token", "Owner", "anyone"])
def test_a_name_that_cannot_be_is_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(TokenError, match=r"Use 1 to 64|Choose another"):
        tokens.create(name, CALL)
    assert tokens.names() == []


def test_a_name_is_given_once_and_free_when_revoked(tokens: Tokens) -> None:
    first = tokens.create("a.B-c_1", CALL)
    with pytest.raises(TokenError, match="already a token named"):
        tokens.create("a.B-c_1", BOTH)
    assert tokens.check(first) == Identity("a.B-c_1", CALL)
    tokens.revoke("a.B-c_1")
    second = tokens.create("a.B-c_1", BOTH)
    assert tokens.check(first) is None
    assert tokens.check(second) == Identity("a.B-c_1", BOTH)


@pytest.mark.parametrize("rights", [[], ["install"], ["call", "root"]])
def test_rights_that_do_not_exist_are_refused(tokens: Tokens, rights: list[str]) -> None:
    with pytest.raises(TokenError, match="call, manage, register"):
        tokens.create("a", rights)


def test_revoking_what_is_not_there_says_where_to_look(tokens: Tokens) -> None:
    with pytest.raises(UnknownTokenError, match="token list"):
        tokens.revoke("nosuch")
    with pytest.raises(UnknownTokenError, match=r"Delete .*token"):
        tokens.revoke("token")


def test_several_that_write_at_once_lose_nothing(home: Home) -> None:
    made: dict[str, str] = {}

    def make(name: str) -> None:
        made[name] = Tokens(home, CALL).create(name, CALL)

    threads = [threading.Thread(target=make, args=(f"n{number}",)) for number in range(20)]
    defaults: list[str] = []
    threads += [
        threading.Thread(target=lambda: defaults.append(Tokens(home, CALL).default())) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tokens = Tokens(home, CALL)
    assert len(set(defaults)) == 1
    assert tokens.names() == sorted(made)
    assert all(tokens.check(token) == Identity(name, CALL) for name, token in made.items())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
@pytest.mark.parametrize("name", ["token", "tokens.json"])
def test_a_file_that_is_open_to_others_lets_nobody_in(
    home: Home, tokens: Tokens, name: str, mode: int
) -> None:
    token = tokens.default()
    named = tokens.create("a", CALL)
    (home.path / name).chmod(mode)
    for presented in (token, named, "x"):
        with pytest.raises(PrivateFileError, match=f"chmod 600 {home.path / name}"):
            tokens.check(presented)
    (home.path / name).chmod(0o600)
    assert tokens.check(token) is not None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give a file away")
def test_a_file_of_another_user_lets_nobody_in(home: Home, tokens: Tokens) -> None:
    token = tokens.default()
    os.chown(home.path / "token", 12345, -1)
    with pytest.raises(PrivateFileError, match="belongs to another user"):
        tokens.check(token)
    with pytest.raises(PrivateFileError, match="belongs to another user"):
        tokens.default()


@pytest.mark.parametrize("content", ["", "\n", "short", "has a blank in the middle of it", "ü" * 30])
def test_a_token_that_could_be_guessed_is_refused(home: Home, tokens: Tokens, content: str) -> None:
    (home.path / "token").write_text(content)
    (home.path / "token").chmod(0o600)
    for look in (tokens.default, lambda: tokens.check(content.strip())):
        with pytest.raises(HomeError, match="delete it") as caught:
            look()
        assert len(content) < 5 or content not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        "null",
        '{"a": 1}',
        '{"a": {}}',
        '{"a": {"sha256": "zz", "rights": [], "created": ""}}',
        '{"a": {"sha256": "00", "rights": [], "created": ""}}',
        '{"owner": {"sha256": "%s", "rights": ["manage"], "created": ""}}' % ("00" * 32),
        "[" * 100_000,
    ],
)
def test_a_damaged_file_of_tokens_lets_nobody_in(home: Home, tokens: Tokens, content: str) -> None:
    token = tokens.default()
    (home.path / "tokens.json").write_text(content)
    (home.path / "tokens.json").chmod(0o600)
    with pytest.raises(PrivateFileError, match=r"delete it and make"):
        tokens.check(token)


def test_something_else_in_the_files_place_is_told_without_waiting(home: Home, tokens: Tokens) -> None:
    os.mkfifo(home.path / "tokens.json", 0o600)
    with pytest.raises(PrivateFileError, match="is not a file"):
        tokens.names()
    (home.path / "token").mkdir()
    with pytest.raises(PrivateFileError, match="Is a directory"):
        tokens.default()


def test_a_home_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PrivateFileError, match=r"No such file.*Check"):
        Tokens(Home.at(tmp_path / "no"), CALL).default()


def test_no_token_is_in_what_a_debugger_shows(tokens: Tokens) -> None:
    assert tokens.default() not in repr(tokens)
