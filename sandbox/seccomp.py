"""seccomp: which system calls a process and all its children may make.

Two profiles for untrusted code are allow-lists: what they do not name fails with EPERM. The one for whole
servers is a deny-list, since nobody knows what they need. A process of another architecture than the
interpreter's (`int 0x80`) is killed with SIGSYS.

Rules compare the low 32 bits where the kernel takes an `int`: it ignores the others, and so must a rule.

References: seccomp(2), syscalls(2), https://docs.kernel.org/userspace-api/seccomp_filter.html.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from .errors import LayerError
from .lookup import without_search

if TYPE_CHECKING:
    from seccompy import Filter

_CLONE_VM, _CLONE_THREAD = 0x100, 0x10000
_CLONE_NEW = 0x7E020080
"""All CLONE_NEW* flags. CLONE_NEWTIME (0x80) shares its bit with the exit signal, where no real one has it."""
_CLONE_ODD = 0x2000 | 0x8000
"""CLONE_PTRACE and CLONE_PARENT: the second makes children of the trusted process in the box."""

_RLIMIT_CORE, _KINDS_OF_LIMITS = 4, 16

_X32 = 0x40000000
"""__X32_SYSCALL_BIT: the same architecture to a filter, but other numbers."""

_FREE = """
    read write close fstat newfstatat lseek mmap munmap brk mprotect madvise futex openat rt_sigaction
    rt_sigprocmask rt_sigreturn getrandom clock_gettime getpid gettid stat lstat open access poll
    pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 epoll_wait epoll_ctl epoll_pwait epoll_pwait2
    epoll_create epoll_create1 ppoll select pselect6 eventfd eventfd2 timerfd_create timerfd_settime
    timerfd_gettime pipe dup dup2 dup3 close_range statx getdents getdents64 getcwd chdir fchdir openat2 creat
    faccessat faccessat2 readlink readlinkat rename renameat renameat2 mkdir mkdirat rmdir link linkat
    symlink symlinkat unlink unlinkat umask ftruncate fallocate fsync fdatasync fadvise64 readahead
    statfs fstatfs getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr sendfile copy_file_range
    mremap msync mincore mseal membarrier rseq set_robust_list set_tid_address futex_waitv futex_wake
    futex_wait futex_requeue sched_yield sched_getaffinity sched_getparam sched_getscheduler
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval getcpu getpriority
    exit exit_group wait4 waitid restart_syscall rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack pause
    getitimer setitimer alarm nanosleep clock_nanosleep clock_getres gettimeofday time times
    getuid geteuid getgid getegid getresuid getresgid getgroups getppid getpgid getpgrp getsid setsid setpgid
    getrlimit getrusage sysinfo uname capget
    sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown getsockname getpeername getsockopt
""".split()  # noqa: SIM905 - it reads better
"""Calls that code may make with any arguments, the frequent ones first. Left out on purpose, among others:
flock (what can only be read can be locked, for the host too), splice and vmsplice (surface without need), sync
(slows the whole machine), setxattr (memory nobody counts), seccomp and landlock_* (nothing is left to confine),
execveat."""

_OWNED = """
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat truncate
""".split()  # noqa: SIM905
"""Calls by which the owner of a file changes it wherever it is: Landlock knows none of them (`truncate` since its
third version). Only for code that sees no files but its own."""

_PROCESSES = ["fork", "vfork", "execve", "pidfd_open", "pidfd_send_signal"]

_FCNTL = [0, 1, 2, 3, 4, 5, 6, 7, 9, 36, 37, 38, 1027, 1030, 1032, 1033, 1034]
"""Duplicates, flags, locks, pipe size, seals. Not F_SETOWN and F_SETSIG, which have the kernel send any signal
to any process of the same user, and not F_SETPIPE_SZ, whose memory is counted per user."""

_IOCTL = [0x5401, 0x802C542A, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451]
"""TCGETS, TCGETS2, TIOCGPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""
_FICLONE = 0x40049409

_PRCTL = [2, 3, 15, 16, 21, 23, 30, 38, 39, 0x53564D41]
"""PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_CAPBSET_READ,
PR_GET_TIMERSLACK, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_VMA (names of mappings, glibc 2.40)."""

_ARCH_PRCTL = [0x1001, 0x1002, 0x1003, 0x1004, 0x1021, 0x1022, 0x1023]
"""ARCH_{SET,GET}_{GS,FS}, which a program's start needs, and the permissions of AMX (ARCH_*_XCOMP_*)."""

_SETSOCKOPT = [2, 9, 13, 16, 20, 21]
"""SO_REUSEADDR, SO_KEEPALIVE, SO_LINGER, SO_PASSCRED, SO_RCVTIMEO, SO_SNDTIMEO. Not SO_SNDBUF and SO_RCVBUF, which
are the kernel's memory."""

