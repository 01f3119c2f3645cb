"""The watch: what a tree of processes uses, told from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from machine import until
from toolscore.sandbox import watch

if sys.platform != "linux":
    pytest.skip("/proc is Linux's", allow_module_level=True)


@contextmanager
def running(code: str) -> Iterator[int]:
    """Python that ran this code and waits; it and its children end with its input."""
    program = f"import os, sys, threading\n{code}\nprint('ready', flush=True)\nsys.stdin.read()\nos._exit(0)"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program], stdin=-1, stdout=-1, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.communicate()


def test_children_of_children_and_of_threads_belong_to_the_tree() -> None:
    code = """
def start():
    if os.fork() == 0:
        if os.fork() == 0:
            sys.stdin.read(); os._exit(0)
        os.wait(); os._exit(0)
    threading.Event().wait()
threading.Thread(target=start, daemon=True).start()
"""
    with running(code) as pid:
        until(lambda: len(watch.tree(pid)) == 3)
        assert watch.tree(pid)[0] == pid
        assert watch.usage(pid).processes == 4


def test_memory_of_all_of_them_is_added_up() -> None:
    code = """
import mmap
held = bytearray(b"x" * (20 << 20))
shared = mmap.mmap(-1, 10 << 20)
shared.write(b"x" * (10 << 20))
read, write = os.pipe()
if os.fork() == 0:
    more = bytearray(b"x" * (30 << 20))
    os.write(write, b"x"); sys.stdin.read(); os._exit(0)
os.read(read, 1)
"""
    with running("") as plain, running(code) as pid:
        extra = watch.usage(pid).memory - watch.usage(plain).memory
        assert 60 << 20 <= extra <= 110 << 20


def test_processor_time_of_children_counts_while_they_run_and_after() -> None:
    code = """
import time
def spin():
    while time.process_time() < 0.2: pass
if os.fork() == 0:
    spin(); os._exit(0)
os.wait()
spin()
"""
    with running(code) as pid:
        assert 0.35 <= watch.usage(pid).cpu <= 2.0


def test_a_name_with_parentheses_and_spaces_confuses_nobody() -> None:
    with running("open('/proc/self/comm', 'w').write(') R 1 (')") as pid:
        assert watch.usage(pid).processes == 1


def test_what_is_gone_uses_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "pass"])
    child.wait()
    assert watch.tree(child.pid) == []
    assert watch.usage(child.pid) == watch.Seen(0, 0.0, 0)


def test_processes_that_come_and_go_do_no_harm() -> None:
    code = """
def churn():
    while True:
        if os.fork() == 0: os._exit(0)
        os.wait()
threading.Thread(target=churn, daemon=True).start()
"""
    with running(code) as pid:
        for _ in range(200):
            assert watch.usage(pid).processes >= 2


def test_no_descriptor_is_left_open() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    watch.usage(os.getpid())
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_process_that_has_ended_but_was_not_waited_for_hides_nothing() -> None:
    ended = os.fork()
    if ended == 0:
        os._exit(0)
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
    try:
        assert watch.shared_memory(os.getpid())
    finally:
        os.waitpid(ended, 0)
