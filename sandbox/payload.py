"""The process that runs the code: it gives up everything it does not need, says so, and waits for a job.

The order of the steps matters; each needs what a later one takes away. References: close_range(2), setrlimit(2),
capabilities(7), prctl(2), landlock(7), seccomp(2).
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys

from . import interpreter, linux, root

if sys.platform != "win32":  # which has no such module, and no boxes
    import resource

TYPE_CHECKING = False  # what is imported here is in the memory of every idle box
if TYPE_CHECKING:
    from typing import Any, NoReturn

RESULT = 3
"""Descriptor of the pipe to init. The job pipe has the next number, and is closed before code runs unless it is
needed: for the answers of tools, and for the next job of a session."""
JOBS = 4

NOBODY = 0x5EC0BEEF
"""A process number nobody has, for a filter whose process is not known yet."""

PROCESSES_OF_OURS = 1
"""Init counts among the processes of the box's user."""

ENVIRONMENT = {
    "HOME": "/workspace",
    "LANG": "C.UTF-8",
    "LOGNAME": "sandbox",
    "MALLOC_ARENA_MAX": "1",  # as for the zygote: programs that code starts have the same limit
    "MPLBACKEND": "Agg",
    # Of the libraries that compute in threads: one, as boxes share the machine, each thread takes address space, and
    # one that a library starts when it is imported would be missing in what is forked later (fork(2)).
    "MKL_NUM_THREADS": "1",
    "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108 -- inside the box
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SHELL": "/bin/sh",
    "TERM": "dumb",
    "TMPDIR": "/tmp",  # noqa: S108
    "TZ": "UTC",
    "USER": "sandbox",
}


class Profile:
    """What confines a payload, made once in the zygote; there everything is done already that needs no box.

    Args:
        told: What `boot` told the zygote.
        address_space: Bytes of address space a payload starts with.

    Attributes:
        full: Whether there are namespaces, and a root of the box's own.
        place: Where boxes without a root of their own get their folders.
        skip: Layers that are left out: for tests of what happens without them.
        filter: The system call filter; `None` where there can be none.
        landlock: Landlock's numbers, see `landlock.numbers`; `None` where it is not used.
        rules: What Landlock allows: paths and the rights below them.
        address_space: Bytes of address space a payload starts with.
        limits: The operator's limits by name.
        fonts: Files in which matplotlib looks up the fonts there are.
        layers: Why a layer is not used, by its name.
        worker: What runs the code.
    """

    __slots__ = (
        "address_space", "filter", "fonts", "full", "landlock", "layers", "limits", "place", "rules", "skip",
        "worker",
    )  # fmt: skip

    def __init__(self, told: dict[str, Any], address_space: int) -> None:
        self.full: bool = told["tier"] == "full"
        self.place: str = told.get("place", "")
        self.skip = frozenset(told["skip"])
        self.filter = None if told["filter"] is None else bytes.fromhex(told["filter"])
        self.landlock: dict[str, Any] | None = told["landlock"]
        self.rules: list[tuple[str, int]] = []
        self.address_space = address_space
        self.limits: dict[str, Any] = told["limits"]
        self.fonts = fonts(told["site"])
        self.layers: dict[str, str] = told["layers"]
        self.worker = interpreter.Interpreter(_send, _receive)
        if self.landlock is not None:
            self.rules = _rules(self.landlock, self.full, told["site"])


