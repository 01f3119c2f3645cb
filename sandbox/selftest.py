"""What really protects: code in a box tries what it must not be able to, and what it could do is told.

Nothing is believed because it was configured. A canary file, a listener on the loopback and one on an abstract Unix
socket are set up outside, and both sides are asked afterwards.
"""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from .errors import TierError
from .execution import Execution, Job, Status
from .isolation import Isolation, Layer, Tier
from .limits import Limits

Run = Callable[[Job], Awaitable[Execution]]
"""Runs a job in a box of its own."""

MEMORY = 96 << 20
PROCESSES = 8

_SCRIPT = """
import ctypes, errno, os, socket, threading
told = {}
def attempt(name, act):
    try:
        told[name] = act() or "done"
    except OSError as error:
        told[name] = errno.errorcode.get(error.errno, str(error.errno))
    except BaseException as error:
        told[name] = type(error).__name__
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as line:
        line.settimeout(2)
        line.connect(address)
        line.sendall(TOKEN)
def write(path):
    with open(path, "w"):
        pass
    os.unlink(path)
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)
def many():
    held = []
    try:
        for _ in range(COUNT):
            child = os.fork()
            if child == 0:
                while True:
                    os.read(0, 1) or os._exit(0)
            held.append(child)
    finally:
        for child in held:
            os.kill(child, 9)
            os.waitpid(child, 0)
def files():
    held = []
    try:
        for _ in range(COUNT + 300):
            held.append(os.dup(0))
    finally:
        for one in held:
            os.close(one)
attempt("canary", lambda: open(CANARY).read(1))
attempt("shadow", lambda: open("/etc/shadow").read(1))
attempt("write", lambda: write("/usr/toolscore-canary"))
attempt("write_etc", lambda: write("/etc/toolscore-canary"))
attempt("ours", lambda: os.listdir("/opt/toolscore") and "done")
attempt("signal", lambda: os.kill(SERVER, 0))
attempt("tcp", lambda: connect(socket.AF_INET, ("127.0.0.1", PORT)))
attempt("unix", lambda: connect(socket.AF_UNIX, ABSTRACT))
attempt("unshare", lambda: call("unshare", 0x10000000))
attempt("mount", lambda: call("mount", b"tmpfs", b"/tmp", b"tmpfs", 0, None))
def held():
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget((ctypes.c_uint32 * 2)(0x20080522, 0), sets) == -1:
        raise OSError(ctypes.get_errno(), "capget")
    return "some" if any(sets) else "none"
attempt("capabilities", held)
attempt("mode", lambda: os.chmod(CANARY, 0o666))
attempt("times", lambda: os.utime(CANARY))
attempt("bounding", lambda: libc.prctl(23, 21, 0, 0, 0) and "kept")
attempt("filter", lambda: str(libc.prctl(21, 0, 0, 0, 0)))
attempt("privileges", lambda: str(libc.prctl(39, 0, 0, 0, 0)))
attempt("parent", lambda: str(os.getppid()))
attempt("host", lambda: os.uname().nodename)
attempt("memory", lambda: bytearray(MEMORY * 4) and "done")
attempt("files", files)
attempt("processes", many)
told
"""


async def examine(run: Run, tier: Tier, limits: Limits, memory: str, problem: str, state: Path) -> Isolation:
    """Look in a box what holds there.

    Args:
        run: Runs a job in a box of its own.
        tier: What was asked for.
        limits: The operator's limits.
        memory: What holds the memory of a whole box, in words.
        problem: Why a stronger tier could not be had; empty where none was tried.
        state: A folder for the canary.

    Raises:
        BoxError: If no box can be made.
        TierError: If no code runs in one.
    """
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.NamedTemporaryFile(dir=state, prefix="canary-"))
        file.write(b"canary")
        file.flush()
        os.chmod(file.name, 0o644)  # noqa: PTH101 -- anybody's to read, so that only a layer hides it
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        name = f"\0toolscore-{secrets.token_hex(8)}"
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        abstract.bind(name)
        abstract.listen()
        values = {
            "CANARY": file.name,
            "SERVER": os.getpid(),
            "PORT": tcp.getsockname()[1],
            "ABSTRACT": name,
            "TOKEN": b"canary",
            "MEMORY": MEMORY,
            "COUNT": PROCESSES + 8,
        }
        code = "".join(f"{key} = {value!r}\n" for key, value in values.items()) + _SCRIPT
        lowered = replace(
            limits,
            wall=20.0,
            cpu=20.0,
            memory=min(MEMORY, limits.memory),
            processes=min(PROCESSES, limits.processes),
        )
        done = await run(Job(code, lowered))
        if done.status is not Status.OK or not isinstance(done.value, dict):
            why = done.error.message if done.error else done.message
            raise TierError(f"the self-test did not run: {done.status}: {why}")
        reached = {"tcp": _reached(tcp), "unix": _reached(abstract)}
        if memory.startswith("cgroup") and done.usage.peak_source != "cgroup":
            memory = "each process by its own limit: the control group does not hold what runs in a box"
        return judge(done.value, reached, tier, memory, problem)


def judge(told: dict[str, Any], reached: dict[str, bool], tier: Tier, memory: str, problem: str) -> Isolation:
    """Tell from what was tried what protects.

    Args:
        told: What the code in the box could do, by the name of the attempt: `done`, or the name of an error.
        reached: Which listeners outside were reached.
        tier: What was asked for.
        memory: What holds the memory of a whole box, in words.
        problem: Why a stronger tier could not be had.
    """
    full = tier is Tier.FULL

    def refused(*names: str) -> bool:
        return all(told.get(name) not in (None, "done") for name in names)

    def layer(name: str, active: bool, detail: str, otherwise: str) -> Layer:
        return Layer(name, active, detail if active else otherwise)

    missing = problem or "it was not asked for"
    apart = full and told.get("parent") == "1" and told.get("host") == "box" and refused("signal")
    rooted = full and told.get("canary") == "ENOENT" and refused("write", "write_etc", "shadow")
    walled = (
        refused("ours", "write")
        if full
        else told.get("canary") == "EACCES" and refused("shadow", "write", "mode", "times")
    )
    filtered = told.get("filter") == "2" and refused("unshare", "mount", "tcp", "unix")
    alone = refused("tcp", "unix") and not any(reached.values())
    bare = told.get("capabilities") == "none" and told.get("privileges") == "1"
    bare = bare and (not full or told.get("bounding") == "done")
    few = refused("processes")
    held = told.get("memory") == "MemoryError"
    layers = (
        layer("namespaces", apart, "user, mount, pid, network, IPC and host name", missing),
        layer("root", rooted, "a root of its own, read-only", missing),
        layer("landlock", walled, "", "it confines nothing here"),
        layer("seccomp", filtered, "a list of allowed system calls", "it filters nothing here"),
        layer("capabilities", bare, "none, and none can be gained", "some were left"),
        layer("limits", held and refused("files"), "", "they do not hold"),
        layer("memory", held, memory, "more than the limit could be had"),
        layer(
            "processes", few, "" if full else "none can be started", "more than the limit could be started"
        ),
        layer("network", alone, "none", "a listener on this machine was reached"),
    )
    limited = held and refused("files")
    if bare and apart and rooted and filtered and alone and limited and few:
        found = Tier.FULL
    elif bare and alone and limited and ((apart and rooted) or (walled and filtered)):
        found = Tier.REDUCED
    else:
        found = Tier.LIMITS if limited else Tier.NONE
    return Isolation(found, layers)


def _reached(listener: socket.socket) -> bool:
    """Tell whether anybody connected."""
    listener.setblocking(False)
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True
