"""Servers by their tools and entries, and whether what was found will do."""

from __future__ import annotations

import pytest

from toolscore.tools.search.assess import assess
from toolscore.tools.search.index import Hit
from toolscore.tools.search.servers import rank_servers
from toolscore.tools.search.stemming import stem


def hit(server: str, score: float, *, name: str = "t", exact: bool = False) -> Hit:
    return Hit(f"{server}__{name}", server, score, f"matches {name}", exact, score)


def test_a_server_is_ranked_by_its_best_tool_and_its_own_words() -> None:
    tools = [hit("a", 0.6), hit("b", 0.58), hit("a", 0.5, name="u")]
    ranked = rank_servers(tools, [hit("b", 0.9), hit("c", 0.7)])
    assert [one.server for one in ranked] == ["b", "a", "c"]
    assert ranked[1].tools == ("a__t", "a__u")
    assert all(0 <= one.score <= 1 for one in ranked)
    assert rank_servers([], []) == []
    assert len(rank_servers(tools, [], 1)) == 1


def test_a_server_of_which_no_tool_is_known_goes_by_its_words_and_one_with_known_tools_by_those_too() -> None:
    tools, entries = [hit("known", 0.25)], [hit("unknown", 0.4), hit("poor", 0.1), hit("known", 0.1)]
    ranked = rank_servers(tools, entries, with_tools={"known"})
    assert [one.server for one in ranked] == ["unknown", "known", "poor"]
    # Of whose tools are known and none was found, its words alone say less.
    assert rank_servers(tools, entries, with_tools={"known", "unknown"})[0].server == "known"


def test_nothing_found_is_a_gap() -> None:
    assert assess([]).label == "gap"
    assert assess([], [hit("a", 0.9)]).label == "gap"


def test_the_exact_name_is_covered() -> None:
    assert assess([hit("a", 1, exact=True)], [hit("b", 1)]).label == "covered"


def test_what_is_as_good_as_the_catalog_is_covered_and_what_is_far_from_it_a_gap() -> None:
    same, far = assess([hit("a", 0.7)], [hit("b", 0.7)]), assess([hit("a", 0.1)], [hit("b", 0.7)])
    assert (same.label, far.label) == ("covered", "gap")
    assert same.confidence >= 0.8
    assert far.confidence >= 0.75
    assert assess([hit("a", 0.36)], [hit("b", 0.6)]).label == "unsure"


def test_without_a_catalog_the_score_alone_decides() -> None:
    assert assess([hit("a", 0.6)]).label == "covered"
    assert assess([hit("a", 0.03)]).label == "gap"


@pytest.mark.parametrize(
    ("word", "root"),
    [
        ("caresses", "caress"),
        ("ponies", "poni"),
        ("agreed", "agre"),
        ("hopping", "hop"),
        ("falling", "fall"),
        ("filing", "file"),
        ("happy", "happi"),
        ("relational", "relat"),
        ("vietnamization", "vietnam"),
        ("electricity", "electr"),
        ("adjustable", "adjust"),
        ("probate", "probat"),
        ("controlling", "control"),
        ("skies", "ski"),
        ("by", "by"),
    ],
)
def test_words_have_the_stems_that_porter_gave_them(word: str, root: str) -> None:
    assert stem(word) == root
