"""Executors on several nodes behind one front: real agents and executors, each node in this machine's processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from box_cluster import BoxCluster, box_cluster, refused
from helpers import gone, until
from ray_cluster import needs_ray
from toolscore.runners.errors import ChildFaultError, InstallError
from toolscore.runners.ray import starting
from toolscore.runners.sampler import Usage
from toolscore.server.boxes import post

pytestmark = [needs_ray, pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")]


def executors() -> list[psutil.Process]:
    """The executors of this process's agents."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # boxes come and go meanwhile
            if "toolscore.sandbox" in one.cmdline():
                found.append(one)
    return found


async def node_in_use(boxes: BoxCluster, count: int = 1) -> str:
    """Wait until a place is taken; give the name of the node."""
    taken: list[str] = []

    def found() -> bool:
        taken[:] = [post.ground.called.split()[1] for post in boxes.posts.all for _ in range(post.taken)]
        return len(taken) >= count

    await until(found, 60)
    return taken[0]


async def test_places_of_all_nodes_are_used_and_no_node_is_given_more_than_it_has(tmp_path: Path) -> None:
    wait = "import time\ntime.sleep(1)"
    async with box_cluster(tmp_path, most="2") as boxes:
        await boxes.agents.add("a")
        await boxes.agents.add("b")
        await boxes.ready(2)
        most = 0

        def free() -> bool:
            nonlocal most
            taken = [post.taken for post in boxes.posts.all]
            assert max(taken) <= 2
            most = max(most, sum(taken))
            return all(work.done() for work in works)

        works = [asyncio.create_task(boxes.run(wait)) for _ in range(6)]
        await until(free, 60)
        assert most == 4
        assert [work.result()["status"] for work in works] == ["ok"] * 6
        told = await boxes.status()
        assert [(node["tier"], node["places"], node["free"]) for node in told["nodes"]] == [
            ("full", 2, 2)
        ] * 2 or {node["tier"] for node in told["nodes"]} == {"reduced"}
        assert (told["ready"], told["mode"], told["waiting"]) == (True, "cluster", 0)


async def test_what_the_executor_uses_is_what_those_of_all_nodes_use(tmp_path: Path) -> None:
    async with box_cluster(tmp_path, most="1") as boxes:

        async def used() -> Usage | None:
            return (await boxes.runners.usage(["python-executor"])).get("python-executor")

        assert await used() is None, "there is no node"
        await boxes.agents.add("a")
        await boxes.ready()
        async with asyncio.timeout(60):
            while (one := await used()) is None:
                await asyncio.sleep(0.05)  # a node that does not answer soon tells nothing
        assert (one.memory > 10 << 20, one.processes > 0) == (True, True)
        await boxes.agents.add("b")
        await boxes.ready(2)
        async with asyncio.timeout(60):
            while (both := await used()) is None or both.memory < 1.2 * one.memory:
                await asyncio.sleep(0.05)  # nothing tells when it is measured anew


async def test_a_session_and_its_files_are_found_where_they_are_and_are_their_principals_alone(
    tmp_path: Path,
) -> None:
    async with box_cluster(tmp_path) as boxes:
        await boxes.agents.add("a")
        await boxes.agents.add("b")
        await boxes.ready(2)
        first, other = await boxes.session_of(), await boxes.session_of()
        assert boxes.node_of(first) != boxes.node_of(other)
        for name, session in (("one", first), ("two", other)):
            made = await boxes.run(f"x = {name!r}\nopen('n.txt', 'w').write(x)", session=session)
            uri = made["files"][0]["uri"]
            assert (await boxes.read(uri))["contents"][0]["text"] == name
            with pytest.raises(ChildFaultError, match="no file"):
                await boxes.read(uri, principal="bob")
        for name, session in (("one", first), ("two", other)):
            assert (await boxes.run("x", session=session))["value"] == name
            outcome, _ = refused(
                await boxes.call("python_execute", principal="bob", code="x", session=session)
            )
            assert outcome == "invalid_arguments"
        assert {session["session"] for session in (await boxes.status())["sessions"]} == {first, other}
        ended = await boxes.call("session_end", session=first)
        assert ended["isError"] is False
        outcome, text = refused(await boxes.call("python_execute", code="x", session=first))
        assert (outcome, "session_end" in text) == ("unavailable", True)


