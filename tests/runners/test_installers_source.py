"""What a source may look like, what it is taken for, and what name it suggests."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolscore.runners.errors import SourceError
from toolscore.runners.installers.name import suggest_name
from toolscore.runners.installers.source import parse
from toolscore.runners.spec import SourceKind


@pytest.mark.parametrize(
    ("text", "name", "extras", "version", "entry"),
    [
        ("pypi:mcp-server-time", "mcp-server-time", (), None, None),
        ("pypi:mcp-server-time@1.2", "mcp-server-time", (), "1.2", None),
        ("pypi:mcp-server-time==1.2#mcp-time", "mcp-server-time", (), "1.2", "mcp-time"),
        ("pypi:thing[cli, http]@2.0rc1", "thing", ("cli", "http"), "2.0rc1", None),
        ("pypi: thing@latest", "thing", (), None, None),
    ],
)
def test_a_python_distribution_is_taken_apart(
    text: str, name: str, extras: tuple[str, ...], version: str | None, entry: str | None
) -> None:
    source = parse(text)
    assert source.kind is SourceKind.PYPI
    assert (source.name, source.extras, source.version, source.entry) == (name, extras, version, entry)


@pytest.mark.parametrize(
    ("text", "name", "version", "entry"),
    [
        ("npm:server", "server", None, None),
        ("npm:@scope/server", "@scope/server", None, None),
        ("npm:@scope/server@1.2.3", "@scope/server", "1.2.3", None),
        ("npm:server@^1.2#bin-name", "server", "^1.2", "bin-name"),
        ("npm:JSONStream@next", "JSONStream", "next", None),
    ],
)
def test_an_npm_package_is_taken_apart(text: str, name: str, version: str | None, entry: str | None) -> None:
    source = parse(text)
    assert source.kind is SourceKind.NPM
    assert (source.name, source.version, source.entry) == (name, version, entry)


@pytest.mark.parametrize(
    ("text", "url", "ref", "entry"),
    [
        ("git+https://host/x/y.git", "https://host/x/y.git", None, None),
        ("git+https://host/x/y@v1.2#run", "https://host/x/y", "v1.2", "run"),
        ("git+ssh://git@host:2222/x/y.git", "ssh://git@host:2222/x/y.git", None, None),
        ("git+ssh://git@host/x/y.git@feature/one", "ssh://git@host/x/y.git", "feature/one", None),
        ("git+file:///srv/y@0123abcd", "file:///srv/y", "0123abcd", None),
        ("git+https://host/servers#subdirectory=src/time", "https://host/servers", None, "src/time"),
        ("git+http://[::1]:80/x", "http://[::1]:80/x", None, None),
    ],
)
def test_a_git_url_is_taken_apart_without_confusing_user_and_ref(
    text: str, url: str, ref: str | None, entry: str | None
) -> None:
    source = parse(text)
    assert source.kind is SourceKind.GIT
    assert (source.url, source.ref, source.entry) == (url, ref, entry)


def test_folders_and_bundles_are_told_from_their_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert parse("./a/b").path == tmp_path / "a/b"
    assert parse("a/b").path == tmp_path / "a/b"
    assert parse("~/a").path == tmp_path / "home/a"
    assert parse("/a/b#c/main.py").entry == "c/main.py"
    assert parse("file:///a%20b").path == Path("/a b")
    assert parse("x.mcpb").kind is parse("/a/X.MCPB").kind is SourceKind.MCPB
    assert parse("x.mcpb").path == tmp_path / "x.mcpb"
    (tmp_path / "C#").mkdir()
    assert parse("./C#").path == tmp_path / "C#"


def test_a_command_is_split_into_words_and_never_meets_a_shell() -> None:
    source = parse("command: npx -y 'a b' $(touch x); ls")
    assert source.kind is SourceKind.COMMAND
    assert source.argv == ("npx", "-y", "a b", "$(touch", "x);", "ls")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "pypi:",
        "pypi:--index-url=http://evil",
        "pypi:-r",
        "pypi:a/b",
        "pypi:a @ http://evil",
        "pypi:a;python_version>'3'",
        "pypi:a@../b",
        "pypi:a@1 --pre",
        "pypi:a[--x]",
        "pypi:a#--x",
        "pypi:a#../x",
        "npm:",
        "npm:--prefix",
        "npm:../x",
        "npm:a/b/c",
        "npm:@a",
        "npm:a@npm:b",
        "npm:a@file:../b",
        "npm:a@user/repo",
        "npm:a@--x",
        "npm:a b",
        "npm:a@1 || 2",
        "npm:a#../x",
        "git+",
        "git+x/y",
        "git+ext::sh -c touch% x",
        "git+ext://x",
        "git+ssh://-oProxyCommand=x/y",
        "git+ssh://-x@host/y",
        "git+https://host",
        "git+https://user:secret@host/x",
        "git+https://ghp_x@host/x",
        "git+https://@host/x",
        "git+https://host/x?private_token=x",
        "git+https://host?private_token=x/y",
        "git+https://[::1/x/y",
        "git+ssh://git@[::1/x/y",
        "git+https://[::::1]/x",
        "git+https://host//",
        "https://[::1/x/y",
        "file://[x/y",
        "file://x]/y",
        "git+https://host/x@--upload-pack=x",
        "git+https://host/x@-x",
        "git+https://host/x@a..b",
        "git+https://host/x@a:b",
        "git+https://host/x@+a",
        "git+https://host/x#../y",
        "git+https://host/x#/y",
        "git+https://host/x#-y",
        "git+file://elsewhere/x",
        "file://elsewhere/x",
        "file:///a%00b",
        "./x#../y",
        "/x.mcpb#y",
        "~nobody-of-that-name/x",
        "docker:Not/An Image",
        "docker:",
        "https://host/x.mcpb",
        "command:",
        "command: 'open",
        "command: ''",
        "pypi:a\nb",
        "./a\x00b",
    ],
)
def test_what_could_smuggle_or_makes_no_sense_is_refused_with_the_known_forms(text: str) -> None:
    with pytest.raises(SourceError, match=r"pypi:NAME.*npm:.*git\+URL.*\.mcpb.*command:"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "offer"),
    [
        ("time", "pypi:time, npm:time"),
        ("@scope/time", "npm:@scope/time"),
        ("https://host/x/y", "git+https://host/x/y"),
        ("git@host:x/y.git", "git+ssh://git@host/x/y.git"),
        ("git+git@host:x/y.git", "git+ssh://git@host/x/y.git"),
        ("npx -y thing", "command: npx -y thing"),
    ],
)
def test_a_near_miss_is_told_the_right_form(text: str, offer: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse(text)
    assert offer in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        *(
            "git+https://user:hunter2@host/x",
            "git+http://hunter2@host/x/y@main#run",
            "git+https://hunter2@host",
        ),
        *("git+https://host/x?private_token=hunter2", "git+https://host/x@main?private_token=hunter2"),
        *("git+https://host?private_token=hunter2", "git+https://hunter2@host/x#../y"),
    ],
)
def test_a_token_in_a_url_is_refused_with_what_to_use_instead(text: str) -> None:
    with pytest.raises(
        SourceError, match=r"user or token.*would be stored.*credential helper.*ssh"
    ) as caught:
        parse(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("git+ssh://user:hunter2@host/x", "https://hunter2@host/x/y", "https://host/x/y?token=hunter2"),
        *("git+HTTPS://hunter2@host/x", "https://hunter2@host/x.mcpb?sig=hunter2"),
    ],
)
def test_no_other_error_repeats_a_token(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse(text)
    assert "hunter2" not in str(caught.value)


def test_a_path_that_no_file_system_knows_is_still_a_path() -> None:
    assert parse(f"./{'x' * 4000}#y.py").entry == "y.py"


def test_links_in_a_circle_and_words_that_are_no_url_still_suggest_a_name(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    assert suggest_name(parse(str(tmp_path / "circle"))) == "circle"
    assert suggest_name(parse("command: npx http://[::1/thing")) == "thing"


@settings(deadline=None)  # other tests may have the processor
@given(st.text())
def test_any_text_is_either_a_source_or_a_source_error(text: str) -> None:
    try:
        source = parse(text)
    except SourceError:
        return
    assert source.text == text.strip()


@settings(deadline=None)  # other tests may have the processor
@given(st.sampled_from(["pypi:", "npm:", "git+https://", "git+ssh://", "command:", "./"]), st.text())
def test_nothing_that_passes_can_be_an_option_or_has_a_bad_name(prefix: str, text: str) -> None:
    try:
        source = parse(prefix + text)
    except SourceError:
        return
    for value in (source.name, source.version, source.entry, source.ref, source.url, *source.extras):
        assert not value or not value.startswith("-")
        assert not value or not re.search(r"[\x00-\x1f]", value)
    name = suggest_name(source)
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", name)
    assert "__" not in name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pypi:mcp-server-time", "time"),
        ("pypi:mcp_server_time@1.0", "time"),
        ("pypi:weather-mcp", "weather"),
        ("pypi:mcp", "server"),
        ("npm:@modelcontextprotocol/server-everything", "everything"),
        ("npm:@playwright/mcp@1.0.0", "playwright"),
        ("npm:thing-mcp-server", "thing"),
        ("git+https://x/y/foo-mcp.git", "foo"),
        ("git+https://x/servers@main#src/time", "time"),
        ("git+https://x/owner/mcp-server", "owner"),
        ("command: npx -y foo", "foo"),
        ("command: npx -y @scope/foo-mcp@1.2 --flag", "foo"),
        ("command: uvx mcp-server-time", "time"),
        ("command: python -m my_mcp_server", "my"),
        ("command: python /srv/weather/server.py", "weather"),
        ("command: docker run -i --rm mcp/time:latest", "time"),
        ("command: /opt/bin/my-server --stdio", "my"),
        ("pypi:" + "very-long-name-" * 5 + "x", "very-long-name-very-long-name-ve"),
    ],
)
def test_the_suggested_name_is_short_and_says_what_it_is(text: str, name: str) -> None:
    assert suggest_name(parse(text)) == name


def test_a_project_or_bundle_suggests_the_name_it_declares(tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    assert suggest_name(parse(str(folder))) == "checkout"
    (folder / "package.json").write_text(json.dumps({"name": "@me/node-thing-mcp"}))
    assert suggest_name(parse(str(folder))) == "node-thing"
    (folder / "pyproject.toml").write_text('[project]\nname = "mcp-server-python-thing"\n')
    assert suggest_name(parse(str(folder))) == "python-thing"
    (folder / "pyproject.toml").write_text("not toml [")
    assert suggest_name(parse(str(folder))) == "node-thing"

    bundle = tmp_path / "file-name.mcpb"
    assert suggest_name(parse(str(bundle))) == "file-name"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("manifest.json", json.dumps({"name": "My Bundle"}))
    assert suggest_name(parse(str(bundle))) == "my-bundle"
