"""Finding tools in a library that changes, whatever is asked."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.server.search_tools import WHY, unlisted
from toolscore.tools.finder import OWN_BEHIND, OWN_MOST, Finder
from toolscore.tools.library import Library
from toolscore.tools.outcome import Outcome, RefusalError
from toolscore.tools.preference import _DEPRECATED, NEAR
from toolscore.tools.rows import Said, ServerRow
from toolscore.tools.search.index import Hit, Index
from toolscore.tools.store import Store
from toolscore.tools.tool import Tool

SAID: Said = {"era": "2025-11-25", "server_info": {"name": "x"}, "instructions": None, "offers": None}

CREATE_VTABLE = 29
"""SQLite's number for it, which Python has no name for."""

CLOCK = [("get_current_time", "Tell the current time in a time zone."), ("convert_time", "Convert a time.")]
WEATHER = [("forecast", "Weather forecast of a city."), ("alerts", "Storm warnings.")]


def definitions(*tools: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "description": said, "inputSchema": {"type": "object"}} for name, said in tools]


def row(name: str, title: str | None = None, *, enabled: bool = True) -> ServerRow:
    installation = Installation(
        server_id=name, kind=SourceKind.REGISTERED, source="test", spec=ServerSpec(command="x")
    )
    return ServerRow(
        name, "cli", enabled, installation, server_info=(title and {"name": "x", "title": title}) or None
    )


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    store = await Store.open(tmp_path / "toolscore.db")
    library = Library(store)
    yield library
    await store.close()


async def names(finder: Finder, query: str, limit: int = 10, **more: Any) -> list[str]:
    return [found.tool.name for found in await finder.search(query, limit, **more)]


class Known:
    """Scores that are known."""

    def __init__(self, **bounds: float) -> None:
        self.bounds = bounds
        self.mosts: dict[str, float] = {}

    async def ready(self) -> None:
        pass

    def bound(self, name: str) -> float | None:
        return self.bounds.get(name)

    def most(self, name: str) -> float | None:
        return self.mosts.get(name, 1.0 if name in self.bounds else None)


async def test_an_empty_library_has_nothing(library: Library) -> None:
    assert await Finder(library).search("anything at all") == []


async def test_a_need_in_plain_words_finds_its_tool(library: Library) -> None:
    await library.add(row("clock"), definitions(*CLOCK))
    await library.add(row("weather"), definitions(*WEATHER))
    (first, *_) = await Finder(library).search("what time is it now")
    assert first.tool is library.tools["clock__get_current_time"]
    assert 0 < first.score <= 1
    assert "time" in first.why


async def test_an_exact_name_comes_first(library: Library) -> None:
    await library.add(row("clock"), definitions(*CLOCK, ("time_of_time", "time time time convert time")))
    finder = Finder(library, Known(clock__time_of_time=1.0, clock__convert_time=0.1))
    for query in ("clock__convert_time", "convert_time", "convertTime"):
        (first, *_) = await finder.search(query)
        assert first.tool.name == "clock__convert_time"
        assert first.hit.exact


async def test_what_changes_in_the_library_is_found_at_once(library: Library) -> None:
    finder = Finder(library)
    await library.add(row("clock"), definitions(*CLOCK))
    assert await names(finder, "storm warnings") == []
    await library.add(row("weather"), definitions(*WEATHER))
    assert (await names(finder, "storm warnings"))[0] == "weather__alerts"
    await library.refresh("weather", SAID, definitions(("radar", "Shows rain.")))
    assert "weather__alerts" not in await names(finder, "storm warnings")
    assert await names(finder, "rain") == ["weather__radar"]
    await library.remove("weather")
    assert await names(finder, "rain") == []


async def test_a_disabled_server_is_not_found(library: Library) -> None:
    finder = Finder(library)
    await library.add(row("weather"), definitions(*WEATHER))
    assert await names(finder, "storm")
    await library.set_enabled("weather", False)
    assert await names(finder, "storm") == []
    assert await names(finder, "weather__alerts") == []
    await library.set_enabled("weather", True)
    assert await names(finder, "storm")


