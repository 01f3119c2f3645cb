"""Installed servers on the nodes of a cluster, without Ray: the agents' hosts run in the test's own process."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from box_cluster import Agents
from helpers import FAULTY, runner_at, supervising, until
from ray_host import speaking
from ray_house import placed
from toolscore.runners.installers.tree import delete_tree
from toolscore.runners.kinds import Runners
from toolscore.runners.lifecycle import State
from toolscore.runners.placement import Placement
from toolscore.runners.ray.child import RayChild
from toolscore.runners.ray.options import RayOptions
from toolscore.runners.ray.runner import RayRunner
from toolscore.runners.spec import Candidate, Installation

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="agents run where Ray's nodes do")

PYTHON = {"command": "python3", "args": ["${__dirname}/server/main"]}
NODE = {"command": "node", "args": ["${__dirname}/server/main"]}

IN_NODE = """
require("readline").createInterface({input: process.stdin}).on("line", line => {
  const {id, method} = JSON.parse(line);
  const results = {
    "initialize": {protocolVersion: "2025-06-18", capabilities: {tools: {}}, serverInfo: {name: "n", version: "1"}},
    "tools/list": {tools: [{name: "hi", inputSchema: {type: "object"}}]},
  };
  if (id === undefined) return;
  const answer = results[method] ? {result: results[method]} : {error: {code: -32601, message: "no"}};
  console.log(JSON.stringify({jsonrpc: "2.0", id, ...answer}));
});
"""


class Nodes:
    """A runner, and agents of nodes that are called `one` and `two`."""

    def __init__(self, runners: Runners, ray: RayRunner, agents: Agents) -> None:
        self.runners = runners
        self.ray = ray
        self.agents = agents

    async def install(self, source: Path | str, node: str, name: str = "bundled") -> Installation:
        wanted = Placement(node=node)
        return await self.ray.install_server(Candidate(source=str(source), name=name, cluster=wanted))

    async def tools(self, installation: Installation) -> list[str]:
        """Start it, and list its tools."""
        child = await self.ray.start_server(installation)
        assert isinstance(child, RayChild)
        async with speaking(child) as session:
            listed = [str(tool["name"]) for tool in await session.list_tools()]
        await self.ray.stop_server(installation.server_id)
        return listed


@asynccontextmanager
async def nodes(folder: Path, *names: str) -> AsyncIterator[Nodes]:
    options = RayOptions(connect_timeout=120.0, lease=60.0)
    runners = Runners(runner_at(folder), {"ray": lambda means: RayRunner(means, options)})
    ray = runners.of("ray")
    assert isinstance(ray, RayRunner)
    agents = Agents(ray, folder)
    try:
        for name in names or ("one", "two"):
            await agents.add(name)
        yield Nodes(runners, ray, agents)
    finally:
        await runners.aclose()
        await agents.close()


def bundle(folder: Path, kind: str, config: Mapping[str, object], main: str) -> Path:
    server = {"type": kind, "entry_point": "server/main", "mcp_config": config}
    manifest = {"manifest_version": "0.4", "name": "demo", "version": "1.2.3", "author": {"name": "a"}}
    path = folder / f"{kind}.mcpb"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("manifest.json", json.dumps({**manifest, "description": "", "server": server}))
        zipped.writestr("server/main", main)
    return path


def on(installation: Installation, node: str) -> Installation:
    """Have it on another node."""
    spec = installation.spec.model_copy(update={"cluster": Placement(node=node)})
    return installation.model_copy(update={"spec": spec})


async def test_a_bundle_is_the_same_on_every_node(tmp_path: Path) -> None:
    async with nodes(tmp_path) as cluster:
        made = await cluster.install(bundle(tmp_path, "python", PYTHON, FAULTY.read_text()), "one")
        assert "add" in await cluster.tools(made)
        assert "add" in await cluster.tools(on(made, "two"))
        assert len(list(tmp_path.glob("nodes/*/servers/bundled/node.json"))) == 2


async def test_a_repository_is_the_same_on_every_node_also_when_it_has_moved_on(tmp_path: Path) -> None:
    if None in (shutil.which("git"), shutil.which("npm")):
        pytest.skip("git or Node.js is not installed")
    repository = tmp_path / "repository"
    repository.mkdir()
    package = {"name": "tiny", "version": "1.0.0", "bin": {"tiny": "main.js"}}
    (repository / "package.json").write_text(json.dumps(package))
    (repository / "main.js").write_text("#!/usr/bin/env node\n" + IN_NODE)
    _git(repository, "init", "-q")
    _commit(repository)
    async with nodes(tmp_path) as cluster:
        made = await cluster.install(f"git+file://{repository}", "one")
        (repository / "main.js").write_text("process.exit(1)")
        _commit(repository)
        assert await cluster.tools(made) == ["hi"]
        assert await cluster.tools(on(made, "two")) == ["hi"]


def _git(repository: Path, *words: str) -> None:
    own = ("-c", "user.name=tests", "-c", "user.email=tests@example.com")
    subprocess.run(["git", *own, *words], cwd=repository, check=True)


def _commit(repository: Path) -> None:
    _git(repository, "add", "-A")
    _git(repository, "commit", "-qm", "tests")


async def test_a_program_that_lies_elsewhere_on_another_node_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {name: shutil.which(name) for name in ("node", "npm")}
    if None in found.values():
        pytest.skip("Node.js is not installed")
    path = os.environ["PATH"]
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        for name, program in found.items():
            (tmp_path / place / name).symlink_to(str(program))
    async with nodes(tmp_path) as cluster:
        monkeypatch.setenv("PATH", f"{tmp_path / 'here'}{os.pathsep}{path}")
        made = await cluster.install(bundle(tmp_path, "node", NODE, IN_NODE), "one")
        assert made.spec.command == str(tmp_path / "here/node")
        assert await cluster.tools(made) == ["hi"]
        await delete_tree(tmp_path / "here")
        monkeypatch.setenv("PATH", f"{tmp_path / 'there'}{os.pathsep}{path}")
        assert await cluster.tools(on(made, "two")) == ["hi"]


async def test_processes_of_one_server_that_start_at_once_have_it_made_once(tmp_path: Path) -> None:
    async with nodes(tmp_path) as cluster:
        made = await cluster.install(bundle(tmp_path, "python", PYTHON, FAULTY.read_text()), "one")
        several = [on(made, "two").instance(number) for number in range(1, 4)]
        first, *others = await asyncio.gather(*(cluster.ray.start_server(one) for one in several))
        folder = cluster.agents.hosts["two"].folder / "servers/bundled"
        born = folder.stat().st_ino
        await asyncio.gather(*(cluster.ray.stop_server(one.server_id, 30) for one in several))
        assert first.returncode == 0
        assert [child.returncode for child in others] == [0, 0]
        assert "add" in await cluster.tools(several[0])
        assert folder.stat().st_ino == born


async def test_the_time_a_node_takes_to_make_a_server_is_none_of_its_start(tmp_path: Path) -> None:
    async with nodes(tmp_path) as cluster, supervising(tmp_path, cluster.runners) as supervisor:
        made = await cluster.install(bundle(tmp_path, "python", PYTHON, FAULTY.read_text()), "one")
        unit = supervisor.add(on(made, "two"))
        async with cluster.agents.hosts["two"].turn("bundled"):  # something else is done with it there
            unit.start()
            await until(lambda: unit.life.state is State.INSTALLING, 60)
        await unit.ready()
        used = (await supervisor.usage(["bundled"]))["bundled"]
        assert used.processes == 1
        assert used.memory > 1 << 20
        assert used.files >= 3


async def test_one_that_never_answers_on_its_node_is_given_up_in_the_time_a_start_has(tmp_path: Path) -> None:
    async with (
        nodes(tmp_path, "one") as cluster,
        supervising(tmp_path, cluster.runners, start_timeout=2.0) as supervisor,
    ):
        unit = supervisor.add(placed("hang-handshake"))
        with pytest.raises(Exception, match=r"did not answer the MCP handshake within 2 s.*ran on node one"):
            await unit.ready()