def main(profile: Profile, descriptors: dict[int, int], workspace: str) -> NoReturn:
    """Be the payload.

    Args:
        profile: What confines it.
        descriptors: What becomes descriptor 0 to 4, all above 4 now.
        workspace: Its folder.
    """
    try:
        _confine(profile, descriptors, workspace)
    except BaseException as error:
        _tell({"type": "failed", "reason": f"{type(error).__name__}: {error}"})
        os._exit(1)
    worker = profile.worker
    worker.start()
    worker.warm()
    _tell({"type": "ready"})
    while (job := worker.next_job()) is not None:
        if not job["keep"] and not job["tools"]:
            os.close(JOBS)
        problem = None
        if "stdin" in job:
            problem = _put_input(job["stdin"], "/tmp" if profile.full else workspace)  # noqa: S108 -- inside the box
        answer = worker.run(job) if problem is None else _not_run(job, problem)
        try:
            worker.send(answer)
        except (OSError, TypeError, ValueError, RecursionError):
            os._exit(
                0
            )  # the code closed it, or broke what makes the message: there is nothing to say any more
        if not job["keep"]:
            os._exit(0)
    os._exit(0)


def _put_input(encoded: str, folder: str) -> OSError | None:
    """Give the code of a session its input as a file, as the pipe has no end there; gives what prevents that."""
    import binascii

    name = f"{folder}/.stdin-{os.getpid()}"
    descriptor = -1
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        os.unlink(name)
        data = memoryview(binascii.a2b_base64(encoded))
        while data:
            data = data[os.write(descriptor, data) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.dup2(descriptor, 0)
    except OSError as error:
        return error
    finally:
        if descriptor > 0:  # where earlier code closed its input, the file has that number at once
            os.close(descriptor)
    return None


def _not_run(job: dict[str, Any], problem: OSError) -> dict[str, Any]:
    """Say that code was not run for want of its input: the folders of the box are full."""
    message = f"nothing was run: its standard input cannot be kept: {problem.strerror}"
    error = {"type": "OSError", "message": message, "traceback": ""}
    return {"type": "result", "id": job["id"], "status": "error", "error": error}


def _confine(profile: Profile, descriptors: dict[int, int], workspace: str) -> None:
    os.setsid()
    for number, descriptor in descriptors.items():
        os.dup2(descriptor, number, inheritable=number < RESULT)
    linux.close_range(max(descriptors) + 1)
    if not profile.full:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.chdir(workspace)
    if not profile.full:
        os.environ.update(HOME=workspace, TMPDIR=workspace, MPLCONFIGDIR=f"{workspace}/.matplotlib")
    show_fonts(profile.fonts)
    for name in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_IGN if name != signal.SIGINT else signal.default_int_handler)
    if "limits" not in profile.skip:
        limit(0, profile, profile.limits)
    if profile.full:
        linux.drop_capabilities()
    else:
        linux.clear_capabilities()  # nothing can be started there that would get any back
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    if profile.landlock is not None:
        numbers, rules = profile.landlock, profile.rules
        if not profile.full:
            rules = [*rules, (workspace, numbers["change"])]
        linux.restrict_files(tuple(numbers["handled"]), rules, numbers["flags"])
    if profile.filter is not None:
        # Without a pid namespace it may send signals to itself alone, so that its number is part of the filter.
        linux.filter_calls(profile.filter if profile.full else for_itself(profile.filter))


def set_environment() -> None:
    """Give this process, and so every box, the environment variables of code and no others."""
    library = os.environ.get("LD_LIBRARY_PATH")  # a Python that needs it, at a place it was not made for
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    if library is not None:
        os.environ["LD_LIBRARY_PATH"] = library


def for_itself(program: bytes) -> bytes:
    """Put the calling process's number where a filter has that of nobody."""
    nobody, ours = (number.to_bytes(4, sys.byteorder) for number in (NOBODY, os.getpid()))
    # Of an instruction the last four of eight bytes are a number, see struct sock_filter.
    parts = [program[start : start + 8] for start in range(0, len(program), 8)]
    if not any(part[4:] == nobody for part in parts):
        raise ValueError("the filter has no place for a process's number")
    return b"".join(part[:4] + ours if part[4:] == nobody else part for part in parts)


