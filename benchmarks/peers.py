"""What is measured: the child alone, ToolScore in front of it, and other gateways in front of it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from http_line import HttpLine
from lines import Failed, Line, Message, Program, StdioLine, WebSocketLine

HERE = Path(__file__).resolve().parent
TOOLSCORE = Path(sys.executable).with_name("toolscore")
UV = Path(sys.executable).with_name("uv")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toolscore-bench"
PEERS = ("fastmcp", "mcp-proxy")

Children = dict[str, list[str]]
Starter = Callable[["Bench", Children], AbstractContextManager["Subject"]]

COSTLESS = [sys.executable, "-I", "-S", str(HERE / "costless_child.py")]
SDK = [sys.executable, str(HERE / "sdk_child.py")]


@dataclass
class Subject:
    """Something that answers calls.

    Attributes:
        name: How the table calls it.
        program: Whose processor time and memory count.
        lines: The line on which each child's tools are called.
        pattern: How a child's tool is called there.
    """

    name: str
    program: Program
    lines: dict[str, Line]
    pattern: str = "{tool}"

    @property
    def ours(self) -> bool:
        """Whether it is fast enough, and of interest enough, for all the samples; the peers get fewer."""
        return not self.name.startswith(PEERS)

    @property
    def line(self) -> Line:
        """The line of the first child."""
        return next(iter(self.lines.values()))

    def call(self, tool: str, child: str = "child", **arguments: Any) -> Message:
        """Give the params of a call of a child's tool."""
        return {"name": self.pattern.format(child=child, tool=tool), "arguments": arguments}


class Bench:
    """One run: its size, its folder, and the gateways that are there.

    Args:
        folder: For homes and logs; the caller deletes it.
        quick: Whether to take fewer samples.
        peers: The names of the other gateways to measure.
    """

    def __init__(self, folder: Path, *, quick: bool, peers: tuple[str, ...]) -> None:
        self.folder = folder
        self.quick = quick
        self.peers = peers
        self.missing: dict[str, str] = {}
        self._homes = 0

    def home(self) -> str:
        """Give the path of a new home."""
        self._homes += 1
        return str(self.folder / f"home{self._homes}")

    @contextmanager
    def subjects(
        self, children: Children, starters: dict[str, Starter], failed: Callable[[str, str], None]
    ) -> Iterator[list[Subject]]:
        """Start everything that can serve these children; tell `failed` of what cannot."""
        with ExitStack() as stack:
            there = []
            for name, starter in starters.items():
                try:
                    there.append(stack.enter_context(starter(self, children)))
                except (Failed, OSError) as exc:
                    failed(name, str(exc))
            yield there


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """End a program with the block."""
    try:
        yield program
    finally:
        program.close()


@contextmanager
def direct(_bench: Bench, children: Children) -> Iterator[Subject]:
    """The first child alone."""
    name, command = next(iter(children.items()))
    with running(Program(command)) as program:
        yield Subject("direct", program, {name: StdioLine(program)})


@contextmanager
def toolscore_stdio(bench: Bench, children: Children, *settings: str) -> Iterator[Subject]:
    """ToolScore on its standard streams; the children are registered through its own tool."""
    command = [str(TOOLSCORE), "serve", "--standalone", "--home", bench.home(), *settings]
    with running(Program(command)) as program:
        line = StdioLine(program)
        with program.limit(60):
            for name, child in children.items():
                register = {"name": name, "command": child[0], "args": child[1:]}
                line.request("tools/call", {"name": "register_tool", "arguments": register})
        yield Subject("toolscore stdio", program, dict.fromkeys(children, line), "{child}__{tool}")


