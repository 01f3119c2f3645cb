"""A real Docker engine of a test's own: containerd and dockerd on their own sockets, with an image of this machine's
Python in it. Wants Linux, root and Debian's `docker.io`; where one of them is missing, `missing()` says which.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

JSON = "application/json"
IMAGE = "toolscore-test:py"
"""The image: Python, its standard library, and `faulty_server.py` as what it starts."""

SERVER = Path(__file__).with_name("faulty_server.py")

_UNUSED = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "pydoc_data",
    "distutils",
}
_UNUSED |= {"__pycache__", "site-packages", "dist-packages", "venv", "unittest"}


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/usr/local/sbin")


@functools.cache
def missing() -> str | None:
    """Say why no engine can be started here, or `None`."""
    if sys.platform != "linux":
        return "a Docker engine of a test's own wants Linux"
    if os.geteuid() != 0:
        return "a Docker engine of a test's own wants root"
    for program in ("dockerd", "containerd", "runc"):
        if _program(program) is None:
            return f"{program} is not here (apt-get install docker.io)"
    try:
        import aiodocker as _used  # noqa: F401
    except ImportError:
        return "aiodocker is not here (pip install 'toolscore[docker]')"
    return None


needs_engine = pytest.mark.skipif(missing() is not None, reason=f"no Docker engine: {missing()}")


_WATCH = """
import os, shutil, signal, subprocess, sys
sys.stdin.buffer.read()  # to the end of whoever started this
folder = sys.argv[1]
def processes():
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                with open(f'/proc/{name}/cmdline', 'rb') as file, open(f'/proc/{name}/stat') as stat:
                    parent = int(stat.read().rpartition(')')[2].split()[1])
                    yield int(name), file.read().decode(errors='replace'), parent
            except OSError:
                pass
