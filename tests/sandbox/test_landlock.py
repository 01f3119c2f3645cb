"""Landlock: which files are reached under it, and that nothing less than asked for passes as success."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toolscore.sandbox import landlock
from toolscore.sandbox.errors import LayerError

if sys.platform != "linux":
    pytest.skip("Landlock is Linux's", allow_module_level=True)

from under_layer import Ended, under

try:
    ABI = landlock.prepare()
except LayerError as problem:
    pytest.skip(str(problem), allow_module_level=True)

SYSTEM = [path for path in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache") if Path(path).exists()]
PYTHON = [os.path.realpath(sys.base_prefix), sys.prefix]


def confine(*readable: object, writable: object = (), **named: Any) -> str:
    """The statement that confines to these, the system's and Python's own files."""
    extra = "".join(f", {name}={value!r}" for name, value in named.items())
    paths = [*SYSTEM, *PYTHON, *map(str, readable)]
    return f"detail = landlock.restrict({paths!r}, {writable!r}, ['/dev/null']{extra})"


def say(layer: str, code: str, before: str = "") -> Any:
    ended = under(layer, code, before)
    assert ended.status == 0, ended.stderr
    return ended.said


def test_only_what_was_named_can_be_read(tmp_path: Path) -> None:
    for name in ("shown", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    code = f"""
said = [open({str(tmp_path / "shown" / "file")!r}).read(), os.listdir({str(tmp_path / "shown")!r})]
said += [error(open, {str(tmp_path / "hidden" / "file")!r}), error(os.listdir, {str(tmp_path / "hidden")!r})]
said += [error(os.listdir, "/"), error(open, "/etc/hostname"), error(open, "/proc/self/environ")]
said += [error(open, {str(tmp_path / "shown" / "file")!r}, "w"), error(os.remove, {str(tmp_path / "shown")!r})]
"""
    assert say(confine(tmp_path / "shown"), code) == ["shown", ["file"]] + ["EACCES"] * 7
    assert (tmp_path / "shown" / "file").read_text() == "shown"


def test_what_is_writable_can_be_changed_in_every_ordinary_way(tmp_path: Path) -> None:
    code = f"""
os.chdir({str(tmp_path)!r})
os.mkdir("folder"); open("folder/a", "w").write("text"); os.rename("folder/a", "b"); os.link("b", "c")
os.symlink("b", "d"); os.truncate("b", 2); os.remove("d"); os.mkfifo("e"); os.rmdir("folder")
open("/dev/null", "w").write("x")
said = [sorted(os.listdir(".")), open("c").read(), error(os.mknod, "device", 0o20644, os.makedev(1, 3))]
said.append(error(os.rename, "b", "/usr/b"))
"""
    assert say(confine(writable=[str(tmp_path)]), code) == [["b", "c", "e"], "te", "EACCES", "EACCES"]


def test_a_file_alone_can_be_named(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    code = f"open({str(other)!r}, 'w').write('3'); said = [open({str(one)!r}).read(), error(open, {str(one)!r}, 'w')]"
    assert say(confine(one, writable=[str(other)]), code) == ["1", "EACCES"]
    assert other.read_text() == "3"


def test_programs_run_only_where_that_is_wanted() -> None:
    code = "said = [error(os.posix_spawn, '/usr/bin/true', ['true'], {}), error(open, '/usr/bin/true')]"
    assert say(confine(), code) == [None, None]
    assert say(confine(execute=False), code) == ["EACCES", None]


def test_children_are_confined_as_well() -> None:
    code = "said = subprocess.run(['/bin/sh', '-c', 'cat /etc/hostname'], stderr=-3).returncode"
    assert say(confine(), code) == 1


def test_the_network_is_closed_unless_it_is_wanted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        code = f"""
said = [error(socket.create_connection, {address!r}, 5), error(socket.create_server, ("127.0.0.1", 0))]
"""
        assert say(confine(network=True), code) == [None, None]
        if ABI >= 4:
            assert say(confine(), code) == ["EACCES", "EACCES"]


@pytest.mark.skipif(ABI < 6, reason="scopes came with ABI 6")
def test_signals_and_abstract_sockets_outside_are_out_of_reach() -> None:
    name = f"\0toolscore-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener, subprocess.Popen(["/bin/cat"], stdin=-1) as victim:
        listener.bind(name)
        listener.listen()
        code = f"""
