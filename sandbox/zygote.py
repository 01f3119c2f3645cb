"""The process all boxes are forked from: an interpreter inside the boxes' root, with what they need imported.

Descriptor 3 is the control socket to the server (SEQPACKET). The server sends a number and the box's end of its line;
the answer is the number and a pidfd of the box. When the server is gone, the socket ends, and with this process
(pid 1 of its pid namespace) the kernel ends every box.

References: pid_namespaces(7), pidfd_open(2), unix(7) SCM_RIGHTS.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET, socket

from . import init, interpreter, linux, payload
from .boot import CONTROL, ORDER, PROC

TYPE_CHECKING = False  # what is imported here is in the memory of every idle box
if TYPE_CHECKING:
    from typing import Any


def main() -> None:
    """Fork boxes until the server is gone."""
    control = socket(fileno=CONTROL)
    try:
        with open(ORDER, "rb") as order:
            told = json.load(order)
        box = _prepare(told)
    except Exception as error:
        failed = {"failed": f"{type(error).__name__}: {error}", "preload": isinstance(error, ImportError)}
        control.send(json.dumps(failed).encode())
        os._exit(1)
    control.send(json.dumps({"ready": os.getpid(), "layers": box.layers}).encode())
    Zygote(control, box, full=told["tier"] == "full").run()


def _prepare(told: dict[str, Any]) -> payload.Profile:
    """Do once what every box would have to do otherwise."""
    linux.prepare()
    payload.set_environment()
    if told["uid"]:
        _become(told["uid"], told["site"])
    if told["site"]:
        sys.path.append(told["site"])
        os.environ["PYTHONPATH"] = told["site"]  # for interpreters that code starts
    if told["preload"]:
        _preload(told)
    profile = payload.Profile(told, _address_space())
    profile.worker.prepare()
    # All of ours is loaded. Its folder may be one of many packages that are none of the code's.
    interpreter.forget_ours()
    _leave(told["paths"])
    gc.collect()
    gc.freeze()
    return profile


def _become(uid: int, site: str | None) -> None:
    """Be nobody, where the server is root and there is no user namespace to be one in.

    Raises:
        PermissionError: If nobody but root can read the interpreter's library, or the packages.
    """
    linux.become(uid)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user has taken it back
    for folder in (os.path.dirname(os.__file__), site):
        try:
            os.listdir(folder or "/")
        except PermissionError:
            raise PermissionError(
                f"only root can read {folder}, and boxes without user namespaces have a user of their own: run "
                "ToolScore as an ordinary user, or with a Python and a home that every user can read"
            ) from None


def _preload(told: dict[str, Any]) -> None:
    """Import what code shall find loaded, with the environment that code has: libraries keep what they read of it."""
    full = told["tier"] == "full"
    if full:
        # Libraries that want to write something find the same place as in a box, which mounts its own over it.
        linux.mount("tmpfs", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=64m,nr_inodes=4096")  # noqa: S108
    else:
        os.environ.update(
            HOME=told["place"], TMPDIR=told["place"], MPLCONFIGDIR=f"{told['place']}/.matplotlib"
        )
    payload.show_fonts(payload.fonts(told["site"]))
    paths = sys.path[:]
    _leave(told["paths"])
    for name in told["preload"]:
        try:
            __import__(name)
        except BaseException as error:
            raise ImportError(
                f"{name} cannot be preloaded: {type(error).__name__}: {error}; correct the setting sandbox.preload"
            ) from error
        if (threads := _threads()) > 1:
            # They would be missing in every box, with whatever they hold locked for good (fork(2)).
            raise ImportError(
                f"{name} cannot be preloaded: it started threads ({threads - 1}); take it out of sandbox.preload"
            )
    sys.path[:] = paths
    if full:
        linux.umount("/tmp", linux.MNT_DETACH)  # noqa: S108


def _leave(paths: list[str]) -> None:
    sys.path[:] = [path for path in sys.path if path not in paths]


def _threads() -> int:
    """Count the threads of this process."""
    descriptor = os.open("self/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=PROC)
    try:
        return len(os.listdir(descriptor))
    finally:
        os.close(descriptor)


def _address_space() -> int:
    """Give the bytes of address space this process has: a box starts with as many."""
    descriptor = os.open("self/statm", os.O_RDONLY, dir_fd=PROC)
    try:
        return int(os.read(descriptor, 100).split()[0]) * os.sysconf("SC_PAGE_SIZE")
    finally:
        os.close(descriptor)


class Zygote:
    """The loop.

    Args:
        control: The socket to the server.
        profile: What confines a payload.
        full: Whether boxes get namespaces.
    """

    def __init__(self, control: socket, profile: payload.Profile, *, full: bool) -> None:
        self._control = control
        self._profile = profile
        self._full = full
        self._pids = os.open("self/ns/pid", os.O_RDONLY, dir_fd=PROC) if full else -1

    def run(self) -> None:
        """Serve until the server is gone."""
        woken, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == woken:
                    os.read(woken, 4096)
                    self._reap()
                elif not self._serve():
                    os._exit(0)

    def _reap(self) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return

    def _serve(self) -> bool:
        message, passed, _, _ = self._control.recvmsg(4096, CMSG_SPACE(4))
        if not message:
            return False
        number = int(message)
        line = int.from_bytes(passed[0][2][:4], sys.byteorder)
        try:
            pid = self._fork(line)
        except OSError as error:
            os.close(line)
            self._control.send(json.dumps({"box": number, "failed": str(error)}).encode())
            return True
        os.close(line)
        handle = os.pidfd_open(pid)
        rights = (SOL_SOCKET, SCM_RIGHTS, handle.to_bytes(4, sys.byteorder))
        self._control.sendmsg([json.dumps({"box": number}).encode()], [rights])
        os.close(handle)
        return True

    def _fork(self, line: int) -> int:
        if self._full:
            linux.unshare(linux.CLONE_NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                init.main(line, self._profile, full=self._full)
        finally:
            # The next child's namespace is made anew; asking for one twice without going back is refused.
            if self._full:
                linux.setns(self._pids, linux.CLONE_NEWPID)
        return pid
