"""Confined programs: what they can and cannot do, as root and as an ordinary user, with and without namespaces."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from confining import ORDINARY, Place, place_of, python_for
from toolscore.sandbox.probe import probe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confinement is Linux's")

OFFERED = {layer.name for layer in probe() if layer.offered} if sys.platform == "linux" else set()
namespaces = pytest.mark.skipif("user-namespaces" not in OFFERED, reason="no user namespaces here")
landlock = pytest.mark.skipif("landlock" not in OFFERED, reason="no Landlock here")


@pytest.fixture(params=["root", "ordinary"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    user = os.getuid()
    if request.param == "root" and user != 0:
        pytest.skip("not run as root")
    if request.param == "ordinary" and user == 0:
        user = ORDINARY
    if (python := python_for(user)) is None:
        pytest.skip("no Python that an ordinary user can run")
    with place_of(user, python) as made:
        yield made


@pytest.fixture(params=["namespaces", "alone"])
def walls(request: pytest.FixtureRequest, place: Place) -> bool:
    """Whether there are namespaces; root can make them in any case, but for user namespaces."""
    if request.param == "alone" and place.user == 0:
        pytest.skip("root needs no user namespaces")
    return bool(request.param == "namespaces")


@namespaces
@landlock
def test_every_layer_is_reported_active(place: Place) -> None:
    done = place.run("")
    assert done.status == 0, done.stderr
    assert list(done.layers) == ["namespaces", "landlock", "privileges", "seccomp"]
    assert all(state.startswith("active (") for state in done.layers.values()), done.layers


@namespaces
@landlock
def test_a_confined_program_writes_in_its_folder_and_nowhere_else(place: Place, walls: bool) -> None:
    done = place.run(
        f"""
said["own"] = error(write, "file")
said["other"] = error(write, {str(place.path / "other" / "file")!r})
said["there"] = error(write, {str(place.path / "other" / "there")!r})
said["truncated"] = error(os.truncate, {str(place.path / "other" / "there")!r}, 0)
said["removed"] = error(os.unlink, {str(place.path / "other" / "there")!r})
said["moved"] = error(os.rename, {str(place.path / "other" / "there")!r}, "mine")
said["etc"] = error(write, "/etc/toolscore-was-here")
said["usr"] = error(os.mkdir, "/usr/toolscore-was-here")
said["sys"] = error(write, "/proc/sys/kernel/hostname")
""",
        namespaces=walls,
    )
    assert done.status == 0, done.stderr
    assert done.value.pop("own") is None
    assert None not in done.value.values(), done.value
    assert (place.own / "file").read_text() == "written"
    assert (place.path / "other" / "there").read_text() == "there"


@namespaces
@landlock
def test_a_named_folder_can_be_written_too(place: Place, walls: bool) -> None:
    other = str(place.path / "other")
    done = place.run(f"said = error(write, {other + '/file'!r})", write=(other,), namespaces=walls)
    assert done.value is None
    assert (place.path / "other" / "file").read_text() == "written"


@namespaces
@landlock
def test_what_is_hidden_cannot_be_read_and_what_is_named_in_it_can(place: Place, walls: bool) -> None:
    secret = place.path / "home" / "secrets.json"
    (place.path / "home" / "open").mkdir()
    (place.path / "home" / "open" / "file").write_text("open")
    code = f"""
said["secret"] = error(read, {str(secret)!r})
said["listed"] = error(os.listdir, {str(secret.parent)!r}) or os.listdir({str(secret.parent)!r})
said["open"] = error(read, {str(secret.parent / "open" / "file")!r})
said["there"] = error(read, {str(place.path / "other" / "there")!r})
said["shadow"] = error(read, "/etc/passwd")
"""
    done = place.run(code, read=(str(secret.parent / "open"), str(place.path / "other")), namespaces=walls)
    assert done.status == 0, done.stderr
    assert done.value["secret"] in ("ENOENT", "EACCES")
    assert done.value["listed"] in (["open"], "EACCES")
    assert (done.value["open"], done.value["there"], done.value["shadow"]) == (None, None, None)


@namespaces
@landlock
def test_a_single_file_can_be_hidden_and_temporary_folders_are_private(place: Place, walls: bool) -> None:
    there = place.own.parent / "mine"
    there.write_text("mine")
    code = f"""
