"""ToolScore in a container: the container file, built and run for real, with the rights its Kubernetes pod has."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_engine import Engine, base_image, context
from docker_engine import begun, missing
from test_deploy import container, documents

ROOT = Path(__file__).parents[1]
IMAGE = "toolscore-test:1"
USER = 10001
STATE = "/var/lib/toolscore"
MODERN = "2026-07-28"
CLONE_NEWNET = 0x40000000

pytestmark = [
    pytest.mark.index,
    pytest.mark.skipif(missing() is not None, reason=f"no container engine: {missing()}"),
]


class Pod:
    """A container that runs ToolScore, in a network of its own."""

    def __init__(self, engine: Engine, identity: str) -> None:
        self.engine = engine
        self.identity = identity

    def until_healthy(self) -> None:
        """Wait for what the health check of the image says."""
        deadline = time.monotonic() + 120
        while (state := self.engine.inspect(self.identity)["State"])["Health"]["Status"] != "healthy":
            assert state["Running"], self.engine.logs(self.identity)
            assert time.monotonic() < deadline, (state, self.engine.logs(self.identity))
            time.sleep(0.1)

    def toolscore(self, *words: str) -> str:
        """Run a command of ToolScore in it."""
        status, said = self.engine.run(self.identity, "toolscore", *words)
        assert status == 0, said
        return said

    def python(self, code: str) -> str:
        """Run Python in it, outside of any sandbox."""
        status, said = self.engine.run(self.identity, "/opt/toolscore/bin/python", "-c", code)
        assert status == 0, said
        return said

    def line(self) -> socket.socket:
        """Connect to its listener from inside of its network."""
        pid = self.engine.inspect(self.identity)["State"]["Pid"]
        found: list[socket.socket] = []

        def connect() -> None:  # in a thread of its own, which alone goes there
            with open(f"/proc/{pid}/ns/net", "rb") as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
                    return
            found.append(socket.create_connection(("127.0.0.1", 8000), 60))

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
        assert found, "its network cannot be entered"
        return found[0]

    def begin(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPConnection:
        """Send a request."""
        line = http.client.HTTPConnection("toolscore:8000", timeout=60)
        line.sock = self.line()
        line.request(method, path, None if body is None else json.dumps(body), headers)
        return line

    def ask(self, path: str, **headers: str) -> int:
        """Give the status of a page."""
        line = self.begin("GET", path, **headers)
        status = line.getresponse().status
        line.close()
        return status

    def call(self, tool: str, token: str, **arguments: Any) -> http.client.HTTPConnection:
        """Call a tool."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        return self.begin(
            "POST",
            "/mcp",
            {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/call",
                "params": {"name": tool, "arguments": arguments, "_meta": meta},
            },
            **{
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": MODERN,
                "Mcp-Method": "tools/call",
                "Mcp-Name": tool,
                "Authorization": f"Bearer {token}",
            },
        )


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The engine with the image, built of this checkout."""
    one = Engine(begun())
    one.build(context(ROOT, "__pycache__"), IMAGE, BASE=base_image(one))
    return one


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume as Kubernetes gives it to a pod with an fsGroup: root's, and open to that group."""
    folder = tmp_path / "volume"
    folder.mkdir()
    os.chown(folder, 0, USER)
    folder.chmod(0o2775)
    return folder


