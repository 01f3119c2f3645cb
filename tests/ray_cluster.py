"""A real Ray cluster on this machine: a head and workers, each with processes, ports and a folder of its own."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from ports import free_port

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'toolscore[ray]'"
)

PATIENCE = 300.0
"""Seconds a node has to come up, on a machine that does much else."""


def own_address() -> str:
    """The address Ray takes for this machine's: packets to it do not leave the machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


class RayNode:
    """One node: `ray start --block`, and all it started."""

    def __init__(self, name: str, begun: tuple[subprocess.Popen[bytes], Path], arguments: list[str]) -> None:
        self.name = name
        self.process, self.log = begun
        self.arguments = arguments

    def tree(self) -> list[psutil.Process]:
        """All its processes, parents first."""
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def kill(self) -> None:
        """Kill all its processes at once, as if its machine had lost power but for the kernel."""
        found = self.tree()
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        for process in {*found, *self.tree()}:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(30)


class RayCluster:
    """A head and its workers.

    Args:
        folder: Where its files are; short, for the sockets in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_hex(32)
        self.port = free_port()
        self.ip = own_address()
        self._begun = 0
        self.nodes: list[RayNode] = []
        self.wants: dict[str, dict[str, Any]] = {}
        """What nodes were started with, by their names."""

    @property
    def address(self) -> str:
        return f"{self.ip}:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        mine = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_USAGE_STATS_ENABLED": "0"}
        keep = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return keep | mine

    def start(self, name: str, *, head: bool = False, **wants: Any) -> RayNode:
        """Start a node; `wants` are `cpus`, `resources` and `labels`."""
        arguments = ["--head", f"--port={self.port}", "--include-dashboard=false"] if head else []
        arguments += [] if head else [f"--address={self.address}"]
        arguments += [
            f"--num-cpus={wants.get('cpus', 2)}",
            "--object-store-memory=100000000",
            "--memory=2000000000",
        ]
        labels = {"name": name, "worker": str(not head).lower(), **wants.get("labels", {})}
        arguments += [f"--labels={','.join(f'{key}={value}' for key, value in labels.items())}"]
        arguments += [f"--resources={json.dumps(wants['resources'])}"] if "resources" in wants else []
        self.wants[name] = wants
        node = RayNode(name, self._begin(name, arguments, wants.get("python", sys.executable)), arguments)
        self.nodes.append(node)
        return node

    def _begin(self, name: str, arguments: list[str], python: str) -> tuple[subprocess.Popen[bytes], Path]:
        self._begun += 1
        log = self.folder / f"{name}-{self._begun}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [
                    python, "-c", "from ray.scripts.scripts import main; main()", "start", "--block",
                    "--disable-usage-stats", f"--temp-dir={self.folder}/{self._begun}", *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environ,
                start_new_session=True,
            )  # fmt: skip
        return process, log

    def named(self, name: str) -> RayNode:
        """Give the node that was started last under a name, which is its label `name` too."""
        return next(node for node in reversed(self.nodes) if node.name == name)

    def wait_open(self, head: RayNode) -> None:
        """Wait until other nodes can join."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError), socket.create_connection((self.ip, self.port), 1):
                return
            assert head.process.poll() is None, head.log.read_text("utf-8", "replace")[-2000:]
            assert time.monotonic() < deadline, head.log.read_text("utf-8", "replace")[-2000:]
            time.sleep(0.05)

    def wait_up(self, *nodes: RayNode) -> None:
        """Wait until nodes have said that they run."""
        deadline = time.monotonic() + PATIENCE
        for node in nodes:
            while b"Ray runtime started" not in node.log.read_bytes():
                said = node.log.read_text("utf-8", "replace")
                if node.process.poll() is not None:
                    # Ray gives a node thirty seconds, which a machine that does much else may not have.
                    assert "timed out during startup" in said, f"node {node.name} ended: {said[-2000:]}"
                    node.kill()
                    node.process, node.log = self._begin(node.name, node.arguments, sys.executable)
                assert time.monotonic() < deadline, f"node {node.name} did not come up: {said[-2000:]}"
                time.sleep(0.05)

    def close(self) -> None:
        """End everything, whatever state it is in."""
        for node in self.nodes:
            with suppress(subprocess.TimeoutExpired):
                node.kill()
        # What its parent left behind is known by the folder in its command line.
        mark = str(self.folder)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and any(mark in word for word in process.cmdline()):
                    process.send_signal(signal.SIGKILL)


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Three nodes: `head`, `plain`, and `special`, which has the label `gpu=true` and two of the resource `gpu`.

    One at a time on this machine, also where several processes run tests.
    """
    with (Path(tempfile.gettempdir()) / f"toolscore-ray-{os.getuid()}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        folder = Path(tempfile.mkdtemp(prefix="tsray", dir="/tmp"))
        cluster = RayCluster(folder)
        try:
            head = cluster.start("head", head=True)
            cluster.wait_open(head)
            plain = cluster.start("plain", labels={"roomy": "yes"})
            special = cluster.start("special", labels={"gpu": "true"}, resources={"gpu": 2})
            cluster.wait_up(head, plain, special)
            yield cluster
        finally:
            cluster.close()
            shutil.rmtree(folder, ignore_errors=True)
