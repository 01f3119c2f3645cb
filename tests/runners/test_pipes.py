"""Lines out of bytes, and the line to a server over real pipes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import until
from toolscore.runners.base import Message
from toolscore.runners.codec import FrameError
from toolscore.runners.errors import ChildGoneError
from toolscore.runners.pipes import LONGEST_STDERR_LINE, LineSplitter, PipeChannel, StderrReader

BYTES = st.lists(st.sampled_from([b"\n", b"\r", b"a", b"bc", b"\n\n", b"\xc3\xa9\n", b"x" * 50])).map(
    b"".join
)


@given(BYTES, st.lists(st.integers(min_value=0, max_value=200)))
def test_lines_are_the_same_however_the_stream_is_cut(data: bytes, cuts: list[int]) -> None:
    splitter = LineSplitter()
    lines: list[bytes] = []
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(edges):
        lines += splitter.feed(data[start:end])
    *whole, rest = data.split(b"\n")
    assert lines == whole
    assert splitter.rest() == rest


def test_a_line_over_the_limit_is_refused() -> None:
    splitter = LineSplitter(limit=10)
    assert splitter.feed(b"0123456789") == []
    with pytest.raises(FrameError, match="more than 10 bytes"):
        splitter.feed(b"x")


def test_64_mib_in_64_kib_pieces_take_time_linear_in_their_length() -> None:
    def seconds(pieces: int) -> float:
        splitter, piece = LineSplitter(), b"x" * 65536
        began = time.thread_time()
        for _ in range(pieces):
            splitter.feed(piece)
        assert len(splitter.feed(b"\n")[0]) == pieces * 65536
        return time.thread_time() - began

    seconds(64)
    small, large = min(seconds(128) for _ in range(3)), min(seconds(1024) for _ in range(3))
    # Eight times the bytes; a search from the start at each piece would take sixty-four times as long.
    assert large < 30 * small + 0.05


class Line:
    """A channel and the server's ends of its pipes."""

    def __init__(self) -> None:
        reading, self.stdout = os.pipe()
        self.stdin, writing = os.pipe()
        self._ends = FileIO(reading, "rb"), FileIO(writing, "wb")
        self.channel = PipeChannel(lambda: "it went away")
        self.received: list[Message] = []
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.channel.open(*self._ends)

    def read(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self.channel.run(self.received.append))

    def close(self, *descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    made = Line()
    await made.open()
    try:
        yield made
    finally:
        made.channel.abandon()
        if made.task is not None:
            await made.task
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_what_arrives_before_anybody_reads_is_kept_in_order() -> None:
    async with line() as made:
        os.write(made.stdout, b'{"n": 1}\n{"n": 2}\n')
        await asyncio.sleep(0.01)
        made.read()
        os.write(made.stdout, b'{"n": 3}\n')
        await until(lambda: len(made.received) == 3)
        assert made.received == [{"n": 1}, {"n": 2}, {"n": 3}]
        made.close(made.stdout, made.stdin)


async def test_noise_is_kept_apart_and_blank_lines_are_nothing() -> None:
    async with line() as made:
        made.read()
        os.write(made.stdout, b'Hello!\n\n  \n[1]\n{"n": 1}\r\nlast words')
        made.close(made.stdout)
        await until(lambda: made.channel.noise().endswith("last words"))
        assert made.received == [{"n": 1}]
        assert made.channel.noise().splitlines() == ["Hello!", "[1]", "last words"]
        made.close(made.stdin)


async def test_a_line_without_end_closes_the_channel_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async with line() as made:
        monkeypatch.setattr(made.channel, "_splitter", LineSplitter(1000))
        made.read()
        os.write(made.stdout, b"x" * 2000)
        await made.channel.wait_closed()
        assert made.channel.fault == "wrote a line of more than 1000 bytes to its standard output"
        with pytest.raises(ChildGoneError) as gone:
            made.channel.send({})
        assert not gone.value.written
        made.close(made.stdout, made.stdin)


async def test_a_full_pipe_congests_the_channel_until_it_is_read() -> None:
    async with line() as made:
        made.read()
        while not made.channel.congested:
            made.channel.send({"data": "x" * 1_000_000})
        draining = asyncio.get_running_loop().create_task(made.channel.drain())
        await asyncio.sleep(0.01)
        assert not draining.done()
        reading = asyncio.get_running_loop().run_in_executor(None, _read_all, made.stdin)
        await asyncio.wait_for(draining, 10)
        await made.channel.aclose()
        assert await reading > 4 * 1024 * 1024
        made.close(made.stdout, made.stdin)


async def test_a_closed_input_still_lets_the_server_finish_its_answer() -> None:
    async with line() as made:
        made.read()
        await made.channel.aclose()
        assert await asyncio.to_thread(os.read, made.stdin, 10) == b""
        os.write(made.stdout, b'{"n": 1}\n')
        await until(lambda: made.received == [{"n": 1}])
        made.close(made.stdout, made.stdin)


async def test_a_server_that_closes_its_input_unasked_loses_the_line() -> None:
    async with line() as made:
        made.read()
        made.close(made.stdin)
        await asyncio.wait_for(made.channel.wait_closed(), 5)
        made.close(made.stdout)


async def test_standard_error_is_cut_into_lines_of_bounded_length() -> None:
    reading, writing = os.pipe()
    lines: list[str] = []
    reader = StderrReader(lines.append)
    await asyncio.get_running_loop().connect_read_pipe(lambda: reader, FileIO(reading, "rb"))
    os.set_blocking(writing, True)

    def write() -> None:
        with FileIO(writing, "wb") as file:
            file.write(b"one\r\ntwo\xff\n")
            for _ in range(8):
                file.write(b"y" * 32768)
            file.write(b"\nlast")

    await asyncio.get_running_loop().run_in_executor(None, write)
    await asyncio.wait_for(reader.closed.wait(), 5)
    assert lines[:2] == ["one", "two\ufffd"]
    assert lines[-1] == "last"
    assert max(map(len, lines)) <= LONGEST_STDERR_LINE


def _read_all(descriptor: int) -> int:
    count = 0
    while data := os.read(descriptor, 1 << 20):
        count += len(data)
    return count
