"""Which layers of confinement this machine's kernel offers, found out by trying each in a child process.

Nothing here confines anything: it only tells what could be built upon. Imports nothing of ours and runs as
a program of its own, since some of what it tries cannot be undone by the process that tried it.

References: user_namespaces(7), landlock(7), seccomp(2), prctl(2), cgroups(7), setrlimit(2).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_DEADLINE = 15.0
"""Seconds all attempts together may take before the kernel is given up on."""

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_SECCOMP_MODE_FILTER = 2
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_ACCESS_FS_READ_FILE = 1 << 2


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of confinement, as an offer of the kernel.

    Attributes:
        name: `user-namespaces`, `landlock`, `seccomp`, `cgroups`, `no-new-privs` or `rlimits`.
        offered: Whether an attempt to use it succeeded.
        found: What was found, in a few words.
        advice: What would make it available; empty where it is offered or nothing can be done.
    """

    name: str
    offered: bool
    found: str
    advice: str = ""


def probe() -> list[Layer]:
    """Try every layer, in a child process of its own.

    Returns:
        One entry for each, in a fixed order. Never raises: what cannot be found out counts as not offered.
    """
    if not sys.platform.startswith("linux"):
        return [Layer(name, False, f"not tried on {sys.platform}: Linux only") for name in _ATTEMPTS]
    # Isolated and without site: nothing but this file and the standard library gets into the child.
    command = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=_DEADLINE
        )
        return [Layer(**entry) for entry in json.loads(done.stdout)]
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError) as error:
        reason = f"could not be tried: {type(error).__name__}"
        return [Layer(name, False, reason) for name in _ATTEMPTS]


class _Refused(Exception):
    """The kernel does not offer it. Arguments: what was found, and advice."""


