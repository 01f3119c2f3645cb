"""`install_server registry:NAME`: an entry of the catalog, looked up, filled in, and taken in or not there at all."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from helpers import FAULTY, HTTP, runner_at, supervising
from ports import free_port
from toolscore.runners.keeping import Keeping
from toolscore.runners.lifecycle import RestartPolicy
from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.tools.addition import Added, Addition
from toolscore.tools.caller import MANAGE, OWNER
from toolscore.tools.catalog.catalog import Catalog
from toolscore.tools.catalog.entry import parse
from toolscore.tools.catalog.installing import Wish, describe, refilled
from toolscore.tools.catalog.plan import plan_of
from toolscore.tools.declared import read
from toolscore.tools.library import Library
from toolscore.tools.outcome import Outcome, RefusalError
from toolscore.tools.reconcile import Reconciler
from toolscore.tools.secrets import Secrets
from toolscore.tools.servers import Servers
from toolscore.tools.store import Store
from toolscore_client import call, connected, execute, outcome, text

SSE = """
import sys
from mcp.server.mcpserver import MCPServer

server = MCPServer("events")

@server.tool()
def say() -> str:
    return "said"

server.run(transport="sse", host="127.0.0.1", port=int(sys.argv[1]), sse_path="/v1/events")
"""

GIVE_UP = RestartPolicy(first_delay=0.01, factor=1, jitter=0, limit=1)


class House:
    """The servers of one home, a catalog of their own, and what is left of both."""

    def __init__(self, folder: Path, servers: Servers, catalog: Catalog, secrets: Secrets) -> None:
        self.folder, self.servers, self.catalog, self.secrets = folder, servers, catalog, secrets

    async def offer(self, *entries: dict[str, Any]) -> None:
        shelf = self.folder / "entries"
        shelf.mkdir(exist_ok=True)
        for one in entries:
            file = shelf / f"{one['name'].replace('/', '_')}_{one['version']}.json"
            file.write_text(json.dumps({"description": "It.", **one}))
        await self.catalog.sync(str(shelf))

    async def install(self, source: str, **more: Any) -> Added:
        return await self.servers.install(source, more.pop("caller", OWNER), **more)

    async def refused(self, outcome: Outcome, source: str, **more: Any) -> str:
        with pytest.raises(RefusalError) as error:
            await self.install(source, **more)
        assert error.value.outcome is outcome, error.value.message
        assert not self.servers.library.servers
        assert not list((self.folder / "servers").iterdir())
        assert self.secrets.names() == []
        assert not self.servers.supervisor.units
        return error.value.message

    async def called(self, server: str, tool: str, **arguments: Any) -> dict[str, Any]:
        session = await self.servers.supervisor.units[server].ready()
        result: dict[str, Any] = await session.request(
            "tools/call", {"name": tool, "arguments": arguments}, timeout=20
        )
        return result

    def stored(self) -> str:
        """Everything that is kept of the servers but the secrets."""
        return (self.folder / "store.db").read_bytes().decode("latin-1") + "".join(
            file.read_bytes().decode("latin-1") for file in self.folder.glob("store.db-*")
        )


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    # What is started here loads the SDK, which takes a while on a machine that is busy.
    runner = runner_at(folder, secret=Secrets(folder / "secrets.json").get, connect_timeout=60.0)
    store = await Store.open(folder / "store.db")
    catalog = Catalog(folder / "catalog.db")
    try:
        async with supervising(folder, runner, policy=GIVE_UP, start_timeout=60.0) as supervisor:
            secrets = Secrets(folder / "secrets.json")
            servers = Servers(Library(store), supervisor, runner, secrets, folder / "servers")
            supervisor.on_change = servers.changed
            servers.catalog = catalog
            yield House(folder, servers, catalog, secrets)
            await servers.library.arrived()
    finally:
        await catalog.aclose()
        await store.close()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, and the folder it serves."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def bundle(folder: Path, **manifest: Any) -> dict[str, Any]:
    """Put a bundle of the faulty server into a folder; give what of an entry names it."""
    made = {
        "manifest_version": "0.4",
        "name": "faulty",
        "version": "2.0.0",
        "server": {
            "type": "python",
            "entry_point": "server.py",
            "mcp_config": {"command": "python", "args": ["${__dirname}/server.py"], "env": {}},
        },
        **manifest,
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("manifest.json", json.dumps(made))
        zipped.writestr("server.py", FAULTY.read_text())
    (folder / "faulty.mcpb").write_bytes(file.getvalue())
    return {"registryType": "mcpb", "fileSha256": hashlib.sha256(file.getvalue()).hexdigest()}


def entry(*packages: dict[str, Any], name: str = "io.github.a/faulty-mcp", **more: Any) -> dict[str, Any]:
    listed = [{"transport": {"type": "stdio"}, **package} for package in packages]
    return {"name": name, "version": "1.0.0", "packages": listed, **more}


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A real MCP server over HTTP."""
    yield from _listening(HTTP.read_text())


