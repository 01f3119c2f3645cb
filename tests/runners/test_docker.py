"""Servers in containers of a real Docker engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from docker_engine import IMAGE, DockerEngine, eventually, needs_engine
from docker_engine import engine as engine
from docker_house import OPTIONS, call, installed, runners_of, running
from toolscore.runners.container import Container
from toolscore.runners.errors import InstallError, SourceError
from toolscore.runners.keeping import Keeping
from toolscore.runners.kinds import Runners
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.spec import Candidate, SourceKind
from toolscore.runners.supervisor import Supervisor

pytestmark = needs_engine


@pytest.fixture
async def runners(tmp_path: Path, engine: DockerEngine) -> AsyncIterator[Runners]:
    async with runners_of(tmp_path, engine) as found:
        yield found


async def test_a_server_in_a_container_is_installed_started_called_and_leaves_nothing(
    runners: Runners, engine: DockerEngine
) -> None:
    installation = await installed(runners)
    assert installation.kind is SourceKind.DOCKER
    assert installation.pin is not None
    assert installation.pin.content == installation.spec.container.image  # type: ignore[union-attr]
    async with running(runners, installation) as unit:
        assert "from inside" in await call(unit, "echo", text="from inside")
        [container] = engine.containers()
        assert container["Labels"]["org.toolscore.server"] == "one"
    assert engine.containers() == []


async def test_a_container_is_closed_by_default(runners: Runners, engine: DockerEngine) -> None:
    installation = await installed(runners)
    async with running(runners, installation):
        [container] = engine.containers()
        told = engine.ask("GET", f"/containers/{container['Id']}/json")
        host = told["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["NetworkMode"] == "none"
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["Init"]
        assert host["PidsLimit"] == 512
        assert host["LogConfig"]["Config"]["max-size"]
        assert told["Config"]["User"] == "65534:65534"
        closed = runners.confined("one")
        assert closed is not None
        assert closed["network"] == "active: none"


async def test_what_is_asked_for_is_opened_and_no_more(
    runners: Runners, engine: DockerEngine, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    installation = await installed(
        runners,
        keeping=Keeping(max_memory=200, max_processes=40),
        volumes=(f"{shared}:/data", "things:/things:rw"),
        user="1000:1000",
        tmpfs=("/cache:size=8m",),
        capabilities=("CAP_NET_BIND_SERVICE",),
        cpus=0.5,
    )
    async with running(runners, installation):
        [container] = engine.containers()
        told = engine.ask("GET", f"/containers/{container['Id']}/json")
        host = told["HostConfig"]
        assert host["Memory"] == host["MemorySwap"] == 200 << 20
        assert host["PidsLimit"] == 40
        assert host["NanoCpus"] == 500_000_000
        assert host["CapAdd"] == ["NET_BIND_SERVICE"]
        assert told["Config"]["User"] == "1000:1000"
        assert {mount["Destination"]: mount["RW"] for mount in told["Mounts"]} == {
            "/data": False,
            "/things": True,
        }
        assert "/cache" in host["Tmpfs"]
    engine.ask("DELETE", "/volumes/things")


async def test_what_it_uses_is_what_the_engine_counts(runners: Runners) -> None:
    installation = await installed(runners)
    async with Supervisor(runners, OPTIONS) as supervisor:
        unit = supervisor.add(installation)
        unit.start()
        assert await unit.settled() is State.READY, unit.life.reason
        usage = (await supervisor.usage(["one"]))["one"]
        assert usage.memory > 1 << 20
        assert usage.processes >= 2
        health = await runners.health_check("one")
        assert health.alive
        assert health.cpu is not None


async def test_its_own_arguments_and_variables_reach_it_and_nothing_of_toolscores_does(
    tmp_path: Path, engine: DockerEngine
) -> None:
    async with runners_of(tmp_path, engine) as runners:
        found = await runners.install_server(
            Candidate(source=f"docker:{IMAGE}", name="one", args=("banner",), env={"COLOUR": "blue"})
        )
        async with running(runners, found) as unit:
            session = await unit.ready()
            told = await session.request("tools/call", {"name": "env", "arguments": {}}, timeout=30)
            variables = told["structuredContent"]
            assert variables["COLOUR"] == "blue"
            assert variables["HOME"] == "/tmp"
            assert not any(name.startswith("TOOLSCORE") for name in variables)


async def test_what_it_writes_is_in_its_log_with_time_and_level(runners: Runners) -> None:
    installation = await installed(runners, "flood=1")
    async with running(runners, installation):
        # The engine passes on the two outputs each by itself: an answer may overtake what was written before it.
        await eventually(lambda: runners.log_folder.tail("one", 10)[0], "its output is in its log")
        lines = await runners.logs("one")
    assert all(line[:4].isdigit() and " INFO " in line for line in lines), lines


async def test_a_server_that_ends_says_how_and_is_started_again(
    runners: Runners, engine: DockerEngine
) -> None:
    installation = await installed(runners)
    async with running(runners, installation) as unit:
        before = engine.containers()[0]["Id"]
        with pytest.raises(Exception, match="exited with status 7"):
            await call(unit, "exit", status=7)
        assert "ping" in await call(unit, "echo", text="ping")
        [after] = engine.containers()
        assert after["Id"] != before
        assert unit.life.restarts == 1


async def test_a_server_that_needs_more_memory_than_it_may_use_says_so(runners: Runners) -> None:
    installation = await installed(runners, keeping=Keeping(max_memory=64))
    async with running(runners, installation) as unit:
        with pytest.raises(Exception, match=r"more memory than its container's limit of 64 MiB"):
            await call(unit, "big", bytes=400 << 20)


async def test_a_killed_container_is_told_and_replaced(runners: Runners, engine: DockerEngine) -> None:
    installation = await installed(runners)
    async with running(runners, installation) as unit:
        sleeping = asyncio.create_task(call(unit, "sleep", seconds=60))
        session = await unit.ready()
        await eventually(lambda: session.in_flight, "the call is under way")
        engine.ask("POST", f"/containers/{engine.containers()[0]['Id']}/kill")
        with pytest.raises(Exception, match="SIGKILL"):
            await sleeping
        assert "back" in await call(unit, "echo", text="back")


async def test_one_that_ignores_every_request_to_end_is_ended_by_force(
    runners: Runners, engine: DockerEngine
) -> None:
    installation = await installed(runners, "ignore-sigterm", "ignore-eof")
    async with running(runners, installation):
        pass
    assert engine.containers() == []


async def test_the_end_of_the_line_ends_the_input_where_that_is_asked_for(
    runners: Runners, engine: DockerEngine
) -> None:
    installation = await installed(runners, stdin_once=True)
    async with running(runners, installation, stop_grace=30):  # or it is asked by a signal as well
        child = runners.child("one")
        assert child is not None
    assert child.returncode == 0
    assert engine.containers() == []


async def test_several_instances_have_a_container_each(runners: Runners, engine: DockerEngine) -> None:
    installation = await installed(runners, keeping=Keeping(isolation="per-lease", spares=2, start="boot"))
    async with Supervisor(runners, OPTIONS) as supervisor:
        unit = supervisor.add(installation)
        supervisor.boot(unit)
        await eventually(lambda: len(engine.containers()) >= 2, "two instances run")
        names = {one["Labels"]["org.toolscore.instance"] for one in engine.containers()}
        assert len(names) >= 2
    assert engine.containers() == []


async def test_a_start_that_is_given_up_leaves_no_container(runners: Runners, engine: DockerEngine) -> None:
    installation = await installed(runners, "hang-handshake", keeping=Keeping(start_timeout=1.0))
    async with Supervisor(runners, replace(OPTIONS, policy=RestartPolicy(limit=0))) as supervisor:
        unit = supervisor.add(installation)
        unit.start()
        assert await unit.settled() is State.FAILED
        assert engine.containers() == []


async def test_large_messages_pass_both_ways(runners: Runners) -> None:
    installation = await installed(runners)
    async with running(runners, installation) as unit:
        assert len(await call(unit, "big", bytes=8 << 20)) >= 8 << 20
        assert "x" * (4 << 20) in await call(unit, "echo", text="x" * (4 << 20))


async def test_an_image_that_is_not_to_be_had_is_told_with_the_reason(
    runners: Runners, engine: DockerEngine, tmp_path: Path
) -> None:
    told: list[str] = []

    async def report(_done: float, _total: float | None, message: str) -> None:
        told.append(message)

    with pytest.raises(InstallError, match=r"cannot be reached|does not exist"):
        await runners.install_server(
            Candidate(source="docker:registry.invalid/no/such:1", name="gone"), report
        )
    assert not (tmp_path / "servers" / "gone").exists()
    with pytest.raises(SourceError, match="no name of an image"):
        await runners.install_server(Candidate(source="docker:UPPER/case", name="gone"))


async def test_an_image_that_was_deleted_is_a_clear_state_and_not_tried_again(
    runners: Runners, engine: DockerEngine
) -> None:
    engine.add_image(
        "toolscore-other:py", ('ENTRYPOINT ["/usr/local/bin/python3", "/app/faulty_server.py"]',)
    )
    installation = await runners.install_server(Candidate(source="docker:toolscore-other:py", name="one"))
    engine.ask("DELETE", "/images/toolscore-other:py?force=1")
    async with Supervisor(runners, OPTIONS) as supervisor:
        unit = supervisor.add(installation)
        unit.start()
        assert await unit.settled() is State.FAILED
        assert "is not there any more" in (unit.life.reason or "")


async def test_a_program_that_is_not_in_the_image_is_named(runners: Runners) -> None:
    installation = await installed(runners)
    spec = installation.spec.model_copy(update={"command": "/no/such/program"})
    async with Supervisor(runners, replace(OPTIONS, policy=RestartPolicy(limit=0))) as supervisor:
        unit = supervisor.add(installation.model_copy(update={"spec": spec}))
        unit.start()
        assert await unit.settled() is State.FAILED
        assert "no program /no/such/program in its image that can be started" in (unit.life.reason or "")


async def test_an_image_that_does_not_say_what_to_start_is_told_with_what_to_do(
    runners: Runners, engine: DockerEngine
) -> None:
    engine.add_image("toolscore-plain:1")
    candidate = Candidate(source="docker:toolscore-plain:1", name="plain")
    async with Supervisor(runners, OPTIONS) as supervisor:
        unit = supervisor.add(await runners.install_server(candidate))
        unit.start()
        assert await unit.settled() is State.FAILED
        assert "behind `--`" in (unit.life.reason or "")


async def test_a_server_that_listens_is_reached_at_the_port_published_for_it(
    runners: Runners, engine: DockerEngine
) -> None:
    network(engine)
    candidate = Candidate(
        source=f"docker:{IMAGE}",
        name="one",
        args=("-c", LISTENING, "${PORT}"),
        url="http://127.0.0.1:${PORT}/mcp",
        container=Container(network="toolscore-test"),
    )
    installation = await runners.install_server(candidate)
    spec = installation.spec.model_copy(update={"command": "/usr/local/bin/python3"})
    async with running(runners, installation.model_copy(update={"spec": spec})) as unit:
        assert await call(unit, "say") == "heard over HTTP"
        [container] = engine.containers()
        [port] = container["Ports"]
        assert port["IP"] == "127.0.0.1"
        # What it prints is its log.
        await eventually(
            lambda: any("listening" in str(one) for one in runners.log_folder.tail("one", 10)[0]),
            "its output is in its log",
        )
    assert engine.containers() == []


async def test_a_port_that_is_taken_is_told(runners: Runners, engine: DockerEngine) -> None:
    import socket

    network(engine)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        installation = await installed(runners, network="toolscore-test", ports=(f"{port}:9",))
        async with Supervisor(runners, replace(OPTIONS, policy=RestartPolicy(limit=0))) as supervisor:
            unit = supervisor.add(installation)
            unit.start()
            assert await unit.settled() is State.FAILED
            assert f"the port {port} it is to be published at is taken" in (unit.life.reason or "")


def network(engine: DockerEngine) -> None:
    """Have a network for what is published; the engine of the tests has none of its own."""
    if not any(one["Name"] == "toolscore-test" for one in engine.ask("GET", "/networks")):
        engine.ask("POST", "/networks/create", b'{"Name": "toolscore-test", "Driver": "bridge"}')


LISTENING = """
import http.server, json, sys

class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        results = {
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                           "serverInfo": {"name": "listening", "version": "1"}},
            "tools/list": {"tools": [{"name": "say", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "text", "text": "heard over HTTP"}]},
        }
        if "id" not in asked:
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answer = {"jsonrpc": "2.0", "id": asked["id"]}
        if asked["method"] in results:
            answer["result"] = results[asked["method"]]
        else:
            answer["error"] = {"code": -32601, "message": "no such method"}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.send_response(405)
        self.send_header("Content-Length", "0")
        self.end_headers()

print("listening", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Server).serve_forever()
"""