async def test_sessions_are_counted_over_all_nodes_and_one_that_ends_by_itself_is_not(tmp_path: Path) -> None:
    async with box_cluster(tmp_path, sessions="2") as boxes:
        await boxes.agents.add("a")
        await boxes.agents.add("b")
        await boxes.ready(2)
        first, _ = await boxes.session_of(), await boxes.session_of()
        outcome, text = refused(await boxes.call("session_start"))
        assert (outcome, first in text) == ("limit", True)
        assert await boxes.session_of("bob")
        result = await boxes.call("python_execute", code="import os\nos._exit(3)", session=first)
        assert result["structuredContent"]["status"] == "exited"
        await boxes.session_of()  # its executor said that the first is over


async def test_a_node_that_is_lost_leaves_its_calls_unknown_its_sessions_gone_and_new_work_elsewhere(
    tmp_path: Path,
) -> None:
    async with box_cluster(tmp_path) as boxes:
        await boxes.agents.add("a")
        await boxes.agents.add("b")
        await boxes.ready(2)
        sessions = [await boxes.session_of(), await boxes.session_of()]
        by_node = {boxes.node_of(session): session for session in sessions}
        made = await boxes.run("open('f', 'w').write('1')", session=by_node["a"])
        waiting = asyncio.create_task(
            boxes.call("python_execute", code="import time\ntime.sleep(60)", session=by_node["a"])
        )
        # They last longer than it takes to lose a node, on a machine that has other things to do.
        works = [
            asyncio.create_task(boxes.call("python_execute", code="import time\ntime.sleep(6)\n1"))
            for _ in range(4)
        ]
        await node_in_use(boxes, 5)
        await boxes.agents.lose("a")
        outcome, text = refused(await waiting)
        assert (outcome, "not known" in text, by_node["a"] in text) == ("outcome_unknown", True, True)
        results = [await work for work in works]
        lost = [result for result in results if result["isError"]]
        assert {refused(result)[0] for result in lost} == {"outcome_unknown"}
        assert 0 < len(lost) < 4
        assert (await boxes.run("2"))["value"] == 2
        outcome, text = refused(await boxes.call("python_execute", code="1", session=by_node["a"]))
        assert (outcome, "node a" in text, "is lost" in text) == ("unavailable", True, True)
        outcome, _ = refused(await boxes.call("session_end", session=by_node["a"]))
        assert outcome == "unavailable"
        with pytest.raises(ChildFaultError, match="no file"):
            await boxes.read(made["files"][0]["uri"])
        assert (await boxes.run("3", session=by_node["b"]))["value"] == 3
        assert [node["node"].split()[1] for node in (await boxes.status())["nodes"]] == ["b"]


async def test_an_executor_that_is_killed_is_started_again_on_its_node(tmp_path: Path) -> None:
    async with box_cluster(tmp_path) as boxes:
        await boxes.agents.add("a")
        await boxes.ready()
        work = asyncio.create_task(boxes.call("python_execute", code="import time\ntime.sleep(60)"))
        await node_in_use(boxes)
        for one in executors():
            os.kill(one.pid, signal.SIGKILL)
        outcome, text = refused(await work)
        assert (outcome, "then server 'python-executor#" in text) == ("outcome_unknown", True)
        assert (await boxes.run("2"))["value"] == 2


async def test_a_node_that_comes_is_used_by_those_that_wait(tmp_path: Path) -> None:
    async with box_cluster(tmp_path) as boxes:
        work = asyncio.create_task(boxes.run("1 + 1"))
        await until(lambda: boxes.posts.choosing.waiting == 1, 60)
        await boxes.agents.add("a")
        assert (await work)["value"] == 2


