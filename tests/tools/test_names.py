"""Names a model sees: plain, short, stable, and never one name for two tools."""

from __future__ import annotations

import re
import string
from itertools import permutations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from toolscore.tools.names import assign, exposed_name, valid_server_name

PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")

ANY = st.text(max_size=80)
NEAR = st.text("a_-. é", max_size=6)
"""Names that are easily mistaken for one another."""

SERVERS = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=32).filter(
    lambda name: valid_server_name(name) is None
)
PAIRS = st.tuples(ANY, ANY) | st.tuples(NEAR, NEAR) | st.tuples(SERVERS, NEAR)


@pytest.mark.parametrize(
    ("server", "tool", "name"),
    [
        ("time", "get_current_time", "time__get_current_time"),
        ("my-server", "Read-File", "my-server__Read-File"),
        ("a", "_b", "a___b"),
        ("a", "b__c", "a__b__c"),
        ("s" * 32, "t" * 30, "s" * 32 + "__" + "t" * 30),
    ],
)
def test_a_plain_short_name_stays_readable(server: str, tool: str, name: str) -> None:
    assert exposed_name(server, tool) == name


@pytest.mark.parametrize(
    ("server", "tool", "stem"),
    [
        ("time", "get time", "time__get_time_"),
        ("time", "時刻", "time_____"),
        ("a_", "b", "a___b_"),
        ("a__b", "c", "a__b__c_"),
        ("time", "x" * 80, "time__" + "x" * 49 + "_"),
    ],
)
def test_any_other_gets_eight_digits_of_a_hash(server: str, tool: str, stem: str) -> None:
    assert re.fullmatch(re.escape(stem) + "[0-9a-f]{8}", exposed_name(server, tool))


def test_the_hash_is_over_both_true_names() -> None:
    # printf 'time\0get time' | sha256sum
    import hashlib

    assert exposed_name("time", "get time")[-8:] == hashlib.sha256(b"time\0get time").hexdigest()[:8]


@given(PAIRS)
def test_a_name_fits_every_client_and_is_the_same_each_time(pair: tuple[str, str]) -> None:
    assert PLAIN.fullmatch(exposed_name(*pair))
    assert exposed_name(*pair) == exposed_name(*pair)


@given(PAIRS, PAIRS)
def test_two_pairs_never_share_a_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    assume(one != other)
    assert exposed_name(*one) != exposed_name(*other)


@given(SERVERS, SERVERS, st.text(), st.text())
def test_tools_of_two_well_formed_servers_can_not_meet_even_by_malice(
    one: str, other: str, tool: str, imitation: str
) -> None:
    assume(one != other)
    name = exposed_name(one, tool)
    assert name.startswith(f"{one}__")
    assert exposed_name(other, imitation) != name
    assert exposed_name(other, name.removeprefix(f"{other}__")) != name


@given(SERVERS, st.lists(ANY | NEAR, max_size=12), st.sets(NEAR, max_size=5))
def test_every_tool_of_a_server_gets_its_own_name(server: str, tools: list[str], others: set[str]) -> None:
    taken = {exposed_name(server, tool) for tool in others}
    names = assign(server, tools, taken)
    assert list(names) == list(dict.fromkeys(tools))
    assert len(set(names.values())) == len(names)
    assert not taken & set(names.values())
    assert all(PLAIN.fullmatch(name) for name in names.values())


@given(SERVERS, st.lists(ANY, unique=True, max_size=12))
def test_without_a_collision_a_tool_has_the_name_that_follows_from_its_own_two(
    server: str, tools: list[str]
) -> None:
    assert assign(server, tools, ()) == {tool: exposed_name(server, tool) for tool in tools}


def test_a_tool_that_imitates_anothers_hash_gets_a_hash_of_its_own_in_any_order() -> None:
    honest = "get time"
    stolen = exposed_name("s", honest).removeprefix("s__")
    again = assign("s", [honest, stolen], ())[stolen].removeprefix("s__")
    results = [assign("s", order, ()) for order in permutations([honest, stolen, again, "plain"])]
    assert all(result == results[0] for result in results)
    assert len(set(results[0].values())) == 4
    assert results[0]["plain"] == "s__plain"


def test_a_name_that_is_taken_is_never_given_again() -> None:
    taken = {exposed_name("a", "b"): "somebody"}
    first = assign("a", ["b"], taken)["b"]
    assert re.fullmatch("a__b_[0-9a-f]{8}", first)
    second = assign("a", ["b"], {*taken, first})["b"]
    assert second not in {*taken, first}


@pytest.mark.parametrize("name", ["time", "a", "7zip", "My-Server", "a_b-c", "x" * 32, "toolscore2", "a-"])
def test_a_well_formed_server_name_is_fine(name: str) -> None:
    assert valid_server_name(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "needs a name"),
        ("x" * 33, "at most 32 characters, and this has 33"),
        ("a b", "letters A-Z and a-z, digits"),
        ("zeit-é", "letters A-Z and a-z, digits"),
        ("a/b", "letters A-Z and a-z, digits"),
        ("a\n", "letters A-Z and a-z, digits"),
        (".", "letters A-Z and a-z, digits"),
        ("-a", "starts with a letter or a digit"),
        ("_a", "starts with a letter or a digit"),
        ("a__b", "no `__`"),
        ("a_", "no `_` at its end"),
        ("toolscore", "ToolScore's own tools"),
        ("ToolScore", "ToolScore's own tools"),
    ],
)
def test_any_other_is_refused_with_the_reason(name: str, reason: str) -> None:
    said = valid_server_name(name)
    assert said is not None
    assert reason in said
    assert said.endswith(".")
