"""Secrets that were set, and given to no server yet, are not in what is written down."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from journaled import kept, passage
from toolscore.tools import passphrase, stored_mask
from toolscore.tools.secrets import Secrets
from toolscore.tools.stored_mask import StoredMask

NAMED, OWN, KEY = "n4med-secret-value", "0wn-secret-value", "sk-0123456789abcdef0123"
KEPT = {
    "@named/API_KEY": NAMED,
    "@keyring/OTHER": "toolscore-service",
    "idle/env/PASSWORD": OWN,
    "idle/env/DATA_DIR": "/srv/data/of/idle",
    "idle/env/PLAIN": KEY,
    "idle/args/3": "argument-of-idle",
    "idle/oauth": json.dumps({"tokens": {"access_token": "oauth-t0ken", "scope": "everything"}}),
    "idle/declared": json.dumps({"parts": {"a": "b"}}),
}


@pytest.fixture(autouse=True)
def _without_a_passphrase(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (passphrase.VARIABLE, passphrase.FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    passphrase.remember(None)
    yield
    passphrase.remember(None)


def looked(path: Path) -> StoredMask:
    mask = StoredMask(Secrets(path))
    mask.look()
    return mask


def test_secrets_by_name_or_looks_are_taken_out_and_settings_stay(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets.json")
    secrets.set_many(KEPT)
    mask = looked(tmp_path / "secrets.json")
    for secret in (
        NAMED,
        OWN,
        KEY,
        "argument-of-idle",
        "oauth-t0ken",
        json.dumps(NAMED),
        NAMED.encode().hex(),
    ):
        assert mask(f"It is {secret}.") in ("It is ***.", 'It is "***".')
    for plain in ("/srv/data/of/idle", "toolscore-service", "everything", '{"parts": {"a": "b"}}'):
        assert mask(plain) == plain


def test_a_file_that_is_sealed_or_cannot_be_read_is_left_alone_and_nobody_is_asked(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets.json")
    secrets.set_many(KEPT)
    assert secrets.seal("the passphrase")
    passphrase.remember(None)
    asked: list[bool] = []

    def ask() -> str:
        asked.append(True)
        return "the passphrase"

    passphrase.ask_with(ask)
    try:
        mask = looked(tmp_path / "secrets.json")
    finally:
        passphrase.ask_with(None)
    assert (mask(NAMED), asked) == (NAMED, [])
    passphrase.remember("the passphrase")
    mask.look()
    assert mask(NAMED) == "***"
    (tmp_path / "secrets.json").write_text("{")
    mask.look()
    assert mask(NAMED) == "***", "what was known stays known"


async def test_the_journal_has_none_that_is_set_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_mask, "LOOK", 0.0)
    secrets = Secrets(tmp_path / "secrets.json")
    mask = looked(tmp_path / "secrets.json")
    async with kept(tmp_path / "journal", mask=mask) as one:
        secrets.set("@named/API_KEY", NAMED)
        record = await one.only(passage(arguments={"text": f"my {NAMED}"}, result={"content": [NAMED]}))
        assert record["arguments"] == {"text": "my ***"}
        assert record["result"] == {"content": ["***"]}
        secrets.delete("@named/API_KEY")
        record = await one.only(passage(arguments={"text": NAMED}))
        assert record["arguments"] == {"text": "***"}, "it was a secret a moment ago"


async def test_whoever_made_it_is_not_kept_waiting_by_a_look(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets.json")
    mask = StoredMask(secrets)
    secrets.set("@named/API_KEY", NAMED)
    assert mask(NAMED) == NAMED
    assert threading.current_thread() is threading.main_thread()
    assert await asyncio.to_thread(mask, NAMED) == "***"
    assert mask(NAMED) == "***"