def _attempt(name: str, attempt: Callable[[], str]) -> Layer:
    """Run one attempt in a fork, which takes whatever it changed with it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        layer = Layer(name, False, "the attempt broke off")
        try:
            layer = Layer(name, True, attempt())
        except _Refused as refusal:
            layer = Layer(name, False, *refusal.args)
        except Exception as error:  # whatever happens here is a finding about the kernel
            layer = Layer(name, False, f"the attempt failed: {error}")
        finally:
            os.write(writer, json.dumps(asdict(layer)).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if not said:
        return Layer(name, False, f"the attempt was ended by the kernel (status {status})")
    return Layer(**json.loads(said))


def _call(result: int, what: str, advice: dict[str, str] | None = None) -> int:
    if result >= 0:
        return result
    code = ctypes.get_errno()
    symbol = errno.errorcode.get(code, str(code))
    raise _Refused(f"{what}: {os.strerror(code)} ({symbol})", (advice or {}).get(symbol, ""))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _sysctl(name: str) -> str:
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return ""


def _user_namespaces() -> str:
    libc = _libc()
    uid, gid = os.getuid(), os.getgid()
    advice = "allow unprivileged user namespaces in this container's or system's security settings"
    if _sysctl("user/max_user_namespaces") == "0":
        advice = "sysctl user.max_user_namespaces=10000"
    elif _sysctl("kernel/unprivileged_userns_clone") == "0":
        advice = "sysctl kernel.unprivileged_userns_clone=1"
    elif _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        advice = (
            "an AppArmor profile with `userns,`, or sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        )
    try:
        _call(libc.unshare(_CLONE_NEWUSER), "unshare")
        # Where policy lets one be made it may still take its powers away, so they are used as well.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        _call(libc.unshare(_CLONE_NEWNS), "a mount namespace in it")
        _call(libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None), "a mount in it")
    except _Refused as refusal:
        raise _Refused(refusal.args[0], advice) from None
    except OSError as error:
        raise _Refused(f"its maps cannot be written: {error.strerror}", advice) from None
    return "a user and a mount namespace can be made" + (", tried as root" if uid == 0 else "")


def _landlock() -> str:
    libc = _libc()
    advice = {
        "ENOSYS": "a kernel of 5.13 or later with CONFIG_SECURITY_LANDLOCK, not filtered by a container",
        "EOPNOTSUPP": "add landlock to the kernel's lsm= boot parameter",
    }
    version = _call(
        libc.syscall(_SYS_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION),
        "landlock_create_ruleset",
        advice,
    )
    handled = ctypes.c_uint64(_LANDLOCK_ACCESS_FS_READ_FILE)
    ruleset = _call(
        libc.syscall(_SYS_LANDLOCK_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(8), 0), "a ruleset"
    )
    _call(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _call(libc.syscall(_SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    try:
        Path(__file__).read_bytes()
    except PermissionError:
        return f"ABI {version}"
    raise _Refused(f"ABI {version}, but it does not confine")


class _Filter(ctypes.Structure):
    """`struct sock_filter`, one instruction of classic BPF."""

    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_Filter)))


def _seccomp() -> str:
    libc = _libc()
    # A number no architecture uses, answered by our filter with an errno the kernel never would give.
    number, answer = 0x7FF0, 33
    instructions = (_Filter * 4)(
        _Filter(0x20, 0, 0, 0),  # load seccomp_data.nr
        _Filter(0x15, 0, 1, number),  # equal?
        _Filter(0x06, 0, 0, 0x00050000 | answer),  # SECCOMP_RET_ERRNO
        _Filter(0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    )
    program = _Program(4, instructions)
    _call(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _call(
        libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
        "a filter",
        {"EINVAL": "a kernel built with CONFIG_SECCOMP_FILTER"},
    )
    libc.syscall(number)
    if ctypes.get_errno() != answer:
        raise _Refused("a filter can be set, but it does not filter")
    return "a filter can be set"


def _no_new_privs() -> str:
    libc = _libc()
    _call(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    if libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
        raise _Refused("it can be set, but does not hold")
    return "can be set"


def _rlimits() -> str:
    import mmap
    import resource

    held = []
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, before[1]))
    try:
        mmap.mmap(-1, 2 << 30).close()
    except (OSError, MemoryError):
        held.append("memory")
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        os.close(os.dup(0))
    except OSError:
        held.append("open files")
    if len(held) < 2:
        raise _Refused("limits can be set, but do not hold" + (f" except for {held[0]}" if held else ""))
    return f"{' and '.join(held)} can be limited"


def _cgroups() -> str:
    """Make a group below each of our own, and see which limits it would carry; version 2 is preferred."""
    limits: dict[str, list[str]] = {"v2": [], "v1": []}
    refusals = []
    for version, folder in own_groups():
        group = folder / f"toolscore-probe-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            refusals.append(f"{version}: {error.strerror}")
            continue
        try:
            held = [word for word, names in _LIMITS.items() if any(_writable(group / name) for name in names)]
        finally:
            group.rmdir()
        limits[version] += held
        if not held:
            refusals.append(f"{version}: groups can be made, but without limits")
    for version, held in limits.items():
        if held:
            return f"{version}: groups can be made, with limits on {', '.join(dict.fromkeys(held))}"
    raise _Refused(
        "; ".join(dict.fromkeys(refusals)) or "no cgroup file system is mounted",
        "have a group delegated to this user, as `systemd-run --user --scope -p Delegate=yes` does",
    )


_LIMITS = {
    "memory": ("memory.max", "memory.limit_in_bytes"),
    "processes": ("pids.max",),
    "processor time": ("cpu.max", "cpu.cfs_quota_us"),
}


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK)


def own_groups() -> list[tuple[str, Path]]:
    """Give version and folder of each group this process is in that could carry a limit, version 2 first."""
    mounts: dict[str, tuple[str, Path]] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        # The empty name stands for version 2, as it does in /proc/self/cgroup.
        names = [""] if kind[0] == "cgroup2" else kind[-1].split(",") if kind[0] == "cgroup" else []
        for name in names:
            mounts.setdefault(name, (fields[3], Path(fields[4])))
    found: set[tuple[str, Path]] = set()
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names_text, path = line.split(":", 2)
        for name in names_text.split(","):
            if name in mounts and name in {"", "memory", "pids", "cpu", "cpuacct"}:
                root, point = mounts[name]
                inner = path if root == "/" else path.removeprefix(root)
                found.add(("v1" if name else "v2", point / inner.lstrip("/")))
    return sorted(found, reverse=True)


_ATTEMPTS: dict[str, Callable[[], str]] = {
    "user-namespaces": _user_namespaces,
    "landlock": _landlock,
    "seccomp": _seccomp,
    "cgroups": _cgroups,
    "no-new-privs": _no_new_privs,
    "rlimits": _rlimits,
}


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        print(json.dumps([asdict(_attempt(name, attempt)) for name, attempt in _ATTEMPTS.items()]))
