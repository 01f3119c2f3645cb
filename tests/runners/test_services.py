"""Plain services in containers of a real Docker engine: what servers stand on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from docker_engine import DockerEngine, eventually, needs_engine
from docker_engine import engine as engine
from docker_house import OPTIONS, runners_of
from docker_services import STORE
from docker_services import store as store
from docker_services import taken_away as taken_away
from toolscore.runners.container import Container
from toolscore.runners.docker.service import ServiceChild
from toolscore.runners.docker.service_probe import CommandProbe, HttpProbe, TcpProbe, looked
from toolscore.runners.errors import SpecError, StartError
from toolscore.runners.keeping import Keeping
from toolscore.runners.kinds import Runners
from toolscore.runners.lifecycle import RestartPolicy, State
from toolscore.runners.service import Service
from toolscore.runners.spec import Candidate, Installation, ServerSpec, SourceKind
from toolscore.runners.supervisor import Supervisor, SupervisorOptions, Unit
from toolscore_client import FAULTY

pytestmark = needs_engine


@pytest.fixture
async def runners(tmp_path: Path, engine: DockerEngine, taken_away: None) -> AsyncIterator[Runners]:
    async with runners_of(tmp_path, engine) as found:
        yield found


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
        await eventually(  # the log is fetched from the engine beside all that
            lambda: any("the store begins" in str(one) for one in runners.log_folder.tail("db", 10)[0]),
            "its output is in its log",
        )
        usage = (await runners.usage(["db"]))["db"]
        assert usage.memory > 1 << 20
    assert engine.containers() == []
    await runners.remove_server(installation)
    assert [one["Name"] for one in engine.ask("GET", "/networks") if "stack" in one["Name"]] == []
    async with running(runners, installation):
        url = await asyncio.to_thread(published, engine)
        assert await asyncio.to_thread(get, f"{url}/one") == "kept"
    await runners.remove_server(installation)
    assert await runners.remove_volumes(installation, (), "new") == []  # it was there before
    assert await runners.remove_volumes(installation, ()) == ["things"]
    assert await runners.remove_volumes(installation, ("things",), "all") == []
    assert await runners.remove_volumes(installation, (), "all") == ["things"]
    assert await runners.remove_volumes(installation, ()) == []


async def test_a_process_finds_a_service_by_its_port_and_a_container_by_its_name(
    runners: Runners, engine: DockerEngine, store: str, tmp_path: Path
) -> None:
    asking = (
        "import os, time, urllib.request\n"
        "print(urllib.request.urlopen(os.environ['STORE'] + '/health').read(), flush=True)\n"
        "time.sleep(3600)"
    )
    kept = Keeping(depends_on=("db",))
    inside = await runners.install_server(
        Candidate(
            source=f"docker:{store}",
            name="inside",
            args=("-c", asking),
            env={"STORE": "http://${service:db}"},
            container=Container(network="@stack", service=Service()),
        )
    )
    outside = Installation(
        server_id="outside",
        kind=SourceKind.REGISTERED,
        source="-",
        spec=ServerSpec(
            command=sys.executable,
            args=(FAULTY,),
            env={
                "HOST": "${service:db:host}",
                "PORT_OF_IT": "${service:db:port}",
                "BOTH": "${service:db:8080}",
            },
        ),
        keeping=kept,
    )
    async with Supervisor(runners, OPTIONS) as supervisor:
        supervisor.add(await service(runners, store, service={"tcp": 8080}))
        first = supervisor.add(inside.model_copy(update={"keeping": kept}))
        second = supervisor.add(outside)
        first.start()
        second.start()
        assert await second.settled() is State.READY, second.life.reason
        assert await first.settled() is State.READY, first.life.reason
        url = await asyncio.to_thread(published, engine)
        environment = psutil.Process(runners.child("outside").pid).environ()  # type: ignore[union-attr]
        assert f"http://{environment['HOST']}:{environment['PORT_OF_IT']}" == url
        assert f"http://{environment['BOTH']}" == url
        said = await eventually(
            lambda: _log(tmp_path, "inside", "well"), "the container has asked the service"
        )
        assert "well" in said


def _log(folder: Path, name: str, wanted: str) -> str:
    text = "".join(one.read_text("utf-8", "replace") for one in (folder / "logs").glob(f"{name}*"))
    return text if wanted in text else ""


async def test_what_needs_a_service_waits_for_its_probe_and_is_blocked_while_it_fails(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    needing = Installation(
        server_id="needing",
        kind=SourceKind.REGISTERED,
        source="-",
        spec=ServerSpec(command=sys.executable, args=(FAULTY,), env={"DB": "${service:db}"}),
        keeping=Keeping(depends_on=("db",)),
    )
    broken = await service(
        runners, store, "-c", "raise SystemExit('no data here')", service={"http": ":8080/"}
    )
    options = SupervisorOptions(client_info=OPTIONS.client_info, policy=RestartPolicy(limit=0))
    ended: list[str] = []

    def note(unit: Unit) -> None:
        if unit.life.state is State.STOPPED:
            ended.append(unit.name)

    async with Supervisor(runners, options) as supervisor:
        supervisor.on_change = note
        db = supervisor.add(broken)
        unit = supervisor.add(needing)
        unit.start()
        assert await unit.settled() is State.FAILED
        assert "it needs another server" in str(unit.life.reason)
        assert "no data here" in str(unit.life.reason)
        assert runners.child("needing") is None
        assert broken.spec.container is not None
        well = broken.spec.container.model_copy(update={"service": Service(http=":8080/health")})
        whole = broken.spec.model_copy(update={"args": (), "container": well})
        db = await supervisor.exchange(broken.model_copy(update={"spec": whole}))
        db.start()
        assert await db.settled() is State.READY, db.life.reason
        assert await unit.settled() is State.READY, unit.life.reason  # started as what it needs is there
        ended.clear()
    assert ended == ["needing", "db"]  # what others stand on is ended last


async def test_a_service_that_is_not_there_is_told_to_who_wants_to_know_where_it_is(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    spec = ServerSpec(command=sys.executable, args=(FAULTY,), env={"DB": "${service:db}"})
    asking = Installation(server_id="asking", kind=SourceKind.REGISTERED, source="-", spec=spec)
    with pytest.raises(StartError, match=r"service 'db' does not run. Write depends_on = \[\"db\"\]"):
        await runners.start_server(asking)
    async with running(runners, await service(runners, store, ports=(), service={"tcp": 8080})):
        with pytest.raises(SpecError, match="publishes not its port 8080 on this machine"):
            await runners.start_server(asking)
        boxed = await service(runners, store, name="boxed", network="@other", env={"DB": "${service:db}"})
        with pytest.raises(SpecError, match="container is on network @other, that of the service on @stack"):
            await runners.start_server(boxed)


PYTHON = "/usr/local/bin/python3"


async def test_a_probe_tells_whether_a_service_works_and_else_why_not(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    installation = await service(runners, store, env={"SLOW": "0.3"})
    async with running(runners, installation):
        child = runners.child("db")
        assert isinstance(child, ServiceChild)
        assert child.process.id is not None
        assert "(tcp 8080) succeeded" in (await runners.health_check("db")).reason  # the port it publishes
        api, container = runners.of("docker").engine, child.process.id  # type: ignore[attr-defined]

        def command(*words: str) -> CommandProbe:
            return CommandProbe(api, container, words)

        for probe in (
            TcpProbe(child, 8080),
            HttpProbe(child, 8080, "/health"),
            command(PYTHON, "-c", "pass"),
        ):
            assert await looked(probe, 60) is None
        assert await looked(TcpProbe(child, 9999), 60) == "Connection refused"
        assert await looked(HttpProbe(child, 9999, "/"), 60) == "Connection refused"
        assert await looked(HttpProbe(child, 8080, "/no"), 60) == "it answered with status 404 Not Found"
        assert await looked(HttpProbe(child, 8080, "/hang"), 0.3) == "no answer within 0.3 s"
        failing = command(PYTHON, "-c", "raise SystemExit('not yet')")
        assert await looked(failing, 60) == "it ended with status 1: not yet"
        assert "/nothing" in str(await looked(command("/nothing"), 60))
        never = ServiceChild(child.process, api, Service(tcp=9999), "@stack")
        with pytest.raises(StartError, match=r"\(tcp 9999\) did not succeed within 2 s: Connection refused"):
            await never.up(2.0)


async def test_an_image_says_itself_how_its_health_is_told(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    check = {"Test": ["CMD", "/usr/local/bin/python3", "-c", "pass"], "Interval": 2_000_000_000, "Retries": 7}
    made = engine.ask("POST", "/containers/create", json.dumps({"Image": store}).encode())["Id"]
    config = {"Healthcheck": check, "Entrypoint": ["/usr/local/bin/python3"], "Cmd": ["-c", STORE]}
    path = f"/commit?container={made}&repo=toolscore-test&tag=checked"
    engine.ask("POST", path, json.dumps(config).encode())
    async with running(runners, await service(runners, "toolscore-test:checked")):
        assert "(command /usr/local/bin/python3) succeeded" in (await runners.health_check("db")).reason
        [one] = engine.containers(**{"org.toolscore.server": "db"})
        told = engine.ask("GET", f"/containers/{one['Id']}/json")
        assert told["Config"]["Healthcheck"]["Test"] == ["NONE"]  # not told twice


# --- faults --------------------------------------------------------------------------------------------


def pid_of(engine: DockerEngine, name: str = "db") -> int:
    """Give the process of the service itself, behind the engine's init."""
    [one] = engine.containers(**{"org.toolscore.server": name})
    init = psutil.Process(engine.ask("GET", f"/containers/{one['Id']}/json")["State"]["Pid"])
    return next(child.pid for child in init.children())