import tempfile
said["hidden"] = error(read, {str(there)!r})
with tempfile.NamedTemporaryFile() as file:
    said["temporary"] = file.name
said["others"] = error(lambda: os.listdir("/tmp")) or os.listdir("/tmp")
"""
    done = place.run(code, hide=(str(there),), namespaces=walls)
    assert done.status == 0, done.stderr
    assert done.value["hidden"] in ("EACCES", "ENOENT")
    assert done.value["temporary"].startswith("/tmp/" if walls else str(place.own / ".tmp"))
    assert done.value["others"] in ([], "EACCES")


@namespaces
@landlock
def test_without_network_a_listener_is_neither_reached_nor_seen_and_with_it_it_is(
    place: Place, walls: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        code = f"said = error(connect, {listener.getsockname()[1]})"
        assert place.run(code, namespaces=walls).value in ("ECONNREFUSED", "EPERM", "EACCES")
        with pytest.raises(BlockingIOError):
            listener.accept()
        assert place.run(code, network=True, namespaces=walls).value is None
        listener.accept()[0].close()


@namespaces
def test_a_program_without_network_can_talk_to_itself(place: Place) -> None:
    done = place.run("""
with socket.create_server(("127.0.0.1", 0)) as listener:
    said["self"] = error(connect, listener.getsockname()[1])
said["outside"] = error(socket.create_connection, ("192.0.2.1", 9), 2)
said["names"] = [name for _, name in socket.if_nameindex()]
""")
    assert done.status == 0, done.stderr
    assert done.value == {"self": None, "outside": "ENETUNREACH", "names": ["lo"]}


@namespaces
@landlock
@pytest.mark.parametrize("network", [False, True])
def test_sockets_of_services_are_out_of_reach(place: Place, walls: bool, network: bool) -> None:
    inside = place.path / "home" / "service.sock"
    name = f"\0toolscore-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as abstract:
        listener.bind(str(inside))
        inside.chmod(0o777)
        listener.listen()
        abstract.bind(name)
        abstract.listen()
        done = place.run(
            f"said = [error(connect_unix, {str(inside)!r}), error(connect_unix, {name!r})]",
            network=network,
            namespaces=walls,
        )
    assert done.status == 0, done.stderr
    assert None not in done.value


@namespaces
@landlock
def test_other_processes_cannot_be_looked_into_nor_ended(place: Place, walls: bool) -> None:
    as_user = {} if place.user == os.getuid() else {"user": place.user, "group": place.user}
    with subprocess.Popen(["sleep", "60"], env={"KEY": "s3cret"}, **as_user) as other:  # type: ignore[call-overload]
        try:
            done = place.run(
                f"""
said["environment"] = error(read, "/proc/{other.pid}/environ")
said["root"] = error(os.listdir, "/proc/{other.pid}/root/")
said["signal"] = error(os.kill, {other.pid}, 9)
""",
                namespaces=walls,
            )
            assert done.status == 0, done.stderr
            assert set(done.value.values()) <= {"EACCES", "EPERM"}
            assert other.poll() is None
        finally:
            other.kill()


@namespaces
@landlock
def test_privileges_are_gone_and_cannot_be_had_again(place: Place, walls: bool) -> None:
    done = place.run(
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
said["capabilities"] = [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")]
said["new"] = int(status["NoNewPrivs"])
said["seccomp"] = int(status["Seccomp"])
said["namespace"] = libc.unshare(0x10000000)
said["mount"] = libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None)
said["umount"] = libc.umount2(b"/run", 2)
said["device"] = error(os.mknod, "disk", 0o60600, os.makedev(254, 0))
""",
        namespaces=walls,
    )
    assert done.status == 0, done.stderr
    assert done.value.pop("device") is not None
    assert done.value == {
        "capabilities": [0, 0, 0, 0],
        "new": 1,
        "seccomp": 2,
        "namespace": -1,
        "mount": -1,
        "umount": -1,
    }


