"""The lexical index: names first, needs in plain words, any language, any input."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolscore.tools.search.document import LARGEST, Document, document_of
from toolscore.tools.search.index import MOST, Index
from toolscore.tools.search.synonyms import FILE, neighbours
from toolscore.tools.search.tokens import words


def tool(server: str, name: str, description: str, *parameters: str) -> Document:
    schema = {"type": "object", "properties": {one: {"type": "string"} for one in parameters}}
    return document_of(
        f"{server}__{name}", server, server, {"name": name, "description": description, "inputSchema": schema}
    )


def house() -> Index:
    index = Index()
    index.put(
        "clock",
        [
            tool("clock", "now", "Tells the current time of a place", "time_zone"),
            tool("clock", "convertTime", "Converts a time between zones", "sourceZone", "targetZone"),
        ],
    )
    index.put(
        "files",
        [
            tool("files", "read_file", "Reads a file", "path"),
            tool("files", "remove_file", "Removes a file", "path"),
            tool("files", "list_directory", "Lists what a directory holds", "path"),
        ],
    )
    index.put(
        "tongues", [tool("tongues", "HTTPTranslate", "Puts a sentence into another language", "sentence")]
    )
    return index


def first(index: Index, query: str) -> str:
    return index.search(query)[0].key


def test_an_exact_name_is_first_whatever_its_case_and_separators() -> None:
    index = house()
    index.put("noise", [tool("noise", f"n{at}", "read file read_file files read_file") for at in range(5)])
    for query in ("files__read_file", "FILES__Read-File", "read_file", "readFile", "read file"):
        hit = index.search(query)[0]
        assert (hit.key, hit.exact, hit.score, hit.why) == ("files__read_file", True, 1.0, "exact name")


def test_a_full_name_within_a_sentence_is_first() -> None:
    assert first(house(), "please run clock__convertTime on that file") == "clock__convertTime"


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("converting times", "clock__convertTime"),
        ("target zone", "clock__convertTime"),
        ("translate", "tongues__HTTPTranslate"),
        ("current time somewhere", "clock__now"),
        ("LISTED DIRECTORIES", "files__list_directory"),
        ("delete a file", "files__remove_file"),
    ],
)
def test_identifiers_stems_parameters_and_near_meanings_are_found(query: str, key: str) -> None:
    assert first(house(), query) == key


def test_who_says_the_narrower_word_may_mean_the_wider_one_but_not_the_other_way() -> None:
    index = Index()
    index.put("s", [tool("s", "dinner_forecast", "Dines"), tool("s", "umbrella", "Folds")])
    assert [hit.key for hit in index.search("umbrella")] == ["s__umbrella", "s__dinner_forecast"]
    assert [hit.key for hit in index.search("forecast")] == ["s__dinner_forecast"]
    assert index.search("umbrella")[1].why == "means nearly umbrella"


def test_every_line_of_the_synonyms_is_two_words_or_more_that_are_indexed() -> None:
    for line in FILE.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            assert len(words(line)) >= 2, line
            assert all(words(word) for word in line.replace(":", " ").replace(">", " ").split()), line
    assert "forecast" in neighbours()["umbrella"]


def test_a_score_says_how_much_of_the_query_is_answered() -> None:
    index = house()
    whole, part = index.search("current time")[0], index.search("current time volcano")[0]
    assert whole.covered == pytest.approx(1)
    assert 0 < part.score < whole.score <= 1
    assert part.covered < 1
    assert whole.why == "matches current, time"


def test_what_is_put_replaces_and_what_is_dropped_is_gone() -> None:
    index = house()
    index.put("files", [tool("files", "stat", "Tells the size of a thing", "path")])
    assert first(index, "size") == "files__stat"
    assert not index.search("holds")
    index.drop("files")
    assert not index.search("size")
    index.drop("files")
    index.drop("clock")
    index.drop("tongues")
    assert len(index) == 0
    assert not index._frequency
    assert index._lengths == [0, 0, 0, 0]
    assert not index.search("time")


def test_only_tools_of_the_servers_asked_for_are_found() -> None:
    index = house()
    assert {hit.server for hit in index.search("time file path", servers=["files"])} == {"files"}
    assert not index.search("time", servers=[])
    assert not index.search("clock__now", servers=["files"])


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        "\0",
        "\ud800",
        "time\ud800\0 zone",
        "🙂🙃",
        "the of and",
        '"',
        '""" OR "',
        "NEAR(a b, 3)",
        "name : time",
        "{name} : x ^time* + -zone NOT",
        "' ; DROP TABLE tool; --",
        "time " * 200_000,
        "x" * 1_000_000,
        "时" * 1_000_000,
        "".join(chr(0x4E00 + at % 20_000) for at in range(100_000)),
        "a__b " * 100_000,
    ],
    ids=range(18),
)
def test_a_hostile_query_is_only_a_query(query: str) -> None:
    index = house()
    assert len(index.search(query, 10**9)) <= MOST
    assert first(index, "clock__now") == "clock__now"
    assert not index.search("time", 0)
    assert not index.search("time", -1)