@pytest.fixture
def pod(engine: Engine, volume: Path) -> Iterator[Pod]:
    """ToolScore with what the security context of the manifest leaves it."""
    allowed = container()["securityContext"]
    assert allowed == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    stateful = documents(ROOT / "deploy" / "kubernetes" / "statefulset.yaml")[0]
    assert stateful["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == USER
    identity = engine.create(
        IMAGE,
        Env=["TOOLSCORE_NETWORK_ALLOWED_HOSTS=toolscore", "TOOLSCORE_SHARED_DRAIN=30"],
        # The check is the image's own; an interval is none of those that a test can wait for.
        Healthcheck={"Interval": 500_000_000},
        HostConfig={
            "NetworkMode": "none",
            "ReadonlyRootfs": allowed["readOnlyRootFilesystem"],
            "CapDrop": allowed["capabilities"]["drop"],
            "SecurityOpt": ["no-new-privileges"],
            "Tmpfs": {"/tmp": "mode=1777"},
            "Binds": [f"{volume}:{STATE}"],
        },
    )
    engine.start(identity)
    one = Pod(engine, identity)
    try:
        one.until_healthy()
        yield one
    finally:
        engine.remove(identity)


def test_the_image_is_small_and_nobodys(engine: Engine) -> None:
    image = engine.ask("GET", f"/images/{IMAGE}/json")
    base = engine.ask("GET", "/images/toolscore-test-base:1/json")
    assert image["Config"]["User"] == f"{USER}:{USER}"
    assert image["Config"]["Volumes"] == {STATE: {}}
    assert (image["Size"] - base["Size"]) >> 20 < 220, "MiB on top of what it begins with"


def test_it_serves_its_network_runs_code_and_leaves_no_zombies(pod: Pod) -> None:
    token = pod.toolscore("token", "show").split()[0]
    assert pod.ask("/health/ready") == 200
    assert pod.ask("/metrics") == 401
    assert pod.ask("/metrics", Authorization=f"Bearer {token}") == 200
    line = pod.call("python-executor__python_execute", token, code="6 * 7")
    answered = line.getresponse().read().decode()
    line.close()
    # Which tier it has is a matter of the engine's filters and of the kernel; that it says so is not.
    status = pod.toolscore("call", "python-executor__sandbox_status")
    if "isolation: limits" in status or "isolation: none" in status:
        assert "isError" in answered
    else:
        assert '"value":42' in answered.replace(" ", ""), answered
    assert (
        pod.python("import os; print(os.getuid(), os.access('/opt/toolscore', os.W_OK))") == f"{USER} False\n"
    )
    # As the first process of the container, it would have to bury all that nobody else waits for.
    assert pod.python(ZOMBIES) == "[]\n"


def test_a_stop_lets_calls_finish_and_the_next_start_finds_all_as_it_was(
    pod: Pod, engine: Engine, volume: Path
) -> None:
    token = pod.toolscore("token", "show").split()[0]
    pod.toolscore("register", "slow", "--", "/opt/toolscore/bin/python", "-c", SLOW)
    line = pod.call("slow__sleep", token, seconds=8)
    deadline = time.monotonic() + 60
    while "toolscore_calls_in_flight 1" not in figures(pod, token):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert engine.stop(pod.identity, 60) == 0
    assert "slept" in line.getresponse().read().decode()
    line.close()
    # As a restart with an fsGroup finds it: what is private has to have stayed so.
    home = volume / "home"
    assert home.stat().st_uid == USER
    private = [path for path in home.iterdir() if path.is_file() and path.stat().st_mode & 0o077 == 0]
    assert {"token", "owner.lock"} <= {path.name for path in private}
    engine.start(pod.identity)
    pod.until_healthy()
    assert pod.toolscore("token", "show").split()[0] == token
    assert "slow" in pod.toolscore("list")


def figures(pod: Pod, token: str) -> str:
    line = pod.begin("GET", "/metrics", Authorization=f"Bearer {token}")
    text = line.getresponse().read().decode()
    line.close()
    return text


ZOMBIES = """
import time
from contextlib import suppress
from pathlib import Path

def now():
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has gone meanwhile
            if ") Z " in path.read_text():
                found.add(path.parent.name)
    return found

# Whoever has just ended is one for a moment: what counts is who stays it.
stay = now()
for _ in range(100):
    if stay:
        time.sleep(0.1)
        stay &= now()
print(sorted(stay))
"""

SLOW = """
import json, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    match asked.get("method"):
        case "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                      "serverInfo": {"name": "slow", "version": "1"}}
        case "tools/list":
            result = {"tools": [{"name": "sleep", "inputSchema": {"type": "object"}}]}
        case "tools/call":
            time.sleep(asked["params"]["arguments"]["seconds"])
            result = {"content": [{"type": "text", "text": "slept"}]}
        case _:
            result = {}
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""
