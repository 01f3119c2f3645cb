"""What the relay reads of a frame without decoding it, and how it cuts a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolscore.server.relay_frames import (
    ANSWER,
    LAST,
    NOTICE,
    OTHER,
    PIECE,
    REQUEST,
    WHOLE,
    Ends,
    Splitter,
    key,
    read,
)

IDS = st.one_of(st.integers(), st.text(max_size=10))
INNER = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["id", "method", "result", "x"]), inner)
    ),
    max_leaves=8,
)


def test_each_kind_is_known_however_it_is_written() -> None:
    request = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"id": 9}}
    for order in (
        ("jsonrpc", "id", "method", "params"),
        ("method", "params", "jsonrpc", "id"),
        ("params", "id", "jsonrpc", "method"),
        ("jsonrpc", "method", "params", "id"),
    ):
        for separators in ((",", ":"), (", ", ": ")):
            frame = json.dumps({name: request[name] for name in order}, separators=separators).encode()
            assert read(frame + b"\n") == (REQUEST, b"7", b"tools/call")
            assert read(b"  " + frame) == (REQUEST, b"7", b"tools/call")
    assert read(b'{"jsonrpc":"2.0","id":"a","result":{}}\n') == (ANSWER, b'"a"', b"result")
    assert read(b'{"result":{"id":1},"jsonrpc":"2.0","id":"a"}\n') == (ANSWER, b'"a"', b"result")
    assert read(b'{"jsonrpc":"2.0","id":3,"error":{"code":1}}\n') == (ANSWER, b"3", b"error")
    assert read(b'{"method":"notifications/x","params":{"id":5}}\n') == (NOTICE, b"", b"notifications/x")


def test_what_is_no_message_is_none() -> None:
    for frame in (
        b"[]",
        b"nonsense",
        b'{"id":1.5,"method":"x"}',
        b'{"id":true,"result":1}',
        b"3",
        b'{"id":7}',
    ):
        assert read(frame) == (OTHER, b"", b"")


@given(
    identity=IDS,
    method=st.text(max_size=12),
    inner=INNER,
    order=st.permutations(range(4)),
    ascii=st.booleans(),
)
def test_short_cuts_say_what_decoding_says(
    identity: Any, method: str, inner: Any, order: list[int], ascii: bool
) -> None:
    for members in (
        [("jsonrpc", "2.0"), ("id", identity), ("method", method), ("params", inner)],
        [("jsonrpc", "2.0"), ("id", identity), ("result", inner), ("more", inner)],
        [("jsonrpc", "2.0"), ("method", f"notifications/{method}"), ("params", inner), ("more", inner)],
    ):
        message = dict(members[place] for place in order)
        frame = json.dumps(message, separators=(",", ":"), ensure_ascii=ascii).encode(errors="surrogatepass")
        if "method" not in message:
            expected = (ANSWER, key(identity), b"result")
        elif "id" in message:
            expected = (REQUEST, key(identity), method.encode(errors="replace"))
        else:
            expected = (NOTICE, b"", message["method"].encode(errors="replace"))
        found = read(frame)
        if found[0] == NOTICE and b"\\" in frame[:60]:  # a method nobody has: as it is written
            found = (NOTICE, b"", expected[2])
        assert found == expected


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(1, 20), max_size=30))
def test_a_stream_is_cut_at_its_lines_and_no_byte_is_lost(data: bytes, cuts: list[int]) -> None:
    splitter = Splitter(hold=16)
    parts: list[tuple[int, bytes]] = []
    rest = data
    for size in [*cuts, len(data)]:
        if rest[:size]:
            parts += splitter.feed(rest[:size])
        rest = rest[size:]
    parts += splitter.rest()
    whole = b"".join(part for _, part in parts)
    assert whole in (data, data + b"\n")
    for kind, part in parts:
        assert (b"\n" in part) == (kind in (WHOLE, LAST))
        assert part.find(b"\n") in (-1, len(part) - 1)


def test_a_long_frame_passes_in_pieces_and_is_known_at_its_end() -> None:
    frame = b'{"method":"tools/call","params":{"x":"%s"},"jsonrpc":"2.0","id":12}\n' % (b"y" * 1000)
    splitter, ends = Splitter(hold=100), Ends()
    kinds = []
    for start in range(0, len(frame), 50):
        for kind, piece in splitter.feed(frame[start : start + 50]):
            kinds.append(kind)
            ends.add(piece)
    assert (set(kinds[:-1]), kinds[-1]) == ({PIECE}, LAST)
    assert ends.read() == (REQUEST, b"12", b"tools/call")


@pytest.mark.parametrize("identity", ["é", "a\\b", '"', "\u2028"])
def test_ids_are_the_same_however_they_are_escaped(identity: str) -> None:
    for ascii in (True, False):
        frame = json.dumps({"jsonrpc": "2.0", "id": identity, "method": "x"}, ensure_ascii=ascii).encode()
        assert read(frame)[1] == key(identity)