async def test_without_a_node_a_call_is_refused_with_what_is_missing_where(tmp_path: Path) -> None:
    async with box_cluster(tmp_path, patience=0.2, cluster_labels="sandbox=true", memory="512") as boxes:
        outcome, text = refused(await boxes.call("python_execute", code="1"))
        assert (outcome, "no nodes" in text) == ("unavailable", True)
        await boxes.agents.add("plain")
        await boxes.agents.add("small", memory=100, sandbox="true")
        await until(lambda: all("lacks" in (post.problem or "") for post in boxes.posts.all), 60)
        outcome, text = refused(await boxes.call("session_start"))
        assert outcome == "unavailable"
        assert "label sandbox=true" in text
        assert "memory=512 MiB" in text
        told = await boxes.status()
        assert (told["ready"], told["problem"] in text) == (False, True)
        assert {node["used"] for node in told["nodes"]} == {False}
        await boxes.agents.add("fits", memory=1100, sandbox="true")
        await boxes.ready()
        assert (await boxes.run("1"))["value"] == 1
        places = {node["node"].split()[1]: node["places"] for node in (await boxes.status())["nodes"]}
        assert places == {"plain": 0, "small": 0, "fits": 2}


async def test_the_gateways_own_machine_is_used_where_that_may_be(tmp_path: Path) -> None:
    async with box_cluster(tmp_path, patience=0.2, cluster_fallback="true") as boxes:
        session = await boxes.session_of()
        assert (await boxes.run("x = 1\nx", session=session))["value"] == 1
        assert [node["node"] for node in (await boxes.status())["nodes"]] == ["ToolScore's own machine"]
        await boxes.agents.add("a")
        await boxes.ready(2)
        work = asyncio.create_task(boxes.run("import time\ntime.sleep(1)"))
        assert await node_in_use(boxes) == "a"
        await work
        assert (await boxes.run("x", session=session))["value"] == 1


async def test_a_node_whose_isolation_is_too_weak_is_not_used_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with box_cluster(tmp_path, patience=0.2, minimum="full") as boxes:
        agent = await boxes.agents.add("a")
        await boxes.ready()
        # What the second node runs code with is this: a Python without user namespaces.
        weak = tmp_path / "python"
        weak.write_text(
            f"#!/bin/sh\nexec unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"' sh "
            f'{sys.executable} "$@"\n'
        )
        weak.chmod(0o755)
        monkeypatch.setattr(starting, "sys", SimpleNamespace(executable=str(weak)))
        await boxes.agents.add("b")
        await until(lambda: any("minimum" in (post.problem or "") for post in boxes.posts.all), 60)
        told = {node["node"].split()[1]: node for node in (await boxes.status())["nodes"]}
        assert (told["a"]["used"], told["b"]["used"]) == (True, False)
        assert "sandbox.minimum" in told["b"]["problem"]
        works = await asyncio.gather(*(boxes.run("1") for _ in range(4)))
        assert [work["isolation"]["tier"] for work in works] == ["full"] * 4
        assert agent.visit is not None


async def test_a_call_that_is_cancelled_ends_on_its_node_and_gives_its_place_back(tmp_path: Path) -> None:
    async with box_cluster(tmp_path, most="1") as boxes:
        await boxes.agents.add("a")
        await boxes.ready()
        work = asyncio.create_task(boxes.call("python_execute", code="import time\ntime.sleep(60)"))
        await node_in_use(boxes)
        work.cancel()
        assert (await boxes.run("1"))["value"] == 1


async def test_without_the_bridge_to_ray_code_runs_on_and_an_executor_is_started_again(
    tmp_path: Path,
) -> None:
    async with box_cluster(tmp_path) as boxes:
        await boxes.agents.add("a")
        await boxes.ready()
        session = await boxes.session_of()
        boxes.agents.cluster._bridge_lost("the head is lost")
        assert (await boxes.run("1"))["value"] == 1
        assert (await boxes.run("2", session=session))["value"] == 2
        for one in executors():
            os.kill(one.pid, signal.SIGKILL)
        outcome, _ = refused(await boxes.call("python_execute", code="1", session=session))
        assert outcome in ("unavailable", "outcome_unknown")
        assert (await boxes.run("3"))["value"] == 3


