"""Plain services in containers of a real Docker engine: what servers stand on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from docker_engine import IMAGE, DockerEngine, eventually, needs_engine
from docker_engine import engine as engine
from toolscore.runners.container import Container
from toolscore.runners.docker.runner import DockerRunner
from toolscore.runners.errors import RunnerError
from toolscore.runners.keeping import Keeping, Kept
from toolscore.runners.kinds import Runners
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.process import ProcessOptions, ProcessRunner
from toolscore.runners.spec import Candidate, Installation
from toolscore.runners.supervisor import Supervisor, SupervisorOptions, Unit

pytestmark = needs_engine

OPTIONS = SupervisorOptions(client_info={"name": "test", "version": "1"})
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
async def runners(tmp_path: Path, engine: DockerEngine) -> AsyncIterator[Runners]:
    options = ProcessOptions(
        servers=tmp_path / "servers", logs=tmp_path / "logs", run=tmp_path / "run", stop_grace=0.5
    )
    for folder in (options.servers, options.logs, options.run):
        folder.mkdir(exist_ok=True)
    runners = Runners(ProcessRunner(options), {"docker": lambda means: DockerRunner(means, engine.host)})
    try:
        yield runners
    finally:
        await runners.aclose()
        runners.process.close()
        if engine.dockerd_runs:
            for one in engine.ask("GET", "/volumes")["Volumes"] or ():
                if one["Name"].startswith("toolscore-"):
                    engine.ask("DELETE", f"/volumes/{one['Name']}?force=1")


def keeping(**options: Any) -> Keeping:
    return Keeping(**options)


async def service(
    runners: Runners,
    image: str,
    *args: str,
    name: str = "db",
    env: dict[str, str] | None = None,
    kept: Keeping | None = None,
    **options: Any,
) -> Installation:
    container = Container(**{"network": "@stack", "ports": ("${PORT}:8080",), "service": {}, **options})
    found = await runners.install_server(
        Candidate(source=f"docker:{image}", name=name, args=args, env=env or {}, container=container)
    )
    return found.model_copy(update={"keeping": kept or Keeping()})


@asynccontextmanager
async def running(runners: Runners, installation: Installation, **options: Any) -> AsyncIterator[Unit]:
    made = SupervisorOptions(client_info=OPTIONS.client_info, **options)
    async with Supervisor(runners, made) as supervisor:
        unit = supervisor.add(installation)
        unit.start()
        assert await unit.settled() is State.READY, unit.life.reason
        yield unit


def published(engine: DockerEngine, name: str = "db") -> str:
    [one] = engine.containers(**{"org.toolscore.server": name})
    told = engine.ask("GET", f"/containers/{one['Id']}/json")
    [place] = told["NetworkSettings"]["Ports"]["8080/tcp"]
    assert place["HostIp"] == "127.0.0.1"
    return f"http://127.0.0.1:{place['HostPort']}"


def get(url: str, data: bytes | None = None) -> str:
    request = urllib.request.Request(url, data=data, method="GET" if data is None else "PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


async def test_a_service_is_started_probed_reached_and_leaves_nothing_but_its_data(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    installation = await service(
        runners, store, service={"http": ":8080/health"}, volumes=("@things:/data:rw",)
    )
    async with running(runners, installation) as unit:
        assert unit.tools == []
        url = await asyncio.to_thread(published, engine)
        await asyncio.to_thread(get, f"{url}/one", b"kept")
        assert "succeeded" in (await runners.health_check("db")).reason
        assert any("the store begins" in line for line in await runners.logs("db"))
        usage = (await runners.usage(["db"]))["db"]
        assert usage.memory > 1 << 20
    assert engine.containers() == []
    await runners.remove_server(installation)
    assert [one["Name"] for one in engine.ask("GET", "/networks") if "stack" in one["Name"]] == []
    async with running(runners, installation):
        url = await asyncio.to_thread(published, engine)
        assert await asyncio.to_thread(get, f"{url}/one") == "kept"
    assert await runners.remove_volumes(installation, (), do=False) == ["things"]
    assert await runners.remove_volumes(installation, ("things",), do=True) == []
    assert await runners.remove_volumes(installation, (), do=True) == ["things"]
    assert await runners.remove_volumes(installation, (), do=False) == []
