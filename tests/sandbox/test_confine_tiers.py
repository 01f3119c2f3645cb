"""Confined where something is missing: what is left is told, and where that is too little nothing is started."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

import pytest

from confining import ORDINARY, Place, Said, place_of, python_for
from toolscore.sandbox.probe import probe

OFFERED = {layer.name for layer in probe() if layer.offered} if sys.platform == "linux" else set()

pytestmark = pytest.mark.skipif(
    not {"user-namespaces", "landlock"} <= OFFERED, reason="needs user namespaces and Landlock"
)

CONTAINER = ("sys-admin", "setpcap", "unshare")
"""What the root of a container lacks whose engine takes its capabilities and filters its system calls."""

CODE = """
said["own"] = error(write, "file")
said["other"] = error(write, {other!r})
said["secret"] = error(read, {secret!r})
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
said["capabilities"] = [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")]
said["network"] = error(socket.create_connection, ("127.0.0.1", 9), 2)
"""


def place(user: int) -> Iterator[Place]:
    if (python := python_for(user)) is None:
        pytest.skip("no Python that this user can run")
    with place_of(user, python) as made:
        yield made


@pytest.fixture
def root() -> Iterator[Place]:
    if os.getuid() != 0:
        pytest.skip("not run as root")
    yield from place(0)


@pytest.fixture
def ordinary() -> Iterator[Place]:
    yield from place(os.getuid() or ORDINARY)


def run(place: Place, *without: str) -> Said:
    code = CODE.format(
        other=str(place.path / "other" / "file"), secret=str(place.path / "home" / "secrets.json")
    )
    return place.run(code, without=without)


def confined(done: Said) -> bool:
    """Whether it was started, and every wall holds."""
    assert done.status == 0, done.stderr
    walls = [done.value[name] for name in ("other", "secret", "network")]
    return done.value["own"] is None and None not in walls and done.value["capabilities"] == [0, 0, 0, 0]


def test_root_without_the_capability_to_mount_makes_a_user_namespace(root: Place) -> None:
    done = run(root, "sys-admin")
    assert confined(done)
    assert done.layers["namespaces"].startswith("active")


def test_root_where_user_namespaces_are_off_needs_none(root: Place) -> None:
    done = run(root, "user-namespaces")
    assert confined(done)
    assert done.layers["namespaces"].startswith("active")


def test_root_of_a_container_is_confined_by_landlock_and_seccomp_alone(root: Place) -> None:
    done = run(root, *CONTAINER)
    assert confined(done)
    assert done.layers["namespaces"] == "unavailable (unshare: Operation not permitted)"
    assert done.layers["landlock"].startswith("active")
    assert done.layers["privileges"] == "active (no capabilities, no_new_privs)"
    assert done.layers["seccomp"].startswith("active")


def test_an_ordinary_user_without_namespaces_is_confined_by_landlock_and_seccomp_alone(
    ordinary: Place,
) -> None:
    done = run(ordinary, "user-namespaces")
    assert confined(done)
    assert [name for name, state in done.layers.items() if state.startswith("unavailable")] == ["namespaces"]


@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_without_landlock_the_namespaces_hold_and_the_report_tells(
    user: str, request: pytest.FixtureRequest
) -> None:
    done = run(request.getfixturevalue(user), "landlock")
    assert confined(done)
    assert [name for name, state in done.layers.items() if state.startswith("unavailable")] == ["landlock"]
    assert "ENOSYS" in done.layers["landlock"]


@pytest.mark.parametrize(
    ("user", "without"),
    [("root", (*CONTAINER, "landlock")), ("ordinary", ("user-namespaces", "landlock"))],
)
def test_with_neither_nothing_is_started(
    user: str, without: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue(user)
    done = run(place, *without)
    assert done.status == 78
    assert "it was not started, since it cannot be confined: there are neither namespaces" in done.stderr
    assert not (place.own / "file").exists()


@pytest.mark.parametrize("library", ["seccompy", "landlockpy"])
def test_a_missing_library_is_told_and_without_namespaces_it_is_a_refusal(
    ordinary: Place, library: str
) -> None:
    shutil.rmtree(ordinary.path / "lib" / library)
    done = run(ordinary)
    layer = "seccomp" if library == "seccompy" else "landlock"
    assert confined(done)
    assert done.layers[layer].startswith("unavailable (")
    assert library in done.layers[layer]
    if library == "landlockpy":  # the other is what takes namespaces away here
        refused = run(ordinary, "user-namespaces")
        assert (refused.status, "nor Landlock" in refused.stderr) == (78, True)