@settings(max_examples=150, deadline=None)
@given(st.text(), st.text())
def test_any_text_is_indexed_and_searched(text: str, query: str) -> None:
    index = Index()
    index.put(text, [Document(text, text, text, text, text, text)])
    for one in (query, text):
        for hit in index.search(one):
            assert 0 <= hit.score <= 1
    index.drop(text)
    assert not index._frequency


def test_every_character_there_is_can_be_part_of_a_word() -> None:
    index = Index()
    letters = [chr(code) for code in range(0x110000) if chr(code).isalpha() and code % 7 == 0]
    index.put(
        "s",
        [
            Document(f"s__{at}", "t", "s", "", "A".join(letters[at : at + 300]), "")
            for at in range(0, 20_000, 300)
        ],
    )
    assert len(index) == 67


CYCLE: dict[str, object] = {"type": "object", "properties": {"deep": {"description": "words"}}}
CYCLE["properties"]["self"] = CYCLE  # type: ignore[index]


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"name": 7, "title": [], "description": {"a": 1}, "inputSchema": "no", "annotations": 3},
        {"name": "a", "inputSchema": {"properties": [1, 2]}},
        {
            "name": "a",
            "inputSchema": {"properties": {"x": 3, 4: {"description": 5}}, "anyOf": 9, "items": [None, 1]},
        },
        {"name": "a", "inputSchema": {"$ref": "#", "properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {}}},
        {"name": "a", "inputSchema": CYCLE},
        {"name": "a" * 10**6, "description": "b" * 10**6, "inputSchema": {"properties": {"c" * 10**6: {}}}},
        {
            "name": "a",
            "inputSchema": {"properties": {f"p{at}": {"description": "d" * 50} for at in range(20_000)}},
        },
        {"name": "\ud800", "description": "\ud800\0", "inputSchema": {"properties": {"\ud800": {}}}},
    ],
    ids=range(9),
)
def test_any_tool_object_becomes_a_bounded_document(definition: dict[str, object]) -> None:
    one = document_of("s__a", "s", "", definition)
    assert sum(map(len, (one.name, one.title, one.description, one.parameters))) <= LARGEST
    index = Index()
    index.put("s", [one])
    assert index.search("s__a")[0].exact


def test_parameters_of_parameters_are_found() -> None:
    schema: dict[str, object] = {"properties": {"a": {"items": {"properties": {"colour_depth": {}}}}}}
    assert "colour_depth" in document_of("k", "s", "", {"name": "a", "inputSchema": schema}).parameters


def test_words_weigh_as_in_the_larger_index_where_one_is_given() -> None:
    catalog = Index()
    catalog.put("many", [tool("many", f"t{at}", "time and again") for at in range(50)])
    small = house()
    alone = small.search("time volcano")[0].covered
    beside = small.search("time volcano", weighed_by=catalog)[0].covered
    assert beside < alone


def test_many_threads_search_while_servers_come_and_go() -> None:
    index = house()
    failed: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                assert first(index, "clock__now") == "clock__now"
                index.search("delete a file in some zone")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for one in threads:
        one.start()
    for at in range(60):
        index.put("coming", [tool("coming", f"t{at}", "delete file")])
        index.drop("coming")
    done.set()
    for one in threads:
        one.join(30)
    assert not failed


