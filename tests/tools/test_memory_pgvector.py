"""Where PostgreSQL has pgvector, it compares what messages mean, and finds what a comparison in the process finds."""

from __future__ import annotations

import hashlib
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from postgres import Postgres
from toolscore.tools.database import Where
from toolscore.tools.errors import StoreError
from toolscore.tools.memory.definitions import TOOLS
from toolscore.tools.memory.limits import Limits
from toolscore.tools.memory.looking import seen
from toolscore.tools.memory.meaning import Meant
from toolscore.tools.memory.memory import Asker, Memory
from toolscore.tools.memory.shelf import Shelf

np = pytest.importorskip("numpy")

ARGUMENTS = {tool.name: tool.arguments for tool in TOOLS}
PATIENCE = 120.0
KINDS = {"cat": 0, "kitten": 0, "猫": 0, "invoice": 1, "bill": 1, "rain": 2, "storm": 2}


class Small:
    """An encoder that knows few words, and so says at once what means the same. Every text differs a little."""

    model, size = "it's small", 16

    def warm(self, _wanted: Callable[[], bool] = lambda: True) -> None:
        """Need nothing."""

    def rest(self) -> bool:
        return True

    def documents(self, texts: Sequence[str]) -> Any:
        rows = []
        for text in texts:
            noise = hashlib.sha256(text.encode()).digest()[: self.size]
            row = [0.4 * (byte / 255 - 0.5) for byte in noise]
            for word, kind in KINDS.items():
                row[kind] += word in text
            long = math.sqrt(sum(one * one for one in row))
            rows.append([one / long for one in row])
        return np.asarray(rows, np.float32)

    def query(self, text: str) -> Any:
        return self.documents([text, *text.split(". ")])


class House:
    """Memory that finds by meaning, over one database."""

    def __init__(self, url: Where, encoder: Any = None) -> None:
        self.shelf = Shelf(url, Limits())
        self.meant = Meant(self.shelf, encoder or Small())
        self.memory = Memory(self.shelf, self.meant)

    def __call__(self, tool: str, user: str = "alice", **words: Any) -> dict[str, Any]:
        return self.memory.call(tool, ARGUMENTS[tool].model_validate(words), Asker(user)).document

    def say(self, said: dict[str, str], user: str = "alice", session: str = "s") -> None:
        some = [{"role": "user", "id": key, "content": content} for key, content in said.items()]
        self("save_conversation", user, messages=some, session=session)
        assert self.meant.settle(PATIENCE)

    def found(self, query: str, user: str = "alice", **words: Any) -> list[tuple[str, float, str]]:
        hits = self("search_memory", user, query=query, **words)["hits"]
        return [(hit["id"], hit["score"], hit["why"]) for hit in hits]

    def compared(self) -> str:
        told: str = self("memory_usage")["vectors"]
        return told

    def close(self) -> None:
        self.meant.close()
        self.shelf.close()


Housing = Callable[..., House]


@pytest.fixture
def housing() -> Iterator[Housing]:
    made: list[House] = []

    def one(url: Where, encoder: Any = None) -> House:
        made.append(House(url, encoder))
        assert made[-1].meant.settle(PATIENCE)
        return made[-1]

    yield one
    for house in made:
        house.close()


SAID = {
    "1": "the cat sleeps on the sofa",
    "2": "pay the invoice by Friday",
    "3": "rain all week",
    "4": "下雨了，猫在家",
    "5": "a storm broke the fence",
}
QUESTIONS = ("kitten", "which bill is due", "is there a storm. or a kitten", "猫", "kitten on the sofa")


def test_it_finds_what_a_comparison_in_the_process_finds_and_nothing_of_others(
    pgvector: Postgres, tmp_path: Path, housing: Housing
) -> None:
    there, without = housing(pgvector.database()), housing(tmp_path / "memory.db")
    for house in (there, without):
        house.say(SAID)
        house.say({"b": "Bob's kitten is a cat"}, user="bob")
        house.say({"6": "another cat"}, session="t")
    assert there.compared().startswith("by pgvector ")
    assert without.compared() == "in the server's process: SQLite has none for them"
    for query in QUESTIONS:
        for words in ({}, {"session": "t"}, {"role": "nobody"}):
            one, other = there.found(query, **words), without.found(query, **words)
            assert [hit[::2] for hit in one] == [hit[::2] for hit in other], query
            assert [hit[1] for hit in one] == pytest.approx([hit[1] for hit in other], abs=0.01)
    assert {"1", "4", "6"} <= {key for key, _score, _why in there.found("kitten")}
    assert "b" not in {key for key, _score, _why in there.found("kitten")}
    assert there.found("bill", user="bob", session="s") == []
    there("delete_memory", session="t")
    assert "6" not in {key for key, _score, _why in there.found("kitten")}
    there("delete_memory", everything=True)
    assert there.found("kitten") == []
    assert there.found("kitten", user="bob")


def test_what_lay_there_as_bytes_is_taken_over_and_goes_on_when_the_extension_is_dropped(
    pgvector: Postgres, housing: Housing
) -> None:
    url = pgvector.database()
    name = url.rpartition("/")[2]
    house = housing(url)
    house.say(SAID)
    before = house.found("kitten")
    pgvector.execute("DROP EXTENSION vector CASCADE", url)
    assert [hit[::2] for hit in house.found("kitten")] == [hit[::2] for hit in before]  # by the bytes
    assert house.compared().startswith("in the server's process: pgvector failed there")
    house.say({"7": "the cat again"})
    assert len(house.found("kitten")) == len(before) + 1
    house.close()
    again = housing(url)  # which makes the extension
    assert again.compared().startswith("by pgvector "), name
    assert {key for key, _score, _why in again.found("kitten")} == {"1", "4", "7"}
    ((copied,),) = pgvector.execute("SELECT count(*) FROM memory_near", url)
    assert copied == len(SAID) + 1


