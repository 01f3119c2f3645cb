"""Images of plain services for an engine of the tests'."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from docker_engine import IMAGE, DockerEngine

SERVICE_IMAGE = "toolscore-test:service"

STORE = """
import http.server, os, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/hang":
            time.sleep(3600)
        code = 503 if os.path.exists("/tmp/sick") else 200
        try:
            body = open("/data" + self.path, "rb").read() if self.path != "/health" else b"well"
        except OSError as error:
            code, body = 404, str(error).encode()
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        try:
            with open("/data" + self.path, "wb") as file:
                file.write(self.rfile.read(int(self.headers["Content-Length"])))
            code = 201
        except OSError as error:
            print("cannot store:", error, file=sys.stderr, flush=True)
            os._exit(3)
        self.send_response(code)
        self.end_headers()

print("the store begins", flush=True)
time.sleep(float(os.environ.get("SLOW", "0")))
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
"""A small store over HTTP: what is put there is a file in /data."""


@pytest.fixture
def store(engine: DockerEngine) -> str:
    """Give the image of the store: Python, with a folder for data that anybody may write."""
    if not any(SERVICE_IMAGE in (one["RepoTags"] or ()) for one in engine.ask("GET", "/images/json")):
        body = {
            "Image": IMAGE,
            "Entrypoint": [
                "/usr/local/bin/python3",
                "-c",
                "import os; os.mkdir('/data'); os.chmod('/data', 0o777)",
            ],
        }
        made = engine.ask("POST", "/containers/create", json.dumps(body).encode())["Id"]
        engine.ask("POST", f"/containers/{made}/start")
        engine.ask("POST", f"/containers/{made}/wait")
        config = {"Entrypoint": ["/usr/local/bin/python3"], "Cmd": ["-c", STORE]}
        repository, _, tag = SERVICE_IMAGE.partition(":")
        path = f"/commit?container={made}&repo={repository}&tag={tag}"
        engine.ask("POST", path, json.dumps(config).encode())
        engine.ask("DELETE", f"/containers/{made}?force=1")
    return SERVICE_IMAGE


@pytest.fixture
def taken_away(engine: DockerEngine) -> Iterator[None]:
    """Delete the volumes that a test left."""
    yield
    if engine.dockerd_runs:
        for one in engine.ask("GET", "/volumes")["Volumes"] or ():
            if one["Name"].startswith("toolscore-"):
                engine.ask("DELETE", f"/volumes/{one['Name']}?force=1")