CHINESE = [
    ("weather__now", "获取指定城市的实时天气"),
    ("mail__search", "搜索邮箱中的邮件"),
    ("time__zone", "查询时区并转换时间"),
    ("kana__find", "指定した都市の天気予報をしらべる"),
    ("hangul__find", "도시의 날씨를 조회"),
]


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("上海现在的天气怎么样？", "weather__now"),
        ("帮我找一下邮件", "mail__search"),
        ("时区", "time__zone"),
        ("天気予報", "kana__find"),
        ("날씨", "hangul__find"),
    ],
)
def test_a_query_in_chinese_japanese_or_korean_finds_its_tool(query: str, key: str) -> None:
    index = Index()
    for full, said in CHINESE:
        server, name = full.split("__")
        index.put(server, [tool(server, name, said)])
    assert first(index, query) == key


def test_a_single_character_finds_what_stands_alone() -> None:
    index = Index()
    index.put("s", [tool("s", "a", "茶 tea"), tool("s", "b", "酒 wine")])
    assert first(index, "茶") == "s__a"


def test_an_index_that_is_closed_finds_nothing_and_one_that_is_let_go_leaves_nothing_open() -> None:
    index = Index()
    index.put("clock", [Document("clock__now", "now", "clock", "", "Tell the time", "")])
    assert index.search("time")
    index.close()
    assert index.search("time") == []
    index.close()
    with warnings.catch_warnings(record=True) as warned:  # Python 3.13 tells of a database that is left open
        warnings.simplefilter("always")
        index = Index()
        del index
        gc.collect()
    assert not [
        one for one in warned if "database" in str(one.message)
    ]  # others may have left something else


class Gate:
    """The lock of an index, before which one thread waits."""

    def __init__(self, lock: threading.Lock, who: threading.Thread) -> None:
        self.lock, self.who = lock, who
        self.reached, self.open = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        if threading.current_thread() is self.who:
            self.reached.set()
            assert self.open.wait(10)
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def later(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """A thread that does something, not begun yet, and what will come of it: a result or an error."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(work())
        except Exception as error:
            came.append(error)

    return threading.Thread(target=run), came


@pytest.mark.parametrize(
    "work",
    [
        lambda index: index.search("time"),
        lambda index: index.search("clock__now", servers={"clock"}),
        lambda index: index.put("more", [tool("more", "now", "Tells the time")]) or [],
        lambda index: index.drop("clock") or [],
        lambda index: [0] * index.size,
    ],
)
def test_what_is_about_to_begin_when_an_index_is_closed_ends_with_nothing(
    work: Callable[[Index], list[Any]],
) -> None:
    index = house()
    thread, came = later(lambda: work(index))
    gate = Gate(index._lock, thread)
    index._lock = gate  # type: ignore[assignment]
    thread.start()
    assert gate.reached.wait(10)
    index.close()
    gate.open.set()
    thread.join(10)
    assert came == [[]]
    assert len(index) == 0


def test_a_search_that_is_under_way_when_an_index_is_closed_ends_with_its_result() -> None:
    index = house()
    inside, go_on = threading.Event(), threading.Event()

    def traced(_statement: str) -> None:
        inside.set()
        assert go_on.wait(10)

    index._base.set_trace_callback(traced)
    search, came = later(lambda: index.search("current time"))
    search.start()
    assert inside.wait(10)
    closing, closed = later(index.close)
    closing.start()
    go_on.set()
    search.join(10)
    closing.join(10)
    assert [hit.key for hit in came[0]][:1] == ["clock__now"]
    assert closed == [None]


def test_searches_of_many_threads_survive_that_an_index_is_closed() -> None:
    index = house()
    begun = threading.Barrier(5)

    def many() -> None:
        begun.wait(10)
        for _ in range(50):
            assert all(hit.server for hit in index.search("read a file"))

    threads = [later(many) for _ in range(4)]
    for thread, _came in threads:
        thread.start()
    begun.wait(10)
    index.search("time")
    index.close()
    for thread, _came in threads:
        thread.join(10)
    assert [came for _thread, came in threads] == [[None]] * 4
