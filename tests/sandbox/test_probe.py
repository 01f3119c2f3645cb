"""The probe: what the kernel offers, found by trying, and that trying leaves this process as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from machine import until
from toolscore.sandbox import probe as module
from toolscore.sandbox.probe import Layer, probe

linux = pytest.mark.skipif(sys.platform != "linux", reason="these layers are Linux's")

NAMES = ["user-namespaces", "landlock", "seccomp", "cgroups", "no-new-privs", "rlimits"]


def under(preparation: str) -> dict[str, Layer]:
    """Probe in a process that prepared itself first; skip where the preparation itself is not possible."""
    program = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
try:
{preparation}
except (OSError, AssertionError) as error:
    print(error); sys.exit(77)
os.execv(sys.executable, [sys.executable, "-I", "-S", {module.__file__!r}])
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(f"this machine does not allow the preparation: {done.stdout}")
    assert done.returncode == 0, done.stderr
    return {entry["name"]: Layer(**entry) for entry in json.loads(done.stdout)}


def test_every_layer_is_answered_for_in_a_fixed_order() -> None:
    layers = probe()
    assert [layer.name for layer in layers] == NAMES
    assert all(layer.found for layer in layers)
    assert not any(layer.advice for layer in layers if layer.offered)


@linux
def test_no_new_privileges_and_limits_are_there_on_every_linux() -> None:
    layers = {layer.name: layer for layer in probe()}
    assert layers["no-new-privs"].offered
    assert layers["rlimits"] == Layer("rlimits", True, "memory and open files can be limited")


@linux
def test_trying_changes_nothing_in_this_process() -> None:
    def state() -> tuple[str, ...]:
        status = Path("/proc/self/status").read_text().splitlines()
        kept = [line for line in status if line.startswith(("NoNewPrivs", "Seccomp", "Uid"))]
        return (*kept, os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/mnt"))

    before = state()
    probe()
    assert state() == before


@linux
def test_no_group_stays_behind() -> None:
    probe()
    folders = [folder for _, folder in module.own_groups() if folder.is_dir()]
    # Somebody else may be trying just now, and has one for a moment.
    until(lambda: not [entry for folder in folders for entry in folder.glob("toolscore-probe-*")])


@linux
def test_a_kernel_without_landlock_is_told_with_what_would_help() -> None:
    layers = under("""
    short, byte = ctypes.c_ushort, ctypes.c_ubyte
    class F(ctypes.Structure):
        _fields_ = [("c", short), ("t", byte), ("f", byte), ("k", ctypes.c_uint32)]
    class P(ctypes.Structure):
        _fields_ = [("n", ctypes.c_ushort), ("f", ctypes.POINTER(F))]
    code = (F * 4)(F(0x20, 0, 0, 0), F(0x15, 0, 1, 444), F(6, 0, 0, 0x50000 | 38), F(6, 0, 0, 0x7FFF0000))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(P(4, code)), 0, 0) == 0, "no seccomp"
""")
    assert not layers["landlock"].offered
    assert "ENOSYS" in layers["landlock"].found
    assert "5.13" in layers["landlock"].advice
    assert layers["seccomp"].offered


@linux
def test_user_namespaces_switched_off_are_told_with_the_switch() -> None:
    layers = under("""
    uid, gid = os.getuid(), os.getgid()
    assert libc.unshare(0x10000000) == 0, "no user namespaces"
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        open(f"/proc/self/{name}", "w").write(text)
    with open("/proc/sys/user/max_user_namespaces", "w") as switch:
        switch.write("0")
""")
    assert not layers["user-namespaces"].offered
    assert "unshare" in layers["user-namespaces"].found
    assert layers["user-namespaces"].advice == "sysctl user.max_user_namespaces=10000"


def test_an_interpreter_that_does_not_start_counts_as_nothing_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    monkeypatch.setattr(sys, "platform", "linux")
    assert [(layer.name, layer.offered) for layer in probe()] == [(name, False) for name in NAMES]


def test_it_imports_nothing_of_ours() -> None:
    program = (
        "import sys; import toolscore.sandbox.probe;"
        "print(sorted(m for m in sys.modules if m.startswith('toolscore')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(["toolscore", "toolscore.sandbox", "toolscore.sandbox.probe"])