def fonts(site: str | None) -> list[str]:
    """Give the lists of fonts that were made together with an environment, see `packages`."""
    folder = f"{site}/.caches/matplotlib"
    if site is None or not os.path.isdir(folder):
        return []
    return [f"{folder}/{name}" for name in os.listdir(folder)]


def show_fonts(files: list[str]) -> None:
    """Put them where matplotlib looks: it wants a folder it can write, or else tries all fonts anew."""
    if files:
        folder = os.environ["MPLCONFIGDIR"]
        os.mkdir(folder)
        for path in files:
            os.symlink(path, f"{folder}/{os.path.basename(path)}")


def _rules(numbers: dict[str, Any], full: bool, site: str | None) -> list[tuple[str, int]]:
    """Say what Landlock lets every box read, write, and use as devices; a missing path is left out."""
    readable = ["/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/etc/ld.so.cache"]
    readable += ["/etc/alternatives", "/etc/localtime"]
    if full:
        readable += ["/etc", root.PYTHON, root.PACKAGES]
    elif not sys.base_prefix.startswith("/usr"):
        readable.append(sys.base_prefix)
    if site and not full:
        readable.append(site)
    devices = [f"/dev/{name}" for name in ("null", "zero", "full", "urandom")]
    kinds = [("read", list(filter(os.path.exists, readable))), ("device", devices)]
    if full:
        kinds.append(("change", list(root.WRITABLE)))
    wanted: list[tuple[str, int]] = [(path, numbers[kind]) for kind, paths in kinds for path in paths]
    return [
        (path, rights if stat.S_ISDIR(os.stat(path).st_mode) else rights & numbers["file"])
        for path, rights in wanted
    ]


def limit(pid: int, profile: Profile, limits: dict[str, Any], *, once: bool = False) -> None:
    """Set a payload's limits; called by itself first, and by init with those of a job.

    Args:
        pid: The process; 0 is the calling one.
        profile: What confines it.
        limits: The limits by name, see `Limits`.
        once: Whether the box is for one job: only then a limit on processor time, which counts from the start of the
            process, means anything.
    """
    megabyte = 1 << 20
    wanted = {
        # One process is stopped a little before the whole box is, so that code sees a MemoryError.
        resource.RLIMIT_AS: profile.address_space + limits["memory"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_FSIZE: limits["disk"],
        # Not 0, which does not keep the kernel from starting the program of a core_pattern with a pipe: core(5).
        resource.RLIMIT_CORE: 1,
        resource.RLIMIT_MEMLOCK: 64 << 10,
        resource.RLIMIT_STACK: 8 * megabyte,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 1024,
    }
    if profile.full:
        wanted[resource.RLIMIT_NPROC] = limits["processes"] + PROCESSES_OF_OURS
    if once and limits == profile.limits and "limits" not in profile.skip:
        wanted = {}  # it has set them itself
    if once:
        wanted[resource.RLIMIT_CPU] = int(limits["cpu"]) + 1
    for kind, most in wanted.items():
        _, hard = resource.prlimit(pid, kind)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # In a session the next job may have other limits, up to the operator's, which the process has set itself.
        resource.prlimit(pid, kind, (value, value if once or not pid else hard))


def _send(data: bytes) -> None:
    """Write a line to init, whole."""
    view = memoryview(data)
    while view:
        view = view[os.write(RESULT, view) :]


def _tell(message: dict[str, Any]) -> None:
    try:
        _send(json.dumps(message).encode() + b"\n")
    except OSError:
        os._exit(0)  # the code closed it: there is nothing to say any more


_pending = bytearray()


def _receive() -> dict[str, Any] | None:
    """Read the next line of init; `None` when there will be none."""
    while True:
        end = _pending.find(b"\n")
        if end >= 0:
            line = bytes(_pending[:end])
            del _pending[: end + 1]
            message: dict[str, Any] = json.loads(line)
            return message
        try:
            data = os.read(JOBS, 1 << 16)
        except OSError:
            return None
        if not data:
            return None
        _pending.extend(data)