_CONFINED_DENIED = """
    unshare setns mount umount2 pivot_root chroot move_mount open_tree open_tree_attr fsopen fsconfig fsmount
    fspick mount_setattr statmount listmount listns ptrace process_vm_readv process_vm_writev process_madvise
    process_mrelease kcmp pidfd_getfd add_key request_key keyctl bpf perf_event_open userfaultfd io_uring_setup
    io_uring_enter io_uring_register io_setup io_submit init_module finit_module delete_module create_module
    query_module get_kernel_syms kexec_load kexec_file_load reboot syslog swapon swapoff acct quotactl quotactl_fd
    open_by_handle_at name_to_handle_at fanotify_init fanotify_mark lookup_dcookie nfsservctl vhangup uselib
    settimeofday clock_settime clock_adjtime adjtimex stime sethostname setdomainname iopl ioperm modify_ldt
    vm86 vm86old move_pages migrate_pages mbind memfd_secret remap_file_pages vserver _sysctl sysfs ustat
    lsm_set_self_attr uretprobe uprobe
""".split()  # noqa: SIM905 - it reads better

_TTY_INJECTION = [0x5412, 0x541C, 0x5423]
"""TIOCSTI and TIOCLINUX, which type into a terminal, and TIOCSETD."""


class Profile(StrEnum):
    """What is to be filtered."""

    FULL = "full"
    """Untrusted code in namespaces of its own: may start processes, has no sockets but pairs."""
    REDUCED = "reduced"
    """Untrusted code without namespaces: threads only, and signals only to itself."""
    CONFINED = "confined"
    """A whole server that is trusted more: all but what changes or looks into the system."""


def prepare() -> None:
    """Load all that `program` and `load` need, so that forks of this process can use them at once.

    Raises:
        LayerError: If the kernel takes no filters, or this is an architecture nobody wrote one for.
    """
    if not sys.platform.startswith("linux"):
        raise LayerError(f"seccomp is Linux's, this is {sys.platform}")
    try:
        import seccompy
    except ImportError as error:
        raise LayerError(f"the library seccompy is not installed: {error}") from None
    try:
        with without_search():
            offered = seccompy.supported()
        seccompy.arch()
    except seccompy.SeccompError as error:
        raise LayerError(str(error)) from None
    if not offered:
        raise LayerError("the kernel takes no filters: it needs CONFIG_SECCOMP_FILTER")


@cache
def program(profile: Profile | str, *, network: bool = False, pid: int | None = None) -> bytes:
    """Build a filter.

    Args:
        profile: Which.
        network: For `confined`: whether it may use the internet. The other profiles have no sockets ever.
        pid: For `reduced`: the process that may send signals to itself; without it none can be sent.

    Returns:
        The instructions, for `load`.

    Raises:
        LayerError: If this is an architecture nobody wrote a filter for.
    """
    prepare()
    from seccompy import Action, Filter

    profile = Profile(profile)
    if profile is Profile.CONFINED:
        rules = Filter(Action.ALLOW)
        _confined(rules, network)
        return _without_x32() + rules.program
    rules = Filter(Action.ERRNO | errno.EPERM)
    _code(rules, processes=profile is Profile.FULL, pid=pid)
    return rules.program


def load(program: bytes) -> None:
    """Filter the system calls of this process from now on, and of all it starts. Sets no_new_privs.

    Raises:
        LayerError: If the kernel refuses.
    """
    prepare()
    from seccompy import FilterFlag, SeccompError, _syscall

    try:
        _syscall.set_no_new_privs()
        # All threads or none: one left out would be a way around.
        other = _syscall.set_mode_filter(program, FilterFlag.TSYNC)
    except SeccompError as error:
        raise LayerError(f"the filter was refused: {error}") from None
    if other:
        raise LayerError(f"thread {other} cannot be filtered")


def describe(profile: Profile | str, *, network: bool = False) -> str:
    """Say in a few words what a profile does."""
    profile = Profile(profile)
    if profile is Profile.CONFINED:
        sockets = "internet and Unix sockets" if network else "Unix sockets only"
        return f"deny-list of {len(_known(_CONFINED_DENIED))} system calls, {sockets}"
    names = _FREE + _OWNED + _PROCESSES if profile is Profile.FULL else _FREE
    processes = "" if profile is Profile.FULL else ", no processes"
    return f"allow-list of {len(_known(names))} system calls, no sockets{processes}"


def _known(names: Iterable[str]) -> list[str]:
    """Leave out what this architecture does not have: `open` and `fork` are no calls of aarch64."""
    from seccompy import syscall_nr

    known = []
    for name in names:
        try:
            syscall_nr(name)
        except ValueError:
            continue
        known.append(name)
    return known


Condition = tuple[int, int, int, int]


def _bits(argument: int, mask: int, value: int) -> Condition:
    from seccompy import CmpOp

    return (argument, CmpOp.MASKED_EQ, value, mask)


def _int(argument: int, value: int) -> Condition:
    return _bits(argument, 0xFFFFFFFF, value & 0xFFFFFFFF)