@namespaces
@landlock
def test_the_program_finds_its_folder_environment_and_streams_as_they_were(place: Place) -> None:
    done = place.run(
        """
said["folder"] = os.getcwd()
said["environment"] = open("/proc/self/environ").read().split("\\0")
said["descriptors"] = sorted(os.listdir("/proc/self/fd"))[:3], len(os.listdir("/proc/self/fd"))
said["user"] = os.getuid(), os.getgid()
""",
        env={"LC_ALL": "C", "ONE": "1", "EMPTY": ""},
    )
    assert done.status == 0, done.stderr
    assert done.value["folder"] == str(place.own)
    assert done.value["environment"] == ["LC_ALL=C", "ONE=1", "EMPTY=", ""]
    assert done.value["descriptors"] == [["0", "1", "2"], 4]  # and the one that lists them
    assert done.value["user"] == [place.user, place.user]
    # Asked of a shell: Python would ignore signals of its own.
    ignored = "while read name mask; do [ $name = SigIgn: ] && echo $((0x$mask)); done < /proc/self/status"
    library = 3 << 31  # signals 32 and 33 are the C library's own, which nobody else can set or set back
    assert place.run("", command=["/bin/sh", "-c", ignored]).value & ~library == 0


@namespaces
def test_a_program_in_a_hidden_place_is_named(place: Place) -> None:
    program = place.path / "home" / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    done = place.run("", command=[str(program)])
    assert done.status == 78
    assert f"{program}, or the interpreter it names, is in a place that is hidden from it" in done.stderr
    assert place.run("", command=[str(program)], read=(str(program),)).status == 0


@pytest.fixture
def ordinary() -> Iterator[Place]:
    user = ORDINARY if os.getuid() == 0 else os.getuid()
    if (python := python_for(user)) is None:
        pytest.skip("no Python that an ordinary user can run")
    with place_of(user, python) as made:
        yield made


@namespaces
@landlock
def test_without_user_namespaces_the_report_says_so(ordinary: Place) -> None:
    done = ordinary.run("", namespaces=False)
    assert done.status == 0, done.stderr
    assert done.layers["namespaces"].startswith("unavailable (unshare: No space left")
    assert done.layers["landlock"].startswith("active (ABI")
    assert done.layers["seccomp"].startswith("active (")


@namespaces
def test_without_namespaces_and_landlock_nothing_is_started(ordinary: Place) -> None:
    done = ordinary.run("write('started')", namespaces=False, without=("landlock",))
    assert done.status == 78
    assert "it was not started, since it cannot be confined: there are neither namespaces" in done.stderr
    assert not (ordinary.own / "started").exists()


@namespaces
@landlock
def test_what_landlock_cannot_hide_is_a_refusal_without_namespaces(ordinary: Place) -> None:
    inside = ordinary.own / "private"
    inside.mkdir()
    done = ordinary.run("said = os.listdir('private')", hide=(str(inside),), namespaces=False)
    assert done.status == 78
    assert (
        f"{inside} is hidden inside of {ordinary.own}, which is writable: that needs namespaces"
        in done.stderr
    )
    assert ordinary.run("said = os.listdir('private')", hide=(str(inside),)).value == []


def test_a_profile_hides_what_a_link_leads_to(place: Place, tmp_path: Path) -> None:
    link = place.path / "link"
    link.symlink_to(place.path / "other")
    done = place.run(f"said = error(read, {str(place.path / 'other' / 'there')!r})", hide=(str(link),))
    assert done.value == "ENOENT"
