"""Packages of an index whose checksum is known beforehand: from another file nothing is installed, nor run."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from toolscore.runners.errors import InstallError
from toolscore.runners.installers.install import install
from toolscore.runners.installers.node import find_node
from toolscore.runners.spec import Candidate, Installation, silent

WRONG = "0" * 64


async def put(tmp_path: Path, source: str, sha256: str, constraints: tuple[str, ...] = ()) -> Installation:
    candidate = Candidate(source=source, name="it", sha256=sha256, constraints=constraints)
    return await install(candidate, servers=tmp_path / "s", report=silent)


def wheel(folder: Path, name: str, needs: str = "") -> str:
    """Put a wheel with a program of its name into a folder, and give its checksum."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "def main(): print('ready')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    file = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as zipped:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            zipped.writestr(path, text)
    return hashlib.sha256(file.read_bytes()).hexdigest()


async def test_a_python_package_with_the_checksum_is_installed_with_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    sha256 = wheel(tmp_path, "toolscoredthing", "Requires-Dist: toolscoredpart\n")
    wheel(tmp_path, "toolscoredpart")
    source = "pypi:toolscoredthing@1.0"
    with pytest.raises(InstallError, match="has the checksum that it should have"):
        await put(tmp_path, source, WRONG)
    assert list((tmp_path / "s").iterdir()) == []
    done = await put(tmp_path, source, sha256, constraints=("toolscoredpart<2",))
    assert (done.package, done.version) == ("toolscoredthing", "1.0")
    assert list((tmp_path / "s/it/venv").glob("lib/python*/site-packages/toolscoredpart.py"))


@pytest.fixture
def npm_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A registry with one package, `thing`; the checksum of its file."""
    manifest = {"name": "thing", "version": "1.0.0", "bin": {"thing": "index.js"}}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path, text in (("package.json", json.dumps(manifest)), ("index.js", "console.log('ready')\n")):
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = f"http://127.0.0.1:{server.server_port}/thing.tgz"
            dist = {"tarball": address, "shasum": hashlib.sha1(packed.getvalue()).hexdigest()}
            about = {"name": "thing", "dist-tags": {"latest": "1.0.0"}}
            about["versions"] = {"1.0.0": {**manifest, "dist": dist}}
            body = packed.getvalue() if self.path.endswith(".tgz") else json.dumps(about).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    yield hashlib.sha256(packed.getvalue()).hexdigest()
    server.shutdown()
    server.server_close()


def _no_node() -> bool:
    try:
        find_node()
    except InstallError:
        return True
    return False


@pytest.mark.skipif(_no_node(), reason="there is no Node.js with npm here")
async def test_an_npm_package_with_the_checksum_is_installed(tmp_path: Path, npm_registry: str) -> None:
    with pytest.raises(InstallError, match=f"has the checksum {npm_registry}, and should have {WRONG}"):
        await put(tmp_path, "npm:thing@1.0.0", WRONG)
    assert list((tmp_path / "s").iterdir()) == []
    done = await put(tmp_path, "npm:thing@1.0.0", npm_registry)
    assert (done.package, done.version, done.runtime) == ("thing", "1.0.0", "node")
    [program] = done.spec.args
    assert "ready" in Path(program).read_text()


async def test_a_checksum_that_nobody_would_check_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="goes with a package from an index"):
        await put(tmp_path, "git+https://host.example/x", WRONG)
