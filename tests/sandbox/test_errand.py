"""What the trusted process of a box takes out of the pipes when a job is done."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("boxes are made of Linux's own means", allow_module_level=True)

from toolscore.sandbox import link
from toolscore.sandbox.errand import Errand

LINES = ("stdout", "stderr", "result")


class Ends:
    """The pipes of a box and its line to the server, with a job in it."""

    def __init__(self) -> None:
        pipes = {name: os.pipe() for name in LINES}
        self.write = {name: ends[1] for name, ends in pipes.items()}
        self.read = {name: ends[0] for name, ends in pipes.items()}
        for descriptor in self.read.values():
            os.set_blocking(descriptor, False)
        self.server, line = socket.socketpair()
        box: Any = SimpleNamespace(lines=self.read, server=line, said=bytearray())
        self.line = line
        self.errand = Errand(box, {"limits": {"output": 100, "result": 1000}, "keep": True}, b"", 1)

    def close(self) -> None:
        for descriptor in (*self.write.values(), *(one for one in self.read.values() if one >= 0)):
            os.close(descriptor)
        self.server.close()
        self.line.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def test_what_was_written_is_taken_also_where_the_time_for_it_passed_with_something_else(ends: Ends) -> None:
    for name in LINES[:2]:
        os.write(ends.write[name], name.encode())
    ends.errand._drain(time.monotonic() - 1)
    assert link.Frames().feed(ends.server.recv(1000)) == [
        (link.STDOUT, b"stdout"),
        (link.STDERR, b"stderr"),
    ]


def test_what_nobody_writes_is_not_waited_for(ends: Ends) -> None:
    ends.errand._drain(time.monotonic() + 60)
    ends.server.setblocking(False)
    with pytest.raises(BlockingIOError):
        ends.server.recv(1)