async def test_a_server_is_found_by_what_it_calls_itself_even_when_only_that_changes(
    library: Library,
) -> None:
    finder = Finder(library)
    await library.add(row("w1", "Meteorology"), definitions(("get", "")))
    assert await names(finder, "meteorology") == ["w1__get"]
    await library.refresh(
        "w1", {**SAID, "server_info": {"name": "x", "title": "Oceans"}}, definitions(("get", ""))
    )
    assert await names(finder, "meteorology") == []
    assert await names(finder, "oceans") == ["w1__get"]


async def test_only_the_servers_that_are_asked_for_are_searched(library: Library) -> None:
    await library.add(row("one"), definitions(*CLOCK))
    await library.add(row("two"), definitions(*CLOCK))
    assert set(await names(Finder(library), "time", servers=["two"])) == {
        "two__get_current_time",
        "two__convert_time",
    }


async def test_a_query_in_chinese_finds_a_tool_described_in_chinese(library: Library) -> None:
    await library.add(
        row("w"), definitions(("a", "查询一个城市的天气预报"), ("b", "把文件翻译成英文"), ("c", "发送邮件"))
    )
    finder = Finder(library)
    assert (await names(finder, "明天天气怎么样"))[0] == "w__a"
    assert (await names(finder, "翻译"))[0] == "w__b"


async def test_of_nearly_equal_tools_the_one_that_surely_works_is_first_and_says_so(library: Library) -> None:
    same = definitions(("send", "Send an e-mail."))
    for name in ("a", "b", "c", "d"):
        await library.add(row(name), same)
    plain = await names(Finder(library), "send an e-mail")
    assert plain == ["a__send", "b__send", "c__send", "d__send"]
    found = await Finder(library, Known(a__send=0.4, c__send=0.9, d__send=0.6)).search("send an e-mail")
    # Nothing is known of b: it keeps its place.
    assert [one.tool.name for one in found] == ["c__send", "b__send", "d__send", "a__send"]
    assert found[0].why.endswith("preferred: at least 90 % of calls succeed")
    assert "preferred" not in found[1].why
    assert found[2].why.endswith("preferred: at least 60 % of calls succeed")
    assert "preferred" not in found[3].why


async def test_the_reason_is_given_too_where_the_surest_would_be_first_anyway(library: Library) -> None:
    for name in ("a", "b"):
        await library.add(row(name), definitions(("send", "Send an e-mail.")))
    for query in ("send an e-mail", "send"):
        found = await Finder(library, Known(a__send=0.9, b__send=0.4)).search(query)
        assert [one.tool.name for one in found] == ["a__send", "b__send"]
        assert found[0].why.endswith("; preferred: at least 90 % of calls succeed")
        assert "preferred" not in found[1].why
    # Nothing was decided by what is alike, and nothing by what is known of one alone.
    for known in (Known(a__send=0.9, b__send=0.9), Known(a__send=0.9)):
        assert all(
            "preferred" not in one.why for one in await Finder(library, known).search("send an e-mail")
        )


async def test_what_is_known_to_fail_comes_after_equals_nobody_called_yet(library: Library) -> None:
    for name in ("a", "b", "c", "d"):
        await library.add(row(name), definitions(("send", "Send an e-mail.")))
    scores = Known(a__send=0.16, c__send=0.3)
    scores.mosts = {"a__send": 0.484, "c__send": 0.9}
    for query in ("send an e-mail", "send"):
        found = await Finder(library, scores).search(query)
        assert [one.tool.name for one in found] == ["c__send", "b__send", "d__send", "a__send"]
        assert found[0].why.endswith("preferred: at least 30 % of calls succeed")
        assert found[1].why.endswith("preferred: not called yet, and an equal one mostly fails")
        assert found[3].why.endswith("after its equals: at most 49 % of calls succeed")
    # Where the server is named, that is what is meant.
    assert (await names(Finder(library, scores), "a__send"))[0] == "a__send"
    # One that may still be good enough keeps its place.
    scores.mosts["a__send"] = 0.5
    assert (await names(Finder(library, scores), "send an e-mail"))[1:] == ["b__send", "a__send", "d__send"]


