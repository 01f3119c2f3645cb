"""What MCP clients have is taken over, without secrets in ToolScore's own file."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli_shell import Shell
from client_files import person_in, put
from toolscore.server.clients.client import CLIENTS, Machine
from toolscore.server.clients.found import search

TOKEN = "ghp_abcdefghij1234567890"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell of a person whose folder holds nothing yet."""
    return person_in(tmp_path)


def config(shell: Shell) -> dict[str, Any]:
    """What ToolScore's file declares."""
    found: dict[str, Any] = tomllib.loads((shell.home / "config.toml").read_text())["mcpServers"]
    return found


REMOTE = {"url": "https://x.example/mcp"}

FORMS: list[tuple[str, str, Any, dict[str, Any]]] = [
    (
        "claude-desktop",
        ".config/Claude/claude_desktop_config.json",
        {"mcpServers": {"one": {"command": "uvx", "args": ["a", "${HOME_OF:-x}"], "env": {"LOG": "1"}}}},
        {"command": "uvx", "args": ["a", "${HOME_OF:-x}"], "env": {"LOG": "1"}},
    ),
    (
        "claude-code",
        ".claude.json",
        {"numStartups": 3, "mcpServers": {"one": {"type": "http", **REMOTE, "headers": {"X-A": "${A}"}}}},
        {"type": "http", **REMOTE, "headers": {"X-A": "${A}"}},
    ),
    (
        "vscode",
        ".config/Code/User/mcp.json",
        '{"servers": {"one": {"type": "stdio", "command": "${env:BIN}", "cwd": "${userHome}",}}} // mine',
        {"command": "${env:BIN}", "cwd": "HOME"},
    ),
    (
        "vscode",
        ".config/Code/User/settings.json",
        {"mcp": {"inputs": [{"id": "level", "default": "info"}], "servers": {"one": {
            "command": "x", "env": {"LEVEL": "${input:level}"}}}}},
        {"command": "x", "env": {"LEVEL": "${input:level:-info}"}},
    ),
    (
        "cursor",
        ".cursor/mcp.json",
        {"mcpServers": {"one": {**REMOTE, "type": "streamableHttp", "headers": {"X-A": "${env:A}"}}}},
        {"type": "streamablehttp", **REMOTE, "headers": {"X-A": "${env:A}"}},
    ),
    (
        "windsurf",
        ".codeium/windsurf/mcp_config.json",
        {"mcpServers": {"one": {"serverUrl": "https://x.example/sse", "disabled": True}}},
        {"url": "https://x.example/sse", "disabled": True},
    ),
    (
        "codex",
        ".codex/config.toml",
        'model = "m"\n[mcp_servers.one]\nurl = "https://x.example/mcp"\nbearer_token_env_var = "T"\n'
        'enabled = false\ntool_timeout_sec = 90\nstartup_timeout_sec = 20\n[mcp_servers.one.env_http_headers]\n'
        'X-B = "B"\n',
        {**REMOTE, "headers": {"X-B": "${env:B}", "Authorization": "Bearer ${env:T}"}, "disabled": True,
         "timeout": 90, "start_timeout": 20},
    ),
    (
        "codex",
        ".codex/config.toml",
        '[mcp_servers.one]\ncommand = "x"\nenv_vars = ["A"]\nenv = { B = "2" }\n',
        {"command": "x", "env": {"B": "2", "A": "${env:A}"}},
    ),
    (
        "gemini",
        ".gemini/settings.json",
        {"mcpServers": {"one": {"url": "https://x.example/events", "timeout": 30000, "trust": True,
                                "headers": {"X-A": "$A-${B}"}}}},
        {"type": "sse", "url": "https://x.example/events", "headers": {"X-A": "${env:A}-${B}"}, "timeout": 30.0},
    ),
    (
        "gemini",
        ".gemini/settings.json",
        {"mcpServers": {"one": {"httpUrl": "https://x.example/mcp"}}},
        REMOTE,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("client", "path", "content", "entry"), FORMS)
def test_each_clients_form_is_read_where_the_client_keeps_it(
    shell: Shell, client: str, path: str, content: Any, entry: dict[str, Any]
) -> None:
    file = put(shell, path, content)
    before = file.read_bytes()
    found = shell.document("import", "--yes")
    assert [(one["client"], one["name"]) for one in found["servers"]] == [(client, "one")], found
    home = shell.environ["HOME"]
    assert config(shell) == {"one": {key: home if value == "HOME" else value for key, value in entry.items()}}
    assert file.read_bytes() == before
    assert shell.document("config", "check")["problems"] == []


def test_secrets_go_to_the_secrets_and_a_running_toolscore_starts_the_server_with_them(shell: Shell) -> None:
    code = "import os, sys; exec(open(sys.argv[1]).read().replace('it went wrong', os.environ['API_TOKEN'][:3] * 2))"
    server = str(shell.cwd / "server.py")
    entry = {"command": sys.executable, "args": ["-c", code, server], "env": {"API_TOKEN": TOKEN}}
    put(shell, ".cursor/mcp.json", {"mcpServers": {"one": entry}})
    assert shell("start").returncode == 0
    try:
        done = shell("import", "--yes")
        assert "starts them now" in done.stderr, done.stderr
        assert f"{TOKEN[:3]}{TOKEN[:3]}" in shell("call", "one__fail", "{}").stdout
    finally:
        shell("stop")
    assert TOKEN not in done.stdout + done.stderr + (shell.home / "config.toml").read_text()


def test_what_was_taken_over_and_waits_for_a_toolscore_that_serves_is_told(shell: Shell) -> None:
    put(shell, ".cursor/mcp.json", {"mcpServers": {"one": {"command": "x"}, "two": {"command": "y"}}})
    shell("import", "--yes")
    for words in (("status",), ("list",)):
        done = shell(*words)
        assert done.returncode == 0
        assert "not here yet: one, two. They come with the next ToolScore" in done.stderr
        assert "not here yet" not in shell(*words, "--json").stdout


def test_secrets_get_names_of_their_own_where_two_servers_call_them_alike(shell: Shell) -> None:
    put(shell, ".cursor/mcp.json", {"mcpServers": {"one": {"command": "a", "env": {"API_TOKEN": TOKEN}}}})
    more = {
        "command": "x",
        "args": ["--api-key", "k3y-of-mine"],
        "env": {"API_TOKEN": "other-one", "PLAIN": "a"},
    }
    put(
        shell, ".claude.json", {"mcpServers": {"two": more, "three": {**REMOTE, "headers": {"X-Key": TOKEN}}}}
    )
    done = shell("import", "--yes")
    assert done.returncode == 0, done.stderr
    for secret in (TOKEN, "k3y-of-mine", "other-one"):
        assert secret not in done.stdout + done.stderr
        assert secret not in (shell.home / "config.toml").read_text()
    assert config(shell)["two"] == {
        "command": "x",
        "args": ["--api-key", "${secret:TWO_ARG_1}"],
        "env": {"API_TOKEN": "${secret:API_TOKEN}", "PLAIN": "a"},
    }
    assert config(shell)["one"]["env"] == {"API_TOKEN": "${secret:ONE_API_TOKEN}"}
    assert config(shell)["three"]["headers"] == {"X-Key": "${secret:THREE_HEADER_X_KEY}"}
    assert shell.document("secret", "list")


def test_inputs_are_named_with_the_command_that_gives_them(shell: Shell) -> None:
    put(
        shell,
        ".config/Code/User/mcp.json",
        {
            "inputs": [
                {"type": "promptString", "id": "pplx-key", "description": "The key", "password": True}
            ],
            "servers": {"one": {"command": "x", "env": {"KEY": "${input:pplx-key}"}}},
        },
    )
    done = shell("import", "--yes")
    assert "`toolscore secret set pplx-key`" in done.stderr
    assert config(shell)["one"]["env"] == {"KEY": "${input:pplx-key}"}
    shell("secret", "set", "pplx-key", stdin="v4lue")
    put(shell, ".cursor/mcp.json", {"mcpServers": {}})
    assert shell.document("import")["servers"] == []


def test_without_yes_or_a_person_to_ask_nothing_is_changed(shell: Shell) -> None:
    put(shell, ".cursor/mcp.json", {"mcpServers": {"one": {"command": "x", "env": {"TOKEN": TOKEN}}}})
    for words in (("import",), ("import", "--dry-run", "--yes")):
        done = shell(*words)
        assert done.returncode == 0
        assert "[mcpServers.one]" in done.stdout
        assert TOKEN not in done.stdout
        assert not (shell.home / "config.toml").exists()
        assert not (shell.home / "secrets.json").exists()


def test_one_that_is_there_already_stays_and_one_of_another_client_gets_another_name(shell: Shell) -> None:
    shell.home.mkdir(mode=0o700)
    own = "# mine\n[mcpServers.mine]\ncommand = 'x'\n"
    (shell.home / "config.toml").write_text(own)
    servers = {"mine": {"command": "y"}, "dup": {"command": "a"}, "my server!": {"command": "c"}}
    put(shell, ".cursor/mcp.json", {"mcpServers": {**servers, "ts": {"command": "/usr/bin/toolscore"}}})
    put(
        shell,
        ".codeium/windsurf/mcp_config.json",
        {"mcpServers": {"dup": {"command": "b"}, "same": {"command": "a"}}},
    )
    found = shell.document("import", "--yes")
    assert [one["name"] for one in found["servers"]] == ["dup", "my-server", "dup-windsurf"]
    assert {one["name"]: one["reason"] for one in found["left"]} == {
        "mine": "there is a server named mine already",
        "ts": "it is ToolScore itself",
        "same": "it is the same as one that is taken over",
    }
    assert (shell.home / "config.toml").read_text().startswith(own)
    assert (shell.home / "config.toml.before-toolscore").read_text() == own
    assert shell.document("import", "--yes")["servers"] == []


def test_a_projects_files_are_found_with_paths_and_variables_files_of_its_own(shell: Shell) -> None:
    project = put(
        shell, "work/.env", "export A=1\nB='two three' \n# no\nAPI_TOKEN=t0ken-of-mine # why\n"
    ).parent
    put(shell, "work/server.js", "")
    entry = {
        "command": "node",
        "args": ["./server.js", "${workspaceFolder}"],
        "envFile": "${workspaceFolder}/.env",
    }
    put(shell, "work/.vscode/mcp.json", {"servers": {"one": entry}})
    put(shell, "work/.mcp.json", {"mcpServers": {"two": {"command": "y"}}})
    put(shell, ".claude.json", {"projects": {str(project): {"mcpServers": {"three": {"command": "z"}}}}})
    found = shell.document("import", "--project", str(project), "--yes")
    assert [one["name"] for one in found["servers"]] == ["three", "two", "one"]
    assert config(shell)["one"] == {
        "command": "node",
        "args": ["./server.js", str(project)],
        "env": {"A": "1", "B": "two three", "API_TOKEN": "${secret:API_TOKEN}"},
        "cwd": str(project),
    }


def test_what_a_client_starts_from_the_projects_folder_is_started_from_there_here_too(shell: Shell) -> None:
    servers = {
        "a": {"command": "./run.sh", "env": {"DEBUG": True, "PORT": 3000}},
        "b": {"command": "bin/tool", "cwd": "sub"},
        "c": {"command": "~/bin/tool"},
    }
    project = put(shell, "work/.mcp.json", {"mcpServers": servers}).parent
    shell("import", "--project", str(project), "--yes")
    assert config(shell) == {
        "a": {"command": f"{project}/run.sh", "cwd": str(project), "env": {"DEBUG": "true", "PORT": "3000"}},
        "b": {"command": f"{project}/sub/bin/tool", "cwd": f"{project}/sub"},
        "c": {"command": "~/bin/tool"},
    }


def test_a_secret_within_a_value_is_kept_apart_as_well(shell: Shell) -> None:
    address = "https://x.example/s/9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c/mcp"
    env = {"DATABASE_URL": "postgres://me:hunter2@db.example/x", "SITE": "https://x.example/a"}
    servers = {"a": {"command": "x", "env": env}, "b": {"url": address}, "c d": {"command": "y"}}
    put(shell, ".cursor/mcp.json", {"mcpServers": servers})
    shell("import", "--yes", "--only", "a", "--only", "b", "--only", "c-d")
    assert config(shell) == {
        "a": {"command": "x", "env": {**env, "DATABASE_URL": "${secret:DATABASE_URL}"}},
        "b": {"url": "https://x.example/s/${secret:B_URL_KEY}/mcp"},
        "c-d": {"command": "y"},
    }


def test_a_file_can_be_named_and_servers_chosen(shell: Shell) -> None:
    file = put(shell, "elsewhere.json", {"servers": {"a": {"command": "x"}, "b": {"command": "y"}}})
    found = shell.document("import", str(file), "--only", "b", "--dry-run")
    assert [(one["client"], one["name"]) for one in found["servers"]] == [("vscode", "b")]
    assert "neither a file nor one of claude-desktop" in shell("import", "nowhere").stderr
    absent = shell("import", "cursor")
    assert absent.returncode == 1
    assert "Cursor has no file here" in absent.stderr
    wrong = put(shell, "wrong.json", '{"mcpServers": {')
    said = shell("import", str(wrong))
    assert (said.returncode, "is not valid JSON" in said.stderr) == (1, True)


def test_a_file_that_cannot_be_read_does_not_keep_the_others(shell: Shell) -> None:
    put(shell, ".cursor/mcp.json", "{nope")
    put(
        shell,
        ".gemini/settings.json",
        {
            "mcpServers": {
                "one": {"command": "x"},
                "bad": {"args": "y"},
                "worse": 3,
                "address": {"url": "x.example/mcp"},
                "header": {"url": "https://x.example", "headers": {"A b": "c"}},
                "half": {"command": "x", "args": ["\ud800"]},
            }
        },
    )
    (loop := put(shell, ".codeium/windsurf/mcp_config.json", "")).unlink()
    loop.symlink_to(loop)
    done = shell("import", "--yes", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert [one["name"] for one in found["servers"]] == ["one"]
    assert [one["name"] for one in found["left"]] == ["bad", "address", "header", "half"]
    assert len(found["problems"]) == 3
    assert config(shell).keys() == {"one"}


@pytest.mark.parametrize(
    ("system", "desktop", "code"),
    [
        ("darwin", "Library/Application Support/Claude", "Library/Application Support/Code"),
        ("win32", "AppData/Roaming/Claude", "AppData/Roaming/Code"),
        ("linux", ".config/Claude", ".config/Code"),
    ],
)
def test_other_systems_keep_them_elsewhere(tmp_path: Path, system: str, desktop: str, code: str) -> None:
    for folder, name in ((desktop, "claude_desktop_config.json"), (f"{code}/User", "mcp.json")):
        (tmp_path / folder).mkdir(parents=True)
        key = "servers" if name == "mcp.json" else "mcpServers"
        (tmp_path / folder / name).write_text(json.dumps({key: {name: {"command": "x"}}}))
    found = search(Machine(tmp_path, system, {}), None, CLIENTS)
    assert [one.client for one in found.servers] == ["claude-desktop", "vscode"]
