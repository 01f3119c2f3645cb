"""Memory finds by what is meant, where the extra is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from toolscore.tools.memory.definitions import TOOLS
from toolscore.tools.memory.limits import Limits
from toolscore.tools.memory.meaning import Meant
from toolscore.tools.memory.memory import Asker, Memory
from toolscore.tools.memory.shelf import Shelf
from toolscore.tools.search.encoder import EncoderError, available, encoder

ARGUMENTS = {tool.name: tool.arguments for tool in TOOLS}
PATIENCE = 120.0

SAID = {
    "1": "My daughter was born in March 2019.",
    "2": "The server room is too hot; the air conditioning broke.",
    "3": "我对花生过敏，吃了会呼吸困难。",
    "4": "We should pay the supplier before Friday.",
    "5": "I play the violin in an amateur orchestra.",
}


def call(memory: Memory, tool: str, user: str = "alice", **words: Any) -> dict[str, Any]:
    return memory.call(tool, ARGUMENTS[tool].model_validate(words), Asker(user)).document


def say(memory: Memory, said: dict[str, str], session: str = "s", user: str = "alice") -> None:
    some = [{"role": "user", "id": key, "content": content} for key, content in said.items()]
    call(memory, "save_conversation", user, messages=some, session=session)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Memory, Meant]]:
    if (why := available()) is not None:
        pytest.skip(why)
    shelf = Shelf(tmp_path_factory.mktemp("meaning") / "memory.db", Limits())
    meant = Meant(shelf, encoder())
    memory = Memory(shelf, meant)
    say(memory, SAID)
    say(memory, {"6": "Bob keeps a horse."}, user="bob")
    assert meant.settle(PATIENCE)
    yield memory, meant
    meant.close()
    shelf.close()


def test_what_shares_no_word_with_the_question_is_found(parts: tuple[Memory, Meant]) -> None:
    memory, _ = parts
    for query, key in (
        ("how old is my child?", "1"),
        ("cooling failure in the data center", "2"),
        ("哪些坚果对我有危险？", "3"),
        ("有什么乐器爱好", "5"),
    ):
        answer = call(memory, "search_memory", query=query)
        assert answer["search"] == "words and meaning"
        assert answer["hits"][0]["id"] == key, query
        assert "meaning" in answer["hits"][0]["why"]
    context = call(memory, "get_context", query="invoice deadline", session="other")
    assert "4" in [message["id"] for message in context["messages"]]
    assert call(memory, "memory_usage")["meaning"] == "every message"


def test_meaning_keeps_to_user_and_filters_and_forgets_what_is_deleted(parts: tuple[Memory, Meant]) -> None:
    memory, meant = parts
    query = "riding an animal"
    assert "6" not in [hit["id"] for hit in call(memory, "search_memory", query=query)["hits"]]
    assert call(memory, "search_memory", "bob", query=query)["hits"][0]["id"] == "6"
    say(memory, {"7": "The pony needs new horseshoes."}, session="stable")
    assert meant.settle(PATIENCE)
    only = call(memory, "search_memory", query=query, session="stable")["hits"]
    assert {hit["session"] for hit in only} == {"stable"}
    assert call(memory, "search_memory", query=query)["hits"][0]["id"] == "7"
    call(memory, "delete_memory", session="stable")
    assert "7" not in [hit["id"] for hit in call(memory, "search_memory", query=query)["hits"]]


class _Broken:
    model, size = "broken", 8

    def warm(self, _wanted: object = None) -> None:
        raise EncoderError("a part of it is missing")

    documents = query = rest = warm


def test_without_its_models_it_goes_on_by_words_and_says_so(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "memory.db", Limits())
    broken: Any = _Broken()
    meant = Meant(shelf, broken)
    memory = Memory(shelf, meant)
    say(memory, SAID)
    assert meant.settle(PATIENCE)
    answer = call(memory, "search_memory", query="violin")
    assert (answer["search"], answer["hits"][0]["id"]) == ("words", "5")
    assert "by words only (not available" in call(memory, "search_memory", query="zebra")["note"]
    assert call(memory, "memory_usage")["meaning"] == "not available: a part of it is missing"
    meant.close()
    shelf.close()
