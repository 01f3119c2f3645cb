"""The relay: two real processes' worth of pipes and a real Unix socket."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")

PROGRAM = "import sys; from toolscore.server.relay import relay; sys.exit(relay(sys.argv[1]))"


@contextmanager
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.settimeout(10)
        yield listener


@contextmanager
def relaying(tmp_path: Path, program: str = PROGRAM) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", program, str(tmp_path / "s")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    with listening(tmp_path) as listener, relaying(tmp_path) as process:
        owner, _ = listener.accept()
        with owner:
            owner.settimeout(10)
            yield process, owner


Joined = tuple[subprocess.Popen[bytes], socket.socket]


def received(owner: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (chunk := owner.recv(1 << 20)):
        found += chunk
    return bytes(found)


def read(process: subprocess.Popen[bytes], size: int = -1) -> bytes:
    assert process.stdout
    found = bytearray()
    while size < 0 or len(found) < size:
        assert select.select([process.stdout], [], [], 10)[0], "the relay said nothing for 10 seconds"
        chunk = os.read(process.stdout.fileno(), 1 << 20)
        if not chunk:
            break
        found += chunk
    return bytes(found)


def write(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin
    rest = memoryview(data)
    while rest:
        rest = rest[process.stdin.write(rest) or 0 :]


def end_input(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.close()


def errors(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr
    return process.stderr.read().decode()


def test_bytes_go_both_ways_untouched(joined: Joined) -> None:
    process, owner = joined
    write(process, b"hello \xff\x00 without a newline")
    assert received(owner, 25) == b"hello \xff\x00 without a newline"
    owner.sendall(b"\x00answer\n")
    assert read(process, 8) == b"\x00answer\n"


def test_what_comes_after_the_end_of_input_still_arrives_and_the_status_is_0(joined: Joined) -> None:
    process, owner = joined
    write(process, b"ask\n")
    end_input(process)
    assert received(owner, 1 << 20) == b"ask\n"  # up to the half-close
    owner.sendall(b"late answer\n")
    owner.close()
    assert read(process) == b"late answer\n"
    assert (process.wait(10), errors(process)) == (0, "")


def test_an_owner_that_vanishes_is_one_line_and_status_1(joined: Joined) -> None:
    process, owner = joined
    owner.sendall(b"last words\n")
    owner.close()
    assert read(process) == b"last words\n"
    assert process.wait(10) == 1
    (line,) = errors(process).splitlines()
    assert line.startswith("toolscore: the running ToolScore went away")


def test_a_socket_nobody_listens_at_is_one_line_and_status_1(tmp_path: Path) -> None:
    with relaying(tmp_path) as process:
        assert process.wait(10) == 1
        (line,) = errors(process).splitlines()
        assert str(tmp_path / "s") in line


def test_a_client_that_stops_reading_slows_its_owner_and_nothing_is_lost(joined: Joined) -> None:
    process, owner = joined
    data = os.urandom(1 << 16) * 128
    sender = threading.Thread(target=owner.sendall, args=(data,))
    owner.settimeout(30)
    sender.start()
    # The other direction flows while this one is full.
    write(process, b"still here\n")
    assert received(owner, 11) == b"still here\n"
    assert sender.is_alive()
    assert read(process, len(data)) == data
    sender.join(10)


def test_an_owner_that_stops_reading_slows_its_client_and_nothing_is_lost(joined: Joined) -> None:
    process, owner = joined
    data = os.urandom(1 << 16) * 128
    sender = threading.Thread(target=write, args=(process, data))
    sender.start()
    owner.sendall(b"still here\n")
    assert read(process, 11) == b"still here\n"
    assert sender.is_alive()
    assert received(owner, len(data)) == data
    sender.join(10)


def test_sigterm_ends_it_quietly_with_status_0(joined: Joined) -> None:
    process, owner = joined
    write(process, b"x")
    assert received(owner, 1) == b"x"
    process.send_signal(signal.SIGTERM)
    assert (process.wait(10), errors(process)) == (0, "")
    assert owner.recv(1) == b""


def test_sigterm_ends_it_while_its_client_does_not_read(joined: Joined) -> None:
    process, owner = joined
    owner.settimeout(0.5)
    with pytest.raises(TimeoutError):  # once everything between the two is full, the relay is blocked
        owner.sendall(bytes(1 << 24))
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_a_client_that_closed_its_pipe_ends_it_quietly(joined: Joined) -> None:
    process, owner = joined
    assert process.stdout
    process.stdout.close()
    owner.sendall(b"for nobody\n")
    assert (process.wait(10), errors(process)) == (0, "")


def test_a_signal_in_between_loses_nothing(tmp_path: Path) -> None:
    program = f"import signal; signal.signal(signal.SIGUSR1, lambda *_: None); {PROGRAM}"
    with listening(tmp_path) as listener, relaying(tmp_path, program) as process:
        owner, _ = listener.accept()
        with owner:
            for number in range(20):
                process.send_signal(signal.SIGUSR1)
                owner.sendall(b"%02d" % number)
                assert read(process, 2) == b"%02d" % number


def test_streams_somebody_made_non_blocking_work(tmp_path: Path) -> None:
    program = f"import os; os.set_blocking(0, False); os.set_blocking(1, False); {PROGRAM}"
    with listening(tmp_path) as listener, relaying(tmp_path, program) as process:
        owner, _ = listener.accept()
        with owner:
            data = bytes(range(256)) * 8192
            sender = threading.Thread(target=owner.sendall, args=(data,))
            sender.start()
            assert read(process, len(data)) == data
            sender.join(10)
            write(process, b"x")
            assert owner.recv(1) == b"x"


def test_an_owner_that_never_closes_does_not_keep_it_for_ever(tmp_path: Path) -> None:
    program = PROGRAM.replace(
        "import relay;", "import relay; import toolscore.server.relay as r; r._DRAIN = 0.1;"
    )
    with listening(tmp_path) as listener, relaying(tmp_path, program) as process:
        owner, _ = listener.accept()
        with owner:
            end_input(process)
            assert process.wait(10) == 0


def test_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, toolscore.server.relay;"
        "print({'pydantic', 'mcp', 'anyio', 'asyncio', 'rich', 'json'} & set(sys.modules) or '')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