async def test_a_reason_is_whole_however_much_a_tool_was_found_by(library: Library) -> None:
    long = [chr(97 + n) * 39 for n in range(4)]
    for name in ("a", "b"):
        await library.add(row(name), definitions(("send", " ".join(long))))
    found = await Finder(library, Known(a__send=0.9, b__send=0.4)).search(" ".join(long))
    assert "…; preferred: at least 90 % of calls succeed" in found[0].why[:WHY]


async def test_what_a_tool_was_found_by_is_named_in_the_order_it_was_said(library: Library) -> None:
    await library.add(row("a"), definitions(("x", "zebra apple mango kiwi lemon")))
    (found,) = await Finder(library).search("mango zebra kiwi apple")
    assert found.why == "matches mango, zebra, kiwi, apple"


async def test_what_works_well_does_not_pass_what_fits_better(library: Library) -> None:
    await library.add(row("a"), definitions(("send_mail", "Send an e-mail to somebody.")))
    await library.add(row("b"), definitions(("list_mail", "List e-mail.")))
    best, other = await Finder(library, Known(a__send_mail=0.1, b__list_mail=1.0)).search("send an e-mail")
    assert other.score < best.score * NEAR
    assert best.tool.name == "a__send_mail"


async def test_tools_of_the_very_same_name_are_in_the_order_of_how_surely_they_work(library: Library) -> None:
    for name in ("time", "weather"):
        await library.add(row(name), definitions(*CLOCK))
    finder = Finder(library, Known(time__convert_time=0.0, weather__convert_time=0.9))
    for query in ("convert time", "convert_time", "convertTime"):
        found = await finder.search(query)
        assert [one.tool.name for one in found[:2]] == ["weather__convert_time", "time__convert_time"]
        assert found[0].hit.exact
        assert found[0].why == "exact name; preferred: at least 90 % of calls succeed"
    # Where the server is named too, that is what is meant.
    for query in ("time__convert_time", "time: convert_time"):
        assert (await names(finder, query))[0] == "time__convert_time"


async def test_nothing_is_preferred_among_what_does_not_fit(library: Library) -> None:
    for name in ("a", "b"):
        await library.add(row(name), definitions(("send", "Send an e-mail.")))
    finder = Finder(library, Known(b__send=0.9))

    class Nothing(Index):
        def search(self, *args: Any, **more: Any) -> list[Hit]:
            return [replace(hit, score=0.0) for hit in super().search(*args, **more)]

    await finder.search("send")
    finder._index = Nothing()
    finder._held.clear()
    found = await finder.search("send an e-mail")
    assert [one.tool.name for one in found] == ["a__send", "b__send"]
    assert "preferred" not in found[1].why


@pytest.mark.parametrize(
    "said",
    [
        "DEPRECATED: use get_text.",
        "[Deprecated] Use get_text.",
        "**DEPRECATED** - gone soon.",
        "Deprecated.",
        "Reads a file as a whole, of any size and in any encoding. DEPRECATED: Use get_text instead.",
        "All of it.\nDeprecated: use get_text.",
        "All of it (deprecated).",
        "All of it. This tool is deprecated.",
        "All of it. `read_text` is now deprecated, use get_text.",
    ],
)
async def test_what_is_deprecated_comes_after_what_is_as_good(library: Library, said: str) -> None:
    await library.add(row("a"), definitions(("read_text", f"{said} Read a text file.")))
    await library.add(row("b"), definitions(("read_text", "Read a text file. Not deprecated: all of it.")))
    for query in ("read_text", "read a text file"):
        assert await names(Finder(library), query) == ["b__read_text", "a__read_text"]
    assert (await names(Finder(library), "a__read_text"))[0] == "a__read_text"
    await library.remove("b")
    await library.add(row("c"), definitions(("read", "Read something.")))
    assert (await names(Finder(library), "read a text file"))[0] == "a__read_text"


