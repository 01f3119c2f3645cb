"""What a server needs of a node, from what people write to what is looked for; without a cluster."""

from __future__ import annotations

import importlib.util
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from helpers import installation, runner_at
from toolscore.runners.errors import InstallError
from toolscore.runners.kinds import Runners
from toolscore.runners.placement import Placement, lacking
from toolscore.runners.ray.identity import next_life
from toolscore.runners.ray.nodes import Node, explained
from toolscore.runners.spec import ServerSpec
from toolscore.server.cli.library import _placement
from toolscore.server.cli.parser import parse
from toolscore.server.doctor import examine
from toolscore.server.ray_home import ray_maker
from toolscore.server.settings import load
from toolscore.tools.declared import read


def test_true_is_any_node_and_false_is_this_machine() -> None:
    assert ServerSpec.model_validate({"command": "x", "cluster": True}).cluster == Placement()
    assert ServerSpec.model_validate({"command": "x", "cluster": True}).engine == "ray"
    here = ServerSpec.model_validate({"command": "x", "cluster": False})
    assert here.cluster is None
    assert here.engine == "process"


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpu": -1},
        {"cpu": float("nan")},
        {"memory": -5},
        {"resources": {"GPU": 0}},
        {"gpus": 1},
        {"labels": {"a": 1}},
    ],
)
def test_what_no_node_could_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServerSpec.model_validate({"command": "x", "cluster": wrong})


def test_a_server_with_a_url_runs_on_no_node() -> None:
    with pytest.raises(ValidationError, match="cluster only goes with a command"):
        ServerSpec(command="x", url="ws://localhost:1/", cluster=Placement())


def test_a_node_says_what_it_lacks_for_ever_and_what_only_now() -> None:
    node = Node(
        "0" * 56, "alpha", "10.0.0.1", {"CPU": 4.0, "memory": float(8 << 30)}, {"CPU": 1.0}, {"gpu": "no"}
    )
    wanted = Placement(cpu=2, memory=16384, labels={"gpu": "true"})
    assert node.misses(wanted, now=False) == ["label gpu=true", "memory=16384 MiB"]
    assert node.misses(wanted, now=True) == ["label gpu=true", "memory=16384 MiB", "cpu=2 free"]
    assert node.misses(Placement(node="beta"), now=False) == ["it is not beta"]
    assert node.misses(Placement(node="alpha", cpu=1), now=True) == []
    assert lacking({"GPU": 1.0}, {}) == ["GPU"]


def test_without_a_node_it_is_said_what_each_lacks_and_when_it_will_start() -> None:
    node = Node("0" * 56, "alpha", "10.0.0.1", {"CPU": 4.0}, {"CPU": 1.0})
    assert explained([node], Placement(cpu=2), "") == (
        "no node of the Ray cluster fits (cpu=2): alpha (10.0.0.1, 00000000) lacks cpu=2 free. It starts by itself "
        "once a node has room."
    )
    assert "once such a node joins" in explained([node], Placement(cpu=8), "")
    assert explained([node], Placement(), "its head is gone") == (
        "the Ray cluster cannot be reached: its head is gone. It is tried again all the time."
    )
    without = Node(
        "1" * 56, "beta", "10.0.0.2", {"CPU": 4.0}, {"CPU": 4.0}, problem="ToolScore is not installed there"
    )
    assert "beta (10.0.0.2, 11111111): ToolScore is not installed there" in explained(
        [without], Placement(), ""
    )


def test_the_file_says_where_a_server_runs() -> None:
    good = {"command": "x", "cluster": {"cpu": 0.5, "labels": {"gpu": "true"}}}
    found = read({"x": good, "y": {"source": "pypi:y", "cluster": True}}, Path("/etc/toolscore.toml"))
    assert not found.problems
    assert found.servers["x"].spec.cluster == Placement(cpu=0.5, labels={"gpu": "true"})
    assert found.servers["y"].spec.cluster == Placement()
    assert "cluster" in found.servers["x"].parts()
    for entry, words in (
        ({"command": "x", "cluster": {"cpus": 1}}, "cluster .* must be true, or a table of cpu, memory"),
        ({"url": "ws://h/", "cluster": True}, "cluster .* only goes with a command"),
    ):
        found = read({"x": entry}, Path("/etc/toolscore.toml"))
        assert any(re.search(words, problem) for problem in found.problems), found.problems


def test_the_command_line_says_it_too() -> None:
    words = [
        "install",
        "pypi:x",
        "--cluster-cpu",
        "2",
        "--cluster-resource",
        "GPU=1",
        "--cluster-label",
        "gpu=true",
    ]
    assert _placement(parse(words)) == {
        "cluster": {"cpu": 2.0, "resources": {"GPU": 1.0}, "labels": {"gpu": "true"}}
    }
    assert _placement(parse(["install", "pypi:x", "--cluster"])) == {"cluster": True}
    assert _placement(parse(["install", "pypi:x"])) == {}
    with pytest.raises(Exception, match="NAME=AMOUNT"):
        _placement(parse(["register", "x", "--cluster-resource", "GPU=many", "--", "x"]))


async def test_without_ray_a_server_for_a_cluster_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    process = runner_at(tmp_path)
    settings = load({}, home=str(tmp_path), environ={}).settings
    runners = Runners(process, {"ray": ray_maker(settings, process, lambda _key: None)})
    with pytest.raises(InstallError, match=re.escape("pip install 'toolscore[ray]'")):
        await runners.start_server(installation(ServerSpec(command="x", cluster=Placement())))
    assert not (tmp_path / "cluster.json").exists()
    await runners.aclose()


def test_every_life_of_a_home_has_a_higher_number_in_the_same_namespace(tmp_path: Path) -> None:
    first, second = next_life(tmp_path), next_life(tmp_path)
    assert (second.namespace, second.life) == (first.namespace, first.life + 1)
    assert (tmp_path / "cluster.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "cluster.json").write_text("damaged")
    assert next_life(tmp_path).namespace != first.namespace  # nobody's agents are taken over by a guess


def test_the_doctor_looks_for_the_cluster_where_one_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        settings = load({"ray.address": address}, home=str(tmp_path), environ={}).settings
        found = {check.name: check for check in examine(settings)}
        if importlib.util.find_spec("ray") is not None:
            assert f"something answers at {address}" in found["ray"].found
    with socket.socket() as mute:  # has its port, so that nobody else gets it, and does not listen
        mute.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        settings = load({"ray.address": address}, home=str(tmp_path), environ={}).settings
        if importlib.util.find_spec("ray") is not None:
            assert "nothing answers" in {check.name: check for check in examine(settings)}["ray"].found
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    missing = {check.name: check for check in examine(settings)}["ray"]
    assert (missing.status, missing.advice) == ("missing", "run `pip install 'toolscore[ray]'`")
    code = load({"sandbox.mode": "cluster"}, home=str(tmp_path), environ={}).settings
    assert {check.name: check.status for check in examine(code)}["ray"] == "missing"
