"""Sealed secrets: encrypted with a passphrase, told apart from a wrong one, and never lost by a failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from toolscore.tools import passphrase
from toolscore.tools.errors import SecretsError
from toolscore.tools.seal import MEMBER, SealedError, TamperedError, WrongPassphraseError
from toolscore.tools.secrets import Secrets

PHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def nobody_knows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(passphrase.VARIABLE, raising=False)
    monkeypatch.delenv(passphrase.FILE_VARIABLE, raising=False)
    passphrase.remember(None)
    yield
    passphrase.remember(None)
    passphrase.ask_with(None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    secrets = Secrets(tmp_path / "secrets.json")
    secrets.set_many({"a/env/KEY": "s3cret-välue", "b/oauth": "{}"})
    secrets.seal(PHRASE)
    return tmp_path / "secrets.json"


def test_a_sealed_file_says_nothing_and_is_read_and_written_with_the_passphrase(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"s3cret" not in path.read_bytes()
    assert b"a/env" not in path.read_bytes()
    secrets = Secrets(path)
    assert secrets.sealed
    assert secrets.get("a/env/KEY") == "s3cret-välue"
    secrets.set("c", "new")
    assert secrets.delete_prefix("b/") == 1
    assert b"new" not in path.read_bytes()
    assert Secrets(path).names() == ["a/env/KEY", "c"]


def test_without_a_passphrase_it_is_refused_with_what_to_do_and_nothing_is_lost(path: Path) -> None:
    before = path.read_bytes()
    passphrase.remember(None)
    for use in (
        lambda: Secrets(path).get("a"),
        lambda: Secrets(path).set("a", "1"),
        lambda: Secrets(path).unseal(),
    ):
        with pytest.raises(SealedError, match="TOOLSCORE_PASSPHRASE_FILE"):
            use()
    assert Secrets(path).sealed
    assert path.read_bytes() == before


def test_a_wrong_passphrase_is_told_apart_from_a_changed_file(path: Path) -> None:
    before = path.read_bytes()
    passphrase.remember("another")
    with pytest.raises(WrongPassphraseError, match="not the one") as error:
        Secrets(path).set("a", "1")
    assert "another" not in str(error.value)
    assert path.read_bytes() == before


def flipped(text: str) -> str:
    """Change one character of Base64 in the middle, so that it stays Base64."""
    at = len(text) // 2
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


@pytest.mark.parametrize(
    ("part", "change", "error"),
    [
        ("data", flipped, TamperedError),
        ("nonce", flipped, TamperedError),
        ("data", lambda text: text[:8], TamperedError),
        ("data", lambda _: "no base64!", TamperedError),
        ("data", lambda _: 7, TamperedError),
        ("check", lambda _: "AAAA", TamperedError),
        ("cost", lambda _: 1 << 40, TamperedError),
        ("cost", lambda _: 3, TamperedError),
        ("version", lambda _: 2, TamperedError),
        ("salt", flipped, WrongPassphraseError),
        ("check", flipped, WrongPassphraseError),
    ],
)
def test_any_change_of_a_sealed_file_is_noticed_and_the_file_stays(
    path: Path, part: str, change: Callable[[Any], Any], error: type[SecretsError]
) -> None:
    document = json.loads(path.read_text())
    document[MEMBER][part] = change(document[MEMBER][part])
    path.write_text(json.dumps(document))
    changed = path.read_bytes()
    with pytest.raises(error):
        Secrets(path).get("a/env/KEY")
    with pytest.raises(error):
        Secrets(path).set("x", "1")
    assert path.read_bytes() == changed


def test_parts_of_two_sealed_files_do_not_go_together(path: Path, tmp_path: Path) -> None:
    other = Secrets(tmp_path / "other.json")
    other.set("x", "y")
    other.seal(PHRASE)
    mine, theirs = json.loads(path.read_text()), json.loads((tmp_path / "other.json").read_text())
    mine[MEMBER]["data"] = theirs[MEMBER]["data"]
    path.write_text(json.dumps(mine))
    with pytest.raises(TamperedError):
        Secrets(path).names()


def test_a_sealed_file_that_others_can_read_is_refused_as_any_other(path: Path) -> None:
    path.chmod(0o644)
    with pytest.raises(SecretsError, match=f"chmod 600 {path}"):
        Secrets(path).names()


def test_unsealing_gives_back_what_there_was(path: Path) -> None:
    assert Secrets(path).unseal()
    assert not Secrets(path).sealed
    passphrase.remember(None)
    assert Secrets(path).get("a/env/KEY") == "s3cret-välue"
    assert not Secrets(path).unseal()


def test_sealing_twice_leaves_the_first_seal(path: Path) -> None:
    before = path.read_bytes()
    assert not Secrets(path).seal("another")
    assert path.read_bytes() == before


def test_a_reader_sees_that_another_hand_sealed_and_unsealed(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    reader, writer = Secrets(path), Secrets(path)
    writer.set("a", "1")
    assert reader.get("a") == "1"
    writer.seal(PHRASE)
    reader.set("b", "2")
    assert b'"b"' not in path.read_bytes()
    assert writer.unseal()
    reader.set("c", "3")
    assert json.loads(path.read_text()) == {"a": "1", "b": "2", "c": "3"}


def test_writers_in_several_processes_lose_nothing_of_a_sealed_file(path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom toolscore.tools.secrets import Secrets\n"
        "secrets = Secrets(Path(sys.argv[1]))\n"
        "for i in range(20): secrets.set(f'{sys.argv[2]}/{i}', 'x')"
    )
    environ = {**os.environ, passphrase.VARIABLE: PHRASE}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), who], env=environ)
        for who in ("one", "two", "three")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(Secrets(path).names()) == 62


def test_the_passphrase_comes_from_a_file_that_is_its_owners_alone(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passphrase.remember(None)
    file = tmp_path / "phrase"
    file.write_text(f"{PHRASE}\n")
    file.chmod(0o644)
    monkeypatch.setenv(passphrase.FILE_VARIABLE, str(file))
    with pytest.raises(SecretsError, match="chmod 600"):
        Secrets(path).names()
    file.chmod(0o600)
    assert len(Secrets(path).names()) == 2
    passphrase.remember(None)
    file.unlink()
    with pytest.raises(SecretsError, match="cannot be read"):
        Secrets(path).names()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_passphrase_is_gone_from_the_environment_once_it_is_taken() -> None:
    code = (
        "import os, subprocess, sys\nfrom pathlib import Path\nfrom toolscore.tools import passphrase\n"
        "passphrase.take()\n"
        "assert passphrase.given() == 'pass=phrase ü'\n"
        "assert passphrase.VARIABLE not in os.environ\n"
        "shown = Path('/proc/self/environ').read_bytes()\n"
        "assert b'pass=phrase' not in shown and b'BEHIND=it' in shown and b'BEFORE=it' in shown\n"
        "child = [sys.executable, '-c', 'import os; print(os.environ)']\n"
        "assert b'pass=phrase' not in subprocess.run(child, capture_output=True, check=True).stdout\n"
    )
    environ = {**os.environ, "BEFORE": "it", passphrase.VARIABLE: "pass=phrase ü", "BEHIND": "it"}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=60)


def test_a_person_is_asked_only_for_what_is_sealed(path: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def ask() -> str:
        asked.append("once")
        return PHRASE

    passphrase.remember(None)
    passphrase.ask_with(ask)
    Secrets(tmp_path / "plain.json").set("a", "1")
    assert not asked
    secrets = Secrets(path)
    assert secrets.names()
    secrets.set("a", "b")
    assert asked == ["once"]
