"""Acceptance 47 to 54: of the kernel, code sees only what the list of allowed system calls names."""

from __future__ import annotations

import platform

import pytest

from boxes import CALLS, USERS, Boxes, number

pytestmark = pytest.mark.parametrize("user", USERS, scope="module")

CLONES = {
    "NEWNS": 0x20000,
    "NEWCGROUP": 0x2000000,
    "NEWUTS": 0x4000000,
    "NEWIPC": 0x8000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}


def _refused(boxes: Boxes, *names: str) -> None:
    """See that each of these system calls is refused before its arguments are looked at."""
    numbers = {}
    for name in names:
        try:
            numbers[name] = number(name)
        except ValueError:  # not of this architecture
            continue
    value = boxes.value(f"{CALLS}\n{{name: call(one, 0, 0, 0, 0, 0, 0) for name, one in {numbers}.items()}}")
    assert value == dict.fromkeys(numbers, "EPERM")


def test_47_nothing_is_mounted(boxes: Boxes) -> None:
    _refused(
        boxes,
        *(
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "move_mount",
            "open_tree",
            "fsopen",
            "fsconfig",
            "fsmount",
        ),
        *("fspick", "mount_setattr", "statmount", "listmount", "swapon", "swapoff", "quotactl", "acct"),
    )


def test_48_no_namespace_is_made_or_entered(boxes: Boxes) -> None:
    _refused(boxes, "unshare", "setns")
    value = boxes.value(
        f"{CALLS}\nunshare, clone, clone3 = {number('unshare')}, {number('clone')}, {number('clone3')}\n"
        f"flags = {list(CLONES.values())}\n"
        "[sorted({call(unshare, flag) for flag in [*flags, 0x80]}),"
        " sorted({call(clone, flag | 17, 0, 0, 0, 0) for flag in flags}), call(clone3, 0, 0),"
        " call(clone, 0x8000 | 17, 0, 0, 0, 0), call(clone, 0x2000 | 17, 0, 0, 0, 0)]"
    )
    assert value == [["EPERM"], ["EPERM"], "ENOSYS", "EPERM", "EPERM"]


def test_49_no_keyrings(boxes: Boxes) -> None:
    _refused(boxes, "add_key", "request_key", "keyctl")


def test_50_no_io_uring(boxes: Boxes) -> None:
    _refused(boxes, "io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "io_submit")


def test_51_nothing_that_is_the_administrators_or_new_to_most(boxes: Boxes) -> None:
    _refused(
        boxes,
        *(
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "kexec_load",
            "kexec_file_load",
            "reboot",
            "syslog",
            "vhangup",
        ),
        *(
            "init_module",
            "finit_module",
            "delete_module",
            "open_by_handle_at",
            "name_to_handle_at",
            "pidfd_getfd",
        ),
        *("iopl", "ioperm", "modify_ldt", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime"),
        *("sethostname", "setdomainname", "fanotify_init", "inotify_init1", "lookup_dcookie", "seccomp"),
        *("landlock_create_ruleset", "landlock_restrict_self", "move_pages", "migrate_pages", "mbind"),
        *(
            "set_mempolicy",
            "vmsplice",
            "splice",
            "tee",
            "sync",
            "setxattr",
            "capset",
            "memfd_secret",
            "ptrace",
        ),
        *("mlockall", "ioprio_set", "timer_create", "execveat", "sched_setscheduler"),
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has the numbers of x32")
def test_52_the_numbers_of_x32_are_no_way_around(boxes: Boxes) -> None:
    value = boxes.value(
        f"{CALLS}\nsorted({{str(call(0x40000000 | one, 0, 0, 0, 0, 0, 0)) for one in range(0, 600) if one not in (60, 231)}})"
    )
    assert set(value) <= {"EPERM", "ENOSYS"}


def test_52b_numbers_that_nobody_gave_out_are_refused(boxes: Boxes) -> None:
    value = boxes.value(
        f"{CALLS}\nsorted({{str(call(one, 0, 0, 0, 0, 0, 0)) for one in [*range(480, 1200), 1 << 20, (1 << 31) - 1]}})"
    )
    assert value == ["EPERM"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has the calls of i386")
def test_53_calls_of_another_architecture_end_the_code(boxes: Boxes) -> None:
    done = boxes.run(
        """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, 20 (getpid of i386); int 0x80; ret
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
    )
    assert (done.status, done.signal) == ("crashed", "SIGSYS")


def test_54_no_memory_that_no_limit_of_a_process_counts(boxes: Boxes) -> None:
    _refused(boxes, "memfd_create", "shmget", "shmat", "shmctl", "semget", "msgget", "mq_open", "mq_unlink")


def test_54b_shared_memory_that_survives_its_makers_counts(boxes: Boxes) -> None:
    done = boxes.run(
        """
import mmap, os, time
for _ in range(6):
    if os.fork() == 0:
        shared = mmap.mmap(-1, 60 << 20)
        for place in range(0, len(shared), 4096):
            shared[place] = 1
        time.sleep(20)
time.sleep(15)
""",
        memory=192 << 20,
    )
    assert (done.status, done.limit) == ("memory", "memory")


def test_54c_files_in_memory_cannot_hold_more_than_their_folders(boxes: Boxes) -> None:
    done = boxes.run(
        """
import errno, os
held, told = 0, set()
for folder in ("/workspace", "/tmp", "/dev/shm"):
    try:
        with open(folder + "/full", "wb", buffering=0) as file:
            os.unlink(folder + "/full")
            while True:
                held += file.write(bytes(1 << 20))
    except OSError as error:
        told.add(errno.errorcode[error.errno])
[held, sorted(told)]
""",
        disk=8 << 20,
    )
    assert done.status == "ok"
    assert done.value[0] <= 24 << 20


def test_54d_descriptors_in_flight_are_bounded(boxes: Boxes) -> None:
    sent, why = boxes.value(
        """
import errno, os, socket
held, sent, why = [], 0, None
try:
    while sent < 100_000:
        one, two = socket.socketpair()
        if held:
            socket.send_fds(one, [b"x"], [held[-1][0].fileno(), held[-1][1].fileno()])
            held.pop()
        held.append((one, two))
        sent += 1
except OSError as error:
    why = errno.errorcode[error.errno]
[sent, why]
""",
        open_files=64,
    )
    assert why == "ETOOMANYREFS"
    assert sent <= 64 // 2 + 4  # two are sent at a time, and few are still held


def test_54e_timers_and_signals_that_queue_are_bounded(boxes: Boxes) -> None:
    _refused(boxes, "timer_create", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
    queued = boxes.value(
        """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
for _ in range(10_000):
    os.kill(os.getpid(), signal.SIGRTMIN)  # of kill(2), what does not fit is dropped without a word
queued = 0
while signal.sigtimedwait({signal.SIGRTMIN}, 0):
    queued += 1
queued
"""
    )
    assert 0 < queued <= 1024
