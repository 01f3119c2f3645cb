"""The relay: a real process between real pipes and a Unix socket, on which the test is the ToolScore."""

from __future__ import annotations

import json
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

from toolscore.server.relay_patience import CRASHES

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")

PROGRAM = """
import socket, sys
from toolscore.server.hello import Hello
from toolscore.server.landlord import UnreachableError
from toolscore.server.relay import Relay

class Landlord:
    def find(self):
        return None

    def reach(self):
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(sys.argv[1])
        except OSError:
            raise UnreachableError(sys.argv[1])
        return line

try:
    status = Relay(Landlord(), Hello("1", names=("LENT",))).run()
except UnreachableError as error:
    print(f"gave up: {error}", file=sys.stderr)
    status = 1
sys.exit(status)
"""
WELCOME = b'{"jsonrpc":"2.0","method":"notifications/toolscore/welcome"}\n'
GOODBYE = b'{"jsonrpc":"2.0","method":"notifications/toolscore/goodbye"}\n'


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


@contextmanager
def welcomed(listener: socket.socket) -> Iterator[socket.socket]:
    """Take in a relay as a ToolScore does."""
    owner, _ = listener.accept()
    with owner:
        owner.settimeout(10)
        assert json.loads(line(owner))["method"] == "notifications/toolscore/hello"
        owner.sendall(WELCOME)
        yield owner


def line(owner: socket.socket) -> bytes:
    """Read one line and not a byte more."""
    found = bytearray()
    while not found.endswith(b"\n"):
        byte = owner.recv(1)
        assert byte, found
        found += byte
    return bytes(found)


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    with listening(tmp_path) as listener, relaying(tmp_path) as process, welcomed(listener) as owner:
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


def request(identity: object, method: str = "tools/call", **params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}).encode() + b"\n"