def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
if os.path.isdir(folder):
    found = list(processes())
    mine = {pid for pid, line, _ in found if f'{folder}/' in line and pid != os.getpid()}
    shims = {pid for pid, line, _ in found if pid in mine and 'shim' in line}
    for pid in mine | {pid for pid, _, parent in found if parent in shims}:
        kill(pid)
    with open('/proc/self/mountinfo') as file:
        mounts = [line.split()[4] for line in file]
    for mount in sorted((one for one in mounts if one.startswith(f'{folder}/')), reverse=True):
        subprocess.run(['umount', '-l', mount], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
"""
"""Ends an engine whose tests were killed."""


class DockerEngine:
    """containerd and dockerd with everything of theirs in one folder.

    Attributes:
        host: The engine's address, as in `DOCKER_HOST`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder / 'docker.sock'}"
        self._containerd: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None
        self._watch = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WATCH, str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def dockerd_runs(self) -> bool:
        """Whether dockerd was started and not ended."""
        return self._dockerd is not None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        folder = self.folder
        containerd = folder / "containerd.sock"
        (folder / "containerd.toml").write_text(
            "version = 2\n"
            f'root = "{folder}/containerd-root"\nstate = "{folder}/containerd-state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{containerd}"\n'
        )
        (folder / "daemon.json").write_text(
            json.dumps(
                {
                    "hosts": [self.host],
                    "containerd": str(containerd),
                    "data-root": str(folder / "data"),
                    "exec-root": str(folder / "exec"),
                    "pidfile": str(folder / "docker.pid"),
                    "live-restore": True,
                    "bridge": "none",
                    "iptables": False,
                    "ip6tables": False,
                    "ip-forward": False,
                    "ip-masq": False,
                    "shutdown-timeout": 2,
                }
            )
        )
        if self._containerd is None:
            self._containerd = self._begin("containerd", "--config", f"{folder}/containerd.toml")
            _until(containerd.exists, "containerd answers", self._log("containerd"), self._containerd)
        self._dockerd = self._begin("dockerd", "--config-file", f"{folder}/daemon.json")
        _until(self._answers, "dockerd answers", self._log("dockerd"), self._dockerd)

    def kill(self) -> None:
        """Kill dockerd, as the kernel would; containers live on."""
        self._end(self._dockerd, signal.SIGKILL)
        self._dockerd = None
        for left in ("docker.pid", "docker.sock"):
            (self.folder / left).unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop dockerd in good order, as an upgrade of it does; containers live on."""
        self._end(self._dockerd, signal.SIGTERM)
        self._dockerd = None

    def freeze(self) -> None:
        """Let dockerd hang."""
        assert self._dockerd is not None
        self._dockerd.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._dockerd is not None
        self._dockerd.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it with all its containers, and delete the folder."""
        if self._dockerd is not None:
            with contextlib.suppress(ProcessLookupError):
                self.thaw()
            with contextlib.suppress(Exception):
                for one in self.ask("GET", "/containers/json?all=1"):
                    self.ask("DELETE", f"/containers/{one['Id']}?force=1&v=1")
                for one in self.ask("GET", "/networks"):
                    if one["Name"] not in ("none", "host", "bridge"):
                        self.ask("DELETE", f"/networks/{one['Id']}")
        self._end(self._dockerd, signal.SIGTERM)
        self._dockerd = None
        for pid in self._shims():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._end(self._containerd, signal.SIGTERM)
        self._containerd = None
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split()[4] for line in file]
        for mount in sorted((one for one in mounts if one.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert self._watch.stdin is not None
        self._watch.stdin.close()
        self._watch.wait()

    def ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = JSON, timeout: float = 60.0
    ) -> Any:
        """Ask the engine something, apart from what is tested."""
        import http.client
        import socket

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self.sock.settimeout(timeout)
                self.sock.connect(where)

        where = self.host.removeprefix("unix://")
        connection = Connection("docker")
        try:
            connection.request(method, f"/v1.41{path}", body, {"Content-Type": kind} if body else {})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise AssertionError(f"{method} {path}: {answer.status} {data.decode()}")
        return json.loads(data) if data.startswith((b"{", b"[")) and b"}\r\n{" not in data else data

    def containers(self, **labels: str) -> list[dict[str, Any]]:
        """List the containers, ended ones too, that carry some labels."""
        found: list[dict[str, Any]] = self.ask("GET", "/containers/json?all=1")
        return [one for one in found if labels.items() <= one["Labels"].items()]

    def add_image(self, name: str = IMAGE, changes: tuple[str, ...] = (), more: bytes | None = None) -> str:
        """Make an image of this machine's Python; give its id."""
        from urllib.parse import quote

        repository, _, tag = name.rpartition(":")
        said = "".join(f"&changes={quote(change)}" for change in changes)
        path = f"/images/create?fromSrc=-&repo={repository}&tag={tag}{said}"
        self.ask("POST", path, more or image(), "application/x-tar")
        found: str = self.ask("GET", f"/images/{name}/json")["Id"]
        return found

    def _answers(self) -> bool:
        try:
            return bool(self.ask("GET", "/_ping") == b"OK")
        except OSError:
            return False

    def _begin(self, program: str, *args: str) -> subprocess.Popen[bytes]:
        found = _program(program)
        assert found is not None
        # The engine looks for its helpers on PATH.
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"
        with self._log(program).open("ab") as log:
            # A group of its own: what interrupts the tests is not to end it before its containers.
            return subprocess.Popen(
                [found, *args], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": path, "HOME": "/root"},
                start_new_session=True,
            )  # fmt: skip

    def _log(self, program: str) -> Path:
        return self.folder / f"{program}.log"

    def _end(self, process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _shims(self) -> Iterator[int]:
        """Find containerd's helpers, which outlive it, by the socket in their command line."""
        mine = f"-address\0{self.folder}/containerd.sock".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mine in (entry / "cmdline").read_bytes():
                        yield int(entry.name)


def _until(
    condition: Any, what: str, log: Path, process: subprocess.Popen[bytes], seconds: float = 120.0
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline or process.poll() is not None:
            raise AssertionError(f"not within {seconds} s: {what}. {log.read_text()[-2000:]}")
        time.sleep(0.01)


@functools.cache
def image() -> bytes:
    """Pack this machine's Python, what it is linked with, and the faulty server, as the only layer of an image."""
    python = Path("/usr/bin/python3") if Path("/usr/bin/python3").exists() else Path(sys.executable)
    binary = python.resolve()
    said = subprocess.run(
        [binary, "-c", "import sysconfig; print(sysconfig.get_paths()['stdlib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    library = Path(said)
    modules = sorted((library / "lib-dynload").glob("*.so"))
    linked = subprocess.run(["ldd", binary, *modules], capture_output=True, text=True, check=False).stdout
    needed = {Path(found) for found in re.findall(r"(/\S+) \(0x", linked)}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:

        def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
            parts = set(member.name.split("/"))
            if parts & _UNUSED or member.name.rpartition("/")[2].startswith("config-"):
                return None
            member.uid = member.gid = 0
            return member

        # What compiled modules of packages want besides.
        besides = ("libgcc_s.so.1", "librt.so.1", "libpthread.so.0", "libdl.so.2", "libm.so.6")
        folders = {path.parent for path in needed}
        needed.update(one for folder in folders for name in besides if (one := folder / name).exists())
        for path in sorted(needed):
            archive.add(os.path.realpath(path), str(path).lstrip("/"))
        archive.add(binary, str(binary).lstrip("/"))
        archive.add(library, str(library).lstrip("/"), filter=wanted)
        link = tarfile.TarInfo("usr/local/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, str(binary)
        archive.addfile(link)
        archive.add(SERVER, "app/faulty_server.py")
        for name, mode in (("tmp", 0o1777), ("proc", 0o755), ("sys", 0o755), ("dev", 0o755), ("etc", 0o755)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            archive.addfile(folder)
    return made.getvalue()


ENTRY = 'ENTRYPOINT ["/usr/local/bin/python3", "/app/faulty_server.py"]'
"""Makes the image start the faulty server."""


@contextlib.contextmanager
def started_engine() -> Iterator[DockerEngine]:
    """Start an engine with the image in it, and end it with all that is its own."""
    # Below /tmp itself: sockets have short names only.
    engine = DockerEngine(Path(tempfile.mkdtemp(prefix="ts-docker-", dir="/tmp")))
    try:
        engine.start()
        engine.add_image(IMAGE, (ENTRY,))
        yield engine
    finally:
        engine.close()


@functools.cache
def _begun() -> DockerEngine | str:
    """Start the engine of this process, which is ended with it; or say why it does not come up."""
    kept = contextlib.ExitStack()
    atexit.register(kept.close)
    try:
        return kept.enter_context(started_engine())
    except AssertionError as error:  # such as in a container without the rights for it
        return str(error)


def begun() -> DockerEngine:
    """Give the engine of this process; skip where there can be none."""
    if (why := missing()) is not None:
        pytest.skip(f"no Docker engine: {why}")
    found = _begun()
    if isinstance(found, str):
        pytest.skip(f"no Docker engine: it does not start here. {found}")
    return found


@pytest.fixture
def engine() -> Iterator[DockerEngine]:
    """Give the engine of this process; what a test left in it is removed."""
    yield (found := begun())
    found.thaw() if found._dockerd is not None else found.start()
    deadline = time.monotonic() + 60
    while left := found.containers():
        assert time.monotonic() < deadline, left
        for one in left:
            with contextlib.suppress(AssertionError):  # it may be about to be removed, or gone by now
                found.ask("DELETE", f"/containers/{one['Id']}?force=1&v=1")


async def eventually(found: Any, what: str, seconds: float = 60.0) -> Any:
    """Wait until a function, asked in a thread, gives something true; give that."""
    deadline = time.monotonic() + seconds
    while not (value := await asyncio.to_thread(found)):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)
    return value
