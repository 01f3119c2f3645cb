"""The system calls of Linux that the standard library has no binding for, through the C library.

Only what the sandbox needs, each as a function that raises `OSError`. Nothing here is Python-version specific:
`os.unshare` and `os.setns` exist from Python 3.12 on, and 3.11 is supported.

References: unshare(2), setns(2), mount(2), mount_setattr(2), pivot_root(2), capset(2), prctl(2), close_range(2).
"""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False  # `typing` would be in the memory of every idle box
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

MNT_DETACH = 0x2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8

PR_SET_PDEATHSIG = 1
_PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CAP_SYS_ADMIN = 21

LAST_CAPABILITY = 63
"""The highest capability number that a set of 64 bits can hold; the kernel knows fewer."""

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_CAPABILITY_VERSION_3 = 0x20080522
_EINVAL = 22

# Numbers that are the same everywhere since Linux 5.0, and those that are not.
_NR_MOUNT_SETATTR = 442
_NR_CLOSE_RANGE = 436
_NR_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_NR_CAPSET = {"x86_64": 126, "aarch64": 91}
_NR_SECCOMP = {"x86_64": 317, "aarch64": 277}
_NR_LANDLOCK_CREATE_RULESET, _NR_LANDLOCK_ADD_RULE, _NR_LANDLOCK_RESTRICT_SELF = 444, 445, 446

_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_TSYNC = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

_libc: ctypes.CDLL | None = None


def prepare() -> None:
    """Load the C library now, and what is called of it, so that processes forked later find it loaded."""
    library = _c()
    for name in ("mount", "prctl", "setns", "syscall", "umount2", "unshare"):
        getattr(library, name)
    prctl(_PR_GET_DUMPABLE)


def _c() -> ctypes.CDLL:
    global _libc  # noqa: PLW0603 -- one C library a process
    if _libc is None:
        _libc = ctypes.CDLL(None, use_errno=True)
        _libc.syscall.restype = ctypes.c_long
    return _libc


def _checked(result: int, what: str) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _number(table: dict[str, int], name: str) -> int:
    machine = os.uname().machine
    if machine not in table:
        raise OSError(_EINVAL, f"{name}: its number is not known for {machine}")
    return table[machine]


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def unshare(flags: int) -> None:
    """Move the calling process to new namespaces; for `CLONE_NEWPID` its next children."""
    _checked(_c().unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Move the calling process (for a pid namespace its next children) to the namespace of a descriptor."""
    _checked(_c().setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount, bind or change a mount."""
    _checked(
        _c().mount(_bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data)),
        f"mount {target}",
    )


def umount(target: str, flags: int = 0) -> None:
    """Take a mount away."""
    _checked(_c().umount2(_bytes(target), ctypes.c_int(flags)), f"umount {target}")


class _MountAttributes(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_attributes(target: str, *, add: int = 0, drop: int = 0, recursive: bool = True) -> None:
    """Change the attributes of a mount and, if wanted, of all below it (Linux 5.12)."""
    attributes = _MountAttributes(attr_set=add, attr_clr=drop)
    _checked(
        _c().syscall(
            ctypes.c_long(_NR_MOUNT_SETATTR),
            ctypes.c_int(_AT_FDCWD),
            _bytes(target),
            ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
            ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        ),
        f"mount_setattr {target}",
    )


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root; what was the root is at `old` afterwards."""
    number = _number(_NR_PIVOT_ROOT, "pivot_root")
    _checked(_c().syscall(ctypes.c_long(number), _bytes(new), _bytes(old)), "pivot_root")


def prctl(option: int, *arguments: int) -> int:
    """Change what the calling process may or is; the option and its arguments are numbers, see the manual."""
    padded = [*arguments, 0, 0, 0, 0][:4]
    return _checked(_c().prctl(ctypes.c_int(option), *map(ctypes.c_ulong, padded)), f"prctl {option}")


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close all descriptors of a range, also those nobody here knows of."""
    try:
        _checked(
            _c().syscall(
                ctypes.c_long(_NR_CLOSE_RANGE), ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0)
            ),
            "close_range",
        )
    except OSError:  # before Linux 5.9
        os.closerange(first, min(last + 1, 1 << 16))


class _CapabilityHeader(ctypes.Structure):
    """`struct __user_cap_header_struct`."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def drop_capabilities() -> None:
    """Give up every capability, for good: bounding, ambient, effective, permitted and inheritable."""
    for number in range(LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno == _EINVAL:
                break  # the kernel knows no more of them
            raise
    clear_capabilities()


def clear_capabilities() -> None:
    """Give up every capability but those of the bounding set, which takes one to change."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(0)


def keep_capability(number: int) -> None:
    """Give up every capability but one, which has to be there still; those of the bounding set stay too."""
    _set_capabilities(1 << number)


def _set_capabilities(kept: int) -> None:
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    # Effective, permitted and inheritable, the lower 32 of each before the upper ones.
    sets: Any = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    number = _number(_NR_CAPSET, "capset")
    _checked(_c().syscall(ctypes.c_long(number), ctypes.byref(header), ctypes.byref(sets)), "capset")


def become(uid: int) -> None:
    """Be another user for good, with the group of the same number and no others. For root only."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_DUMPABLE, 1)  # else what is this process's own in /proc belongs to root


def restrict_files(handled: tuple[int, int, int], rules: Iterable[tuple[str, int]], flags: int) -> None:
    """Confine the calling thread with Landlock, and all it starts from now on; `landlock.numbers` has the numbers.

    The kernel refuses numbers it does not know, so that nothing less than what was asked for comes of it.

    Args:
        handled: What is denied unless a rule allows it: of files, of the network, and scopes.
        rules: Paths with what is allowed for them and all below; each has to exist.
        flags: Of `landlock_restrict_self`.
    """
    attributes = struct.pack("=QQQ", *handled)
    ruleset = _checked(
        _c().syscall(
            ctypes.c_long(_NR_LANDLOCK_CREATE_RULESET),
            attributes,
            ctypes.c_size_t(len(attributes)),
            ctypes.c_uint(0),
        ),
        "landlock_create_ruleset",
    )
    try:
        for path, access in rules:
            descriptor = os.open(path, os.O_PATH)
            try:
                _checked(
                    _c().syscall(
                        ctypes.c_long(_NR_LANDLOCK_ADD_RULE),
                        ctypes.c_int(ruleset),
                        ctypes.c_int(_LANDLOCK_RULE_PATH_BENEATH),
                        struct.pack("=Qi", access, descriptor),
                        ctypes.c_uint(0),
                    ),
                    f"landlock_add_rule {path}",
                )
            finally:
                os.close(descriptor)
        _checked(
            _c().syscall(
                ctypes.c_long(_NR_LANDLOCK_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint(flags)
            ),
            "landlock_restrict_self",
        )
    finally:
        os.close(ruleset)


def filter_calls(program: bytes) -> None:
    """Filter the system calls of all threads of this process from now on, and of all it starts.

    Args:
        program: Instructions, as `seccomp.program` makes them. The process has no_new_privs set.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))  # struct sock_fprog
    other = _checked(
        _c().syscall(
            ctypes.c_long(_number(_NR_SECCOMP, "seccomp")),
            ctypes.c_uint(_SECCOMP_SET_MODE_FILTER),
            ctypes.c_uint(_SECCOMP_FILTER_FLAG_TSYNC),
            pointer,
        ),
        "seccomp",
    )
    if other:  # all threads or none: one left out would be a way around
        raise OSError(_EINVAL, f"seccomp: thread {other} cannot be filtered")