def answer(identity: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": identity, "result": {}}).encode() + b"\n"


def test_lines_go_both_ways_untouched(joined: Joined) -> None:
    process, owner = joined
    write(process, b"hello \xff\x00\n[batch]\n")
    assert received(owner, 16) == b"hello \xff\x00\n[batch]\n"
    owner.sendall(b"\x00answer\n")
    assert read(process, 8) == b"\x00answer\n"


def test_what_comes_after_the_end_of_input_still_arrives_and_the_status_is_0(joined: Joined) -> None:
    process, owner = joined
    write(process, b"ask")  # the last line needs no end
    end_input(process)
    assert received(owner, 1 << 20) == b"ask\n"  # up to the half-close
    owner.sendall(b"late answer\n")
    owner.close()
    assert read(process) == b"late answer\n"
    assert (process.wait(10), errors(process)) == (0, "")


def test_one_that_says_goodbye_is_left_alone_until_the_next_request(tmp_path: Path) -> None:
    with listening(tmp_path) as listener, relaying(tmp_path) as process:
        with welcomed(listener) as owner:
            write(process, request(1))
            assert line(owner) == request(1)
            owner.sendall(GOODBYE)
        lost = json.loads(read(process, 10).splitlines()[0])
        assert lost["result"]["_meta"] == {"toolscore/outcome": "outcome_unknown"}
        write(process, b'{"jsonrpc":"2.0","method":"notifications/progress"}\n')
        listener.settimeout(0.3)
        with pytest.raises(TimeoutError):
            listener.accept()
        listener.settimeout(10)
        write(process, request(2))
        with welcomed(listener) as owner:
            assert line(owner) == request(2)
            owner.sendall(answer(2))
            assert read(process, 10) == answer(2)


def test_what_was_surely_not_delivered_is_sent_to_the_next_one(tmp_path: Path) -> None:
    with listening(tmp_path) as listener, relaying(tmp_path) as process:
        large = request(2, text="x" * (4 << 20))
        with welcomed(listener) as owner:
            write(process, request(1) + large)
            assert line(owner) == request(1)
            assert owner.recv(1000)  # a part of the large one; the rest does not fit the socket
        with welcomed(listener) as owner:
            assert received(owner, len(large)) == large
            told = [json.loads(one) for one in read(process, 10).splitlines()]
            assert [message["id"] for message in told] == [1]
            owner.sendall(answer(2))
            assert read(process, 10) == answer(2)


def test_a_request_too_long_to_be_held_that_was_half_delivered_was_not_done(tmp_path: Path) -> None:
    with listening(tmp_path) as listener, relaying(tmp_path) as process:
        large = request(2, text="x" * (20 << 20))
        writer = threading.Thread(target=write, args=(process, large + request(3)))
        with welcomed(listener) as owner:
            writer.start()
            received(owner, 1 << 20)
        with welcomed(listener) as owner:
            (told,) = [json.loads(one) for one in read(process, 10).splitlines()]
            assert (told["id"], told["result"]["_meta"]) == (2, {"toolscore/outcome": "unavailable"})
            assert line(owner) == request(3)
        writer.join(10)


def test_a_message_too_long_to_be_held_passes(joined: Joined) -> None:
    process, owner = joined
    large = request(2, text="x" * (20 << 20))
    writer = threading.Thread(target=write, args=(process, large))
    writer.start()
    assert received(owner, len(large)) == large
    writer.join(10)
    back = answer(2)[:-2] + b" " * (20 << 20) + b"}\n"
    sender = threading.Thread(target=owner.sendall, args=(back,))
    sender.start()
    assert read(process, len(back)) == back
    sender.join(10)


def test_a_half_message_of_one_that_crashed_is_ended(tmp_path: Path) -> None:
    with listening(tmp_path) as listener, relaying(tmp_path) as process:
        with welcomed(listener) as owner:
            write(process, request(1))
            line(owner)
            half = b'{"jsonrpc":"2.0","id":1,"result":{"x":"' + b"y" * (9 << 20)
            sender = threading.Thread(target=owner.sendall, args=(half,))
            sender.start()
            begun = read(process, len(half))
            sender.join(10)
        with welcomed(listener):
            lines = (begun + read(process, 10)).split(b"\n")
            assert json.loads(lines[1])["result"]["_meta"] == {"toolscore/outcome": "outcome_unknown"}


def test_variables_are_lent_to_toolscore_and_only_those_that_were_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENT", "a value")
    monkeypatch.setenv("SECRET", "another")
    with listening(tmp_path) as listener, relaying(tmp_path) as process, welcomed(listener) as owner:
        owner.sendall(request("e", "toolscore/environment", names=["LENT", "SECRET", "NONE"]))
        assert json.loads(line(owner)) == {
            "jsonrpc": "2.0",
            "id": "e",
            "result": {"values": {"LENT": "a value"}},
        }
        owner.sendall(b"visible\n")
        assert read(process, 8) == b"visible\n"


def test_requests_are_held_back_while_it_drains_and_answers_are_not(tmp_path: Path) -> None:
    with listening(tmp_path) as listener, relaying(tmp_path) as process:
        with welcomed(listener) as owner:
            owner.sendall(request("q", "elicitation/create"))
            read(process, 10)
            owner.sendall(b'{"jsonrpc":"2.0","method":"notifications/toolscore/draining"}\n')
            assert json.loads(line(owner))["method"] == "notifications/toolscore/held"
            write(process, request(1) + request(2) + answer("q"))
            write(process, b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}\n')
            assert line(owner) == answer("q")
            assert json.loads(line(owner))["method"] == "notifications/cancelled"
            owner.sendall(GOODBYE)
        with welcomed(listener) as owner:
            assert line(owner) == request(2)


def test_one_that_drains_while_it_takes_in_a_client_anew_is_not_asked_any_more(tmp_path: Path) -> None:
    with listening(tmp_path) as listener, relaying(tmp_path) as process:
        with welcomed(listener) as owner:
            write(process, request(1, "initialize"))
            line(owner)
            owner.sendall(answer(1))
            read(process, len(answer(1)))
        with welcomed(listener) as owner:
            introduced = json.loads(line(owner))
            write(process, request(2))
            owner.sendall(b'{"jsonrpc":"2.0","method":"notifications/toolscore/draining"}\n')
            assert json.loads(line(owner))["method"] == "notifications/toolscore/held"
            owner.sendall(answer(introduced["id"]) + GOODBYE)
            owner.shutdown(socket.SHUT_WR)
            assert received(owner, 1) == b""
        with welcomed(listener) as owner:
            owner.sendall(answer(json.loads(line(owner))["id"]))
            assert json.loads(line(owner))["id"] == 2


def test_where_nobody_can_be_reached_requests_are_answered_and_the_status_is_1(tmp_path: Path) -> None:
    with relaying(tmp_path) as process:
        write(process, request(1))
        assert process.wait(10) == 1
        assert "gave up" in errors(process)


def test_what_dies_while_a_relay_comes_to_it_once_more_crashed_once(tmp_path: Path) -> None:
    with listening(tmp_path) as listener, relaying(tmp_path) as process:
        for crash in range(1, CRASHES + 1):
            with welcomed(listener):
                pass
            if crash < CRASHES:
                listener.accept()[0].close()  # as the kernel does with who waits to be taken in
        assert process.wait(10) == 1
        assert f"crashed {CRASHES} times" in errors(process)


def test_what_crashes_whenever_it_is_to_take_in_a_relay_is_given_up(tmp_path: Path) -> None:
    with listening(tmp_path) as listener, relaying(tmp_path) as process:
        for _ in range(CRASHES + 1):  # the first end may be that of one that crashed before
            listener.accept()[0].close()
        assert process.wait(10) == 1
        assert f"crashed {CRASHES} times" in errors(process)


def lines_of(size: int) -> bytes:
    """Bytes that are no messages, in lines of all lengths."""
    return (os.urandom(1 << 16) * (size >> 16))[:-1] + b"\n"


def test_a_client_that_stops_reading_slows_its_owner_and_nothing_is_lost(joined: Joined) -> None:
    process, owner = joined
    data = lines_of(1 << 23)
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
    data = lines_of(1 << 23)
    sender = threading.Thread(target=write, args=(process, data))
    sender.start()
    owner.sendall(b"still here\n")
    assert read(process, 11) == b"still here\n"
    assert sender.is_alive()
    assert received(owner, len(data)) == data
    sender.join(10)


def test_sigterm_ends_it_quietly_with_status_0(joined: Joined) -> None:
    process, owner = joined
    write(process, b"x\n")
    assert received(owner, 2) == b"x\n"
    process.send_signal(signal.SIGTERM)
    assert (process.wait(10), errors(process)) == (0, "")
    assert owner.recv(1) == b""


def test_sigterm_ends_it_while_its_client_does_not_read(joined: Joined) -> None:
    process, owner = joined
    owner.settimeout(0.5)
    with pytest.raises(TimeoutError):  # once everything between the two is full, the relay is blocked
        owner.sendall(lines_of(1 << 25))
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_a_client_that_closed_its_pipe_ends_it_quietly(joined: Joined) -> None:
    process, owner = joined
    assert process.stdout
    process.stdout.close()
    owner.sendall(b"for nobody\n")
    assert (process.wait(10), errors(process)) == (0, "")


def test_a_signal_in_between_loses_nothing(tmp_path: Path) -> None:
    program = f"import signal; signal.signal(signal.SIGUSR1, lambda *_: None)\n{PROGRAM}"
    with listening(tmp_path) as listener, relaying(tmp_path, program) as process, welcomed(listener) as owner:
        for number in range(20):
            process.send_signal(signal.SIGUSR1)
            owner.sendall(b"%02d\n" % number)
            assert read(process, 3) == b"%02d\n" % number


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_streams_somebody_made_non_blocking_work(tmp_path: Path, kind: str) -> None:
    program = f"import os; os.set_blocking(0, False); os.set_blocking(1, False)\n{PROGRAM}"
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", program, str(tmp_path / "s")]
    with ours, listening(tmp_path) as listener:
        streams = {"stdin": theirs, "stdout": theirs} if kind == "socket" else {}
        both = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **streams}
        with subprocess.Popen(command, bufsize=0, **both) as process:  # type: ignore[call-overload]
            theirs.close()
            with welcomed(listener) as owner:
                data = lines_of(1 << 21)
                sender = threading.Thread(target=owner.sendall, args=(data,))
                sender.start()
                assert (received(ours, len(data)) if kind == "socket" else read(process, len(data))) == data
                sender.join(10)
                ours.sendall(b"x\n") if kind == "socket" else write(process, b"x\n")
                assert line(owner) == b"x\n"
                process.kill()


def test_an_owner_that_never_closes_does_not_keep_it_for_ever(tmp_path: Path) -> None:
    program = f"import toolscore.server.relay as r; r.DRAIN = 0.1\n{PROGRAM}"
    with listening(tmp_path) as listener, relaying(tmp_path, program) as process, welcomed(listener):
        end_input(process)
        assert process.wait(10) == 0


def test_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, toolscore.server.relay, toolscore.server.landlord;"
        "print({'pydantic', 'mcp', 'anyio', 'asyncio', 'rich', 'subprocess', 'packaging'} & set(sys.modules) or '')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
