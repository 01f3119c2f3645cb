"""Clients that share a ToolScore: each a `toolscore serve` of its own, spoken to line by line. Nothing runs on."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from helpers import gone
from toolscore.server.home import Home
from toolscore.server.owner import Owner, current_owner
from toolscore_client import BARE, FAULTY, TOOLSCORE

Message = dict[str, Any]
Wanted = Callable[[Message], Any]

VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
MODERN = {VERSION: "2026-07-28", CAPABILITIES: {}}


class Client:
    """One client of a shared ToolScore: its relay, and what it said.

    Args:
        process: The relay.
        modern: Whether it speaks the 2026-07-28 era.
    """

    def __init__(self, process: subprocess.Popen[bytes], modern: bool = False) -> None:
        self.process = process
        self.inbox: list[Message] = []
        self._meta = MODERN if modern else {}
        self._number = 0
        self._rest = bytearray()

    def send(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method: str, /, **params: Any) -> int:
        """Send a request; give its id."""
        self._number += 1
        if self._meta:
            params["_meta"] = self._meta
        self.send(id=self._number, method=method, params=params)
        return self._number

    def receive(self, wanted: Wanted, within: float = 60) -> Message:
        """The first message that fits, also among those that came already."""
        deadline = time.monotonic() + within
        while True:
            for known in self.inbox:
                if wanted(known):
                    self.inbox.remove(known)
                    return known
            self._read(deadline)

    def _read(self, deadline: float) -> None:
        assert self.process.stdout is not None
        ready = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
        assert ready, f"it did not come in time; what came: {self.inbox}"
        chunk = os.read(self.process.stdout.fileno(), 1 << 20)
        assert chunk, f"the relay ended; what came: {self.inbox}"
        self._rest += chunk
        if b"\n" in chunk:  # or one of many MiB would be looked through for each piece of it
            *lines, self._rest = self._rest.split(b"\n")
            self.inbox += [json.loads(line) for line in lines]

    def answer(self, identity: Any) -> Message:
        return self.receive(lambda message: message.get("id") == identity and "method" not in message)

    def told(self, method: str) -> Message:
        return self.receive(lambda message: message.get("method") == method)

    def request(self, method: str, /, **params: Any) -> Message:
        return self.answer(self.ask(method, **params))

    def call(self, tool: str, /, **arguments: Any) -> Message:
        """Call a tool and give its result."""
        result: Message = self.request("tools/call", name=tool, arguments=arguments)["result"]
        return result

    def settled(self) -> None:
        """Wait until the relay has passed on all that was asked: it answers what is between it and its owner itself.

        What it reads in one go it passes on at the end, after that answer: so it must have read the rest before.
        """
        import fcntl  # here, as not every system has them, and all that shares imports this file
        import struct
        import termios

        assert self.process.stdin is not None
        pipe = self.process.stdin.fileno()
        until(lambda: not struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0])
        assert "error" in self.request("toolscore/anything")

    def initialize(self, **capabilities: Any) -> Message:
        answer = self.request(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities=capabilities,
            clientInfo={"name": "sharing", "version": "1"},
        )
        self.send(method="notifications/initialized")
        return answer

    def register(self, name: str, *faults: str, **more: Any) -> Message:
        return self.call("register_tool", name=name, command=sys.executable, args=[FAULTY, *faults], **more)

    def names(self) -> list[str]:
        """Names of the tools that are listed."""
        return [tool["name"] for tool in self.request("tools/list")["result"]["tools"]]

    def close(self) -> int:
        """Close its input; give the relay's exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(30)


class Sharing:
    """A home, the clients that share its ToolScore, and that ToolScore.

    Args:
        folder: Where the home is put.
        stack: Ends the clients.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._stack = stack
        self._clients = 0

    def environment(self, **more: str) -> dict[str, str]:
        # Short, as clients give it.
        return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **BARE, **more}

    def launch(self, *arguments: str, modern: bool = False, cwd: Path | None = None, **env: str) -> Client:
        """Start a client without a word."""
        self._clients += 1
        log = self._stack.enter_context((self.folder / f"client{self._clients}.log").open("wb"))
        process = subprocess.Popen(
            [TOOLSCORE, "serve", "--home", str(self.home), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=self.environment(**env),
            cwd=cwd,
        )
        self._stack.callback(_ended, process)
        return Client(process, modern)

    def said(self, number: int = 1) -> str:
        """What the relay of a client wrote on standard error."""
        return (self.folder / f"client{number}.log").read_text()

    def client(self, *arguments: str, cwd: Path | None = None, **env: str) -> Client:
        """Start a client of the handshake era and initialize it."""
        client = self.launch(*arguments, modern=False, cwd=cwd, **env)
        client.initialize()
        return client

    @property
    def owner(self) -> Owner | None:
        return current_owner(Home.at(self.home))

    def pid(self) -> int:
        owner = self.owner
        assert owner is not None
        return owner.pid

    def succeeded(self, pid: int) -> None:
        """Wait until another ToolScore than that process owns the home.

        One look decides: the lock of a process that is being killed is given back between two.
        """
        until(lambda: (owner := self.owner) is not None and owner.pid not in (0, pid))

    def crash(self) -> int:
        """Kill the shared ToolScore; give the process id it had."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: gone(pid))
        return pid

    def pause(self) -> None:
        """Stop the shared ToolScore in its tracks."""
        os.kill(self.pid(), signal.SIGSTOP)

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Type a command."""
        return subprocess.run(
            [TOOLSCORE, *words, "--home", str(self.home)],
            env=self.environment(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def status(self) -> Message:
        found: Message = json.loads(self.run("status", "--json").stdout)
        return found


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


@contextmanager
def sharing(folder: Path, settings: str = "") -> Iterator[Sharing]:
    """Make a home with a configuration file; at the end its ToolScore is stopped, and was alone."""
    with ExitStack() as stack:
        one = Sharing(folder, stack)
        one.home.mkdir()
        (one.home / "config.toml").write_text(settings)
        try:
            yield one
        finally:
            stack.close()
            (one.home / "config.toml").write_text("")  # as it may be wrong on purpose
            stopped = one.run("stop", "--force")
            assert stopped.returncode == 0, stopped.stderr


def until(condition: Callable[[], Any], within: float = 60) -> None:
    """Wait for what nothing signals."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def owners_of(home: Path) -> list[int]:
    """Every ToolScore process that serves a home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "toolscore" in words and "--shared" in words and str(home) in words:
            found.append(process.pid)
    return found
