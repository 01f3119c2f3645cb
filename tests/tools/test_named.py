"""Named secrets: in the keyring where there is one, otherwise in the secrets file, and listed without values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError, PasswordDeleteError

from toolscore.tools.errors import SecretsError
from toolscore.tools.leftovers import clear
from toolscore.tools.named import NamedSecrets, UnknownSecretError
from toolscore.tools.ring import NoRingError, system_ring
from toolscore.tools.secrets import Secrets


class Wallet(KeyringBackend):
    """A keyring in memory, which can be locked."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the library has none there
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def _open(self) -> None:
        if self.locked:
            raise KeyringError("it is locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._open()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._open()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._open()
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError("not there")


@pytest.fixture
def wallet() -> Iterator[Wallet]:
    before = keyring.get_keyring()
    wallet = Wallet()
    keyring.set_keyring(wallet)
    yield wallet
    keyring.set_keyring(before)


@pytest.fixture
def none() -> Iterator[None]:
    from keyring.backends.fail import Keyring

    before = keyring.get_keyring()
    keyring.set_keyring(Keyring())  # type: ignore[no-untyped-call]  # the library has none there
    yield
    keyring.set_keyring(before)


def named(folder: Path) -> NamedSecrets:
    return NamedSecrets(Secrets(folder / "secrets.json"), folder)


@pytest.mark.usefixtures("none")
def test_without_a_keyring_it_is_in_the_file_and_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoRingError, match="no keyring"):
        system_ring()
    put = named(tmp_path).set("API_KEY", "s3cret-value")
    assert (put.where, put.why) == ("file", "this machine has no keyring that is running")
    assert named(tmp_path).names() == {"API_KEY": "file"}
    assert named(tmp_path).get("API_KEY") == "s3cret-value"
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SecretsError, match="Nothing was changed"):
        named(tmp_path).set("API_KEY", "other", "keyring")
    assert named(tmp_path).get("API_KEY") == "s3cret-value"


def test_with_a_keyring_the_file_knows_the_name_only(tmp_path: Path, wallet: Wallet) -> None:
    assert named(tmp_path).set("API_KEY", "s3cret-value").where == "keyring"
    assert named(tmp_path).names() == {"API_KEY": "keyring"}
    assert named(tmp_path).get("API_KEY") == "s3cret-value"
    assert b"s3cret" not in (tmp_path / "secrets.json").read_bytes()
    named(tmp_path).delete("API_KEY")
    assert not wallet.kept
    assert named(tmp_path).names() == {}


def test_moving_a_secret_leaves_no_copy_behind(tmp_path: Path, wallet: Wallet) -> None:
    one = named(tmp_path)
    one.set("A", "in the ring")
    one.set("A", "in the file", "file")
    assert not wallet.kept
    assert one.names() == {"A": "file"}
    one.set("A", "in the ring again")
    assert one.names() == {"A": "keyring"}
    assert b"in the file" not in (tmp_path / "secrets.json").read_bytes()


def test_a_locked_keyring_loses_nothing(tmp_path: Path, wallet: Wallet) -> None:
    one = named(tmp_path)
    one.set("A", "value-1")
    wallet.locked = True
    for use in (lambda: one.get("A"), lambda: one.set("A", "value-2"), lambda: one.delete("A")):
        with pytest.raises(SecretsError, match=r"keyring .* it is locked") as error:
            use()
        assert "value" not in str(error.value)
    wallet.locked = False
    assert one.get("A") == "value-1"


def test_a_secret_of_another_home_is_another_secret(tmp_path: Path, wallet: Wallet) -> None:
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        home.mkdir()
        named(home).set("A", f"of {home.name}")
    assert [named(home).get("A") for home in homes] == ["of one", "of two"]
    named(homes[0]).delete("A")
    assert named(homes[1]).get("A") == "of two"


@pytest.mark.parametrize("name", ["", "1A", "a/b", "a b", "ä", "-x", "A" * 129, "a\n", "@x"])
def test_a_name_that_no_spec_could_use_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecretsError, match="cannot be named"):
        named(tmp_path).set(name, "value")
    assert not (tmp_path / "secrets.json").exists()


@pytest.mark.parametrize("value", ["", "a\0b", "x" * 65_537, "\ud800"])
def test_a_value_that_no_server_could_get_is_refused_and_not_repeated(tmp_path: Path, value: str) -> None:
    with pytest.raises(SecretsError) as error:
        named(tmp_path).set("A", value, "file")
    assert len(str(error.value)) < 200
    assert named(tmp_path).names() == {}


def test_renaming_keeps_the_value_and_takes_no_other_ones_place(tmp_path: Path, wallet: Wallet) -> None:
    one = named(tmp_path)
    one.set("A", "value-a")
    one.set("B", "value-b", "file")
    with pytest.raises(SecretsError, match="already"):
        one.rename("A", "B")
    with pytest.raises(UnknownSecretError):
        one.rename("NOPE", "C")
    one.rename("A", "C")
    one.rename("B", "D")
    assert one.names() == {"C": "keyring", "D": "file"}
    assert (one.get("C"), one.get("D")) == ("value-a", "value-b")
    assert list(wallet.kept.values()) == ["value-a"]


def test_what_is_not_there_cannot_be_deleted(tmp_path: Path) -> None:
    with pytest.raises(UnknownSecretError, match="secret list"):
        named(tmp_path).delete("NOPE")


async def test_tidying_up_after_servers_leaves_named_secrets_alone(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets.json")
    one = named(tmp_path)
    one.set("A", "value-a", "file")
    secrets.set_many({"gone/env/X": "1", "there/env/X": "2"})
    (tmp_path / "servers").mkdir()
    assert await clear(tmp_path / "servers", secrets, {"there"}) == ["gone"]
    assert one.get("A") == "value-a"
    assert secrets.names() == ["@named/A", "there/env/X"]
