"""What confined programs tried to get out, as root and as an ordinary user, with and without namespaces."""

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

OFFERED = {layer.name for layer in probe() if layer.offered} if sys.platform == "linux" else set()

pytestmark = pytest.mark.skipif(
    not {"user-namespaces", "landlock"} <= OFFERED, reason="needs user namespaces and Landlock"
)

MODES = {
    "root": (0, ()),
    "root-alone": (0, ("sys-admin", "setpcap", "unshare")),
    "ordinary": (ORDINARY, ()),
    "ordinary-alone": (ORDINARY, ("user-namespaces",)),
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Iterator[tuple[Place, tuple[str, ...]]]:
    user, without = MODES[request.param]
    if os.getuid() != 0:
        if user == 0:
            pytest.skip("not run as root")
        user = os.getuid()
    if (python := python_for(user)) is None:
        pytest.skip("no Python that an ordinary user can run")
    with place_of(user, python) as made:
        yield made, without


Mode = tuple[Place, tuple[str, ...]]


def test_links_out_of_its_folder_lead_to_nothing_it_could_not_have(mode: Mode) -> None:
    place, without = mode
    there, secret = place.path / "other" / "there", place.path / "home" / "secrets.json"
    done = place.run(
        f"""
os.symlink({str(there)!r}, "soft")
said["through"] = error(write, "soft")
os.symlink({str(secret)!r}, "secret")
said["secret"] = error(read, "secret")
said["hard"] = error(os.link, {str(there)!r}, "hard")
said["hard secret"] = error(os.link, {str(secret)!r}, "hard2")
said["moved in"] = error(os.rename, {str(there)!r}, "moved")
write("mine")
said["moved out"] = error(os.rename, "mine", {str(there.with_name("mine"))!r})
said["linked out"] = error(os.link, "mine", {str(there.with_name("mine"))!r})
said["opened by its descriptor"] = error(write, f"/proc/self/fd/{{os.open({str(there)!r}, os.O_RDONLY)}}")
said["through its root"] = error(write, "/proc/self/root" + {str(there)!r})
said["through its folder"] = error(read, "/proc/self/cwd/../home/secrets.json")
""",
        without=without,
    )
    assert done.status == 0, done.stderr
    assert None not in done.value.values(), done.value
    assert there.read_text() == "there"
    assert sorted(path.name for path in there.parent.iterdir()) == ["there"]


def test_no_namespaces_mounts_or_other_roots_can_be_made(mode: Mode) -> None:
    place, without = mode
    done = place.run(
        """
import ctypes, errno as numbers
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    said[name, str(arguments)[:20]] = numbers.errorcode.get(ctypes.get_errno()) if result == -1 else None
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x02000000, 0x80):
    attempt("unshare", flag)
attempt("setns", os.open("/proc/self/ns/mnt", os.O_RDONLY), 0)
attempt("mount", b"/", b"/mnt", None, 4096, None)
attempt("mount", None, b"/", None, 32 | 4096, None)
attempt("umount2", b"/tmp", 2)
attempt("chroot", b"/proc/self/root")
attempt("setuid", 1)
attempt("ptrace", 16, os.getppid(), 0, 0)
attempt("process_vm_readv", os.getppid(), None, 0, None, 0, 0)
attempt("syscall", 438, os.open("/", os.O_PATH), 0, 0)
attempt("syscall", 442, -100, b"/", 0, b"\\0" * 32, 32)
attempt("syscall", 428, -100, b"/", 1)
attempt("syscall", 425, 8, None)
attempt("syscall", 304, -100, None, 0)
said = {str(key): value for key, value in said.items()}
""",
        without=without,
    )
    assert done.status == 0, done.stderr
    assert None not in done.value.values(), done.value


def test_no_socket_of_anything_outside_can_be_reached(mode: Mode) -> None:
    place, without = mode
    name = f"\0toolscore-attack-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        udp.bind(("127.0.0.1", 0))
        abstract.bind(name)
        abstract.listen()
        datagrams.bind(name + "d")
        for listener in (tcp, udp, abstract, datagrams):
            listener.settimeout(0)
        done = place.run(
            f"""
def send(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as line:
        line.sendto(b"x", address)
said["tcp"] = error(connect, {tcp.getsockname()[1]})
said["unix"] = error(connect_unix, {name!r})
said["datagram"] = error(send, socket.AF_UNIX, {name + "d"!r})
said["raw"] = error(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
said["packet"] = error(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)
said["netlink"] = error(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 15)
said["vsock"] = error(socket.socket, 40, socket.SOCK_STREAM)
udp = error(send, socket.AF_INET, ("127.0.0.1", {udp.getsockname()[1]}))
""",
            without=without,
        )
        assert done.status == 0, done.stderr
        assert None not in done.value.values(), done.value
        for listener in (tcp, abstract):
            with pytest.raises(BlockingIOError):
                listener.accept()
        for listener in (udp, datagrams):
            with pytest.raises(BlockingIOError):
                listener.recv(1)


def test_processes_of_the_same_user_are_out_of_reach(mode: Mode) -> None:
    place, without = mode
    as_user = {} if place.user == os.getuid() else {"user": place.user, "group": place.user}
    with subprocess.Popen(["sleep", "60"], env={"KEY": "s3cret"}, **as_user) as other:  # type: ignore[call-overload]
        try:
            done = place.run(
                f"""
import signal
for name in ("environ", "mem", "maps", "auxv", "syscall"):
    said[name] = error(read, f"/proc/{other.pid}/{{name}}")
for name in ("root/", "cwd/"):
    said[name] = error(os.listdir, f"/proc/{other.pid}/{{name}}")
for number in (0, signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
    said[f"signal {{number}}"] = error(os.kill, {other.pid}, number)
said["descriptor"] = error(os.readlink, "/proc/{other.pid}/fd/0")
said["opened"] = error(read, "/proc/{other.pid}/fd/0")
said["pidfd"] = error(lambda: signal.pidfd_send_signal(os.pidfd_open({other.pid}), 9))
said["score"] = error(write, "/proc/{other.pid}/oom_score_adj")
""",
                without=without,
            )
            assert done.status == 0, done.stderr
            assert None not in done.value.values(), done.value
            assert other.poll() is None
        finally:
            other.kill()


def test_no_descriptor_of_its_starter_is_left(mode: Mode) -> None:
    place, without = mode
    done = place.run(
        """
said = {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if int(name) > 2
        and os.path.exists(f"/proc/self/fd/{name}")}
""",
        without=without,
    )
    assert done.value == {}


def test_what_is_hidden_in_a_writable_folder_cannot_be_moved_into_sight(place: Place) -> None:
    secret = place.own / "a" / "b" / "secret"
    secret.mkdir(parents=True)
    (secret / "key").write_text("s3cret")
    for folder in (place.own / "a", place.own / "a" / "b", secret, secret / "key"):
        os.chown(folder, place.user, place.user)
    done = place.run(
        """
said["written beside it"] = error(write, "a/b/mine")
said["renamed"] = [error(os.rename, path, "elsewhere") for path in ("a", "a/b", "a/b/secret")]
said["read"] = error(read, "a/b/secret/key")
""",
        hide=(str(secret),),
    )
    assert done.status == 0, done.stderr
    assert done.value.pop("written beside it") is None
    assert done.value == {"renamed": ["EBUSY", "EXDEV", "EXDEV"], "read": "ENOENT"}
    assert (secret / "key").read_text() == "s3cret"


def test_what_is_hidden_twice_in_a_writable_folder_is_hidden(place: Place) -> None:
    outer = place.own / "outer"
    inner = outer / "between" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "key").write_text("s3cret")
    done = place.run("said = os.listdir('outer')", hide=(str(outer), str(inner)))
    assert done.status == 0, done.stderr
    assert done.value == []


@pytest.mark.parametrize("kind", ["write", "read"])
def test_a_path_that_became_a_link_is_a_refusal(place: Place, kind: str) -> None:
    named = place.own / "named"
    named.symlink_to(place.path / "home")
    read = (str(named),) if kind == "read" else ()
    write = (str(place.own), str(named)) if kind == "write" else None
    done = place.run("write('started')", read=read, write=write)
    assert done.status == 78
    assert f"{named} became another place meanwhile: {place.path / 'home'}" in done.stderr
    assert not Path(place.own / "started").exists()


@pytest.fixture
def place(mode: Mode) -> Place:
    place, without = mode
    if without:
        pytest.skip("told of namespaces")
    return place
