"""Search by meaning, with an encoder that knows a handful of words; the real one is tested where its extra is."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.tools.finder import Finder
from toolscore.tools.library import Library
from toolscore.tools.rows import ServerRow
from toolscore.tools.search.document import Document
from toolscore.tools.search.encoder import Blend, EncoderError, mostly_other, plain, sentences
from toolscore.tools.search.index import Index
from toolscore.tools.search.semantic import SemanticIndex, text_of
from toolscore.tools.search.vectors import Vectors
from toolscore.tools.store import Store

np = pytest.importorskip("numpy", reason="comes with the extra toolscore[semantic]")

MEANINGS = {"dog": 0, "spaniel": 0, "rain": 1, "weather": 1, "money": 2, "currency": 2}


class Handful:
    """Knows what six words mean."""

    model = "handful"
    size = 3

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.busy = threading.Event()
        self.error: Exception | None = None
        self.failing_query = False
        self.rested = threading.Event()
        self.in_use = False

    def rest(self) -> bool:
        if not self.in_use:
            self.rested.set()
        return not self.in_use

    def warm(self, wanted: Callable[[], bool] = lambda: True) -> None:
        pass

    def documents(self, texts: Sequence[str]) -> Any:
        self.busy.set()
        assert self.go_on.wait(10)
        if self.error is not None:
            raise self.error
        self.encoded += texts
        return np.stack([self._vector(text) for text in texts])

    def query(self, text: str) -> Any:
        if self.failing_query:
            raise RuntimeError("the model fell over")
        return self._vector(text)[None, :]

    def _vector(self, text: str) -> Any:
        vector = np.zeros(3, np.float32)
        for word in text.lower().replace(".", " ").split():
            if word in MEANINGS:
                vector[MEANINGS[word]] = 1
        return vector / max(float(np.linalg.norm(vector)), 1)


def document(server: str, name: str, description: str) -> Document:
    return Document(f"{server}__{name}", name, server, "", description, "")


PETS = [document("pets", "walk", "Walk the dog"), document("pets", "feed", "Fill the bowl")]
SKY = [document("sky", "forecast", "Tell about the rain")]


@pytest.fixture
def encoder() -> Handful:
    return Handful()


@pytest.fixture
def index(encoder: Handful, tmp_path: Path) -> Any:
    made = SemanticIndex(Index(), encoder, Vectors(tmp_path, encoder.model))
    yield made
    encoder.go_on.set()
    made.close()


def test_a_tool_is_found_by_its_meaning_where_it_shares_no_word(index: SemanticIndex) -> None:
    index.put("pets", PETS)
    index.put("sky", SKY)
    assert index.settle(10)
    (hit,) = index.search("spaniel")
    assert (hit.key, hit.server, hit.why, hit.exact) == ("pets__walk", "pets", "meaning", False)
    assert 0.9 < hit.score <= 1


def test_words_find_at_once_while_vectors_are_still_made(index: SemanticIndex, encoder: Handful) -> None:
    encoder.go_on.clear()
    index.put("pets", PETS)
    assert [hit.key for hit in index.search("walk")] == ["pets__walk"]
    assert index.search("spaniel") == []
    progress = index.progress()
    assert (progress.encoded, progress.total) == (0, 2)
    encoder.go_on.set()
    assert index.settle(10)
    assert [hit.key for hit in index.search("spaniel")] == ["pets__walk"]
    assert index.progress().encoded == 2


def test_an_exact_name_comes_before_what_means_the_same(index: SemanticIndex) -> None:
    index.put("sky", [*SKY, document("sky", "rain", "Nothing to see")])
    assert index.settle(10)
    first, second = index.search("rain")
    assert first.key == "sky__rain"
    assert first.exact
    assert second.key == "sky__forecast"


def test_only_the_servers_that_are_asked_for_are_searched(index: SemanticIndex) -> None:
    index.put("pets", PETS)
    index.put("kennel", [document("kennel", "house", "A house for a dog")])
    assert index.settle(10)
    assert [hit.key for hit in index.search("spaniel", servers={"kennel"})] == ["kennel__house"]
    assert index.search("spaniel", servers=set()) == []


def test_what_is_dropped_or_replaced_is_found_no_more(index: SemanticIndex) -> None:
    index.put("pets", PETS)
    index.put("sky", SKY)
    assert index.settle(10)
    index.put("pets", [document("pets", "walk", "Count the money")])
    assert index.settle(10)
    assert index.search("spaniel") == []
    assert [hit.key for hit in index.search("currency")] == ["pets__walk"]
    index.drop("pets")
    assert index.search("currency") == []
    assert [hit.key for hit in index.search("weather")] == ["sky__forecast"]
    assert index.progress().encoded == index.progress().total == 1


def test_no_text_is_encoded_twice_even_after_a_restart(encoder: Handful, tmp_path: Path) -> None:
    for _start in range(2):
        index = SemanticIndex(Index(), encoder, Vectors(tmp_path, encoder.model))
        index.put("pets", PETS)
        index.put("pets", PETS)
        assert index.settle(10)
        assert [hit.key for hit in index.search("spaniel")] == ["pets__walk"]
        index.close()
    assert sorted(encoder.encoded) == sorted(map(text_of, PETS))


def test_closing_amid_encoding_loses_nothing_and_takes_no_time(encoder: Handful, tmp_path: Path) -> None:
    many = [document("pets", f"tool{at}", f"dog {at}") for at in range(100)]
    encoder.go_on.clear()
    index = SemanticIndex(Index(), encoder, Vectors(tmp_path, encoder.model))
    index.put("pets", many)
    assert encoder.busy.wait(10)
    worker = index._worker
    assert worker is not None
    threading.Timer(0.2, encoder.go_on.set).start()
    index.close()
    worker.join(60)  # of a batch that takes longer, `close` does not wait for the end
    done = len(encoder.encoded)
    assert 0 < done < 100
    assert len(Vectors(tmp_path, encoder.model)) == done
    assert index.search("tool99") == []
    began = time.monotonic()
    assert not index.settle(10)
    assert time.monotonic() - began < 5  # nobody waits for what will not be done


@pytest.mark.parametrize("when", ["documents", "query"])
def test_a_broken_encoder_leaves_the_search_by_words_and_is_told_once(
    index: SemanticIndex, encoder: Handful, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    caplog.set_level(logging.WARNING)
    encoder.error = EncoderError("the model's file is damaged") if when == "documents" else None
    encoder.failing_query = when == "query"
    index.put("pets", PETS)
    assert index.settle(10)
    for _ in range(3):
        assert [hit.key for hit in index.search("walk")] == ["pets__walk"]
    index.put("sky", SKY)
    assert [hit.key for hit in index.search("forecast")] == ["sky__forecast"]
    assert ("damaged" if when == "documents" else "fell over") in index.progress().broken
    assert caplog.text.count("by words only") == 1


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 100, None])
def test_a_damaged_cache_begins_anew(encoder: Handful, tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "vectors.db"
    if damage is None:
        base = sqlite3.connect(path)
        base.execute("CREATE TABLE vector (other TEXT)")
        base.close()
    else:
        path.write_bytes(damage)
    vectors = Vectors(tmp_path, encoder.model)
    vectors.put({"a": b"1234"})
    vectors.put({"b": b"5678"})
    assert vectors.get(["b", "c"]) == {"b": b"5678"}
    vectors.close()


def test_a_cache_that_another_program_holds_for_a_while_is_used_again_after_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = Vectors(tmp_path, "model")
    vectors.put({"a": b"1234"})
    other = sqlite3.connect(tmp_path / "vectors.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    vectors.put({"b": b"5678"})
    other.execute("COMMIT")
    other.close()
    vectors.put({"c": b"9012"})
    assert vectors.get(["a", "b", "c"]) == {"a": b"1234", "c": b"9012"}
    assert not caplog.records
    vectors.close()


def test_a_cache_that_cannot_be_written_is_done_without(encoder: Handful, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    index = SemanticIndex(Index(), encoder, Vectors(tmp_path / "file" / "below", encoder.model))
    index.put("pets", PETS)
    assert index.settle(10)
    assert [hit.key for hit in index.search("spaniel")] == ["pets__walk"]
    index.close()


def test_vectors_of_another_model_or_another_length_are_of_no_use(encoder: Handful, tmp_path: Path) -> None:
    vectors = Vectors(tmp_path, "another")
    vectors.put({text_of(one): b"0" * 7 for one in PETS})
    assert Vectors(tmp_path, "third").get([text_of(PETS[0])]) == {}
    vectors.close()
    index = SemanticIndex(Index(), encoder, Vectors(tmp_path, encoder.model))
    index.put("pets", PETS)
    assert index.settle(10)
    assert [hit.key for hit in index.search("spaniel")] == ["pets__walk"]
    index.close()


def test_the_cache_keeps_no_more_than_it_may(tmp_path: Path) -> None:
    vectors = Vectors(tmp_path, "handful", most=100)
    for at in range(300):
        vectors.put({f"text {at}": b"vector"})
    assert len(vectors) <= 100
    assert vectors.get(["text 299", "text 0"]) == {"text 299": b"vector"}
    vectors.close()


@pytest.mark.parametrize(
    "query", ["", "   ", "\x00", "\ud800", "'; DROP TABLE vector; --", 'a" OR *', "x " * 50_000]
)
def test_a_hostile_query_is_answered(index: SemanticIndex, query: str) -> None:
    index.put("pets", PETS)
    assert index.settle(10)
    assert isinstance(index.search(query), list)
    assert not index.progress().broken


def test_documents_of_every_shape_are_encoded(index: SemanticIndex) -> None:
    index.put(
        "odd",
        [document("odd", "", ""), document("odd", "\ud800", "x" * 2_000_000), document("odd", "\x00", "\n")],
    )
    assert index.settle(10)
    assert index.progress().encoded == 3


def test_a_text_is_cut_and_what_no_tokenizer_takes_is_dropped() -> None:
    assert len(plain("x" * 2_000_000)) <= 1000
    assert plain("a\ud800b\x00c") == "ab c"


def test_a_query_is_also_asked_by_its_sentences() -> None:
    assert sentences("Find the nearest station. Then book a ticket! Ok.") == [
        "Find the nearest station.",
        "Then book a ticket!",
    ]
    assert sentences("查询明天的天气。给我发一封邮件。") == ["查询明天的天气。", "给我发一封邮件。"]
    assert sentences("one sentence only") == []


def test_a_text_of_another_script_is_known_as_one() -> None:
    assert mostly_other("查询 GitHub 上的天气")
    assert mostly_other("погода в Москве")
    assert not mostly_other("prévisions météo à Zürich")
    assert not mostly_other("")


def test_what_has_no_vector_yet_is_neither_lost_nor_last(index: SemanticIndex, encoder: Handful) -> None:
    index.put("sky", [document("sky", f"rain{at}", f"Look at the weather {at}") for at in range(120)])
    assert index.settle(10)
    encoder.go_on.clear()
    index.put(
        "net", [document("net", "download", "Download a page"), document("net", "upload", "Upload a file")]
    )
    before = index.words.search("download a page in the rain", 3)
    assert before[0].key == "net__download"
    found = index.search("download a page in the rain", 3)
    assert found[0].key == "net__download"
    assert found[0].score > 0
    assert "meaning" not in found[0].why
    # Nothing that has a vector is like this at all: it goes by words as if there were no vectors.
    assert index.search("download a page", 3) == index.words.search("download a page", 3)


def test_where_nothing_is_alike_the_scores_are_those_of_the_words(index: SemanticIndex) -> None:
    index.put("pets", PETS)
    assert index.settle(10)
    (hit,) = index.search("fill a bowl")
    assert hit == index.words.search("fill a bowl")[0]
    assert hit.score > 0


def test_the_end_waits_for_no_more_than_is_under_way(encoder: Handful, tmp_path: Path) -> None:
    encoder.go_on.clear()
    index = SemanticIndex(Index(), encoder, Vectors(tmp_path, encoder.model))
    index.put("pets", PETS)
    worker = index._worker
    assert worker is not None
    # Native code in a daemon takes the process down with it where the interpreter ends first.
    assert not worker.daemon
    encoder.go_on.set()
    index.close()

    loaded: list[str] = []

    class Part:
        model = "part"
        size = 1

        def load(self) -> None:
            loaded.append("part")

        def encode(self, texts: Sequence[str]) -> Any:
            return np.zeros((len(texts), 1), np.float32)

        def unload(self) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolscore.tools.search.encoder.available", lambda: None)
        Blend(Part(), Part()).warm(lambda: not loaded)
    assert loaded == ["part"]


def test_a_process_that_never_closed_its_index_ends_all_the_same(tmp_path: Path) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_semantic import Handful, Index, SemanticIndex, Vectors, document
class Slow(Handful):
    def documents(self, texts):
        time.sleep(0.05)
        return super().documents(texts)
index = SemanticIndex(Index(), Slow(), Vectors(Path({str(tmp_path)!r}), "slow"))
index.put("pets", [document("pets", f"tool{{at}}", f"dog {{at}}") for at in range(20_000)])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=30, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_vectors_are_for_their_owner_only(encoder: Handful, tmp_path: Path) -> None:
    vectors = Vectors(tmp_path / "vectors", encoder.model)
    vectors.put({"text": b"vector"})
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "vectors").iterdir()}
    assert (tmp_path / "vectors").stat().st_mode & 0o777 == 0o700
    assert modes["vectors.db"] == 0o600
    assert set(modes.values()) == {0o600}
    vectors.close()


def test_models_rest_when_nobody_used_them_for_long_and_nothing_is_left_to_encode(
    index: SemanticIndex, encoder: Handful
) -> None:
    encoder.go_on.clear()
    index.put("pets", PETS)
    assert encoder.busy.wait(10)
    assert index.rest(600.0) == 600.0
    assert not encoder.rested.is_set()
    encoder.go_on.set()
    assert index.settle(10)
    assert 500 < index.rest(600.0) <= 600
    assert not encoder.rested.is_set()
    encoder.in_use = True
    time.sleep(0.01)
    assert index.rest(0.005) == 0.005
    encoder.in_use = False
    assert index.rest(0.0) == 0.0
    assert encoder.rested.is_set()
    assert [hit.key for hit in index.search("spaniel")] == ["pets__walk"]
    assert index.rest(600.0) > 500


def test_a_model_is_not_let_go_of_while_it_is_used_and_loaded_again_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside, go_on = threading.Event(), threading.Event()
    told: list[str] = []

    class Part:
        model = "part"
        size = 1

        def load(self) -> None:
            told.append("load")

        def encode(self, texts: Sequence[str]) -> Any:
            assert told[-1] == "load"
            inside.set()
            assert go_on.wait(10)
            return np.zeros((len(texts), 1), np.float32)

        def unload(self) -> None:
            told.append("unload")

    monkeypatch.setattr("toolscore.tools.search.encoder.available", lambda: None)
    blend = Blend(Part(), Part())
    users = [threading.Thread(target=blend.documents, args=(["a"],)) for _ in range(2)]
    for user in users:
        user.start()
    assert inside.wait(10)
    assert not blend.rest()
    go_on.set()
    for user in users:
        user.join(10)
    assert told == ["load"] * 2
    assert blend.rest()
    assert told == ["load"] * 2 + ["unload"] * 2
    blend.query("a")
    assert told[4:] == ["load"] * 2


@asynccontextmanager
async def walking(folder: Path) -> AsyncIterator[Finder]:
    """A finder of one tool, which soon gives back what nobody uses."""
    store = await Store.open(folder / "toolscore.db")
    try:
        library = Library(store)
        installation = Installation(
            server_id="pets", kind=SourceKind.REGISTERED, source="test", spec=ServerSpec(command="x")
        )
        walk = {"name": "walk", "description": "Walk the dog", "inputSchema": {"type": "object"}}
        await library.add(ServerRow("pets", "cli", True, installation), [walk])
        finder = Finder(library, vectors=folder, idle=0.02)
        yield finder
        await finder.aclose()
    finally:
        await store.close()


async def test_a_finder_gives_the_models_back_when_nobody_searches_and_searches_on_after_that(
    index: SemanticIndex, encoder: Handful, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolscore.tools.search.semantic.semantic_index", lambda _folder, _told: index)
    async with walking(tmp_path) as finder:
        for _ in range(2):
            assert [one.tool.original for one in await finder.search("walk")] == ["walk"]
            assert await asyncio.to_thread(encoder.rested.wait, 10)
            assert [one.tool.original for one in await finder.search("spaniel")] == ["walk"]
            assert await asyncio.to_thread(encoder.rested.wait, 10)
            encoder.rested.clear()


async def test_models_that_are_loaded_again_while_they_are_given_back_are_given_back_once_more(
    index: SemanticIndex, encoder: Handful, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resting, go_on, rests = threading.Event(), threading.Event(), list[int]()

    def rest() -> bool:
        rests.append(1)
        resting.set()
        return go_on.wait(60)

    monkeypatch.setattr(encoder, "rest", rest)
    monkeypatch.setattr("toolscore.tools.search.semantic.semantic_index", lambda _folder, _told: index)
    async with walking(tmp_path) as finder:
        await finder.search("walk")
        assert await asyncio.to_thread(resting.wait, 60)
        await finder.search("spaniel")
        go_on.set()
        async with asyncio.timeout(60):
            while len(rests) < 2:
                await asyncio.sleep(0.01)