@pytest.mark.parametrize(
    "said",
    [
        "Find deprecated packages.",
        "Tell whether a package is deprecated.",
        "Filter by state: active, deprecated, gone.",
        "Deprecated packages are listed too.",
        "word " * 60 + ". DEPRECATED: too far down to be said of the tool.",
    ],
)
async def test_a_tool_that_tells_what_is_deprecated_is_not_deprecated_itself(
    library: Library, said: str
) -> None:
    await library.add(row("a"), definitions(("read_text", f"{said} Read a text file.")))
    await library.add(row("b"), definitions(("read_text", f"{said} Read a text file.")))
    assert await names(Finder(library), "read a text file") == ["a__read_text", "b__read_text"]
    assert not any(
        _DEPRECATED.search(one.tool.description[:300]) for one in await Finder(library).search("read text")
    )


async def test_own_tools_are_found_but_stand_in_nobodys_way(library: Library) -> None:
    finder = Finder(library, own=unlisted)
    assert (await names(finder, "read the log of a server"))[0] == "toolscore__server_logs"
    assert "toolscore__execute_tool" not in await names(finder, "execute tool")
    await library.add(
        row("box"), definitions(*((f"read_server_log_{n}", "Read the log of a server.") for n in range(9)))
    )
    found = await names(finder, "read the log of a server", 5)
    assert len(found) == 5
    assert all(name.startswith("box__") for name in found)
    assert (await names(finder, "server_logs", 5))[0] == "toolscore__server_logs"
    assert (await names(finder, "uninstall", servers=["toolscore"]))[0] == "toolscore__uninstall_server"


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("restart a server", "manage_server"),
        ("stop a server", "manage_server"),
        ("remove a server", "uninstall_server"),
        ("change the timeout of a server", "configure_server"),
        ("update the catalog", "sync_catalog"),
        ("how reliable is a tool", "tool_score"),
        ("roll back a function", "manage_function"),
        ("why does a server not start", "server_state"),
    ],
)
async def test_an_own_tool_is_found_by_what_it_is_for(library: Library, query: str, meant: str) -> None:
    for others in ((), (*CLOCK, *WEATHER)):
        if others:
            await library.add(row("box"), definitions(*others))
        assert f"toolscore__{meant}" in (await names(Finder(library, own=unlisted), query))[:2]


async def test_more_own_tools_are_found_where_they_fit_best_than_behind_others(library: Library) -> None:
    finder = Finder(library, own=unlisted)
    own = [name for name in await names(finder, "server") if name.startswith("toolscore__")]
    assert len(own) == OWN_MOST
    for name in ("a", "b"):
        await library.add(row(name), definitions(("remove_server", "Remove a server.")))
    found = await names(finder, "remove a server from it")
    assert found[:2] == ["a__remove_server", "b__remove_server"]
    assert len(found) == 2 + OWN_BEHIND


@pytest.mark.parametrize(
    "query",
    [
        "",
        " \t\n",
        "the of a",
        '"',
        "' OR 1=1 --",
        "name:* NEAR(a b) AND NOT OR",
        "a" * 200_000,
        "word " * 50_000,
        "\x00\x01\x1b[31m",
        "\ud800 time",
        "{}[]()^*:-+",
        "__" * 500,
        "中" * 5_000,
        "😀 time",
    ],
    ids=range(14),
)
async def test_any_query_is_answered(library: Library, query: str) -> None:
    await library.add(row("clock"), definitions(*CLOCK))
    found = await Finder(library).search(query)
    assert ("time" in query) == bool(found)


