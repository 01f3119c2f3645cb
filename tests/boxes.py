"""Pools of boxes as other users have them, for the acceptance tests of the sandbox.

`Boxes` drives `box_driver.py` in a process that runs as root or as an ordinary user (a bare number), on all layers or
without some.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from box_answers import Done, RaisedError, Running
from box_tree import ORDINARY, python_of, tree
from helpers import gone
from machine import CALLS, commands, number, until

USERS = ("root", "ordinary")


class Boxes:
    """A driver and its pool.

    Args:
        user: `root` or `ordinary`.
        without: `namespaces` and `landlock`, for a kernel that has none.
        skip: Layers that the pool leaves out.
        minimum: The least that must protect.
        platform: What the pool takes the system for.
        limits: The operator's limits.
        python: The interpreter, where it is not the one that fits the user.
    """

    def __init__(
        self,
        user: str,
        *,
        without: Iterable[str] = (),
        skip: Iterable[str] = (),
        minimum: str = "reduced",
        platform: str | None = None,
        limits: dict[str, Any] | None = None,
        python: str | None = None,
    ) -> None:
        if not sys.platform.startswith("linux"):
            pytest.skip("boxes are made of Linux's own means")
        if user == "root" and os.geteuid() != 0:
            pytest.skip("the tests do not run as root, so neither can the pool")
        # Without namespaces, root's boxes are of another user, who cannot enter folders of root alone.
        python = python or python_of("ordinary" if "namespaces" in skip else user)
        if python is None:
            pytest.skip("there is no Python >= 3.11 that an ordinary user can run")
        self.user = user
        program = tree()
        self.place = Path(tempfile.mkdtemp(prefix="toolscore-boxes-"))
        self.place.chmod(0o755)
        self.state = self.place / "state"
        self.state.mkdir(mode=0o755)
        other: dict[str, Any] = {}
        if user == "ordinary" and os.geteuid() == 0:
            os.chown(self.state, ORDINARY, ORDINARY)
            other = {"user": ORDINARY, "group": ORDINARY, "extra_groups": []}
        order = {
            "state": str(self.state),
            "without": list(without),
            "skip": list(skip),
            "minimum": minimum,
            "platform": platform,
            "limits": limits or {},
        }
        self.uid = ORDINARY if user == "ordinary" else 0
        self.numbers = itertools.count(1)
        self._running: dict[int, Running] = {}
        self._errors = (self.place / "errors").open("w+b")
        self._process = subprocess.Popen(
            [python, "-P", str(program / "box_driver.py"), json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={
                "PYTHONPATH": str(program),
                "PYTHONDONTWRITEBYTECODE": "1",
                "LANG": "C.UTF-8",
                "SECRET": "of-the-host",
            },
            cwd="/",
            **other,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def tell(self, order: dict[str, Any]) -> None:
        """Send an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, do: str, **order: Any) -> Running:
        """Send an order that is answered."""
        number = next(self.numbers)
        running = self._running[number] = Running(Future(), partial(self._cancel, number))
        self.tell({"id": number, "do": do, **order})
        return running

    def _cancel(self, number: int) -> None:
        self.tell({"id": next(self.numbers), "do": "cancel", "of": number})

    def start(
        self,
        code: str,
        *,
        stdin: bytes = b"",
        files: Iterable[tuple[str, bytes]] = (),
        session: str = "",
        keep: bool = False,
        tools: bool = False,
        stream: bool = False,
        **limits: Any,
    ) -> Running:
        """Start a job; the other arguments are limits."""
        given = [(path, base64.b64encode(data).decode()) for path, data in files]
        return self.ask(
            "run",
            code=code,
            stdin=base64.b64encode(stdin).decode(),
            files=given,
            session=session,
            keep=keep or bool(session),
            tools=tools,
            stream=stream,
            limits={"wall": 20.0, **limits},
        )

    def run(self, code: str, **named: Any) -> Done:
        """Run a job, and wait for what comes of it."""
        return self.start(code, **named).done()

    def value(self, code: str, **named: Any) -> Any:
        """Run a job that has to end well, and give its value."""
        done = self.run(code, **named)
        assert done.status == "ok", (done.status, done.error, done.said, done.message, done.stderr)
        return done.value

    def let(self, gate: str) -> None:
        """Let those go on that wait at this gate; see `box_driver`."""
        self.ask("let", gate=gate).future.result(60)

    def look(self) -> dict[str, Any]:
        """Tell what protects, and how the pool is going."""
        return self.ask("look").future.result(60)

    @contextmanager
    def session(self, name: str = "one") -> Iterator[str]:
        """Open a session."""
        self.ask("open", session=name).future.result(60)
        try:
            yield name
        finally:
            self.ask("close", session=name).future.result(60)

    def processes(self) -> set[int]:
        """List what runs below it."""
        from toolscore.sandbox import watch

        return set(watch.tree(self.pid)) - {self.pid}

    def memory(self) -> int:
        """Give the driver's own bytes of memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def kept(self) -> int:
        """Give the driver's bytes of memory without what its allocator has in reserve."""
        return int(self.ask("kept").future.result(60)["bytes"])

    def kill(self) -> None:
        """Kill the driver as nothing can be prepared for."""
        self._process.kill()
        self._process.wait()
        self._reader.join(10)
        for end in (self._process.stdin, self._process.stdout, self._errors):
            if end is not None:
                end.close()

    def forget(self) -> None:
        """Remove its folder."""
        shutil.rmtree(self.place, ignore_errors=True)

    def close(self) -> None:
        """End it, and look whether anything is left of it."""
        before = self.processes()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        self._process.stdout.close()
        self._errors.seek(0)
        told = self._errors.read().decode()
        self._errors.close()
        left = [path.name for path in self.state.iterdir()]
        try:
            until(lambda: all(map(gone, before)) and not commands(str(self.state)), "its processes end")
            mounted = str(self.place) in Path("/proc/self/mountinfo").read_text()
        finally:
            self.forget()
        assert left == []
        assert not mounted
        assert "Traceback" not in told, told

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            running = self._running[told["id"]]
            if "output" in told:
                running.heard += told["output"][1]
            else:
                running.future.set_result(told["done"])
        for running in self._running.values():
            if not running.future.done():
                running.future.set_exception(EOFError("the driver ended"))


class Watched:
    """Boxes with an execution beside all others, which has to live through them."""

    def __init__(self, boxes: Boxes) -> None:
        self.boxes = boxes
        self._sibling = boxes.start(
            "import time\nwhile True:\n    print('.', flush=True)\n    time.sleep(0.02)",
            wall=3600.0,
            cpu=3600.0,
            stream=True,
        )
        for _ in range(3):
            assert boxes.value("1 + 1") == 2
        self._memory = boxes.kept()

    def check(self) -> None:
        """See that the next call works, and that the one beside it goes on."""
        heard = self._sibling.heard
        assert self.boxes.value("1 + 1") == 2
        until(lambda: self._sibling.heard > heard or self._sibling.future.done(), "the sibling goes on")
        assert not self._sibling.future.done(), self._sibling.future.result()

    def close(self) -> None:
        """End all, and see that nothing is left and little was kept."""
        try:
            grown = self.boxes.kept() - self._memory
            self._sibling.cancel()
            with pytest.raises(RaisedError, match="CancelledError"):
                self._sibling.done()
        finally:
            self.boxes.close()
        assert grown < 48 << 20, f"the server grew by {grown >> 20} MiB"


__all__ = [
    "CALLS",
    "USERS",
    "Boxes",
    "Done",
    "RaisedError",
    "Running",
    "Watched",
    "commands",
    "number",
    "until",
]