def _listening(program: str) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", program, str(port)])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert process.poll() is None
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "it does not listen"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def events() -> Iterator[str]:
    """A real MCP server over HTTP with SSE, at an address that does not say so."""
    yield from _listening(SSE)


async def test_a_bundle_of_the_catalog_is_fetched_checked_and_started(
    tmp_path: Path, web: tuple[str, Path]
) -> None:
    url, folder = web
    package = {
        **bundle(
            folder,
            user_config={
                "key": {"type": "string", "title": "Key", "description": "", "required": True, "sensitive": True}
            },
            server={
                "type": "python",
                "entry_point": "server.py",
                "mcp_config": {
                    "command": "python",
                    "args": ["${__dirname}/server.py"],
                    "env": {"GIVEN": "${user_config.key}"},
                },
            },
        ),
        "identifier": f"{url}/faulty.mcpb",
    }  # fmt: skip
    steps: list[str] = []

    async def note(_done: float, _total: float | None, message: str) -> None:
        steps.append(message)

    async with house(tmp_path) as home:
        await home.offer(entry(package))
        text = await home.refused(Outcome.INSTALL_FAILED, "registry:io.github.a/faulty-mcp")
        assert "key (Key)" in text
        added = await home.install(
            "registry:io.github.a/faulty-mcp", settings={"key": "hunter2"}, report=note
        )
        assert added.row.name == "faulty"
        installation = added.row.installation
        assert (installation.source, installation.kind) == (
            "registry:io.github.a/faulty-mcp@1.0.0",
            SourceKind.MCPB,
        )
        assert installation.version == "2.0.0"
        assert any("downloading faulty.mcpb" in step for step in steps)
        assert (await home.called("faulty", "add", a=1, b=2))["content"][0]["text"] == "3"
        assert "hunter2" in (tmp_path / "secrets.json").read_text()
        assert "hunter2" not in home.stored()
        await home.servers.remove("faulty", OWNER, kind="installed")
        assert home.secrets.names() == []


async def test_a_bundle_that_is_another_than_the_catalog_says_is_not_installed(
    tmp_path: Path, web: tuple[str, Path]
) -> None:
    url, folder = web
    package = {**bundle(folder), "fileSha256": "0" * 64, "identifier": f"{url}/faulty.mcpb"}
    async with house(tmp_path) as home:
        await home.offer(entry(package))
        text = await home.refused(Outcome.INSTALL_FAILED, "registry:io.github.a/faulty-mcp")
        assert "is not the file it should be" in text


async def test_a_remote_of_the_catalog_is_reached_with_its_headers(tmp_path: Path, endpoint: str) -> None:
    remote = {
        "type": "streamable-http",
        "url": f"{endpoint}/{{path}}",
        "variables": {"path": {"default": "mcp"}},
        "headers": [
            {
                "name": "X-Key",
                "value": "key {key}",
                "variables": {"key": {"isSecret": True}},
                "isRequired": True,
            },
            {"name": "X-Mode", "default": "fast"},
        ],
    }
    async with house(tmp_path) as home:
        await home.offer(entry(remotes=[remote], name="io.github.a/over-there"))
        source = "registry:io.github.a/over-there@1.0.0"
        assert "- key (secret)" in await home.refused(Outcome.INVALID_ARGUMENTS, source)
        text = await home.refused(Outcome.INVALID_ARGUMENTS, source, settings={"key": "k"}, args=("--x",))
        assert "already runs at" in text
        added = await home.install(source, settings={"key": "hunter2"})
        assert (added.row.name, added.row.installation.source) == ("over-there", source)
        headers = (await home.called("over-there", "headers"))["structuredContent"]
        assert (headers["x-key"], headers["x-mode"]) == ("key hunter2", "fast")
        assert "hunter2" not in home.stored()
        await home.servers.remove("over-there", OWNER, kind="installed")
        assert home.secrets.names() == []