async def test_tools_of_any_shape_are_taken_in(library: Library) -> None:
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"properties": {"a": {"items": [deep]}}}
    odd: list[dict[str, Any]] = [
        {"name": "a", "description": 5, "inputSchema": []},
        {"name": "b", "description": None, "inputSchema": {"properties": [1], "$ref": "#"}},
        {"name": "c", "description": "x" * 1_000_000, "inputSchema": deep},
        {"name": "d" * 300, "title": ["x"], "annotations": 3},
        {"name": "🙂", "description": "A lonely \x00 tool about badgers"},
    ]
    await library.add(row("odd"), odd)
    assert len(await names(Finder(library), "badgers")) == 1


async def test_one_server_that_cannot_be_taken_in_hides_no_other(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolscore.tools.search import document

    whole = document.document_of

    def failing(key: str, server: str, *more: Any) -> document.Document:
        if server == "bad":
            raise RuntimeError("no")
        return whole(key, server, *more)

    monkeypatch.setattr(document, "document_of", failing)
    await library.add(row("bad"), definitions(*CLOCK))
    await library.add(row("good"), definitions(*CLOCK))
    finder = Finder(library)
    assert set(await names(finder, "time")) == {"good__get_current_time", "good__convert_time"}


@pytest.fixture
async def large(library: Library) -> Library:
    """20,000 tools of 200 servers."""
    chance = random.Random(6)
    words = [
        "".join(chance.choice("bcdfglmnprst") + chance.choice("aeiou") for _ in range(chance.randint(2, 4)))
        for _ in range(3_000)
    ]
    for server in range(200):
        name = f"s{server}"
        library.servers[name] = row(name)
        tools = [
            Tool(
                f"{name}__{n}",
                name,
                f"{chance.choice(words)}_{chance.choice(words)}_{n}",
                {
                    "name": f"{chance.choice(words)}_{n}",
                    "description": " ".join(chance.choices(words, k=20)),
                    "inputSchema": {
                        "properties": {chance.choice(words): {"type": "string"} for _ in range(3)}
                    },
                },
                "",
            )
            for n in range(100)
        ]
        library._by_server[name] = tools
        library.tools.update((tool.name, tool) for tool in tools)
    return library


@pytest.mark.alone
async def test_twenty_thousand_tools_are_found_without_holding_the_loop_up(large: Library) -> None:
    finder = Finder(large)
    # A thread that computes takes its turns of the interpreter, so that a few of those are seen here. All in the
    # processor time of this process: what else keeps the machine from going on does not count.
    longest, last, ended = 0.0, time.process_time(), False

    async def watch() -> None:
        nonlocal longest, last
        while not ended:
            await asyncio.sleep(0)
            now = time.process_time()
            longest, last = max(longest, now - last), now

    watching = asyncio.create_task(watch())
    tool = large.of("s77")[5]
    began = time.process_time()
    found = await finder.search(tool.definition["description"], 5)
    built = time.process_time() - began
    ended = True
    await watching
    assert longest < built / 5
    assert found[0].tool is tool
    began = time.process_time()
    for other in large.of("s3")[:20]:
        assert (await finder.search(other.definition["description"], 5))[0].tool is other
    assert time.process_time() - began < built
    # What changes later costs only what it is.
    large.servers["late"] = row("late")
    large._by_server["late"] = [
        late := Tool("late__x", "late", "x", {"name": "x", "description": "hedgehog"}, "")
    ]
    large.tools["late__x"] = late
    began = time.process_time()
    assert [one.tool for one in await finder.search("hedgehog")] == [late]
    assert time.process_time() - began < built / 5


async def test_a_build_ends_between_two_servers_when_it_is_to_stop(large: Library) -> None:
    finder = Finder(large)
    search = asyncio.create_task(finder.search("anything"))
    deadline = time.monotonic() + 30
    while finder._index is None or not len(finder._index.words):
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    finder.stop()
    # What it looked for is none of those that were taken in, and may be one of those that were not.
    with pytest.raises(RefusalError, match="ToolScore ends") as refused:
        await search
    assert refused.value.outcome is Outcome.UNAVAILABLE
    await finder.aclose()
    assert 0 < len(finder._held) < len(large.servers)
    with pytest.raises(RefusalError, match="ToolScore ends"):
        await finder.search("anything")


async def test_where_nothing_can_be_indexed_a_search_is_refused_with_what_is_left(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sqlite3.connect

    def without_fts(*args: Any, **more: Any) -> sqlite3.Connection:
        base: sqlite3.Connection = real(*args, **more)
        base.set_authorizer(lambda action, *_: sqlite3.SQLITE_DENY if action == CREATE_VTABLE else 0)
        return base

    monkeypatch.setattr("toolscore.tools.search.index.sqlite3.connect", without_fts)
    await library.add(row("clock"), definitions(*CLOCK))
    finder = Finder(library)
    for _ in range(2):
        with pytest.raises(RefusalError, match=r"cannot be searched here .* list_tools") as refused:
            await finder.search("time")
        assert refused.value.outcome is Outcome.UNAVAILABLE
    monkeypatch.undo()
    assert await names(finder, "time")
    await finder.aclose()


async def test_searches_go_on_while_servers_come_and_go(library: Library) -> None:
    await library.add(row("clock"), definitions(*CLOCK))
    finder = Finder(library)
    ended = False

    async def come_and_go(name: str) -> None:
        for turn in range(12):
            await library.add(
                row(name), definitions(*((f"t{turn}_{n}", "Weather of a city.") for n in range(9)))
            )
            await library.set_enabled(name, turn % 2 == 0)
            await library.refresh(name, SAID, definitions(("other", "Weather too.")))
            await library.remove(name)

    async def search() -> int:
        count = 0
        while not ended:
            first, *_ = await finder.search("convert a time")
            assert first.tool.name == "clock__convert_time"
            for found in await finder.search("weather", 50):
                assert found.tool.server in ("one", "two")
            count += 1
        return count

    searches = [asyncio.create_task(search()) for _ in range(4)]
    await asyncio.gather(come_and_go("one"), come_and_go("two"))
    ended = True
    assert all(await asyncio.gather(*searches))
    assert await names(finder, "weather") == []


async def test_a_search_that_is_given_up_takes_nothing_from_the_others(large: Library) -> None:
    finder = Finder(large)
    first = asyncio.create_task(finder.search("anything"))
    others = [
        asyncio.create_task(finder.search(large.of("s1")[n].definition["description"], 1)) for n in range(3)
    ]
    await asyncio.sleep(0)
    first.cancel()
    found = await asyncio.gather(*others)
    assert [one[0].tool for one in found] == large.of("s1")[:3]
    await finder.aclose()


async def test_a_search_that_is_under_way_when_all_ends_is_refused(library: Library) -> None:
    await library.add(row("clock"), definitions(*CLOCK))
    finder = Finder(library)
    assert await names(finder, "time")
    held = finder._index
    assert isinstance(held, Index)
    begun, go_on = threading.Event(), threading.Event()
    real = held.search

    def late(*args: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return real(*args, **options)

    held.search = late  # type: ignore[method-assign]
    search = asyncio.create_task(finder.search("time"))
    assert await asyncio.to_thread(begun.wait, 60)
    await finder.aclose()
    go_on.set()
    with pytest.raises(RefusalError, match="Ask again once it is back"):
        await search


async def test_an_equal_that_works_more_surely_is_found_behind_those_asked_for_too(library: Library) -> None:
    for number in range(12):
        await library.add(
            row(f"s{number}"), definitions(("convert_money", "Convert money between currencies."))
        )
    every = await names(Finder(library), "convert money between currencies", 12)
    finder = Finder(library, Known(**{every[0]: 0.1, every[7]: 0.9}))
    (best,) = await finder.search("convert money between currencies", 1)
    assert best.tool.name == every[7]
    assert "90 %" in best.why
