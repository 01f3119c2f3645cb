"""Acceptance 41 to 46: no network, no way to other processes, and nothing in common between two boxes."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from boxes import CALLS, USERS, Boxes, number, until

pytestmark = pytest.mark.parametrize("user", USERS, scope="module")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def test_41_no_tcp(boxes: Boxes, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    value = boxes.value(
        f"{CALLS}\nimport socket\n"
        f"[error(socket.create_connection, ('127.0.0.1', {port}), 1), error(socket.create_server, ('127.0.0.1', 0))]"
    )
    assert value == ["EPERM"] * 2
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_42_no_udp(boxes: Boxes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.bind(("127.0.0.1", 0))
        heard.setblocking(False)
        port = heard.getsockname()[1]
        value = boxes.value(
            f"""{CALLS}
import socket
def tell():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"out", ("127.0.0.1", {port}))
error(tell)
"""
        )
        assert value == "EPERM"
        with pytest.raises(BlockingIOError):
            heard.recv(10)


def test_43_no_family_of_sockets_at_all(boxes: Boxes) -> None:
    value = boxes.value(
        f"{CALLS}\nsorted({{str(call({number('socket')}, family, kind, 0)) for family in range(50)"
        " for kind in (1, 2, 3, 5, 1 | 0o4000, 2 | 0o2000000)})"
    )
    assert value == ["EPERM"]


def test_44_no_abstract_unix_socket_can_be_reached(boxes: Boxes) -> None:
    name = f"toolscore-{secrets.token_hex(6)}"
    with ExitStack() as stack:
        stream = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        stream.bind("\0" + name)
        stream.listen()
        packets = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        packets.bind("\0" + name + "-d")
        for one in (stream, packets):
            one.setblocking(False)
        value = boxes.value(
            f"""{CALLS}
import socket
told = []
def stream(): socket.socket(socket.AF_UNIX).connect("\\0{name}")
told.append(error(stream))
for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
    def pair():
        one, two = socket.socketpair(socket.AF_UNIX, kind)
        try:
            one.sendto(b"out", "\\0{name}-d")  # between packet sockets the address is not looked at: unix(7)
        except OSError:
            pass
        for act in (lambda: one.connect("\\0{name}"), lambda: one.bind("\\0made"), lambda: one.listen()):
            try:
                act()
            except OSError:
                continue
            told.append("reached")
    told.append(error(pair))
told
"""
        )
        assert "reached" not in value
        assert value[0] == "EPERM"
        with pytest.raises(BlockingIOError):
            stream.accept()
        with pytest.raises(BlockingIOError):
            packets.recv(10)


def test_45_an_event_loop_works(boxes: Boxes) -> None:
    value = boxes.value(
        """
import asyncio, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
async def main():
    loop = asyncio.get_running_loop()
    told = await asyncio.gather(asyncio.sleep(0.01, 1), loop.run_in_executor(None, lambda: 2))
    child = await asyncio.create_subprocess_exec("/bin/echo", "3", stdout=subprocess.PIPE)
    return [*told, int((await child.communicate())[0])]
asyncio.run(main())
"""
    )
    assert value == [1, 2, 3]


def test_46_two_boxes_share_nothing(boxes: Boxes) -> None:
    first = boxes.start(
        """
import os, toolscore_tools
for folder in ("/workspace", "/tmp", "/dev/shm"):
    open(folder + "/mine", "w").write("mine")
os.mkfifo("/tmp/fifo")
print("made", flush=True)
toolscore_tools.call_tool("gate__pass", {"gate": "seen"})
sorted(os.listdir("/tmp"))
""",
        stream=True,
        tools=True,
        wall=60.0,
    )
    until(lambda: first.heard or first.future.done(), "the first one's files are made")
    value = boxes.value(
        """
import os
found = [os.listdir(folder) for folder in ("/workspace", "/tmp", "/dev/shm")]
for folder in ("/workspace", "/tmp", "/dev/shm"):
    open(folder + "/other", "w").write("other")
found
"""
    )
    assert value == [[], [], []]
    assert not first.future.done()  # both were there at the same time
    boxes.let("seen")
    assert first.done().value == ["fifo", "mine"]


def test_46b_there_are_no_interfaces_but_a_dead_loopback(boxes: Boxes) -> None:
    assert boxes.run("import socket; socket.if_nameindex()").error in ("PermissionError", "OSError")
