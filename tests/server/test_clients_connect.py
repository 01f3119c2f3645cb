"""ToolScore's entry is put into clients' files, works there, and can be taken out again."""

from __future__ import annotations

import json
import os
import stat
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from cli_shell import Shell
from client_files import person_in, put
from listening import serving
from toolscore.server.clients.client import NAMES, Machine, client_named
from toolscore.server.clients.connecting import program

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "claude-desktop": (".config/Claude/claude_desktop_config.json", "mcpServers"),
    "claude-code": (".claude.json", "mcpServers"),
    "vscode": (".config/Code/User/mcp.json", "servers"),
    "cursor": (".cursor/mcp.json", "mcpServers"),
    "windsurf": (".codeium/windsurf/mcp_config.json", "mcpServers"),
    "codex": (".codex/config.toml", "mcp_servers"),
    "gemini": (".gemini/settings.json", "mcpServers"),
}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell of a person whose folder holds nothing yet."""
    return person_in(tmp_path)


def entry(shell: Shell, client: str) -> dict[str, Any]:
    """ToolScore's entry, as a client reads it."""
    path, table = FILES[client]
    file = Path(shell.environ["HOME"]) / path
    text = file.read_text()
    found: dict[str, Any] = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    return dict(found[table]["toolscore"])


@pytest.mark.parametrize("client", ["claude-desktop", "codex"])
async def test_the_entry_a_client_gets_starts_a_toolscore_that_works(shell: Shell, client: str) -> None:
    done = shell("connect", client)
    assert done.returncode == 0, done.stderr
    given = entry(shell, client)
    assert given["args"] == ["--home", str(shell.home)], "TOOLSCORE_HOME of the shell is none of the client's"
    # As clients start servers: with a bare environment and from anywhere.
    environ = {"HOME": shell.environ["HOME"], "TOOLSCORE_TEST_BARE": "1", "TOOLSCORE_TOOLS_SEMANTIC": "off"}
    started = StdioServerParameters(
        command=given["command"], args=[*given.get("args", ()), "--standalone"], env=environ, cwd="/"
    )
    async with Client(stdio_client(started)) as speaking:
        assert len((await speaking.list_tools()).tools) == 10
    assert shell("connect", client, "--home", str(shell.home)).stdout.startswith(
        f"{done.stdout.split(' has ToolScore now')[0].splitlines()[-1]} has ToolScore already"
    )


def test_one_that_uvx_runs_is_started_by_uvx_again_as_its_environment_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, lasting = tmp_path / "cache" / "archive-v0" / "x", tmp_path / "bin"
    for folder in (environment / "bin", lasting):
        folder.mkdir(parents=True)
        (folder / "uvx").touch(0o755)
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setenv("PATH", os.pathsep.join((str(environment / "bin"), str(lasting))))
    assert "--from" not in program(), "it is no cache"
    (tmp_path / "cache" / "CACHEDIR.TAG").touch()
    command, option, wanted, name = program()
    assert (command, option, name) == (str(lasting / "uvx"), "--from", "toolscore")
    assert Path(wanted).samefile(ROOT), "where it was installed from"


def test_a_variable_that_moves_a_client_s_folder_moves_its_file(tmp_path: Path) -> None:
    for client, variable in (("codex", "CODEX_HOME"), ("claude-code", "CLAUDE_CONFIG_DIR")):
        usual, moved = (
            client_named(client).user(Machine(tmp_path, "linux", variables))[0].path
            for variables in ({}, {variable: str(tmp_path / "moved")})
        )
        assert usual == tmp_path / FILES[client][0]
        assert moved == tmp_path / "moved" / usual.name


@pytest.mark.parametrize("client", NAMES)
def test_undoing_gives_the_file_back_to_the_byte(shell: Shell, client: str) -> None:
    path, table = FILES[client]
    toml = path.endswith(".toml")
    before = (
        f'a = 1 # x\n[{table}.b]\ncommand="c"' if toml else f'{{"a":1,"{table}":{{"b":{{"command":"c"}}}}}}'
    )
    file = put(shell, path, before)
    file.chmod(0o640)
    assert shell("connect", client).returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    copy = file.with_name(f"{file.name}.before-toolscore")
    assert copy.read_text() == before
    (settings := shell.home.with_name("settings.toml")).touch()
    changed = shell("connect", client, "--config", str(settings))
    assert (changed.returncode, "has ToolScore now" in changed.stdout) == (0, True), changed.stderr
    undone = shell("connect", client, "--undo")
    assert undone.returncode == 0, undone.stderr
    assert file.read_text() == before
    again = shell("connect", client, "--undo")
    assert (again.returncode, "nothing to undo" in again.stderr) == (1, True)


def test_a_file_made_for_toolscore_goes_and_one_changed_since_keeps_what_is_new(shell: Shell) -> None:
    file = Path(shell.environ["HOME"]) / FILES["cursor"][0]
    shell("connect", "cursor")
    shell("connect", "cursor", "--undo")
    assert not file.exists()
    shell("connect", "cursor")
    value = json.loads(file.read_text())
    value["mcpServers"]["mine"] = {"command": "x"}
    file.write_text(json.dumps(value))
    assert "all else in it stays" in shell("connect", "cursor", "--undo").stdout
    assert json.loads(file.read_text()) == {"mcpServers": {"mine": {"command": "x"}}}
    file.write_bytes(b'\xef\xbb\xbf{"mcpServers": {}}')
    shell("connect", "cursor")
    assert file.read_bytes().startswith(b"\xef\xbb\xbf{"), "an editor on Windows marks its files so"


