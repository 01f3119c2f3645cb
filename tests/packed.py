"""Small MCP servers as packages, made on the fly: wheels in a folder that uv takes for its index, and npm's."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PYTHON = """
import json, os, sys

WORD = {word!r}
TOOLS = {tools!r}

def main():
    {first}
    for line in sys.stdin:
        m = json.loads(line)
        if "id" not in m:
            continue
        reply = {{"jsonrpc": "2.0", "id": m["id"]}}
        if m["method"] == "initialize":
            reply["result"] = {{"protocolVersion": "2025-11-25", "capabilities": {{"tools": {{}}}},
                               "serverInfo": {{"name": "packed", "version": WORD}}}}
        elif m["method"] == "tools/list":
            reply["result"] = {{"tools": [{{"name": n, "description": d, "inputSchema": {{"type": "object"}}}}
                                         for n, d in TOOLS.items()]}}
        elif m["method"] == "tools/call":
            said = WORD + " " + " ".join([*sys.argv[1:], os.environ.get("KEY", "")]).strip()
            reply["result"] = {{"content": [{{"type": "text", "text": said.strip()}}]}}
        else:
            reply["result"] = {{}}
        print(json.dumps(reply), flush=True)

if __name__ == "__main__":
    main()
"""

NODE = """
const WORD = %s
require('readline').createInterface({input: process.stdin}).on('line', (line) => {
  const m = JSON.parse(line)
  if (!('id' in m)) return
  const schema = {type: 'object'}
  const results = {
    initialize: {protocolVersion: '2025-11-25', capabilities: {tools: {}},
                 serverInfo: {name: 'packed', version: WORD}},
    'tools/list': {tools: [{name: 'say', description: 'Says ' + WORD, inputSchema: schema}]},
    'tools/call': {content: [{type: 'text', text: WORD}]},
  }
  console.log(JSON.stringify({jsonrpc: '2.0', id: m.id, result: results[m.method] ?? {}}))
})
"""

TOOLS = {"say": "Says it."}


def server_code(word: str = "1.0", tools: dict[str, str] | None = None, first: str = "pass") -> str:
    return PYTHON.format(word=word, tools=TOOLS if tools is None else tools, first=first)


def wheel(
    folder: Path,
    version: str = "1.0",
    *,
    name: str = "toolscored_packed",
    tools: dict[str, str] | None = None,
    first: str = "pass",
    needs: tuple[str, ...] = (),
    word: str | None = None,
) -> Path:
    """Put a wheel of the server into a folder, in the place of one of the same version."""
    info = f"{name}-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{name}.py": server_code(word or version, tools, first),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as zipped:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            zipped.writestr(path, text)
    return file


def index(folder: Path) -> dict[str, str]:
    """The environment in which uv knows the wheels of a folder, and nothing else."""
    folder.mkdir(exist_ok=True)
    return {"UV_FIND_LINKS": str(folder), "UV_NO_INDEX": "1", "UV_CACHE_DIR": str(folder.parent / "uv-cache")}


NPM = "toolscored-packed"


def manifest_of(version: str) -> dict[str, Any]:
    return {"name": NPM, "version": version, "bin": {NPM: "index.js"}}


class NpmRegistry:
    """A registry with one package, `NPM`, whose files can be replaced."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.url = ""

    def put(self, version: str, word: str | None = None) -> None:
        """Publish a version, also one that is there already."""
        packed = io.BytesIO()
        files = {
            "package.json": json.dumps(manifest_of(version)),
            "index.js": NODE % json.dumps(word or version),
        }
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for path, text in files.items():
                member = tarfile.TarInfo(f"package/{path}")
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
        self.files[version] = packed.getvalue()

    def about(self) -> bytes:
        versions = {}
        for version, content in self.files.items():
            dist = {
                "tarball": f"{self.url}{NPM}/-/packed-{version}.tgz",
                "shasum": hashlib.sha1(content).hexdigest(),
            }
            versions[version] = {**manifest_of(version), "dist": dist}
        about = {"name": NPM, "dist-tags": {"latest": max(versions)}, "versions": versions}
        return json.dumps(about).encode()


@contextmanager
def npm_registry() -> Iterator[NpmRegistry]:
    registry = NpmRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = self.path.rpartition("/packed-")[2].removesuffix(".tgz")
            body = registry.files[version] if self.path.endswith(".tgz") else registry.about()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    registry.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