async def test_a_remote_that_nobody_answers_at_is_not_kept(tmp_path: Path) -> None:
    remote = {"type": "streamable-http", "url": "http://127.0.0.1:9/mcp"}
    async with house(tmp_path) as home:
        await home.offer(entry(remotes=[remote]))
        await home.refused(Outcome.FAILED_TO_START, "registry:io.github.a/faulty-mcp")


async def test_a_package_that_listens_is_started_and_then_reached(tmp_path: Path) -> None:
    """As an entry's package with another transport than standard streams is, on a port that is free."""
    async with house(tmp_path) as home, Addition(home.servers, "listening", "agent") as new:
        added = await new.from_source(
            f"command: {sys.executable} {HTTP}",
            (sys.executable, str(HTTP)),
            ServerSpec(
                command="-",
                args=("${PORT}",),
                url="http://127.0.0.1:${PORT}/mcp",
                headers={"X-Key": "${secret:listening/given/X-Key/1}"},
            ),
            constraints=(),
            confine=None,
            keeping=Keeping(),
            keep=False,
            secrets={"listening/given/X-Key/1": "hunter2"},
            label="registry:io.github.a/listening@1",
        )
        assert added.row.installation.source == "registry:io.github.a/listening@1"
        assert (await home.called("listening", "headers"))["structuredContent"]["x-key"] == "hunter2"


