"""Ports that are lent to servers."""

from __future__ import annotations

import socket

import pytest

from toolscore.runners.errors import StartError
from toolscore.runners.ports import PortRange, is_free


def free_range(size: int) -> int:
    """The first port of a range in which all are free."""
    return next(
        port for port in range(52000, 60000, size) if all(is_free(port + offset) for offset in range(size))
    )


def test_no_port_is_lent_twice_and_one_that_is_given_back_can_be_lent_again() -> None:
    first = free_range(3)
    ports = PortRange(first, first + 2)
    lent = {name: ports.lend(name) for name in "abc"}
    assert set(lent.values()) == {first, first + 1, first + 2}
    with pytest.raises(StartError, match=f"no port between {first} and {first + 2} is free"):
        ports.lend("d")
    ports.give_back("b")
    assert ports.lend("d") == lent["b"]


def test_a_port_somebody_listens_on_is_passed_over() -> None:
    first = free_range(2)
    with socket.create_server(("127.0.0.1", first)):
        assert not is_free(first)
        assert PortRange(first, first + 1).lend("a") == first + 1
    assert is_free(first)


def test_a_server_that_starts_again_does_not_use_the_range_up() -> None:
    first = free_range(2)
    ports = PortRange(first, first + 1)
    assert len({ports.lend("a") for _ in range(10)}) <= 2


def test_a_port_that_was_just_used_is_taken_last() -> None:
    first = free_range(3)
    ports = PortRange(first, first + 2)
    lent = [ports.lend("a") for _ in range(4)]
    assert len(set(lent[:3])) == 3
    assert lent[3] == lent[0]


def test_giving_back_what_was_never_lent_is_nothing() -> None:
    PortRange(52000, 52001).give_back("nobody")


def test_two_of_one_machine_rarely_begin_at_the_same_port() -> None:
    assert len({PortRange(52000, 59999).lend("a") for _ in range(10)}) > 5


def test_a_range_without_a_port_lends_none() -> None:
    with pytest.raises(StartError):
        PortRange(52001, 52000).lend("a")