async def until_up_again(unit: Unit) -> None:
    async with asyncio.timeout(90):
        while unit.life.state is not State.READY or not unit.last_exit:
            await asyncio.sleep(0.02)


async def test_a_service_that_is_killed_comes_back_at_the_same_port_with_its_data(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    installation = await service(runners, store, volumes=("@things:/data:rw",))
    async with running(runners, installation) as unit:
        url = await asyncio.to_thread(published, engine)
        await asyncio.to_thread(get, f"{url}/one", b"kept")
        os.kill(await asyncio.to_thread(pid_of, engine), signal.SIGKILL)
        await until_up_again(unit)
        assert "was ended by SIGKILL" in unit.last_exit[1]  # type: ignore[index]
        assert unit.life.restarts == 1
        assert await asyncio.to_thread(published, engine) == url
        assert await asyncio.to_thread(get, f"{url}/one") == "kept"


async def test_a_service_that_hangs_is_ended_once_its_probe_failed_often_enough(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    probe = {"http": ":8080/health", "interval": 0.2, "timeout": 1.5, "retries": 2}
    async with running(runners, await service(runners, store, service=probe)) as unit:
        os.kill(await asyncio.to_thread(pid_of, engine), signal.SIGSTOP)
        await until_up_again(unit)
        assert "its probe (http :8080/health) failed 2 times in a row: no answer within 1.5 s" in str(
            unit.last_exit
        )


async def test_a_service_that_is_paused_is_told_as_that_and_started_anew(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    probe = {"http": ":8080/health", "interval": 0.2, "timeout": 1.5, "retries": 2}
    async with running(runners, await service(runners, store, service=probe)) as unit:
        [one] = engine.containers(**{"org.toolscore.server": "db"})
        await asyncio.to_thread(engine.ask, "POST", f"/containers/{one['Id']}/pause")
        await until_up_again(unit)
        assert "it is paused" in str(unit.last_exit)


async def test_a_probe_that_fails_now_and_then_ends_nothing(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    probe = {"http": ":8080/health", "interval": 0.1, "retries": 1000}
    async with running(runners, await service(runners, store, service=probe)) as unit:
        child = runners.child("db")
        assert isinstance(child, ServiceChild)
        [one] = engine.containers(**{"org.toolscore.server": "db"})

        def run(code: str) -> None:
            body = {"Cmd": ["/usr/local/bin/python3", "-c", code]}
            made = engine.ask("POST", f"/containers/{one['Id']}/exec", json.dumps(body).encode())["Id"]
            engine.ask("POST", f"/exec/{made}/start", b'{"Detach": true}')

        await asyncio.to_thread(run, "open('/tmp/sick', 'w')")
        await eventually(lambda: "status 503" in str(child.problem), "it is sick")
        assert "fails: it answered with status 503" in (await runners.health_check("db")).reason
        await asyncio.to_thread(run, "import os; os.unlink('/tmp/sick')")
        await eventually(lambda: child.problem is None, "it is well")
        assert unit.life.state is State.READY
        assert unit.last_exit is None


async def test_of_a_probe_inside_that_never_ends_there_is_only_one(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    code = (
        "import os, time\n"
        "if os.path.exists('/tmp/up'):\n"
        "    open(f'/tmp/hangs-{os.getpid()}', 'w').close(); time.sleep(3600)\n"
        "open('/tmp/up', 'w')"
    )
    probe = {
        "command": ("/usr/local/bin/python3", "-c", code),
        "interval": 0.1,
        "timeout": 1.0,
        "retries": 40,
    }
    async with running(runners, await service(runners, store, service=probe)) as unit:
        child = runners.child("db")
        assert isinstance(child, ServiceChild)
        await eventually(lambda: child.problem == "the one before has not ended yet", "it hangs")
        [one] = engine.containers(**{"org.toolscore.server": "db"})
        top = engine.ask("GET", f"/containers/{one['Id']}/top")
        assert sum("hangs-" in " ".join(row) for row in top["Processes"]) == 1
        await until_up_again(unit)
        assert "failed 40 times in a row" in str(unit.last_exit)


async def test_a_port_that_is_taken_is_told_and_had_once_it_is_free(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        installation = await service(
            runners, store, ports=(f"{port}:8080",), kept=Keeping(restart_limit=1000)
        )
        policy = RestartPolicy(first_delay=0.1, factor=1.0)
        async with Supervisor(runners, SupervisorOptions(OPTIONS.client_info, policy=policy)) as supervisor:
            unit = supervisor.add(installation)
            unit.start()
            assert await unit.settled() is State.BACKOFF
            assert f"the port {port} it is to be published at is taken" in str(unit.life.reason)
            taken.close()
            await until_up_again(unit)
            assert await asyncio.to_thread(get, f"http://127.0.0.1:{port}/health") == "well"


async def test_a_service_outlives_an_engine_that_is_killed(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    probe = {"http": ":8080/health", "interval": 0.1, "timeout": 0.5, "retries": 2}
    async with running(runners, await service(runners, store, service=probe)) as unit:
        [before] = engine.containers(**{"org.toolscore.server": "db"})
        child = runners.child("db")
        assert isinstance(child, ServiceChild)
        await asyncio.to_thread(engine.kill)
        seen = child.seen
        # Long enough for its probe to have failed too often, were that counted.
        await asyncio.sleep(2.0)
        assert unit.life.state is State.READY
        await asyncio.to_thread(engine.start)
        await eventually(lambda: child.seen != seen and child.problem is None, "it is probed again")
        [after] = engine.containers(**{"org.toolscore.server": "db"})
        assert after["Id"] == before["Id"]
        assert unit.last_exit is None


async def test_a_volume_that_is_full_is_told_by_what_the_service_says(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    driver = {"type": "tmpfs", "device": "tmpfs", "o": "size=64k,mode=1777"}
    body = {"Name": "toolscore-test-small", "DriverOpts": driver}
    engine.ask("POST", "/volumes/create", json.dumps(body).encode())
    installation = await service(runners, store, volumes=("toolscore-test-small:/data:rw",))
    async with running(runners, installation) as unit:
        url = await asyncio.to_thread(published, engine)
        with pytest.raises(OSError):  # noqa: PT011 - the line is cut, in whichever way
            await asyncio.to_thread(get, f"{url}/big", b"x" * 200_000)
        await until_up_again(unit)
        assert "No space left on device" in str(unit.last_exit)
    assert await runners.remove_volumes(installation, ()) == []  # somebody else's


async def test_two_homes_share_neither_networks_nor_volumes(
    runners: Runners, engine: DockerEngine, store: str, tmp_path: Path
) -> None:
    other_home = tmp_path / "other"
    other_home.mkdir()
    async with runners_of(other_home, engine) as others:
        async with (
            running(runners, await service(runners, store, volumes=("@v:/data:rw",))),
            running(others, await service(others, store, volumes=("@v:/data:rw",))),
        ):
            made = {one["Name"] for one in engine.ask("GET", "/networks") if one["Name"].endswith("-stack")}
            assert len(made) == 2
            volumes = [one["Name"] for one in engine.ask("GET", "/volumes")["Volumes"]]
            assert sum(name.endswith("-v") for name in volumes) == 2
        installation = await service(others, store, volumes=("@v:/data:rw",), name="again")
        await others.remove_server(installation)
        assert await others.remove_volumes(installation, (), "all") == ["v"]
    volumes = [one["Name"] for one in engine.ask("GET", "/volumes")["Volumes"]]
    assert sum(name.endswith("-v") for name in volumes) == 1


async def test_a_network_that_reaches_nothing_outside_is_one_for_all_that_are_on_it(
    runners: Runners, engine: DockerEngine, store: str
) -> None:
    first = await service(runners, store, network="@shut:internal", ports=(), service={"tcp": 8080})
    async with running(runners, first):
        [network] = [one for one in engine.ask("GET", "/networks") if one["Name"].endswith("-shut")]
        assert network["Internal"]
        second = await service(runners, store, name="second", network="@shut")
        with pytest.raises(SpecError, match="is there, and is internal: write it the same"):
            await runners.start_server(second)


def test_what_cannot_be_a_service_is_refused() -> None:
    for wrong in (
        {"tcp": 1, "http": ":1/"},
        {"tcp": 70000},
        {"http": "somewhere"},
        {"command": ()},
        "udp:53",
        {"retries": 0},
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - pydantic's, which is one
            Container(service=wrong)
    for text, found in (
        ("tcp:5432", {"tcp": 5432}),
        ("http:8080/up", {"http": ":8080/up"}),
        ("http://localhost:80", {"http": ":80/"}),
        ("command: pg_isready -U 'a b'", {"command": ("pg_isready", "-U", "a b")}),
        ("image", {}),
        (True, {}),
    ):
        assert Container(service=text).service == Service(**found)
    with pytest.raises(ValueError, match="reaches the outside"):
        Container(network="@a:internal", ports=("1:1",))
    with pytest.raises(ValueError, match="aliases"):
        Container(network="bridge", aliases=("db",))
    with pytest.raises(ValueError, match="does not go with a service"):
        ServerSpec(url="http://127.0.0.1:1/", container=Container(network="@a", service=Service()))
