"""How ToolScore itself is put into a container of the tests' engine: an image to begin with, a build, containers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from docker_engine import DockerEngine

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


class EngineError(Exception):
    """The engine refused something."""


class Engine:
    """The engine of this process, as whoever puts ToolScore into a container uses it.

    Args:
        engine: It.
    """

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine

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
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        try:
            found = self._engine.ask(method, f"{where}?{urlencode(query)}", content, kind, timeout)
        except AssertionError as error:
            raise EngineError(str(error)) from None
        if not isinstance(found, bytes) or b"}\r\n{" not in found:
            return found
        return [json.loads(text) for text in found.splitlines() if text.strip()]

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
        while (told := self.ask("GET", f"/exec/{made}/json"))["Running"]:
            time.sleep(0.01)  # its output ends a moment before it does
        return int(told["ExitCode"]), said.decode(errors="replace")


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