async def test_an_executor_that_does_not_answer_is_ended_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "LOOK", 0.2)
    monkeypatch.setattr(post, "MUTE", 6.0)
    async with box_cluster(tmp_path) as boxes:
        await boxes.agents.add("a")
        await boxes.ready()
        (hung,) = executors()
        hung.suspend()
        outcome, text = refused(await boxes.call("python_execute", code="1"))
        assert (outcome, "did not answer for 6 s" in text) == ("outcome_unknown", True)
        assert (await boxes.run("1"))["value"] == 1
        assert gone(hung.pid)


async def test_a_node_that_fails_without_the_codes_doing_has_to_run_something_first(tmp_path: Path) -> None:
    async with box_cluster(tmp_path) as boxes:
        await boxes.agents.add("a")
        await boxes.ready()
        (state,) = (tmp_path / "nodes").rglob("state")
        state.rename(state.with_name("away"))  # where large files are to be put
        (kept,) = boxes.posts.all
        code = "open('f', 'w').write('x' * 100_000)"
        outcome, _ = refused(await boxes.call("python_execute", code=code))
        assert (outcome, kept.usable) == ("unavailable", False)
        assert (await boxes.run("1"))["value"] == 1
        told = await boxes.status()
        assert [pool["executions"] for pool in told["pools"]] == [4]  # twice for proof


async def test_without_ray_it_does_not_start_and_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(InstallError, match=r"pip install 'toolscore\[ray\]'"):
        async with box_cluster(tmp_path):
            pass


@pytest.mark.index
async def test_packages_are_made_on_the_node_that_needs_them_which_then_has_precedence(
    tmp_path: Path,
) -> None:
    async with box_cluster(tmp_path, packages="six==1.17.0", allow_packages="toml") as boxes:
        await boxes.agents.add("a")
        await boxes.agents.add("b")
        await boxes.ready(2)
        assert (await boxes.run("import six; six.__version__"))["value"] == "1.17.0"
        for _ in range(3):
            assert (await boxes.run("import toml, six; 1", packages=["toml"]))["value"] == 1
        made = [place.parts[-6] for place in (tmp_path / "nodes").rglob("about.json")]
        assert len(made) == 3
        assert sorted(made.count(node) for node in set(made)) == [1, 2]
        assert (await boxes.status())["installed"] == ["six==1.17.0"]


class Tools:
    """A grant of one execution."""

    def __init__(self, boxes: list[BoxCluster]) -> None:
        self.token = "good"
        self._boxes = boxes
        self.cancelled = asyncio.Event()

    async def servers(self) -> list[dict[str, Any]]:
        return [{"name": "s"}]

    async def tools(self, server: str) -> list[dict[str, Any]]:
        raise LookupError(f"no server {server}")

    async def call(self, name: str, arguments: dict[str, Any], on_progress: Any = None) -> dict[str, Any]:
        if name == "s__hang":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        result = await self._boxes[0].call("python_execute", code=arguments["code"])
        return {**result, "structuredContent": {"result": result["structuredContent"]["value"]}}


async def test_code_calls_tools_over_the_line_and_gives_its_place_up_meanwhile(tmp_path: Path) -> None:
    found: list[BoxCluster] = []
    grant = Tools(found)
    find = {"good": grant}.get
    async with box_cluster(tmp_path, most="1", find=lambda token: find(str(token))) as boxes:
        found.append(boxes)
        await boxes.agents.add("a")
        await boxes.ready()
        call = "from toolscore_tools import call_tool, servers, list_tools\n"
        inner = call + "call_tool('s__run', {'code': '20 + 1'}) * 2"
        assert (await boxes.run(inner, token="good"))["value"] == 42
        session = await boxes.session_of()
        assert (await boxes.run(inner, token="good", session=session))["value"] == 42
        assert "'s'" in (await boxes.run(call + "servers()", token="good"))["repr"]
        told = await boxes.call("python_execute", code=inner, token="old")
        assert "the execution is over, or its token is wrong" in str(told["structuredContent"]["error"])
        work = asyncio.create_task(
            boxes.call(
                "python_execute", code=call + "call_tool('s__hang', {})", token="good", limits={"wall": 5}
            )
        )
        assert (await work)["structuredContent"]["status"] == "timeout"
        await asyncio.wait_for(grant.cancelled.wait(), 60)
        assert boxes.posts.all[0].taken == 0
