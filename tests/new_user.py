"""Somebody new: ToolScore from its wheel alone, an empty home, and the files of MCP clients."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolscore_client import WORDS_ONLY

SECRET = "ghp_16characters16characters"
SERVER = """
import json, os, sys
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m:
        continue
    result = {}
    if m["method"] == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                  "serverInfo": {"name": "notes", "version": "1"}}
    elif m["method"] == "tools/list":
        result = {"tools": [{"name": "read", "description": "Reads a note.", "inputSchema": {"type": "object"}}]}
    elif m["method"] == "tools/call":
        result = {"content": [{"type": "text", "text": os.environ["NOTES_TOKEN"][::-1]}]}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": result}), flush=True)
"""
"""A server somebody has already: it says its token backwards, as a token itself would be masked."""


@dataclass(frozen=True, slots=True)
class Kind:
    """An MCP client: its file, the keys to its servers, and the revision of MCP it begins with."""

    file: str
    table: str
    revision: str


KINDS = {
    "claude-desktop": Kind(".config/Claude/claude_desktop_config.json", "mcpServers", "2025-11-25"),
    "claude-code": Kind(".claude.json", "mcpServers", "2025-11-25"),
    "vscode": Kind(".config/Code/User/mcp.json", "servers", "2025-11-25"),
    "cursor": Kind(".cursor/mcp.json", "mcpServers", "2025-06-18"),
    "windsurf": Kind(".codeium/windsurf/mcp_config.json", "mcpServers", "2025-03-26"),
    "codex": Kind(".codex/config.toml", "mcp_servers", "2025-06-18"),
    "gemini": Kind(".gemini/settings.json", "mcpServers", "2025-11-25"),
}


class Person:
    """A person with a folder of their own.

    Args:
        folder: Where all of it is.
        toolscore: The program that was installed.
        client: Their MCP client.
    """

    def __init__(self, folder: Path, toolscore: Path, client: str) -> None:
        self.folder, self.client, self.kind = folder / client, client, KINDS[client]
        self._toolscore = toolscore
        self.file = self.folder / self.kind.file
        self.file.parent.mkdir(parents=True)
        notes = self.folder / "notes.py"
        notes.write_text(SERVER, "utf-8")
        self.before = self._before({"command": sys.executable, "args": [str(notes)]})
        self.file.write_text(self.before, "utf-8")
        kept = {"UV_CACHE_DIR", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL", "SSL_CERT_FILE"}
        # What a program that was not started from a shell has.
        self.environ = {
            **{name: value for name, value in os.environ.items() if name in kept},
            **WORDS_ONLY,
            "HOME": str(self.folder),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }

    def _before(self, entry: dict[str, Any]) -> str:
        if self.client == "codex":
            args = json.dumps(entry["args"])
            return (
                f'model = "m"  # mine\n\n[mcp_servers.notes]\ncommand = "{entry["command"]}"\nargs = {args}\n'
                f'env = {{ NOTES_TOKEN = "{SECRET}" }}\n'
            )
        if self.client == "vscode":
            asked = {"type": "promptString", "id": "notes-token", "password": True, "description": "Token"}
            held = {"notes": {"type": "stdio", **entry, "env": {"NOTES_TOKEN": "${input:notes-token}"}}}
            return "// mine\n" + json.dumps({"inputs": [asked], "servers": held}, indent="\t")
        return json.dumps(
            {"theme": "dark", self.kind.table: {"notes": {**entry, "env": {"NOTES_TOKEN": SECRET}}}}, indent=2
        )

    def types(self, *argv: str, stdin: str | None = None) -> str:
        """Type a command, which must succeed; give what it says."""
        done = subprocess.run(
            [self._toolscore, *argv],
            check=False,
            env=self.environ,
            cwd=self.folder,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def entry(self) -> dict[str, Any]:
        """Read ToolScore's entry, as the client does."""
        text = self.file.read_text("utf-8")
        toml = self.file.suffix == ".toml"
        found = tomllib.loads(text) if toml else json.loads(text.removeprefix("// mine\n"))
        return dict(found[self.kind.table]["toolscore"])

    @contextmanager
    def connected(self) -> Iterator[Line]:
        """Start just what the client's file says, and speak MCP to it as the client does."""
        entry = self.entry()
        assert entry.keys() <= {"type", "command", "args", "env"}, entry
        with (
            (self.folder / "client.log").open("w") as log,
            subprocess.Popen(
                [entry["command"], *entry.get("args", ())],
                env={**self.environ, **entry.get("env", {})},
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            ) as process,
        ):
            try:
                line = Line(process)
                about = {"name": self.client, "version": "1.0"}
                begun = line.ask(
                    "initialize", protocolVersion=self.kind.revision, capabilities={}, clientInfo=about
                )
                assert begun["protocolVersion"] == self.kind.revision
                line.tell("notifications/initialized")
                yield line
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(30) == 0
            finally:
                process.kill()


class Line:
    """A line to a server, as plain JSON."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._number, self._rest = process, 0, b""

    def tell(self, method: str, **params: Any) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, **params: Any) -> Any:
        """Ask, and give the result; what else comes meanwhile is passed over."""
        self._number += 1
        self._send({"id": self._number, "method": method, "params": params})
        deadline = time.monotonic() + 120
        while (message := self._next(deadline)).get("id") != self._number:
            pass
        assert "result" in message, message
        return message["result"]

    def calls(self, own_tool: str, /, **arguments: Any) -> str:
        """Call a tool, which must succeed, and give its text."""
        result = self.ask("tools/call", name=own_tool, arguments=arguments)
        said = "\n".join(block.get("text", "") for block in result["content"])
        assert not result.get("isError"), said
        return said

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()

    def _next(self, deadline: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            ready = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, "nothing came in time"
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            assert chunk, "it ended"
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return dict(json.loads(line))


def walk(person: Person) -> None:
    """Do what somebody new does, from what they have to a server of the index, and take it back."""
    told = person.types("import", "--yes")
    assert "Taken over" in told
    assert SECRET not in told
    if person.client == "vscode":
        person.types("secret", "set", "notes-token", stdin=SECRET + "\n")
    told = person.types("connect", person.client)
    assert SECRET not in told
    (config,) = person.folder.rglob("config.toml" if person.client != "codex" else "toolscore/config.toml")
    assert SECRET not in config.read_text("utf-8")
    try:
        with person.connected() as line:
            assert len(line.ask("tools/list")["tools"]) == 10
            assert line.calls("execute_tool", tool="notes__read", arguments={}) == SECRET[::-1]
            line.calls("install_server", source="pypi:mcp-server-time", name="time")
            now = line.calls("execute_tool", tool="time__get_current_time", arguments={"timezone": "UTC"})
            assert json.loads(now)["timezone"] == "UTC"
    finally:
        person.types("stop")
    person.types("connect", person.client, "--undo")
    assert person.file.read_text("utf-8") == person.before
