"""Memory finds by what is meant, where the extra is installed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
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


class _Counting:
    """An encoder that is quick and takes note of what it is given; the first texts wait until they may."""

    model, size = "counting", 8

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.may = threading.Event()

    def warm(self, _wanted: object = None) -> None:
        self.may.wait(PATIENCE)

    def documents(self, texts: Sequence[str]) -> Any:
        import numpy as np

        self.seen += texts
        return np.ones((len(texts), self.size), np.float32)

    query = documents

    def rest(self) -> bool:
        return True


def test_a_large_import_of_one_user_does_not_hold_up_the_vectors_of_another(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    shelf = Shelf(tmp_path / "memory.db", Limits())
    encoder: Any = _Counting()
    meant = Meant(shelf, encoder)
    memory = Memory(shelf, meant)
    for at in range(0, 600, 300):
        say(memory, {str(n): f"import {n}" for n in range(at, at + 300)})
    say(memory, {"1": "Bob's only one"}, user="bob")
    encoder.may.set()
    assert meant.settle(PATIENCE)
    assert sorted(encoder.seen) == sorted([f"import {n}" for n in range(600)] + ["Bob's only one"])
    assert encoder.seen.index("Bob's only one") < 64
    meant.close()
    shelf.close()


def test_what_is_saved_in_the_moment_that_all_seems_done_is_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    shelf = Shelf(tmp_path / "memory.db", Limits())
    encoder: Any = _Counting()
    encoder.may.set()
    encode, meant = encoder.documents, Meant(shelf, encoder)
    memory = Memory(shelf, meant)
    looked, go_on = threading.Event(), threading.Event()
    saving = threading.Thread(target=say, args=(memory, {"1": "late"}))

    def held_up(texts: Sequence[str]) -> Any:
        assert go_on.wait(PATIENCE)
        return encode(texts)

    class News(threading.Event):
        def is_set(self) -> bool:
            found = super().is_set()
            if threading.current_thread() is meant._thread and not looked.is_set():
                saving.start()
                saving.join(1)  # it has said so, or waits until this is decided
                looked.set()
                time.sleep(0.5)  # and here the machine stands still
            return found

    assert meant.settle(PATIENCE)
    encoder.documents = held_up
    meant._news, before = News(), meant._news
    before.set()  # so that it looks once more
    assert looked.wait(PATIENCE)
    saving.join(PATIENCE)
    assert not meant.settle(2)
    go_on.set()
    assert meant.settle(PATIENCE)
    assert encoder.seen == ["late"]
    meant.close()
    shelf.close()


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