def _null(argument: int) -> Condition:
    return _bits(argument, 0xFFFFFFFFFFFFFFFF, 0)


def _allow(rules: Filter, name: str, *conditions: Condition) -> None:
    for known in _known([name]):
        rules.allow(known, args=conditions)


def _code(rules: Filter, *, processes: bool, pid: int | None) -> None:
    for name in _FREE:
        _allow(rules, name)
    rules.errno("flock", errno.EOPNOTSUPP)
    rules.errno("clone3", errno.ENOSYS)  # its flags are out of a filter's reach; libc falls back to clone
    if processes:
        for name in (*_OWNED, *_PROCESSES, "kill", "tkill", "tgkill", "sched_setaffinity"):
            _allow(rules, name)
        _allow(rules, "clone", _bits(0, _CLONE_NEW | _CLONE_ODD, 0))
    else:
        thread = _CLONE_VM | _CLONE_THREAD
        _allow(rules, "clone", _bits(0, _CLONE_NEW | _CLONE_ODD | thread, thread))
        _allow(rules, "sched_setaffinity", _int(0, 0))
        if pid is not None:
            _allow(rules, "kill", _int(0, pid))
            _allow(rules, "tgkill", _int(0, pid))
    for command in _FCNTL:
        _allow(rules, "fcntl", _int(1, command))
    for request in _IOCTL:
        _allow(rules, "ioctl", _int(1, request))
    # pathlib (3.14) copies by other means after this answer, and fails after EPERM.
    rules.errno("ioctl", errno.EOPNOTSUPP, args=[_int(1, _FICLONE)])
    for option in _PRCTL:
        _allow(rules, "prctl", _int(0, option))
    for option in _ARCH_PRCTL:
        _allow(rules, "arch_prctl", _int(0, option))
    for option in _SETSOCKOPT:
        _allow(rules, "setsockopt", _int(1, 1), _int(2, option))  # SOL_SOCKET, no filters of its own
    for kind in (1, 5):
        # SOCK_STREAM and SOCK_SEQPACKET of AF_UNIX. A pair of SOCK_DGRAM can send to any address: unix(7).
        _allow(rules, "socketpair", _int(0, 1), _bits(1, 0xF, kind))
    _allow(rules, "pipe2", _bits(1, 0x80, 0))  # no O_NOTIFICATION_PIPE
    # Its own limits only; raising them fails by itself. That of core dumps keeps the value which prevents them.
    for kind in range(_KINDS_OF_LIMITS):
        if kind != _RLIMIT_CORE:
            _allow(rules, "prlimit64", _int(0, 0), _int(1, kind))
            _allow(rules, "setrlimit", _int(0, kind))
    _allow(rules, "prlimit64", _int(0, 0), _int(1, _RLIMIT_CORE), _null(2))
    _allow(rules, "setpriority", _int(0, 0), _int(1, 0))
    _allow(rules, "personality", _int(0, 0xFFFFFFFF))  # which only reads it
    for name, argument in (("mknod", 1), ("mknodat", 2)):
        for kind in (0o010000, 0o100000, 0):  # a fifo, a regular file
            _allow(rules, name, _bits(argument, 0o170000, kind))


def _confined(rules: Filter, network: bool) -> None:
    for name in dict.fromkeys(_known(_CONFINED_DENIED)):
        rules.errno(name, errno.EPERM)
    rules.errno("clone3", errno.ENOSYS)
    _allow(rules, "clone", _bits(0, _CLONE_NEW, 0))
    rules.errno("clone", errno.EPERM)
    for request in _TTY_INJECTION:
        rules.errno("ioctl", errno.EPERM, args=[_int(1, request)])
    for persona in (0, 0xFFFFFFFF):
        _allow(rules, "personality", _int(0, persona))
    rules.errno("personality", errno.EPERM)
    # AF_UNIX; AF_INET, AF_INET6 and NETLINK_ROUTE, by which programs learn of their own addresses.
    _allow(rules, "socket", _int(0, 1))
    if network:
        _allow(rules, "socket", _int(0, 2))
        _allow(rules, "socket", _int(0, 10))
        _allow(rules, "socket", _int(0, 16), _int(2, 0))
    rules.errno("socket", errno.EPERM)


def _without_x32() -> bytes:
    """Begin a deny-list: the numbers of x32 would pass by all its rules. Jumps are relative, so more can follow."""
    from seccompy import Action
    from seccompy.bpf import BPF_JGEQ, Insn, Jump, Load, Ret, assemble

    start: list[Insn] = [Load(0), Jump(BPF_JGEQ, _X32, None, "rest"), Ret(Action.ERRNO | errno.EPERM)]
    # The label needs a place to stand on; its instruction is cut off again.
    return assemble([*start, Ret(0)], {"rest": len(start)})[: 8 * len(start)]


__all__ = ["Profile", "describe", "load", "prepare", "program"]
