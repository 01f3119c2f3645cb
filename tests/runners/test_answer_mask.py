"""Secrets in answers: taken out in the forms in which programs repeat them, and nothing else changed."""

from __future__ import annotations

import base64
import html
import json
import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolscore.runners.answer_mask import AnswerMask
from toolscore.runners.known_secrets import MOST, KnownSecrets, SeenVault
from toolscore.runners.log_mask import SeenValues
from toolscore.runners.secret_look import looks_random

KEY = 'p/a+s"s\\wörd &?<x>'


def result(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


@pytest.mark.parametrize(
    "form",
    [
        str,
        lambda key: json.dumps({"env": {"KEY": key}}),
        lambda key: json.dumps({"env": {"KEY": key}}, ensure_ascii=False),
        lambda key: json.dumps({"body": json.dumps({"KEY": key})}),
        lambda key: json.dumps(key).replace("/", "\\/"),
        lambda key: f"https://x/?key={quote(key, safe='')}&a=b",
        lambda key: f"https://x/{quote(key)}",
        quote_plus,
        lambda key: quote(key, safe="").lower(),
        html.escape,
        lambda key: base64.b64encode(key.encode()).decode(),
        lambda key: base64.b64encode(f"u:{key}".encode()).decode(),
        lambda key: base64.b64encode(f"us:{key}!".encode()).decode(),
        lambda key: base64.urlsafe_b64encode(f"usr{key}".encode()).decode().rstrip("="),
        lambda key: key.encode().hex(),
        repr,
        lambda key: repr(key.encode()),
        lambda key: f"https://x/?next={quote(f'https://y/?key={quote(key)}', safe='')}",
        lambda key: html.escape(key).replace("&quot;", "&#34;"),
        lambda key: '"{}"'.format(key.replace('"', '""')),
    ],
)
def test_a_secret_is_masked_in_every_form_it_commonly_takes(form: Callable[[str], str]) -> None:
    said = form(KEY)
    masked = AnswerMask([KEY])(result(f"before {said} after"))["content"][0]["text"]
    assert "***" in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    decoded = masked.split(" ")[1].replace("***", "")
    assert KEY not in masked
    assert said not in masked
    assert len(decoded) < len(said)


def test_a_quote_in_it_hides_nothing() -> None:
    key = "p4ss'w\"ord"
    for form in (
        shlex.quote(key),
        html.escape(key),
        html.escape(key).replace("&#x27;", "&#39;"),
        repr(key.encode()),
    ):
        masked = AnswerMask([key])(result(form))["content"][0]["text"]
        assert "***" in masked, form
        assert "ord" not in masked


def test_it_is_masked_wherever_it_is_in_an_object() -> None:
    value = {
        "content": [{"type": "resource", "resource": {"uri": f"x://{quote(KEY, safe='')}", "text": KEY}}],
        "structuredContent": {"a": [{KEY: 1, f"x{KEY}": {"b": (KEY, None, True, 1.5)}}]},
        "_meta": {"k": KEY},
    }
    before = json.dumps(value)
    masked = AnswerMask([KEY])(value)
    written = json.dumps(masked, ensure_ascii=False)
    assert json.dumps(KEY, ensure_ascii=False)[1:-1] not in written
    assert masked["structuredContent"]["a"][0].keys() == {"***", "x***"}
    assert masked["structuredContent"]["a"][0]["x***"]["b"] == ["***", None, True, 1.5]
    assert json.dumps(value) == before  # what the router was given is somebody else's


def test_two_members_whose_names_are_secrets_are_both_there() -> None:
    masked = AnswerMask(["secret-one", "secret-two"])({"secret-one": 1, "secret-two": 2, "***": 3})
    assert sorted(masked.values()) == [1, 2, 3]


def test_what_holds_no_secret_is_the_very_same_object() -> None:
    value = result("nothing here")
    assert AnswerMask([KEY])(value) is value
    assert AnswerMask()(value) is value
    assert not AnswerMask()


def test_base64_stays_base64_and_what_is_in_it_as_long_as_it_was() -> None:
    data = base64.b64encode(b"\x89PNG" + KEY.encode() + b"end").decode()
    masked = AnswerMask([KEY])({"content": [{"type": "image", "data": data}]})["content"][0]["data"]
    decoded = base64.b64decode(masked, validate=True)
    assert decoded == b"\x89PNG" + b"*" * len(KEY.encode()) + b"end"


@pytest.mark.parametrize(
    "value", ["abc12", "12345", "1234567", "true", "resource", "localhost", "aaaaaaaa", "  ", ""]
)
def test_short_and_common_values_are_left_alone(value: str) -> None:
    said = result(f"{value} is a word")
    assert AnswerMask([value])(said) is said


def test_a_number_that_is_a_secret_is_masked_as_one() -> None:
    assert AnswerMask(["48151623"])({"pin": 48151623, "other": 4815162})["pin"] == "***"


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("Bearer tok-123456", "tok-123456"),
        (f"Basic {base64.b64encode(b'user:hidden-word').decode()}", "hidden-word"),
        ("postgres://me:hidden%20word@db/x", "hidden word"),
        (json.dumps({"type": "account", "private_key": "hidden-word"}), "hidden-word"),
        ("-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----", "MIIEvQIBADANBgkq"),
    ],
)
def test_the_secret_within_a_value_is_masked_by_itself(value: str, part: str) -> None:
    masked = AnswerMask([value])(result(f"<{part}>"))
    assert masked == result("<***>")


def test_of_two_secrets_that_begin_alike_nothing_stays() -> None:
    assert AnswerMask(["secret-1", "secret-1-more"])(result("secret-1-more secret-1")) == result("*** ***")


