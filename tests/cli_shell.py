"""Typing commands: a shell whose environment knows of one home only, and a small MCP server to use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from toolscore_client import BARE, WORDS_ONLY

SERVER = """
import base64, json, os, sys

def text(value): return {"content": [{"type": "text", "text": value}]}

TOOLS = {
    "echo": lambda a: text(json.dumps(a, sort_keys=True)),
    "fail": lambda a: {**text("it went wrong"), "isError": True},
    "image": lambda a: {"content": [{"type": "image", "mimeType": "image/png", "data": base64.b64encode(b"12345").decode()}]},
    "escape": lambda a: text("\\x1b]0;owned\\x07red"),
    "where": lambda a: text(os.getcwd()),
    "hang": None,
}
print("the server starts", file=sys.stderr, flush=True)
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m:
        continue
    method, params = m.get("method"), m.get("params") or {}
    reply = {"jsonrpc": "2.0", "id": m["id"]}
    if method == "initialize":
        reply["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                           "serverInfo": {"name": "small", "version": "1.2.3"}}
    elif method == "tools/list":
        schema = {"type": "object"}
        reply["result"] = {"tools": [{"name": n, "description": f"Does {n}.", "inputSchema": schema} for n in TOOLS]}
    elif method == "tools/call":
        if params["name"] == "hang":
            open(os.environ["HANG_MARK"], "w").close()
            continue
        reply["result"] = TOOLS[params["name"]](params.get("arguments") or {})
    elif method == "ping":
        reply["result"] = {}
    else:
        reply["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(reply), flush=True)
"""  # noqa: E501 - a program, not prose

Done = subprocess.CompletedProcess[str]


class Shell:
    """Types commands, with an environment that knows of one home only."""

    def __init__(self, home: Path, cwd: Path) -> None:
        self.home, self.cwd = home, cwd
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TOOLSCORE_", "PROCESS_"))}
        self.environ = {**kept, **BARE, **WORDS_ONLY, "TOOLSCORE_HOME": str(home), "COLUMNS": "200"}

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "toolscore", *argv]
        streams: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        return subprocess.Popen(command, env=self.environ, cwd=self.cwd, text=True, **{**streams, **options})

    def __call__(self, *argv: str, stdin: str = "") -> Done:
        with self.popen(*argv, stdin=subprocess.PIPE) as process:
            try:
                out, err = process.communicate(stdin, timeout=300)  # also where it fetches something
            except BaseException:
                process.kill()
                raise
            return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def document(self, *argv: str) -> Any:
        done = self(*argv, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def shell_in(folder: Path) -> Shell:
    (folder / "server.py").write_text(SERVER)
    return Shell(folder / "home", folder)