@contextmanager
def toolscore_listening(bench: Bench, children: Children, *settings: str) -> Iterator[tuple[Program, int]]:
    """ToolScore on a WebSocket port; the children are registered beforehand at the command line."""
    home = bench.home()
    for name, child in children.items():
        command = [str(TOOLSCORE), "--home", home, "register", name, "--", *child]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"toolscore register: {done.stderr.strip()[-200:]}")
    port = free_port()
    url = f"ws://127.0.0.1:{port}/mcp"
    listen = ["--standalone", "--home", home, "--listen", url, "--no-token", *settings]
    with running(Program([str(TOOLSCORE), "serve", *listen], piped=False)) as program:
        program.connect(port).close()
        yield program, port


@contextmanager
def toolscore_ws(bench: Bench, children: Children, *settings: str) -> Iterator[Subject]:
    """ToolScore over one WebSocket."""
    with toolscore_listening(bench, children, *settings) as (program, port):
        line = WebSocketLine(program, port)
        try:
            with program.limit(60):
                # Answered once the children's tools are known, which a restart may still be at.
                line.request("tools/call", {"name": "list_servers", "arguments": {}})
            yield Subject("toolscore ws", program, dict.fromkeys(children, line), "{child}__{tool}")
        finally:
            line.close()


@contextmanager
def fastmcp(bench: Bench, children: Children) -> Iterator[Subject]:
    """FastMCP's proxy over stdio, clients kept connected; mounted only where there are several children."""
    python = peer(bench, "fastmcp") / "python"
    command = [str(python), str(HERE / "fastmcp_proxy.py"), json.dumps(children)]
    with running(Program(command, env={"FASTMCP_CHECK_FOR_UPDATES": "off"})) as program:
        line = StdioLine(program)
        pattern = "{tool}" if len(children) == 1 else "{child}_{tool}"
        yield Subject("fastmcp", program, dict.fromkeys(children, line), pattern)


@contextmanager
def mcp_proxy(bench: Bench, children: Children) -> Iterator[Subject]:
    """mcp-proxy, which serves stdio children over Streamable HTTP, each at a path of its own."""
    port = free_port()
    config = bench.folder / f"mcp-proxy-{port}.json"
    servers = {name: {"command": command[0], "args": command[1:]} for name, command in children.items()}
    config.write_text(json.dumps({"mcpServers": servers}))
    command = [str(peer(bench, "mcp-proxy") / "mcp-proxy"), f"--port={port}", "--log-level=ERROR"]
    lines: dict[str, Line] = {}
    with (
        running(Program([*command, f"--named-server-config={config}"], piped=False)) as program,
        ExitStack() as stack,
    ):
        for name in children:
            lines[name] = HttpLine(program, port, f"/servers/{name}/mcp")
            stack.callback(lines[name].close)
        yield Subject("mcp-proxy http", program, lines)


EVERYTHING: dict[str, Starter] = {
    "direct": direct,
    "toolscore stdio": toolscore_stdio,
    "toolscore ws": toolscore_ws,
    "fastmcp": fastmcp,
    "mcp-proxy http": mcp_proxy,
}


def free_port() -> int:
    """Find a port nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def peer(bench: Bench, name: str) -> Path:
    """Give the folder of a gateway's programs; it is installed on first use, and kept.

    Raises:
        Failed: If it is not wanted, or could not be installed; that is not tried twice.
    """
    if name not in bench.peers:
        raise Failed("not asked for")
    if name in bench.missing:
        raise Failed(bench.missing[name])
    folder = CACHE / name
    ready = folder / ".ready"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        for command in (
            ["venv", "--python", sys.executable, str(folder)],
            ["pip", "install", "--python", str(folder / "bin" / "python"), name],
        ):
            done = subprocess.run([str(UV), *command], capture_output=True, text=True, check=False)
            if done.returncode:
                bench.missing[name] = f"not installed: {done.stderr.strip()[-200:]}"
                raise Failed(bench.missing[name])
        ready.touch()
    return folder / "bin"


def version(bench: Bench, name: str) -> str:
    """Say which version of a gateway is measured, or why none is."""
    try:
        python = peer(bench, name) / "python"
    except Failed as exc:
        return str(exc)
    ask = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    done = subprocess.run([str(python), "-c", ask, name], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
