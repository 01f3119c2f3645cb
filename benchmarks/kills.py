"""One ToolScore to be killed: its servers, its load, and every process that is or was below it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

BIN = Path(sys.executable).parent
FAULTY = str(Path(__file__).parents[1] / "tests" / "faulty_server.py")
FAMILY = str(Path(__file__).with_name("family.py"))
DEAF = ("ignore-eof", "ignore-sigterm")
MARKER = "TOOLSCORE_CHILD_ID"
IN_FLIGHT = 8
SUBREAPER = 36

LAUNCHER = """
import { spawn } from "node:child_process";
spawn("node", ["-e", "setInterval(() => {}, 1000)"], { detached: true, stdio: "ignore" }).unref();
spawn(process.argv[2], process.argv.slice(3), { stdio: "inherit" }).on("exit", (code) => process.exit(code ?? 1));
"""
"""What `npx` starts: a program of Node that starts the true server, and a helper that outlives it."""

BACKEND = """
import os, subprocess, sys, time
def get_requires_for_build_wheel(config_settings=None):
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    subprocess.Popen(["sleep", "600"], env=dict())
    open({touched!r}, "w").close()
    time.sleep(600)
    return []
"""
"""A build that never ends, of a package to install."""


def become_subreaper() -> None:
    """Be the new parent of everything below that loses its own, so that nothing can escape the count."""
    if ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit("This needs Linux: PR_SET_CHILD_SUBREAPER was refused.")


def python_server(*faults: str, relatives: str = "") -> list[str]:
    server = [sys.executable, "-S", FAULTY, *faults]
    return [sys.executable, "-I", "-S", FAMILY, relatives, *server] if relatives else server


def servers(folder: Path) -> dict[str, list[str]]:
    """Give the command lines of the servers; those whose launcher is not installed are left out."""
    launcher = folder / "launcher.mjs"
    launcher.write_text(LAUNCHER)
    found = {
        "plain": python_server(),
        "deaf": python_server(*DEAF, relatives="session,stubborn"),
        "daemons": python_server("ignore-eof", relatives="daemon,bare,hopper"),
    }
    if shutil.which("npm"):
        line = " ".join(["node", str(launcher), *python_server(*DEAF, relatives="session")])
        found["npx"] = [
            "npm",
            "exec",
            "--offline",
            "-c",
            line,
        ]  # as npx does: npm, a shell, a program of Node
    if uv := shutil.which("uv", path=f"{BIN}{os.pathsep}{os.environ['PATH']}"):
        run = [uv, "run", "--offline", "--no-project", "--python", sys.executable, "--"]
        found["uv"] = run + python_server(*DEAF, relatives="session,daemon")
    return found


def slow_package(folder: Path) -> Path:
    """Make a Python package whose build never ends."""
    package = folder / "slow"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "slow"\nversion = "1"\n[project.scripts]\nslow = "slow:main"\n'
    )
    (package / "backend.py").write_text(BACKEND.format(touched=str(folder / "building")))
    return package


class ToolScore:
    """A ToolScore over stdio, with calls in flight on all its servers."""

    def __init__(self, home: Path) -> None:
        self.log = home.parent / "stderr.log"
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [BIN / "toolscore", "serve", "--home", home, "--standalone"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        self.answered = 0
        self._number = 0
        self._lock = threading.Lock()
        self._waiting: dict[int, Callable[[dict[str, Any]], None]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "kills", "version": "1"},
        }})  # fmt: skip
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with self._lock:
            try:
                self.process.stdin.write(json.dumps(message).encode() + b"\n")
                self.process.stdin.flush()
            except (OSError, ValueError):
                return  # it is gone, as it should be

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith(b"\n"):
                return  # cut off by the kill
            message = json.loads(line)
            done = self._waiting.pop(message["id"], None) if isinstance(message.get("id"), int) else None
            if done is not None:
                self.answered += 1
                done(message)

    def begin(self, tool: str, arguments: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        self._number += 1
        number = self._number
        self._waiting[number] = done
        params = {"name": tool, "arguments": arguments}
        self._send({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})

    def call(self, own_tool: str, /, within: float = 60, **arguments: Any) -> dict[str, Any]:
        """Call one of ToolScore's own tools; give its result."""
        answers: list[dict[str, Any]] = []
        came = threading.Event()

        def done(message: dict[str, Any]) -> None:
            answers.append(message)
            came.set()

        self.begin(own_tool, arguments, done)
        if not came.wait(within):
            raise TimeoutError(f"{own_tool} was not answered; see {self.log}")
        result: dict[str, Any] = answers[0].get("result") or {"isError": True, **answers[0]}
        return result

    def works(self, server: str, within: float = 30) -> None:
        """Wait until a server answers a call rightly."""
        deadline = time.monotonic() + within
        while True:
            result = self.call("execute_tool", tool=f"{server}__add", arguments={"a": 20, "b": 3})
            if not result.get("isError") and result["content"][0]["text"] == "23":
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{server} does not work: {result}")
            time.sleep(0.05)

    def load(self, names: list[str]) -> None:
        """Keep calls in flight on all servers until the end."""

        def again(name: str) -> None:
            arguments = {"tool": f"{name}__echo", "arguments": {"text": "x" * 1000}}
            self.begin("execute_tool", arguments, lambda _: again(name))

        for _ in range(IN_FLIGHT):
            for name in names:
                again(name)

    def guardians(self) -> list[psutil.Process]:
        """Give the outer and the inner process of its guardian."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with psutil_quiet():
                if "toolscore.runners.guardian" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def close(self) -> None:
        """Wait for its end and close what is left here."""
        self.process.wait(20)
        self._reader.join(5)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(OSError):  # what could not be written any more
                stream.close()


@contextmanager
def psutil_quiet() -> Iterator[None]:
    with suppress(psutil.Error):
        yield


class Census:
    """Tells who lives below this process, but for those who have nothing to do with ToolScore."""

    def __init__(self, bystanders: list[subprocess.Popen[bytes]]) -> None:
        self._bystanders = bystanders
        self.toolscore: int | None = None

    def alive(self, toolscore: int | None = None) -> list[psutil.Process]:
        """Give all living processes below this one, except for the bystanders and a ToolScore with its children."""
        # In one look at all processes: some hand over to a new one all the time, and would be nobody's in a second.
        below: dict[int, list[tuple[int, str]]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().decode("utf-8", "replace").rsplit(")", 1)[1].split()[:2]
                    below.setdefault(int(parent), []).append((int(name), state))
        found = []
        heads = [os.getpid()]
        apart = {toolscore, *(bystander.pid for bystander in self._bystanders)}
        while heads:
            head = heads.pop()
            for pid, state in below.get(head, ()):
                if pid in apart:
                    continue
                heads.append(pid)
                if state not in "ZX":
                    with psutil_quiet():
                        found.append(psutil.Process(pid))
                elif head == os.getpid() and pid != self.toolscore:
                    with suppress(ChildProcessError):
                        os.waitpid(
                            pid, os.WNOHANG
                        )  # an orphan; ToolScore is waited for by whoever started it
        return found

    def hurt(self) -> list[int]:
        """Give the bystanders that were ended by somebody."""
        return [bystander.pid for bystander in self._bystanders if bystander.poll() is not None]


@contextmanager
def bystanders(folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start processes that look like ToolScore's and are not: the same programs, and markers of another home."""
    other = folder / "other"
    other.mkdir()
    marked = {**os.environ, MARKER: "0" * 32}
    commands: list[tuple[list[str], dict[str, Any]]] = [
        (python_server(*DEAF), {}),
        (["sleep", "600"], {"env": marked}),
        (python_server(*DEAF), {"env": marked, "start_new_session": True}),
        (["sleep", "600"], {"start_new_session": True}),
    ]
    if node := shutil.which("node"):
        commands.append(([node, "-e", "setInterval(() => {}, 1000)"], {}))
    started = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more
        )
        for command, more in commands
    ]
    me = psutil.Process()
    owner = {"owner": me.pid, "owner_started": me.create_time(), "server": "other", "marker": "0" * 32}
    rows = [{**owner, "pid": process.pid, "started": 1.0} for process in started]
    (other / "processes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Signal several at once."""
    for process in processes:
        with psutil_quiet():
            process.send_signal(number)