@pytest.mark.parametrize("client", NAMES)
def test_of_several_entries_that_one_goes_that_is_named_and_with_the_last_the_file_is_as_it_was(
    shell: Shell, client: str
) -> None:
    path, table = FILES[client]
    before = (
        f'[{table}.b]\ncommand="c"' if path.endswith(".toml") else f'{{"{table}":{{"b":{{"command":"c"}}}}}}'
    )
    file = put(shell, path, before)
    for name in ("toolscore", "ts-office", "ts-private"):
        assert shell("connect", client, "--name", name).returncode == 0
    gone = shell("connect", client, "--undo", "--name", "ts-office")
    assert (gone.returncode, "ts-office is out of" in gone.stdout) == (0, True), gone.stderr
    assert "ts-office" not in file.read_text()
    assert "ts-private" in file.read_text()
    assert shell("connect", client, "--undo").returncode == 0
    assert "ts-private" in file.read_text()
    assert shell("connect", client, "--name", "ts-more").returncode == 0
    which = shell("connect", client, "--undo")
    assert (which.returncode, "as ts-private and ts-more: say which with --name" in which.stderr) == (1, True)
    wrong = shell("connect", client, "--undo", "--name", "nobody")
    assert (wrong.returncode, "no server nobody" in wrong.stderr) == (1, True)
    assert shell("connect", client, "--undo", "--name", "ts-private").returncode == 0
    assert shell("connect", client, "--undo").returncode == 0, "there is one left, whatever it is called"
    assert file.read_text() == before


def test_what_is_written_between_two_connections_outlives_their_undoing(shell: Shell) -> None:
    file = put(shell, FILES["cursor"][0], {"mcpServers": {"old": {"command": "o"}}})
    shell("connect", "cursor")
    value = json.loads(file.read_text())
    value["mcpServers"]["new"] = {"command": "n"}
    file.write_text(json.dumps(value))
    shell("connect", "cursor", "--name", "work")
    for name in ("work", "toolscore"):
        assert shell("connect", "cursor", "--undo", "--name", name).returncode == 0
    assert json.loads(file.read_text()) == {"mcpServers": {"old": {"command": "o"}, "new": {"command": "n"}}}


def test_a_link_stays_a_link_and_secrets_near_by_are_not_shown(shell: Shell) -> None:
    secret = "ghp_abcdefghij1234567890"
    kept = put(shell, "dotfiles/mcp.json", {"mcpServers": {"a": {"command": "x", "env": {"T": secret}}}})
    file = Path(shell.environ["HOME"]) / FILES["cursor"][0]
    file.parent.mkdir()
    file.symlink_to(kept)
    done = shell("connect", "cursor", "--dry-run")
    assert "+" in done.stdout
    assert secret not in done.stdout
    assert "toolscore" not in kept.read_text()
    shell("connect", "cursor")
    assert file.is_symlink()
    assert json.loads(kept.read_text())["mcpServers"].keys() == {"a", "toolscore"}


@pytest.mark.parametrize(
    ("client", "content", "said"),
    [
        ("cursor", '{"mcpServers": ', "is not valid JSON"),
        ("cursor", '{"mcpServers": []}', "mcpServers is no object"),
        ("codex", 'mcp_servers = { a = { command = "x" } }', "Correct it there"),
        ("gemini", "{}".encode("utf-16"), "save it as UTF-8"),
        ("gemini", b"{\xff}", "is not UTF-8"),
    ],
)
def test_a_file_that_is_wrong_stays_as_it_is(shell: Shell, client: str, content: Any, said: str) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    file = put(shell, FILES[client][0], "")
    file.write_bytes(raw)
    done = shell("connect", client)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert file.read_bytes() == raw
    assert os.listdir(file.parent) == [file.name]


async def test_a_client_may_reach_it_over_the_network_with_its_token(shell: Shell) -> None:
    refused = shell("connect", "claude-desktop", "--url", "http://127.0.0.1:1/mcp")
    assert (refused.returncode, "without --url" in refused.stderr) == (1, True)
    with serving(shell.home, "http://127.0.0.1:0/mcp", options=()) as running:
        assert shell("connect", "cursor", "--url", running.url).returncode == 0
        given = entry(shell, "cursor")
        async with (
            httpx2.AsyncClient(headers=given["headers"], timeout=60) as http,
            Client(streamable_http_client(given["url"], http_client=http)) as speaking,
        ):
            assert len((await speaking.list_tools()).tools) == 10


def test_a_projects_file_has_no_token_in_it(shell: Shell) -> None:
    project = put(shell, "work/x", "").parent
    done = shell("connect", "claude-code", "--project", str(project), "--url", "https://ts.example/mcp")
    assert done.returncode == 0, done.stderr
    written = json.loads((project / ".mcp.json").read_text())["mcpServers"]["toolscore"]
    assert written == {
        "type": "http",
        "url": "https://ts.example/mcp",
        "headers": {"Authorization": "Bearer ${TOOLSCORE_TOKEN}"},
    }
    assert shell("connect", "windsurf", "--project", str(project)).returncode == 1