ours = socket.socket(socket.AF_UNIX)
said = [error(ours.connect, {name!r}), error(os.kill, {victim.pid}, 15), error(os.kill, os.getpid(), 0)]
"""
        said = say(confine(network=True), code)
        assert victim.poll() is None
        assert victim.stdin is not None
        victim.stdin.close()
    assert said == ["EPERM", "EPERM", None]


def test_it_tells_what_is_confined() -> None:
    detail = say(confine(), "said = detail")
    assert detail.startswith(f"ABI {ABI}: files")
    assert ("TCP" in detail) == (ABI >= 4)
    assert ("signals" in detail) == (ABI >= 6)
    assert "TCP" not in say(confine(network=True), "said = detail")


def refused(ended: Ended) -> str:
    assert ended.status == 1
    return ended.stderr.strip().splitlines()[-1]


def test_a_path_that_is_missing_is_an_error_unless_it_is_optional(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert "LayerError" in refused(under(confine(missing), "said = 1"))
    assert say(confine(missing, optional=True), "said = 1") == 1


@pytest.mark.parametrize(
    ("code", "words"), [("38", "ENOSYS: this kernel has none"), ("95", "EOPNOTSUPP: switched off at boot")]
)
def test_a_kernel_without_it_is_told_with_the_reason(code: str, words: str) -> None:
    before = f"""
from seccompy import Filter
rules = Filter()
rules.errno("landlock_create_ruleset", {code})
rules.load()
"""
    assert words in refused(under("landlock.prepare()", "said = 1", before))


def test_a_kernel_that_refuses_to_enforce_is_no_success() -> None:
    before = """
from seccompy import Filter
rules = Filter()
rules.errno("landlock_restrict_self", 7)
rules.load()
"""
    assert "LayerError" in refused(under(confine(), "said = 1", before))


def test_what_a_payload_does_with_mere_numbers_confines_as_the_library_does(tmp_path: Path) -> None:
    for name in ("shown", "hidden", "changed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    folders = [path for path in SYSTEM if Path(path).is_dir()] + [*PYTHON, str(tmp_path / "shown")]
    layer = f"""
from toolscore.sandbox import linux
n = landlock.numbers()
rules = [(path, n["read"]) for path in {folders!r}] + [({str(tmp_path / "changed")!r}, n["change"])]
rules += [("/dev/null", n["device"] & n["file"])]
linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
linux.restrict_files(tuple(n["handled"]), rules, n["flags"])
"""
    code = f"""
os.chdir({str(tmp_path)!r})
open("/dev/null", "w").write("x"); open("changed/new", "w").write("x"); os.mkfifo("changed/fifo")
said = [open("shown/file").read(), sorted(os.listdir("changed"))]
said += [error(open, "shown/file", "w"), error(open, "hidden/file"), error(os.listdir, "."), error(os.listdir, "/")]
said += [error(os.mknod, "changed/device", 0o20644, os.makedev(1, 3)), error(os.rename, "changed/new", "shown/new")]
said.append(error(socket.create_server, ("127.0.0.1", 0)))
"""
    network = "EACCES" if ABI >= 4 else None
    assert say(layer, code) == ["shown", ["fifo", "file", "new"], *["EACCES"] * 6, network]


def test_a_right_that_the_kernel_does_not_know_is_refused_rather_than_dropped() -> None:
    layer = "from toolscore.sandbox import linux; linux.prctl(38, 1); linux.restrict_files((1 << 60, 0, 0), [], 0)"
    assert "landlock_create_ruleset" in refused(under(layer, "said = 1"))
