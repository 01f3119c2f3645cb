"""The first program of a zygote: makes its namespaces and its root, then becomes a fresh interpreter in there.

Run as `python -I -S boot.py N`, with an empty environment and the control socket as descriptor N, whose first message
says what to make. It is a program of its own, so that nothing it read of the host stays in the memory that code in
a box could look at, and so that the interpreter in the box knows no path but those of the box.

References: user_namespaces(7), pid_namespaces(7), prctl(2) PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # zygotes import this module, and their memory is that of every idle box
if TYPE_CHECKING:
    from typing import Any

CONTROL = 3
PROC = 4
"""The host's `/proc`, for the id maps of the boxes: there is none in their root. Closed before any code runs."""
ORDER = 5
"""A pipe with what the zygote is told: not among its arguments, which code in a box could read."""

_SIGKILL = 9


def main() -> None:
    """Do it; what fails is told on the control socket."""
    import json
    import socket

    os.dup2(int(sys.argv[1]), CONTROL)
    control = socket.socket(fileno=CONTROL)
    order = json.loads(control.recv(1 << 16))
    sys.path[:0] = order["paths"]
    try:
        order |= _apart(order)
        if order["tier"] == "full":
            _enter(order)
        else:
            _stay(order)
    except Exception as error:  # whatever it is, the server must hear of it
        control.send(json.dumps({"failed": f"{error}"}).encode())
        os._exit(1)


def _enter(order: dict[str, Any]) -> None:
    from toolscore.sandbox import linux, root

    linux.prepare()
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    os.dup2(proc, PROC)
    spaces = linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWNET
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        # The root is built with the rights of the host's root, so that an interpreter below /root can be shown;
        # then those rights are gone for good.
        linux.unshare(spaces)
        root.build(order["place"], order["binds"], order["hidden"])
        uid = gid = order["uid"]
        # One right is kept until the namespaces are there: where AppArmor lets nobody else have user namespaces.
        linux.prctl(linux.PR_SET_KEEPCAPS, 1)
        linux.become(uid)
        linux.keep_capability(linux.CAP_SYS_ADMIN)
        linux.unshare(linux.CLONE_NEWUSER | spaces)
        map_ids(PROC, 0, uid, gid)
    else:
        linux.unshare(linux.CLONE_NEWUSER | spaces)
        map_ids(PROC, 0, uid, gid)
        root.build(order["place"], order["binds"], order["hidden"])
    linux.unshare(linux.CLONE_NEWPID)
    child = os.fork()
    if child:
        _wait(child)
    linux.prctl(linux.PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != 0:  # the parent is outside the pid namespace, where it shows as 0
        os._exit(1)
    _exec(order, [root.OURS])


def _stay(order: dict[str, Any]) -> None:
    """Without namespaces there is nowhere to go."""
    from toolscore.sandbox import linux

    os.dup2(os.open("/proc", os.O_PATH | os.O_DIRECTORY), PROC)
    linux.prctl(linux.PR_SET_PDEATHSIG, _SIGKILL)
    _exec(order, order["paths"])


def _exec(order: dict[str, Any], paths: list[str]) -> None:
    import json

    from toolscore.sandbox import linux

    names = ("tier", "preload", "skip", "site", "place", "limits", "layers", "landlock", "filter")
    told = {key: order[key] for key in names} | {"paths": paths, "uid": 0}
    if order["tier"] == "full":
        del told["place"]  # a path of the host, which nobody in there needs
    else:
        told["uid"] = order["uid"]
    linux.close_range(ORDER)
    reader, writer = os.pipe()
    if reader != ORDER:
        os.dup2(reader, ORDER)
    os.write(writer, json.dumps(told).encode())  # a pipe holds 64 KiB
    os.close(writer)
    for descriptor in (CONTROL, PROC, ORDER):
        os.set_inheritable(descriptor, True)
    program = f"import sys; sys.path[:0] = {paths!r}; from toolscore.sandbox.zygote import main; main()"
    # glibc reserves address space for every thread's own arena, which counts against the limit: see mallopt(3).
    environment = {"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1", "PATH": "/usr/local/bin:/usr/bin:/bin"}
    environment |= order["environment"]
    os.execve(order["python"], [order["python"], "-I", "-S", "-c", program], environment)  # noqa: S606


def _apart(order: dict[str, Any]) -> dict[str, Any]:
    """Have `_layers` answered by another process: what that loads would stay in memory here, or in every box."""
    import json

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answered = _layers(order)
        except Exception as error:
            answered = {"failed": f"{type(error).__name__}: {error}"}
        os.write(writer, json.dumps(answered).encode())  # a pipe holds 64 KiB
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        told: dict[str, Any] = json.loads(answer.read() or b'{"failed": "it was ended while it was made"}')
    os.waitpid(child, 0)
    if "failed" in told:
        raise OSError(told["failed"])
    return told


def _layers(order: dict[str, Any]) -> dict[str, Any]:
    """Have the libraries of the kernel's layers say what is to be asked of it."""
    from toolscore.sandbox import landlock, payload, seccomp
    from toolscore.sandbox.errors import LayerError

    layers = dict.fromkeys([name for name in ("landlock", "seccomp") if name in order["skip"]], "left out")
    rights = program = None
    if "landlock" not in layers:
        try:
            if order["tier"] != "full" and (abi := landlock.prepare()) < landlock.TRUNCATE:
                raise LayerError(
                    f"ABI {abi} lets files be emptied that can only be read; Linux 6.2 has ABI 3"
                )
            rights = landlock.numbers()
        except LayerError as error:
            layers["landlock"] = str(error)
    if "seccomp" not in layers:
        try:
            if order["tier"] == "full":
                program = seccomp.program(seccomp.Profile.FULL).hex()
            else:
                program = seccomp.program(seccomp.Profile.REDUCED, pid=payload.NOBODY).hex()
        except LayerError as error:
            layers["seccomp"] = str(error)
    return {"layers": layers, "landlock": rights, "filter": program}


def _wait(child: int) -> None:
    """Be nothing but the parent: when it is killed, so is the zygote."""
    from toolscore.sandbox import linux

    linux.close_range(0)
    linux.prctl(linux.PR_SET_PDEATHSIG, _SIGKILL)
    while True:
        try:
            os.waitpid(child, 0)
        except ChildProcessError:
            os._exit(0)
        except InterruptedError:
            continue


def map_ids(proc: int, inside: int, uid: int, gid: int) -> None:
    """Give the calling process's new user namespace its one user and group."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside} {uid} 1"),
        ("gid_map", f"{inside} {gid} 1"),
    ):
        descriptor = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    main()