def test_a_user_that_may_not_make_the_extension_is_told_and_uses_it_once_it_is_there(
    pgvector: Postgres, housing: Housing
) -> None:
    url = pgvector.database()
    name = url.rpartition("/")[2]
    pgvector.execute(f"CREATE ROLE plain_{name} LOGIN")
    pgvector.execute(f"GRANT ALL ON SCHEMA public TO plain_{name}", url)
    pgvector.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO plain_{name}", url)
    mine = url.replace("//toolscore@", f"//plain_{name}@")
    house = housing(mine)
    house.say(SAID)
    assert "run CREATE EXTENSION vector" in house.compared()
    found = house.found("kitten")
    # In another schema, as some hosts have it.
    pgvector.execute('CREATE SCHEMA "Extra Things"; CREATE EXTENSION vector SCHEMA "Extra Things"', url)
    pgvector.execute(f'GRANT USAGE ON SCHEMA "Extra Things" TO plain_{name}', url)
    house.say({"7": "nothing"})  # from then on
    assert house.compared().startswith("by pgvector ")
    assert [hit[::2] for hit in house.found("kitten")] == [hit[::2] for hit in found]


INDEXES = "SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%hnsw%'"


def test_a_user_with_very_many_has_an_index_that_finds_the_same_and_goes_with_the_user(
    pgvector: Postgres, housing: Housing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.memory.nearest.MANY", 50)
    url = pgvector.database()
    house = housing(url)
    house.say(SAID)
    house.say({"b": "Bob's kitten"}, user="bob")
    before = house.found("kitten")
    assert pgvector.execute(INDEXES, url) == []
    house.say({f"n{n}": f"rain and note {n}" for n in range(60)})
    ((made,),) = pgvector.execute(INDEXES, url)
    assert "(owner = 1)" in made
    assert house.found("kitten") == before
    assert house.found("is there a storm. or a kitten", limit=3)[0][0] in ("1", "4", "5")
    assert [key for key, _score, _why in house.found("kitten", user="bob")] == ["b"]
    # One that was not finished is made anew.
    pgvector.execute(
        "UPDATE pg_index SET indisvalid = false FROM pg_class WHERE pg_class.oid = indexrelid "
        "AND relname ~ '^memory_near_[0-9]'",
        url,
    )
    assert house.found("kitten") == before
    house.say({"m": "a"})
    ((valid,),) = pgvector.execute(
        "SELECT indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
        "WHERE relname ~ '^memory_near_[0-9]'",
        url,
    )
    assert valid
    house("delete_memory", everything=True)
    house.say({"c": "Bob's other kitten"}, user="bob")
    assert pgvector.execute(INDEXES, url) == []


def test_an_index_is_made_also_where_the_connection_of_the_look_before_is_not_gone_yet(
    pgvector: Postgres, housing: Housing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.memory.nearest.MANY", 50)
    url = pgvector.database()
    house = housing(url)
    outside, stopped = house.shelf.outside, list[int]()

    @contextmanager
    def stands_still() -> Iterator[sqlalchemy.Connection]:
        with outside() as connection:
            pid = connection.execute(sqlalchemy.text("SELECT pg_backend_pid()")).scalar_one()
            yield connection
            os.kill(pid, signal.SIGSTOP)  # so that it does not notice that the connection is closed
            stopped.append(pid)

    monkeypatch.setattr(house.shelf, "outside", stands_still)
    try:
        house.say(SAID)
        house.say({f"n{n}": f"rain and note {n}" for n in range(60)})
        assert len(stopped) > 1
        assert len(pgvector.execute(INDEXES, url)) == 1
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_a_look_at_the_database_says_how_vectors_are_compared_and_changes_nothing(
    pgvector: Postgres, housing: Housing
) -> None:
    url = pgvector.database()
    assert seen(url) is None
    house = housing(url)
    house.say(SAID)
    told = seen(url)
    assert told is not None
    assert (told.users, told.messages) == (1, len(SAID))
    assert told.vectors.startswith("compared by pgvector 0.")
    house.close()
    pgvector.execute("DROP EXTENSION vector CASCADE", url)
    told = seen(url)
    assert told is not None
    assert "CREATE EXTENSION vector" in told.vectors
    assert pgvector.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'", url) == []


def test_a_database_that_was_away_does_not_end_the_search_by_meaning(
    pgvector: Postgres, housing: Housing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.memory.meaning.AGAIN", 0.05)
    house = housing(pgvector.database())
    house.say(SAID)
    before = house.found("kitten")
    pgvector.kill()
    with pytest.raises(StoreError):
        house.found("kitten")
    house.meant.saved("alice")  # and its thread looks for what is new, in vain
    pgvector.start()
    assert house.found("kitten") == before
    house.say({"7": "kitten"})
    assert len(house.found("cat")) == len(before) + 1
    assert house("memory_usage")["search"] == "words and meaning"
    assert house.compared().startswith("by pgvector ")