def test_an_answer_that_is_nested_too_deeply_to_be_gone_through_is_left_out() -> None:
    deep: Any = KEY
    for _ in range(100_000):
        deep = [deep]
    masked = AnswerMask([KEY])({"structuredContent": deep})
    assert masked["isError"] is True
    assert "nested too deeply" in masked["content"][0]["text"]
    while isinstance(deep, list):  # or freeing it would be as deep
        deep = deep[0]


@given(st.text(min_size=8, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_no_text_keeps_a_secret_and_all_else_stays(key: str, before: str, after: str) -> None:
    mask = AnswerMask([key])
    if not mask or key.strip() != key:
        return
    masked = mask(result(f"{before}{key}{after}"))["content"][0]["text"]
    assert key not in masked


def test_what_a_variable_is_called_or_looks_like_says_whether_answers_hide_it() -> None:
    variables = {"PROJECTS": "/home/me/projects", "MY_TOKEN": "any-thing", "PLACE": "ghp_0123456789abcdef"}
    own = {
        "s/env/DATA_DIR": "/srv/data",
        "s/env/API_KEY": "hidden-1",
        "s/arg/0": "hidden-2",
        "s/given/x/1": "hidden-3",
    }
    seen = SeenValues(variables.get, own.get, {"NAMED": "/named/on/purpose"}.get)
    for name in variables:
        seen.variable(name)
    for key in own:
        seen.secret(key)
    seen.named("NAMED")
    seen.expanded({"PASSWORD": "made-of-parts", "MODE": "plain-text"})
    secret = {"any-thing", "ghp_0123456789abcdef", "hidden-1", "hidden-2", "hidden-3", "/named/on/purpose"}
    assert seen.certain == secret | {"made-of-parts"}
    assert seen.values == seen.certain | {"/home/me/projects", "/srv/data"}


@pytest.mark.parametrize(
    "value", ["sk-proj-abcdefgh12345678", "AKIAIOSFODNN7EXAMPLE", "9f86d081884c7d659a2feaa0c55ad015"]
)
def test_what_looks_like_a_key_is_one(value: str) -> None:
    assert looks_random(value)


@pytest.mark.parametrize(
    "value",
    [
        "/home/me/projects/2024/reports",
        "my-project-name-2024-eu-west-1",
        "https://example.com/a/b/c/d/e/f/1/2/3",
        "a plain sentence of some words 123",
        "node_modules/.bin/server-1234",
    ],
)
def test_paths_names_and_sentences_are_no_keys(value: str) -> None:
    assert not looks_random(value)


def test_values_of_earlier_starts_stay_masked_and_are_bounded() -> None:
    known = KnownSecrets()
    known.learn("s", {"first-value"}, {"first-value"})
    for index in range(MOST - 1):
        known.learn("s", {f"value-number-{index}"}, ())
    assert known.text("first-value") == "***"
    known.learn("s", {"one-more-value"}, ())
    assert known.text("first-value") == "first-value"
    assert known.text("one-more-value") == "***"
    known.forget("s")
    assert known.answers == {}


def test_all_servers_secrets_are_known_to_those_who_write_down() -> None:
    known = KnownSecrets()
    value = {"arguments": {"a": "first-secret", "b": ["second-secret"]}}
    assert known.value(value) is value
    known.learn("one", {"first-secret"}, {"first-secret"})
    known.learn("two", {"second-secret"}, {"second-secret"})
    known.learn("three", {"/a/folder"}, ())
    assert known.value(value) == {"arguments": {"a": "***", "b": ["***"]}}
    assert known.answers.keys() == {"one", "two"}


def test_tokens_of_an_authorization_are_known_when_they_are_read_or_written() -> None:
    class Vault:
        def __init__(self) -> None:
            self.kept: dict[str, Any] = {"tokens": {"access_token": "old-token", "token_type": "Bearer"}}

        def load(self, server: str) -> dict[str, Any] | None:
            return self.kept

        def save(self, server: str, value: Any) -> None:
            self.kept = dict(value)

    known = KnownSecrets()
    vault = SeenVault(Vault(), known)
    vault.load("s")
    assert known.answers["s"](result("old-token Bearer")) == result("*** Bearer")
    credentials = {"client_id": "public-id", "client_secret": "machine-secret"}
    vault.save("s", {"tokens": {"refresh_token": "new-token"}, "credentials": credentials})
    said = known.answers["s"](result("old-token new-token machine-secret public-id"))
    assert said == result("*** *** *** public-id")


@pytest.mark.parametrize(
    "form",
    [
        lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
        lambda key: key.encode().hex(),
        lambda key: json.dumps({"body": json.dumps({"more": json.dumps({"KEY": key})})}),
        html.escape,
    ],
)
def test_logs_failures_and_journal_are_as_free_of_secrets_as_answers(form: Callable[[str], str]) -> None:
    known = KnownSecrets()
    log = known.learn("one", {KEY}, {KEY})
    for mask in (log, known.text):
        shown = mask(f"it is {form(KEY)}.")
        assert "***" in shown
        assert form(KEY)[4:-4] not in shown


def test_what_is_behind_a_bearer_is_a_secret_in_logs_by_itself() -> None:
    log = KnownSecrets().learn("one", {"Bearer abc.def.ghi"}, {"Bearer abc.def.ghi"})
    assert log("sent abc.def.ghi") == "sent ***"


def test_what_was_said_of_a_server_is_written_down_without_its_secrets_when_it_is_gone() -> None:
    known = KnownSecrets()
    known.learn("one", {KEY}, {KEY})
    known.forget("one")
    assert known.text(f"it is {KEY}.") == "it is ***."
    assert known.value({"it": KEY}) == {"it": KEY}  # nobody has it any more