async def test_what_the_catalog_does_not_have_is_answered_with_what_to_do(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        text = await home.refused(Outcome.UNAVAILABLE, "registry:io.github.a/faulty-mcp")
        assert "sync_catalog" in text
        await home.offer(entry({"registryType": "oci", "identifier": "ghcr.io/a/b:1"}))
        text = await home.refused(Outcome.INVALID_ARGUMENTS, "registry:io.github.a/faultymcp")
        assert "io.github.a/faulty-mcp" in text
        text = await home.refused(Outcome.INVALID_ARGUMENTS, "registry:io.github.a/faulty-mcp@7")
        assert "1.0.0" in text
        assert "container image" in await home.refused(Outcome.REFUSED, "registry:io.github.a/faulty-mcp")
        for wrong in ("registry:", "registry:a b", "registry:../../x\n", "registry:x@", "registry:-x"):
            await home.refused(Outcome.INVALID_ARGUMENTS, wrong)


async def test_who_may_not_manage_servers_is_refused_before_anything_is_looked_up(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        caller = replace(OWNER, principal="somebody", rights=OWNER.rights - {MANAGE})
        await home.refused(Outcome.REFUSED, "registry:io.github.a/faulty-mcp", caller=caller)


async def test_settings_are_for_what_says_what_it_asks_for(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        text = await home.refused(Outcome.INVALID_ARGUMENTS, "pypi:thing", settings={"a": 1})
        assert "settings are for registry:NAME" in text


class Declaring:
    """Declares one server, `there`, and waits until it is as declared."""

    def __init__(self, home: House, reconciler: Reconciler) -> None:
        self.home, self.reconciler = home, reconciler

    async def __call__(self, **more: Any) -> list[str]:
        """Give why what is declared could not be."""
        table = {"there": {"source": "registry:io.github.a/faulty-mcp", **more}}
        found = read(table, self.home.folder / "toolscore.toml")
        assert found.problems == []
        done = await self.reconciler.apply(await self.reconciler.plan(found.servers))
        for _name, task in list(self.reconciler._tasks.values()):
            await task
        return [why for _name, why in done.refused]

    @property
    def installation(self) -> Installation:
        return self.home.servers.library.servers["there"].installation

    async def header(self, name: str) -> Any:
        headers = (await self.home.called("there", "headers"))["structuredContent"]
        return headers.get(name)


@asynccontextmanager
async def declaring(folder: Path) -> AsyncIterator[Declaring]:
    async with house(folder) as home:
        reconciler = Reconciler(home.servers)
        try:
            yield Declaring(home, reconciler)
        finally:
            await reconciler.close()


def remote_of(endpoint: str) -> dict[str, Any]:
    headers = [
        {"name": "X-Mode", "choices": ["fast", "slow"]},
        {"name": "X-Key", "value": "key {key}", "variables": {"key": {"isSecret": True}}},
    ]
    return {"type": "streamable-http", "url": f"{endpoint}/mcp", "headers": headers}


async def test_a_declared_server_of_the_catalog_is_installed_and_follows_its_settings(
    tmp_path: Path, endpoint: str
) -> None:
    async with declaring(tmp_path) as declare:
        await declare.home.offer(entry(remotes=[remote_of(endpoint)]))
        assert await declare(settings={"X-Mode": "fast"}) == []
        assert await declare.header("x-mode") == "fast"
        first = declare.installation
        await declare(settings={"X-Mode": "fast"})
        assert declare.installation is first
        await declare(settings={"X-Mode": "slow", "key": "hunter2"})
        assert (await declare.header("x-mode"), await declare.header("x-key")) == ("slow", "key hunter2")
        await declare(settings={"X-Mode": "slow", "key": "hunter3"})
        assert await declare.header("x-key") == "key hunter3"
        assert "hunter2" not in (tmp_path / "secrets.json").read_text()
        assert "hunter3" not in declare.home.stored()


async def test_a_declared_server_that_works_outlives_the_catalog_it_came_from(
    tmp_path: Path, endpoint: str
) -> None:
    async with declaring(tmp_path) as declare:
        await declare.home.offer(entry(remotes=[remote_of(endpoint)]))
        assert await declare(settings={"X-Mode": "fast"}) == []
        await declare.home.catalog.forget(str(tmp_path / "entries"))
        assert await declare(settings={"X-Mode": "slow"}) == []
        assert await declare.header("x-mode") == "slow"
        assert await declare(settings={"X-Mode": "slow"}, timeout=7) == []
        assert await declare(settings={"X-Mode": "fast"}, timeout=7) == []
        assert await declare.header("x-mode") == "fast"
        assert declare.installation.keeping.timeout == 7
        [why] = await declare(source="registry:io.github.a/faulty-mcp@2.0.0", settings={"X-Mode": "fast"})
        assert "catalog is empty" in why
        assert await declare.header("x-mode") == "fast", "it is not given up for one that is not there"


async def test_a_declared_server_that_works_is_not_given_up_for_values_that_cannot_be(
    tmp_path: Path, endpoint: str
) -> None:
    async with declaring(tmp_path) as declare:
        await declare.home.offer(entry(remotes=[remote_of(endpoint)]))
        assert await declare(settings={"X-Mode": "fast"}) == []
        [why] = await declare(settings={"X-Mode": "warp"})
        assert "must be one of fast, slow" in why
        [why] = await declare(settings={"X-Mode": "slow"}, args=["--x"])
        assert "would reach nobody" in why
        [why] = await declare(settings={"X-Mode": "slow"}, constraints=["mcp<2"])
        assert "would reach nobody" in why
        assert await declare.header("x-mode") == "fast"


async def test_a_declared_package_keeps_its_environment_when_only_its_values_change(tmp_path: Path) -> None:
    """What was installed stays, with the arguments of the entry point; those of the entry are made anew."""
    package = {
        "registryType": "npm",
        "identifier": "thing",
        "packageArguments": [{"type": "named", "name": "--mode", "description": "A mode."}],
        "environmentVariables": [{"name": "KEY", "isSecret": True}],
    }
    described = describe(plan_of(parse(entry(package))), 3)
    old = ServerSpec(
        command="node", args=("index.js", "--mode", "slow", "--mine"), env={"KEY": "k"}, cwd="/x"
    )
    wish = Wish(args=("--yours",), settings={"mode": "fast", "KEY": "hunter2"})
    new, secrets, words = refilled(described, "there", old, wish)
    assert (new.command, new.cwd, words) == ("node", "/x", 3)
    assert new.args == ("index.js", "--mode", "fast", "--yours")
    assert new.env == {"KEY": "hunter2"}
    assert secrets == {}
    with pytest.raises(RefusalError, match="has no setting 'speed'"):
        refilled(described, "there", old, Wish(settings={"speed": 1}))


async def test_one_of_several_ways_to_a_server_can_be_chosen(tmp_path: Path, endpoint: str) -> None:
    async with house(tmp_path) as home:
        package = {"registryType": "npm", "identifier": "no-such-package-of-anybody"}
        await home.offer(entry(package, remotes=[{"type": "streamable-http", "url": f"{endpoint}/mcp"}]))
        added = await home.install("registry:io.github.a/faulty-mcp#remote", name="there")
        assert added.row.installation.source == "registry:io.github.a/faulty-mcp@1.0.0#remote"
        assert "headers" in {tool.original for tool in added.tools}


async def test_a_server_with_sse_is_reached_wherever_it_is(tmp_path: Path, events: str) -> None:
    async with house(tmp_path) as home:
        await home.offer(entry(remotes=[{"type": "sse", "url": f"{events}/v1/events?key={{key}}"}]))
        added = await home.install("registry:io.github.a/faulty-mcp", settings={"key": "k"})
        assert added.row.installation.spec.sse is True
        assert (await home.called("faulty", "say"))["content"][0]["text"] == "said"


def test_a_declared_source_of_the_catalog_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "toolscore.toml"
    assert "names no entry" in read({"a": {"source": "registry:"}}, file).problems[0]
    assert "only goes with source" in read({"a": {"command": "x", "settings": {}}}, file).problems[0]
    assert (
        "must be a table" in read({"a": {"source": "registry:x/y", "settings": {"a": {}}}}, file).problems[0]
    )


@pytest.mark.index
async def test_real_packages_of_a_catalog_are_installed_and_called(tmp_path: Path) -> None:
    shelf = tmp_path / "entries"
    shelf.mkdir()
    entries = (
        entry(
            {
                "registryType": "pypi",
                "identifier": "mcp-server-time",
                "runtimeHint": "uvx",
                "packageArguments": [
                    {
                        "type": "named",
                        "name": "--local-timezone",
                        "isRequired": True,
                        "description": "A zone.",
                    }
                ],
            },
            name="io.github.a/time",
        ),
        entry(
            {
                "registryType": "npm",
                "identifier": "@modelcontextprotocol/server-memory",
                "runtimeHint": "npx",
                "runtimeArguments": [{"type": "named", "name": "-y"}],
                "environmentVariables": [
                    {"name": "MEMORY_FILE_PATH", "format": "filepath", "isRequired": True}
                ],
            },
            name="io.github.a/memory",
        ),
    )
    for number, one in enumerate(entries):
        (shelf / f"{number}.json").write_text(json.dumps({"description": "It.", **one}))
    async with connected(tmp_path / "home") as client:
        await client.call_tool("execute_tool", {"tool": "sync_catalog", "arguments": {"source": str(shelf)}})
        refused = await client.call_tool("install_server", {"source": "registry:io.github.a/time"})
        assert outcome(refused) == "invalid_arguments"
        assert '"local-timezone": "..."' in text(refused)
        missing = (refused.meta or {})["toolscore/missing"]
        assert [one["name"] for one in missing] == ["local-timezone"]
        file = tmp_path / "memory.jsonl"
        added: dict[str, Any]
        zone = {"local-timezone": "Asia/Shanghai"}
        path = {"MEMORY_FILE_PATH": str(file)}
        added, _memory = await asyncio.gather(
            call(client, "install_server", source="registry:io.github.a/time", settings=zone),
            call(client, "install_server", source="registry:io.github.a/memory", env=path),
        )
        assert (added["name"], added["package"]) == ("time", "mcp-server-time")
        described = await client.call_tool("describe_tool", {"tool": "time__get_current_time"})
        assert "Asia/Shanghai" in text(described)
        person = {"name": "Ada", "entityType": "person", "observations": ["counts"]}
        assert not (await execute(client, "memory__create_entities", entities=[person])).is_error
        assert "Ada" in file.read_text()
