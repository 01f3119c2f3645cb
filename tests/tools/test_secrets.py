"""Secrets: kept in one private file, and taken out of specs before those are stored."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolscore.runners.secret_look import looks_secret
from toolscore.runners.spec import ServerSpec
from toolscore.runners.template import expand_spec, is_template
from toolscore.tools.errors import SecretsError
from toolscore.tools.secrets import Secrets
from toolscore.tools.spec_secrets import extract


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets.json"


def test_without_a_file_there_are_no_secrets_and_none_is_made_by_looking(path: Path) -> None:
    secrets = Secrets(path)
    assert secrets.get("a/env/KEY") is None
    assert secrets.names() == []
    assert secrets.delete_prefix("a/") == 0
    assert not path.exists()


def test_a_value_is_there_at_once_and_after_a_restart(path: Path) -> None:
    secrets = Secrets(path)
    secrets.set("a/env/KEY", "pässword \n 漢 \ud800")
    secrets.set_many({"b/env/X": "1", "a/header/Y": "2"})
    for each in (secrets, Secrets(path)):
        assert each.get("a/env/KEY") == "pässword \n 漢 \ud800"
        assert each.names() == ["a/env/KEY", "a/header/Y", "b/env/X"]


def test_the_file_is_for_the_owner_alone_and_nothing_lies_beside_it(path: Path) -> None:
    previous = os.umask(0)
    try:
        Secrets(path).set("a", "1")
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_what_belongs_to_one_server_is_deleted_together(path: Path) -> None:
    secrets = Secrets(path)
    secrets.set_many({"a/env/X": "1", "a/url": "2", "ab/env/X": "3"})
    assert secrets.delete_prefix("a/") == 2
    assert Secrets(path).names() == ["ab/env/X"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_can_read_is_refused_with_the_command_that_helps(path: Path, mode: int) -> None:
    Secrets(path).set("a", "hush")
    path.chmod(mode)
    with pytest.raises(SecretsError, match=f"chmod 600 {path}"):
        Secrets(path).get("a")
    with pytest.raises(SecretsError, match="chmod 600"):
        Secrets(path).set("b", "2")
    path.chmod(0o600)
    assert Secrets(path).get("a") == "hush"


def test_a_change_by_another_process_is_seen(path: Path) -> None:
    secrets = Secrets(path)
    secrets.set("a", "old")
    code = (
        "import sys\nfrom pathlib import Path\nfrom toolscore.tools.secrets import Secrets\n"
        "Secrets(Path(sys.argv[1])).set('a', 'new')"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert secrets.get("a") == "new"
    path.unlink()
    assert secrets.get("a") is None


@pytest.mark.parametrize(
    "content", ["", "{", '["hush"]', '{"a": 1, "b": "hush"}', '"hush" x', '{"a": "hush\xff"}']
)
def test_a_file_of_nonsense_is_refused_without_quoting_it(path: Path, content: str) -> None:
    path.write_bytes(content.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(SecretsError, match=r"not a JSON object.*Correct it") as caught:
        Secrets(path).get("a")
    assert "hush" not in repr(caught.value)
    assert "hush" not in repr(caught.value.__cause__)
    assert path.read_bytes() == content.encode("latin-1")


def test_values_are_in_neither_the_text_nor_the_repr(path: Path) -> None:
    secrets = Secrets(path)
    secrets.set("a", "hush")
    assert "hush" not in f"{secrets} {secrets!r}"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    secrets = Secrets(path)
    secrets.set("a", "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(SecretsError, match=r"Free some space.*nothing was changed"):
            secrets.set("b", "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert secrets.names() == ["a"]
    assert json.loads(path.read_bytes()) == {"a": "old"}
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_writer_left_is_cleared_away(path: Path) -> None:
    path.with_name(".secrets.json.new").write_text("half")
    Secrets(path).set("a", "1")
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(SecretsError, match="No such file or directory"):
        Secrets(tmp_path / "absent" / "secrets.json").set("a", "1")


def test_threads_do_not_lose_each_others_values(path: Path) -> None:
    secrets = Secrets(path)
    threads = [threading.Thread(target=secrets.set, args=(f"k{number}", "v")) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Secrets(path).names()) == 20


# --- taking them out of a spec


def test_literal_env_and_headers_become_references() -> None:
    spec = ServerSpec(
        url="https://example.org/mcp",
        env={"API_KEY": "abc", "MODE": "fast"},
        headers={"Authorization": "Bearer abc", "X-Trace": "1"},
    )
    kept, values = extract("gh", spec)
    assert kept.env == {"API_KEY": "${secret:gh/env/API_KEY}", "MODE": "${secret:gh/env/MODE}"}
    assert kept.headers == {
        "Authorization": "${secret:gh/header/Authorization}",
        "X-Trace": "${secret:gh/header/X-Trace}",
    }
    assert kept.url == spec.url
    assert values == {
        "gh/env/API_KEY": "abc",
        "gh/env/MODE": "fast",
        "gh/header/Authorization": "Bearer abc",
        "gh/header/X-Trace": "1",
    }


@pytest.mark.parametrize(
    "text", ["", "${A}", "${A:-x}", "${env:A}", "Bearer ${env:A:-}", "a${A}b", "${secret:x/env/A}", "${PORT}"]
)
def test_templates_and_empty_values_stay(text: str) -> None:
    spec = ServerSpec(command="x", env={"TOKEN": text}, headers={"H": text}, args=("--token", text))
    assert extract("s", spec) == (spec, {})


@pytest.mark.parametrize("text", ["$A", "pa$$word", "${", "${A", "${A:-${B}}", "a}b", "${1A}"])
def test_what_only_looks_like_a_template_is_a_literal(text: str) -> None:
    assert extract("s", ServerSpec(command="x", env={"E": text}))[1] == {"s/env/E": text}


@pytest.mark.parametrize(
    ("given", "kept", "value"),
    [
        (("--api-key", "abc"), ("--api-key", "${secret:s/arg/1}"), "abc"),
        (("--password", "-Abc1"), ("--password", "${secret:s/arg/1}"), "-Abc1"),
        (("-x", "--token=abc=="), ("-x", "--token=${secret:s/arg/1}"), "abc=="),
        (("-e", "GITHUB_TOKEN=abc"), ("-e", "GITHUB_TOKEN=${secret:s/arg/1}"), "abc"),
        (("--env=DB_PASSWORD=abc",), ("--env=DB_PASSWORD=${secret:s/arg/0}",), "abc"),
        (("--apiKey", "abc"), ("--apiKey", "${secret:s/arg/1}"), "abc"),
        (
            ("--header", "Authorization: Bearer abc"),
            ("--header", "Authorization: ${secret:s/arg/1}"),
            "Bearer abc",
        ),
        (("--header=X-Api-Key:abc",), ("--header=X-Api-Key:${secret:s/arg/0}",), "abc"),
        (("postgres://me:pw@h/db",), ("postgres://${secret:s/arg/0/userinfo}@h/db",), "me:pw"),
        (("--url=https://h/?sig=ab",), ("--url=https://h/?sig=${secret:s/arg/0/sig}",), "ab"),
        (("--config", '{"apiKey": "abc"}'), ("--config", "${secret:s/arg/1}"), '{"apiKey": "abc"}'),
    ],
)
def test_secrets_among_the_arguments_become_references(
    given: tuple[str, ...], kept: tuple[str, ...], value: str
) -> None:
    spec, values = extract("s", ServerSpec(command="x", args=given))
    assert spec.args == kept
    assert list(values.values()) == [value]


@pytest.mark.parametrize(
    "args",
    [
        ("stdio", "--port", "8080", "/srv/data", "-v"),
        ("--password", "--verbose"),
        ("-e", "GITHUB_TOKEN", "image"),
        ("-e", "HOME=/x"),
        ("--no-auth", "8080"),
        ("--max-tokens", "4096"),
        ("--header", "Accept: text/plain"),
        ("https://h/path?page=2", "C:\\data", "me@example.org"),
        ("--config", '{"port": "1"}'),
    ],
)
def test_harmless_arguments_stay_readable(args: tuple[str, ...]) -> None:
    spec = ServerSpec(command="x", args=args)
    assert extract("s", spec) == (spec, {})


def test_only_the_secret_parts_of_a_url_are_taken_out() -> None:
    spec, values = extract(
        "s", ServerSpec(url="wss://me:p@ss@h:1/p?access_token=a%20b&page=2&key=k&key=l&sig=${SIG}#top")
    )
    assert spec.url == (
        "wss://${secret:s/url/userinfo}@h:1/p?access_token=${secret:s/url/access_token}&page=2"
        "&key=${secret:s/url/key}&key=${secret:s/url/key/2}&sig=${SIG}#top"
    )
    assert values == {
        "s/url/userinfo": "me:p@ss",
        "s/url/access_token": "a%20b",
        "s/url/key": "k",
        "s/url/key/2": "l",
    }


def test_a_secret_behind_a_brace_that_is_never_closed_is_taken_out_with_all_around_it() -> None:
    url = 'http://u@h/?${--api-key={"key": "v"}'
    arg = "https://h/?${&key=a }"
    given = ServerSpec(command="x", args=("-v", arg), url=url)
    kept, values = extract("s", given)
    assert kept.url == "http://${secret:s/url}"
    assert kept.args == ("-v", "${secret:s/arg/1}")
    assert values == {"s/url": url.removeprefix("http://"), "s/arg/1": arg}
    assert expand_spec(kept, values.get, values.get, {}) == given
    assert ServerSpec.model_validate(kept.model_dump()) == kept


@pytest.mark.parametrize(
    "name",
    [
        *("token", "key", "api_key", "access_token", "secret", "password", "sig", "--api-key", "GITHUB_PAT"),
        *("PGPASSWORD", "AWSSecretAccessKey", "x-goog-signature", "dbPass", "Authorization", "Set-Cookie"),
    ],
)
def test_names_of_secrets_are_recognised(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name", ["", "--port", "author", "keyboard", "tokenizer", "path", "--no-auth", "sign-in"]
)
def test_other_names_are_not(name: str) -> None:
    assert not looks_secret(name)


WORDS = st.sampled_from(
    [
        *("--token", "--api-key=", "-e", "TOKEN=", "https://u:p@h/?key=v&a=b", "Authorization: ", "${A}", ""),
        *("x", "{}", "$", "${", "}", "%", "/", "secret", '{"key": "v"}', "--", "=", "@", "://"),
    ]
)
TEXTS = st.lists(WORDS, max_size=4).map("".join)


@example(args=[], env={}, headers={}, query="://--token@--api-key=v")
@example(args=[], env={}, headers={}, query='${--api-key={"key": "v"}')
@given(
    args=st.lists(TEXTS, max_size=5),
    env=st.dictionaries(TEXTS, TEXTS, max_size=3),
    headers=st.dictionaries(st.sampled_from(["Authorization", "X-Trace", "x"]), TEXTS, max_size=3),
    query=TEXTS,
)
def test_put_back_everything_is_as_it_was_and_a_second_time_takes_out_nothing(
    args: list[str], env: dict[str, str], headers: dict[str, str], query: str
) -> None:
    spec = ServerSpec(command="x", args=tuple(args), env=env, headers=headers, url=f"http://u@h/?{query}")
    kept, values = extract("s", spec)
    assert expand_spec(kept, {"A": "1"}.get, values.get, {}) == expand_spec(
        spec, {"A": "1"}.get, values.get, {}
    )
    assert extract("s", kept) == (kept, {})
    assert all(is_template(text) or not text for text in (*kept.env.values(), *kept.headers.values()))


def test_the_fixed_pieces_of_a_value_with_templates_are_taken_out_too() -> None:
    spec = ServerSpec(
        command="x",
        env={"URL": "postgresql://me:hunter2@${HOST}:5432/db", "KEY": "hunter2-${HOME}", "SAME": "${TOKEN}"},
        headers={"Authorization": "Bearer ${TOKEN}"},
    )
    kept, values = extract("s", spec)
    assert "hunter2" not in kept.model_dump_json()
    assert kept.headers == {"Authorization": "Bearer ${TOKEN}"}
    assert kept.env["SAME"] == "${TOKEN}"
    given = {"HOST": "h", "HOME": "/h", "TOKEN": "t"}
    whole = expand_spec(kept, given.get, values.get, {})
    assert whole.env == {"URL": "postgresql://me:hunter2@h:5432/db", "KEY": "hunter2-/h", "SAME": "t"}


def test_two_processes_that_write_at_once_lose_nothing_of_each_other(path: Path) -> None:
    """A command keeps tokens while the ToolScore that owns the home keeps others."""
    code = (
        "import sys; from pathlib import Path; from toolscore.tools.secrets import Secrets\n"
        "secrets = Secrets(Path(sys.argv[1]))\n"
        "for number in range(40): secrets.set(f'{sys.argv[2]}/{number}', 'x')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(Secrets(path).names()) == 120
    assert [file.name for file in path.parent.iterdir()] == [path.name]
