"""The unit of `deploy/` under a real systemd: the first process of a container of this machine's own files."""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_engine import Engine
from docker_engine import begun, missing
from toolscore_client import FAULTY, TOOLSCORE

ROOT = Path(__file__).parents[1]
SYSTEMD = Path("/lib/systemd/systemd")
USER = 977
STATE = "/var/lib/toolscore"
IMAGE = "toolscore-test-systemd:1"

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=f"no container engine: {missing()}"),
    pytest.mark.skipif(not SYSTEMD.exists(), reason="systemd is not installed (Debian: systemd)"),
]


class Machine:
    """A container in which systemd has started the unit."""

    def __init__(self, engine: Engine, identity: str) -> None:
        self.engine = engine
        self.identity = identity

    def run(self, *words: str) -> str:
        status, said = self.engine.run(self.identity, *words)
        assert status == 0, said
        return said

    def toolscore(self, *words: str) -> str:
        """Run a command as the user of the service, who alone may."""
        user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "env", f"HOME={STATE}")
        return self.run(*user, TOOLSCORE, "--home", STATE, *words)

    def property(self, name: str) -> str:
        return self.run("systemctl", "show", "toolscore", "--value", "-p", name).strip()

    def until(self, name: str, value: str) -> None:
        deadline = time.monotonic() + 120
        while (found := self.property(name)) != value:
            assert time.monotonic() < deadline, (found, self.run("systemctl", "status", "toolscore", "-l"))
            assert found != "failed", self.run("systemctl", "status", "toolscore", "-l")
            time.sleep(0.1)


def rootfs() -> bytes:
    """A system that has the user and the unit, and all else from this machine."""
    content = io.BytesIO()
    unit = (ROOT / "deploy" / "systemd" / "toolscore.service").read_text()
    # The program, the network there is not, and a Python that may lie in somebody's home.
    unit = re.sub(r"^ExecStart=\S+", f"ExecStart={TOOLSCORE}", unit, flags=re.MULTILINE)
    unit = unit.replace("network-online.target", "basic.target").replace("ProtectHome=yes", "ProtectHome=no")
    files = {
        "etc/passwd": f"root:x:0:0::/root:/bin/sh\ntoolscore:x:{USER}:{USER}::{STATE}:/bin/false\n",
        "etc/group": f"root:x:0:\ntoolscore:x:{USER}:\n",
        "etc/machine-id": "",
        "etc/os-release": "ID=test\n",
        "etc/systemd/system/toolscore.service": unit,
        "etc/systemd/system/test.target": "[Unit]\nWants=toolscore.service\n",
    }
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
                tar.addfile(entry)
        for name in (
            "etc/systemd/system",
            "var/lib",
            "var/cache",
            "run",
            "tmp",
            "root",
            "usr",
            "proc",
            "sys",
            "dev",
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    engine = Engine(begun())
    seen = {"/usr", str(ROOT), str(Path(sys.executable).resolve().parents[1]), sys.base_prefix, sys.prefix}
    shown = [one for one in sorted(seen) if one == "/usr" or not one.startswith("/usr/")]
    engine.ask(
        "POST",
        "/images/create",
        rootfs(),
        kind="application/x-tar",
        fromSrc="-",
        repo=IMAGE.partition(":")[0],
        tag="1",
    )
    identity = engine.create(
        IMAGE,
        Cmd=[str(SYSTEMD), "--unit=test.target", "--log-target=console", "--show-status=no"],
        Env=["container=docker"],
        HostConfig={
            "CapAdd": ["SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"],
            "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"],
            "NetworkMode": "none",
            "Binds": [*(f"{one}:{one}:ro" for one in shown), "/sys/fs/cgroup:/sys/fs/cgroup:rw"],
            "Tmpfs": {"/run": "", "/tmp": "mode=1777"},
        },
    )
    try:
        engine.start(identity)
        one = Machine(engine, identity)
        deadline = time.monotonic() + 60
        while engine.run(identity, "systemctl", "show", "toolscore")[0]:
            if not engine.inspect(identity)["State"]["Running"]:
                pytest.skip(
                    f"systemd cannot be the first process of a container here: {engine.logs(identity)}"
                )
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield one
    finally:
        engine.remove(identity)


def test_it_is_active_once_it_serves_and_its_hardening_leaves_the_sandbox_whole(machine: Machine) -> None:
    machine.until("ActiveState", "active")
    assert "serving on http://127.0.0.1:8000/mcp" in machine.property("StatusText")
    assert machine.property("NoNewPrivileges") == "yes"
    status = machine.toolscore("call", "python-executor__sandbox_status")
    # Without the unit, would the same user have namespaces here?
    words = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "unshare", "-Urn", "true")
    if machine.engine.run(machine.identity, *words)[0] == 0:
        assert "isolation: full" in status
    assert "value: 2" in machine.toolscore("call", "python-executor__python_execute", '{"code": "1 + 1"}')


def test_one_that_is_killed_comes_back_and_leaves_none_of_its_servers(machine: Machine) -> None:
    machine.until("ActiveState", "active")
    machine.toolscore("register", "slow", "--", sys.executable, "-S", FAULTY)
    before = machine.property("MainPID")
    machine.run("kill", "-9", before)
    deadline = time.monotonic() + 120
    while machine.property("MainPID") in (before, "0"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    machine.until("ActiveState", "active")
    assert machine.property("NRestarts") == "1"
    assert "slept" in machine.toolscore("call", "slow__sleep", '{"seconds": 0}')
    programs = [Path(FAULTY).name in line for line in machine.run("ps", "-eo", "args").splitlines()]
    assert sum(programs) == 1


def test_a_stop_lets_a_call_finish_and_is_a_success(machine: Machine) -> None:
    machine.until("ActiveState", "active")
    machine.toolscore("register", "asked", "--", sys.executable, "-S", FAULTY)
    token = machine.toolscore("token", "show").split()[0]
    said: list[str] = []

    def call() -> None:
        arguments = json.dumps({"seconds": 600, "file": GO})
        said.append(machine.toolscore("call", "asked__sleep", arguments))

    calling = threading.Thread(target=call)
    calling.start()
    deadline = time.monotonic() + 120
    while "toolscore_calls_in_flight 1" not in machine.run(sys.executable, "-c", FIGURES, token):
        assert time.monotonic() < deadline
        assert not said, said
    # The call ends in the middle of the stop, and soon: it is waited for a few seconds only.
    machine.run("sh", "-c", STOP)
    calling.join()
    machine.run("systemctl", "stop", "toolscore")  # which waits for its end
    assert "slept" in said[0]
    assert machine.property("Result") == "success"
    assert machine.property("ExecMainStatus") == "0"


GO = f"{STATE}/go"
STOP = f"""
systemctl stop --no-block toolscore
while systemctl is-active --quiet toolscore; do :; done
touch {GO}
"""

FIGURES = """
import http.client, sys
line = http.client.HTTPConnection("127.0.0.1", 8000)
line.request("GET", "/metrics", headers={"Authorization": f"Bearer {sys.argv[1]}"})
print(line.getresponse().read().decode())
"""
