"""Confining a whole server: a program that gives up what its profile does not name, and becomes the server.

    python -I -S -c "... main()" PROFILE -- COMMAND ARGS...

The server is this very process afterwards: same id, same streams, same environment, same working directory.
The first line on standard error tells which layers hold. What cannot be had ends it with status 78 (EX_CONFIG of
sysexits.h) and the reason, before any code of the server has run.

With namespaces the server sees the file system read-only, with empty folders over what is hidden, and without a
network. Where none can be made, Landlock and seccomp carry all of it, or the server does not start.

References: user_namespaces(7), mount_namespaces(7), mount_setattr(2), landlock(7), seccomp(2), capabilities(7),
netdevice(7).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from . import landlock, linux, seccomp
from .errors import LayerError
from .overlay import Overlay

REPORT = "toolscore-confine: "
"""How the line on standard error begins that this program writes."""

REFUSED = 78
"""Status where the confinement cannot be had."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
"""The only device files there are."""

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


class Confined:
    """One confinement, put on layer by layer.

    Args:
        profile: `write`, `read` and `hide`, lists of absolute paths without links; `network`, whether there is one;
            `settings`, environment variables to be set; and `private`, environment variables by the temporary folders
            they are to lead to.

    Attributes:
        layers: What became of each layer, in words.
        environment: What the server's environment has to differ in.
    """

    def __init__(self, profile: Mapping[str, Any]) -> None:
        self._network = bool(profile["network"])
        self._private: Mapping[str, str] = profile.get("private", {})
        self._places = Overlay(profile["write"], profile["read"], profile["hide"], DEVICES)
        self.layers: dict[str, str] = {}
        self.environment: dict[str, str] = dict(profile.get("settings", {}))

    def put_on(self) -> None:
        """Put all layers on.

        Raises:
            LayerError: If what the profile asks for cannot be had.
        """
        here = os.getcwd()  # noqa: PTH109 - pathlib takes longer to load
        self._places.check()
        missing = _load()
        alone = not self._namespaces()
        if not alone:
            try:
                self._places.mount()
                os.chdir(here)  # by its path: the folder of that name may be another one by now
            except OSError as error:
                raise LayerError(f"its file system cannot be made: {error.strerror}") from None
        self._landlock(alone)
        self._privileges()
        self._seccomp(missing, alone)
        if temporary := self.environment.get("TMPDIR") if alone else next(iter(self._places.scratch), None):
            self.environment |= {
                name: f"{temporary}/{folder}".rstrip("/") for name, folder in self._private.items()
            }

    def _namespaces(self) -> bool:
        """Make namespaces with a mount tree of our own; tell whether that was possible."""
        spaces = linux.CLONE_NEWNS | linux.CLONE_NEWIPC | (0 if self._network else linux.CLONE_NEWNET)
        uid, gid = os.getuid(), os.getgid()
        try:
            try:
                linux.unshare(linux.CLONE_NEWUSER | spaces)
            except OSError:
                if uid:
                    raise
                linux.unshare(spaces)  # root needs no user namespace to make the others
            else:
                # Whoever it is outside it stays inside: a server that looks after its own files finds them its own.
                for name, text in (
                    ("setgroups", "deny"),
                    ("uid_map", f"{uid} {uid} 1"),
                    ("gid_map", f"{gid} {gid} 1"),
                ):
                    with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - pathlib takes longer to load
                        file.write(text)
            self._places.own_tree()
        except OSError as error:
            # A policy may also let namespaces be made and take their powers away (AppArmor on Ubuntu 24.04).
            self.layers["namespaces"] = f"unavailable ({error.strerror})"
            return False
        if not self._network:
            _bring_up_loopback()
        self.layers["namespaces"] = f"active (file system, IPC{'' if self._network else ', network'})"
        return True

    def _privileges(self) -> None:
        try:
            linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
            linux.drop_capabilities()
        except OSError:
            # The bounding set is not its to change; without new privileges no program gives any of it.
            try:
                linux.clear_capabilities()
            except OSError as error:
                raise LayerError(f"its privileges cannot be given up: {error}") from None
        self.layers["privileges"] = "active (no capabilities, no_new_privs)"

    def _landlock(self, alone: bool) -> None:
        try:
            abi = landlock.prepare()
            if alone and abi < landlock.TRUNCATE:  # else Landlock alone is no read-only file system
                raise LayerError(f"ABI {abi} cannot keep files from being truncated: needs Linux 6.2")
            readable = self._places.around() if alone else ["/"]
            writable = self._places.write + ([] if alone else self._places.scratch)
            held = landlock.restrict(
                readable, writable, DEVICES, network=self._network or not alone, optional=True
            )
        except LayerError as error:
            self.layers["landlock"] = f"unavailable ({error})"
            if alone:
                raise LayerError(
                    f"there are neither namespaces ({self.layers['namespaces']}) nor Landlock ({error})"
                ) from None
        else:
            self.layers["landlock"] = f"active ({held})"
        if alone and self._places.write:
            # The common /tmp cannot be written, and what others have there is hidden.
            folder = f"{self._places.write[0]}/.tmp"
            with suppress(OSError):
                os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
                self.environment["TMPDIR"] = folder

    def _seccomp(self, missing: LayerError | None, alone: bool) -> None:
        try:
            if missing is not None:
                raise missing
            if alone:
                # Landlock does not keep from connecting to sockets in the file system, such as a container engine's.
                seccomp.load(_without_unix_sockets())
            network = self._network or not alone
            seccomp.load(seccomp.program("confined", network=network))
            self.layers["seccomp"] = f"active ({seccomp.describe('confined', network=network)})"
        except LayerError as error:
            self.layers["seccomp"] = f"unavailable ({error})"
            if alone:
                raise LayerError(
                    f"there are neither namespaces ({self.layers['namespaces']}) nor seccomp ({error})"
                ) from None


