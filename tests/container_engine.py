"""A container engine of the tests' own: containerd and dockerd in a folder of theirs, spoken to over HTTP.

Not the runner's: what is tested with it is how ToolScore itself is put into a container.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

Message = dict[str, Any]
BASE = "toolscore-test-base"
"""The image made of this machine's own Python: there is no registry to take one from."""

SYSTEM = (
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/pip.conf",
    "/etc/ssl",
    "/usr/share/python-wheels",
)
"""What a program, and an installation from the package index, need of a system besides libraries."""

OF_WHEELS = {
    "libgcc_s.so.1",
    "libstdc++.so.6",
    "librt.so.1",
    "libdl.so.2",
    "libpthread.so.0",
    "libutil.so.1",
    "libm.so.6",
    "libresolv.so.2",
    "libnss_dns.so.2",
    "libnss_files.so.2",
}
"""What wheels take for granted (PEP 600)."""

WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""What an engine is started with, so that it ends with the tests, however those end."""

UNUSED = {
    "__pycache__",
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "private",
    "__phello__",
}
INDEX = {"PIP_INDEX_URL", "PIP_CERT", "PIP_DEFAULT_TIMEOUT", "SSL_CERT_FILE"}
"""How this machine's pip finds the index."""


def missing() -> str | None:
    """Tell why there can be no engine; `None` if there can."""
    if sys.platform != "linux":
        return "a container engine needs Linux"
    if os.geteuid() != 0:
        return "an engine of the tests' own needs root"
    lacking = [name for name in ("dockerd", "containerd", "runc", "setpriv") if shutil.which(name) is None]
    return f"{', '.join(lacking)}: not installed (Debian: docker.io)" if lacking else None


class EngineError(Exception):
    """The engine refused something."""


