"""The words of a text, and those that are written with a hyphen or without."""

from __future__ import annotations

import pytest

from toolscore.tools.search.document import Document
from toolscore.tools.search.index import Index
from toolscore.tools.search.tokens import words

OTHERS = [
    Document(f"others__{name}", name, "others", "", description, "")
    for name, description in (
        ("now", "Tells the current time of a place"),
        ("read_file", "Reads a file"),
        ("translate", "Puts a sentence into another language"),
    )
]


def tool(description: str) -> Document:
    return Document("one__it", "it", "one", "", description, "")


@pytest.mark.parametrize(
    ("hyphened", "whole"),
    [
        ("Wi-Fi", "wifi"),
        ("e-mails", "email"),
        ("to-do", "todo"),
        ("create-to-do", "todo"),
        ("log-in", "login"),
        ("time-stamp", "timestamp"),
        ("time\u2011stamp", "timestamp"),
        ("sha-256", "SHA256"),
        ("résumé-builder", "resumebuilder"),
    ],
)
def test_a_word_with_a_hyphen_and_the_same_without_find_each_other(hyphened: str, whole: str) -> None:
    index = Index()
    index.put("others", OTHERS)
    for written, asked in ((hyphened, whole), (whole, hyphened), (hyphened, hyphened), (whole, whole)):
        index.put("one", [tool(f"Deals with {written} here")])
        assert index.search(asked)[0].key == "one__it"


def test_a_word_that_only_the_query_writes_together_lacks_nothing_where_its_parts_are_there() -> None:
    index = Index()
    index.put("others", OTHERS)
    index.put("one", [tool("Rounds to 5 minutes")])
    assert index.search("round to 5minutes")[0].score == index.search("round to 5 minutes")[0].score
    index.put("two", [Document("two__it", "it", "two", "", "Takes 5minutes", "")])
    assert index.search("5minutes")[0].key == "two__it"


def test_among_few_tools_a_name_that_none_has_weighs_less_than_another_unknown_word() -> None:
    few, many = Index(), Index()
    for index, count in ((few, 0), (many, 2000)):
        index.put("others", OTHERS)
        index.put("noise", [Document(f"noise__{at}", "n", "noise", "", "nothing", "") for at in range(count)])

    def share(index: Index, query: str) -> float:
        return index.search(query)[0].score / index.search("the current time of a place")[0].score

    name, kind = "the current time of a place in Lisbon", "the current time of a place in lisbon"
    assert share(few, kind) < share(few, name) < 1
    assert share(many, name) - share(many, kind) < 0.01
    # What is in capitals is a kind of thing, and so may be whatever begins a query.
    assert share(few, "the current time of a place in LISBON") == share(few, kind)
    assert share(few, "Lisbon: the current time of a place") == share(few, kind)


def test_a_link_a_path_or_an_address_is_searched_for_as_what_it_is() -> None:
    index = Index()
    index.put("others", OTHERS)
    index.put("trap", [Document("trap__a", "weekly", "trap", "", "weekly plants org home", "")])
    index.put("web", [Document("web__fetch", "fetch", "web", "", "Gives the text of a web page", "")])
    assert index.search("read /home/weekly/plants")[0].key == "others__read_file"
    assert index.search("get https://weekly.org/plants")[0].key == "web__fetch"
    assert index.search("weekly plants")[0].key == "trap__a"


def test_parts_of_a_word_with_a_hyphen_are_words_too_and_dates_and_chains_make_no_words() -> None:
    assert words("real-time") == [*words("real time"), *words("realtime")]
    assert words("2026-01-02 555-1234") == words("2026 01 02 555 1234")
    assert words("text-to-speech") == words("text to speech")
    index = Index()
    index.put("others", OTHERS)
    index.put("one", [tool("Data in real time")])
    assert index.search("real-time data")[0].score == index.search("real time data")[0].score