def _load() -> LayerError | None:
    """Load the libraries while their files can be seen; say why filters are missing."""
    with suppress(LayerError):
        landlock.prepare()
    try:
        seccomp.program("confined")
    except LayerError as error:
        return error
    return None


def _bring_up_loopback() -> None:
    """Start `lo` of the new network, so that a server reaches what it starts; without, it has no network at all."""
    import fcntl
    import socket
    import struct

    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _without_unix_sockets() -> bytes:
    from seccompy import Action, CmpOp, Filter

    rules = Filter(Action.ALLOW)
    rules.errno(
        "socket", 1, args=[(0, CmpOp.MASKED_EQ, 1, 0xFFFFFFFF)]
    )  # EPERM for AF_UNIX; pairs are no way out
    return rules.program


def _environment() -> dict[bytes, bytes]:
    """Give the environment this process was started with: Python may have changed the locale's variables since."""
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123
        pairs = (pair.partition(b"=") for pair in file.read().split(b"\0") if pair)
        return {name: value for name, _, value in pairs}


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"{REPORT}it was not started, since it cannot be confined: {reason}.\n")
    sys.stderr.flush()
    os._exit(REFUSED)


def main(arguments: list[str]) -> NoReturn:
    """Do it. Arguments: the profile as JSON, `--`, the program's path, and its arguments."""
    import signal

    profile, separator, *command = arguments
    if separator != "--" or not command:
        _refuse("the command line of its confinement is wrong")
    linux.close_range(3)
    confined = Confined(json.loads(profile))
    try:
        environment = _environment()
        confined.put_on()
    except (LayerError, OSError) as error:
        _refuse(str(error).rstrip("."))
    environment |= {name.encode(): os.fsencode(value) for name, value in confined.environment.items()}
    # Python ignores both, and what is ignored stays so across exec.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    sys.stderr.write(f"{REPORT}{json.dumps({'layers': confined.layers})}\n")
    sys.stderr.flush()
    try:
        os.execve(command[0], command, environment)  # noqa: S606
    except FileNotFoundError:
        _refuse(
            f"{command[0]}, or the interpreter it names, is in a place that is hidden from it: "
            "name its folder in `read`"
        )
    except OSError as error:
        _refuse(f"{command[0]} cannot be started: {error.strerror}")