class _Line(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """A dockerd that runs.

    Args:
        path: Its socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def ask(
        self,
        method: str,
        where: str,
        body: bytes | Message | None = None,
        *,
        kind: str = "application/json",
        timeout: float = 120,
        **query: str,
    ) -> Any:
        """Ask it; give its answer: JSON, or a list of that, or bytes."""
        line = _Line(str(self.path), timeout)
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        line.request(method, f"/v1.41{where}?{urlencode(query)}", content, {"Content-Type": kind})
        answer = line.getresponse()
        read = answer.read()
        line.close()
        if answer.status >= 400:
            raise EngineError(f"{method} {where}: {answer.status} {read.decode(errors='replace')}")
        if not (answer.getheader("Content-Type") or "").startswith("application/json"):
            return read
        lines = [json.loads(text) for text in read.splitlines() if text.strip()]
        return lines[0] if len(lines) == 1 else lines

    def build(self, context: bytes, tag: str, **arguments: str) -> None:
        """Build an image of a context with its Dockerfile in `deploy/`; its steps have this machine's network."""
        said = self.ask(
            "POST",
            "/build",
            context,
            kind="application/x-tar",
            timeout=600,
            t=tag,
            dockerfile="deploy/Dockerfile",
            networkmode="host",
            buildargs=json.dumps(arguments),
        )
        steps = said if isinstance(said, list) else [said]
        if any("error" in step for step in steps):
            raise EngineError("".join(step.get("stream", step.get("error", "")) for step in steps)[-4000:])

    def create(self, image: str, **options: Any) -> str:
        """Create a container, and give its id."""
        identity: str = self.ask("POST", "/containers/create", {"Image": image, **options})["Id"]
        return identity

    def start(self, identity: str) -> None:
        """Start one."""
        self.ask("POST", f"/containers/{identity}/start")

    def stop(self, identity: str, seconds: int) -> int:
        """Stop one as `docker stop` does, and give its exit status: 137 if it had to be killed."""
        self.ask("POST", f"/containers/{identity}/stop", t=str(seconds))
        status: int = self.inspect(identity)["State"]["ExitCode"]
        return status

    def inspect(self, identity: str) -> Message:
        """Give all there is to know of one."""
        found: Message = self.ask("GET", f"/containers/{identity}/json")
        return found

    def logs(self, identity: str) -> str:
        """Give what one wrote."""
        raw: bytes = self.ask("GET", f"/containers/{identity}/logs", stdout="1", stderr="1")
        return raw.decode(errors="replace")

    def remove(self, identity: str) -> None:
        """Remove one, whatever it does, and what it has in volumes without a name."""
        self.ask("DELETE", f"/containers/{identity}", force="1", v="1")

    def run(self, identity: str, *command: str) -> tuple[int, str]:
        """Run a command in a container that runs; give its exit status and what it wrote."""
        asked = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
        made = self.ask("POST", f"/containers/{identity}/exec", asked)["Id"]
        raw: bytes = self.ask("POST", f"/exec/{made}/start", {"Detach": False, "Tty": False})
        said = b""
        while raw:  # frames of 8 bytes: stream, size
            size = int.from_bytes(raw[4:8])
            said, raw = said + raw[8 : 8 + size], raw[8 + size :]
        return int(self.ask("GET", f"/exec/{made}/json")["ExitCode"]), said.decode(errors="replace")


@contextmanager
def running(folder: Path) -> Iterator[Engine]:
    """Run an engine in a folder; it ends with the block, and all its containers with it."""
    folder.mkdir(parents=True, exist_ok=True)
    containerd_socket, sock = folder / "containerd.sock", folder / "docker.sock"
    (folder / "containerd.toml").write_text(
        f'version = 2\nroot = "{folder}/containerd"\nstate = "{folder}/containerd-state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{containerd_socket}"\n'
    )
    (folder / "daemon.json").write_text(
        json.dumps(
            {
                "data-root": f"{folder}/data",
                "exec-root": f"{folder}/exec",
                "pidfile": f"{folder}/docker.pid",
                "hosts": [f"unix://{sock}"],
                "containerd": str(containerd_socket),
                "bridge": "none",
                "iptables": False,
                "ip-forward": False,
                "shutdown-timeout": 5,
            }
        )
    )
    with (folder / "engine.log").open("wb") as log:
        commands = (
            ["containerd", "--config", str(folder / "containerd.toml")],
            ["dockerd", "--config-file", str(folder / "daemon.json")],
        )
        processes: list[subprocess.Popen[bytes]] = []
        engine = Engine(sock)
        try:
            for command, appears in zip(commands, (containerd_socket, sock), strict=True):
                processes.append(subprocess.Popen([*WITH_US, *command], stdout=log, stderr=log))
                _until_there(processes[-1], appears, folder / "engine.log")
            yield engine
        finally:
            for identity in _containers(engine):
                engine.remove(identity)
            for process in reversed(processes):
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            _unmount(folder)


def context(root: Path, within: str) -> bytes:
    """Pack what `.dockerignore` leaves of a folder; it names what is taken, one line each."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for line in (root / ".dockerignore").read_text().splitlines():
            if line.startswith("!"):
                tar.add(root / line[1:], line[1:], filter=lambda one: None if within in one.name else one)
    return content.getvalue()


def base_image(engine: Engine) -> str:
    """Make the image the container file begins with, of this machine's Python and libraries; give its name."""
    content = io.BytesIO()
    python = Path(sys.executable).resolve()
    # What links lead to is put in their places: the loader asks for libraries by the names of links.
    with tarfile.open(fileobj=content, mode="w", dereference=True) as tar:
        for path in sorted(_files(python)):
            tar.add(path, arcname=str(path).lstrip("/"), recursive=False)
        for name in ("python", "python3"):
            link = tarfile.TarInfo(f"usr/local/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, str(python)
            tar.addfile(link)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    environ = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        **{name: os.environ[name] for name in INDEX & os.environ.keys()},
    }
    engine.ask(
        "POST",
        "/images/create",
        content.getvalue(),
        kind="application/x-tar",
        fromSrc="-",
        repo=BASE,
        tag="1",
        changes="ENV " + " ".join(f"{name}={value}" for name, value in environ.items()),
    )
    return f"{BASE}:1"


def _files(python: Path) -> set[Path]:
    """What Python needs here: itself, its library, the C libraries of both, and what a system has."""
    found = {python, Path("/bin/sh")}
    for folder in (Path(sysconfig.get_path("stdlib")).resolve(), *map(Path, SYSTEM)):
        for path in (folder, *folder.rglob("*")):
            if path.exists() and not UNUSED & set(path.parts) and not path.name.startswith("config-"):
                found.add(path)
    for program in [path for path in found if path.suffix == ".so" or path.parent.name == "bin"]:
        told = subprocess.run(["ldd", str(program)], check=False, capture_output=True, text=True).stdout
        found.update(Path(word) for word in told.split() if word.startswith("/") and Path(word).exists())
    told = subprocess.run(["ldconfig", "-p"], check=True, capture_output=True, text=True).stdout
    return found | {
        Path(word) for word in told.split() if word.startswith("/") and Path(word).name in OF_WHEELS
    }


def _containers(engine: Engine) -> list[str]:
    try:
        found = engine.ask("GET", "/containers/json", all="1")
    except (OSError, EngineError):
        return []
    return [one["Id"] for one in (found if isinstance(found, list) else [found])]


def _until_there(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            try:
                line.connect(str(path))
            except OSError:
                assert process.poll() is None, log.read_text()[-4000:]
                assert time.monotonic() < deadline, log.read_text()[-4000:]
                time.sleep(0.05)  # nothing signals it
            else:
                return


def _unmount(folder: Path) -> None:
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if (where := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", where], check=False, capture_output=True)
