"""Each need is judged by what is installed beside what the catalog has, and answered with what would fill it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gap_parts import CHESS, MAIL, MUSIC, WEATHER, Tool, entry, remote, shelf, tool
from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.server.gap_answer import answer
from toolscore.server.models_gap import FindToolGapResult
from toolscore.server.search_tools import unlisted
from toolscore.tools.catalog.catalog import Catalog
from toolscore.tools.finder import Finder
from toolscore.tools.gap.gap import Gaps, overall
from toolscore.tools.gap.proposal import GIVEN, NO_CATALOG, UNREAD, Offered, Proposals
from toolscore.tools.library import Library
from toolscore.tools.rows import ServerRow
from toolscore.tools.search.assess import Label
from toolscore.tools.search.index import Index
from toolscore.tools.store import Store


class House:
    """A library, a catalog, and what judges needs by them."""

    def __init__(self, folder: Path, library: Library) -> None:
        self.folder = folder
        self.library = library
        self.catalog = Catalog(folder / "catalog.db")
        self.gaps = Gaps(library, Finder(library), Proposals(self.catalog, library))

    async def install(self, name: str, *tools: Tool, enabled: bool = True, **installation: Any) -> None:
        """Have a server that is installed, without its process."""
        spec = ServerSpec(command="none")
        known = {"kind": SourceKind.REGISTERED, "source": "none", "spec": spec} | installation
        row = ServerRow(name, "cli", enabled, Installation(server_id=name, **known))
        await self.library.add(row, tools)

    async def fill(self, *entries: dict[str, Any]) -> None:
        """Fill the catalog."""
        await self.catalog.sync(shelf(self.folder / "entries", *entries))


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    folder.mkdir(exist_ok=True)
    store = await Store.open(folder / "store.db")
    try:
        one = House(folder, Library(store))
        yield one
        await one.catalog.aclose()
    finally:
        await store.close()


FORECASTS = entry(
    "io.example/forecasts", "Forecasts of the weather", WEATHER, **remote("https://w.example/mcp")
)
BOARD = entry("io.example/board", "A chess engine", CHESS, **remote("https://c.example/mcp"))
HARMONY = entry("io.example/harmony", "Music theory", MUSIC, **remote("https://m.example/mcp"))


async def test_a_need_whose_tool_is_installed_is_covered_by_it(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        await one.install("post", MAIL)
        await one.fill(FORECASTS, BOARD, HARMONY)
        judged = await one.gaps.judge("weather forecast for a city", {})
        assert judged.label == "covered"
        assert [found.tool.name for found in judged.tools] == ["sky__get_forecast"]
        assert judged.proposals == ()


async def test_a_need_that_nothing_installed_serves_is_a_gap_with_the_call_that_fills_it(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        await one.fill(FORECASTS, BOARD, HARMONY)
        judged = await one.gaps.judge("find the best chess move", {})
        assert judged.label == "gap"
        assert judged.tools == ()
        first = judged.proposals[0]
        assert first.name == "io.example/board"
        assert first.tool == "install_server"
        assert first.arguments == {"source": "registry:io.example/board@1.0.0"}
        assert "https://c.example/mcp" in first.fetches
        assert first.licence == "MIT"
        assert first.missing == ()


async def test_a_poor_match_covers_nothing_though_no_better_one_is_known(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        await one.fill(FORECASTS, BOARD, HARMONY)
        for need in (
            "Which city won the cup final in 1998",
            "days of the week in Swahili and their meanings",
        ):
            judged = await one.gaps.judge(need, {})
            assert judged.label == "gap"


async def test_beside_a_small_catalog_a_half_met_need_is_not_covered_only_because_nothing_is_nearer(
    tmp_path: Path,
) -> None:
    event = tool("create_event", "Create a new event in a calendar", title="Title")
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        await one.install("post", MAIL)
        await one.install("plan", event)
        await one.fill(FORECASTS, BOARD, HARMONY)
        for need in ("title of a song", "forecast demand"):
            assert (await one.gaps.judge(need, {})).label != "covered"
        assert (await one.gaps.judge("create a new event", {})).label == "covered"


async def test_what_runs_any_code_serves_a_need_only_where_code_is_spoken_of(tmp_path: Path) -> None:
    run = tool("python_execute", "Runs Python code", code="Code", files="A text file put into the folder")
    kept = entry(
        "io.example/cabinet",
        "Text files in folders",
        tool("put_paper", "Write a text file into a folder", paper="What is in it"),
        **remote("https://f.example/mcp"),
    )
    for kind, server in ((SourceKind.BUILTIN, "python-executor"), (SourceKind.REGISTERED, "anything")):
        async with house(tmp_path / server) as one:
            await one.install("sky", WEATHER)
            await one.install(server, run, kind=kind)
            await one.fill(FORECASTS, kept)
            judged = await one.gaps.judge("put a text file into a folder", {})
            offered = [proposal.name for proposal in judged.proposals]
            named = [found.tool.name for found in judged.tools]
            if kind is SourceKind.BUILTIN:
                assert (judged.label, named, offered) == ("gap", [], ["io.example/cabinet"])
            else:
                assert named == ["anything__python_execute"]
            for need in ("run Python code", f"{server}__python_execute"):
                judged = await one.gaps.judge(need, {})
                assert judged.label == "covered"
                assert judged.tools[0].tool.original == "python_execute"


async def test_the_name_of_a_file_or_an_address_says_nothing_of_the_tool_that_is_needed(
    tmp_path: Path,
) -> None:
    read = tool("read_file", "Read the contents of a file", path="Path of the file")
    notes = tool("notes", "Notes and txt of example.com", note="The note")
    async with house(tmp_path) as one:
        await one.install("files", read)
        await one.fill(
            entry("io.example/notes", "Notes", notes, **remote("https://n.example/mcp")), BOARD, HARMONY
        )
        for need in ("Read the file notes.txt", "Read /home/me/notes.txt", "read the file"):
            judged = await one.gaps.judge(need, {})
            assert (judged.label, judged.need) == ("covered", need)
            assert judged.tools[0].tool.name == "files__read_file"


async def test_tools_of_toolscore_itself_serve_no_need_of_a_task(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        gaps = Gaps(one.library, Finder(one.library, own=unlisted), Proposals(one.catalog, one.library))
        await one.install("sky", WEATHER)
        for need in ("Reload the configuration", "read the server logs", "remove a function"):
            judged = await gaps.judge(need, {})
            assert judged.label == "gap"
            assert judged.tools == ()


async def test_a_need_in_another_script_is_no_gap_only_because_no_word_of_it_was_found(
    tmp_path: Path,
) -> None:
    forecast = tool("forecast", "查询城市的天气预报", city="城市")
    async with house(tmp_path) as one:
        await one.fill(FORECASTS, BOARD, HARMONY)
        assert (await one.gaps.judge("查询天气", {})).label == "gap"
        await one.install("sky", WEATHER)
        judged = await one.gaps.judge("查询3天的天气", {})
        assert (judged.label, judged.foreign) == ("unsure", True)
        await one.library.remove("sky")
        # Among tools that are described in Chinese, its words tell as much as others.
        await one.install("tianqi", forecast)
        assert (await one.gaps.judge("查询天气预报", {})).tools[0].tool.name == "tianqi__forecast"
        assert (await one.gaps.judge("下棋", {})).label == "gap"


@pytest.mark.parametrize(
    "need",
    [
        "给alice@example.com发一封邮件",
        "把 report.txt 重命名为 final.txt",
        "打开 https://example.com/some/long/path 并截图",
        "用 Slack 给 #ops 频道发消息 deploy done",
        '发一条消息说"the deployment of tonight is done"',
    ],
)
async def test_names_and_addresses_in_a_need_make_it_no_english(tmp_path: Path, need: str) -> None:
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        await one.fill(FORECASTS, BOARD, HARMONY)
        judged = await one.gaps.judge(need, {})
        assert (judged.label, judged.foreign) == ("unsure", True)
        told = answer([judged], FindToolGapResult, split="rules", notes=[], max_tokens=2000)
        assert "needs=[...] in English" in told.next


@pytest.mark.parametrize(
    "need", ['translate "你好，世界，今天天气很好" for me', "read 北京.txt of mine, please"]
)
async def test_what_an_english_need_quotes_makes_it_no_foreign_one(tmp_path: Path, need: str) -> None:
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        assert not one.gaps.is_foreign(need)


async def test_without_a_catalog_there_is_a_gap_and_the_next_step_is_said(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        judged = await one.gaps.judge("find the best chess move", {})
        assert judged.label == "gap"
        assert judged.proposals == ()
        assert await one.gaps.notes() == [NO_CATALOG]


async def test_with_nothing_at_all_everything_is_a_gap(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        judged = [await one.gaps.judge(need, {}) for need in ("send an email", "\x00' OR 1=1 --", "*" * 5000)]
        assert overall(judged) == "gap"


async def test_what_a_server_requires_is_said_and_what_was_given_is_not_repeated(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        asks = remote("https://c.example/mcp", "X-Key")
        await one.fill(entry("io.example/board", "A chess engine", CHESS, **asks), HARMONY)
        [first, *_] = (await one.gaps.judge("find the best chess move", {})).proposals
        assert [line.partition(" ")[0] for line in first.missing] == ["X-Key"]
        assert first.arguments["settings"] == {"X-Key": "..."}
        given = {"io.example/board": {"X-Key": "hush"}, "Other": "x"}
        [first, *_] = (await one.gaps.judge("find the best chess move", given)).proposals
        assert first.missing == ()
        assert first.given["settings"] == first.own["settings"] == {"X-Key": "hush"}
        assert first.arguments["settings"] == {"X-Key": GIVEN}
        assert "hush" not in repr(first)
        assert "X-Key" in first.doing()


@pytest.mark.parametrize("marked", [True, False])
async def test_a_secret_that_was_given_by_its_name_alone_is_for_no_server_before_a_person_agrees(
    tmp_path: Path, marked: bool
) -> None:
    # What an entry does not call a secret may be one all the same.
    headers = [{"name": name, "isSecret": marked} for name in ("GITHUB_TOKEN", "Accept-Language")]
    asks = {"remotes": [{"type": "streamable-http", "url": "https://c.example/mcp", "headers": headers}]}
    async with house(tmp_path) as one:
        await one.fill(entry("io.example/board", "A chess engine", CHESS, **asks), HARMONY)
        given = {"GITHUB_TOKEN": "hush", "Accept-Language": "fr", "io.example/other": {"GITHUB_TOKEN": "x"}}
        [first, *_] = (await one.gaps.judge("find the best chess move", given)).proposals
        assert "GITHUB_TOKEN" in first.shared
        assert first.given["settings"] == {"GITHUB_TOKEN": "hush", "Accept-Language": "fr"}
        assert set(first.shared) == {"GITHUB_TOKEN", "Accept-Language"}
        assert "settings" not in first.own


async def test_of_equally_good_servers_the_one_that_asks_for_less_comes_first(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        await one.fill(
            entry("io.example/a", "A chess engine", CHESS, **remote("https://a.example/mcp", "X-Key")),
            entry("io.example/b", "A chess engine", CHESS, **remote("https://b.example/mcp")),
            HARMONY,
        )
        judged = await one.gaps.judge("find the best chess move", {})
        assert [proposal.name for proposal in judged.proposals[:2]] == ["io.example/b", "io.example/a"]


async def test_a_server_that_is_installed_under_another_name_is_not_proposed(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        packages = [{"registryType": "pypi", "identifier": "Chess_Server", "version": "1.0.0"}]
        package = {"packages": [{**packages[0], "transport": {"type": "stdio"}}]}
        await one.fill(entry("io.example/board", "A chess engine", CHESS, **package), HARMONY, FORECASTS)
        before = await one.gaps.judge("find the best chess move", {})
        assert before.proposals[0].name == "io.example/board"
        await one.install(
            "mine", MAIL, kind=SourceKind.PYPI, source="pypi:chess-server", package="chess-server"
        )
        after = await one.gaps.judge("find the best chess move", {})
        assert "io.example/board" not in [proposal.name for proposal in after.proposals]


async def test_a_server_that_comes_while_a_need_is_judged_is_no_gap_without_proposals(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        package = [
            {
                "registryType": "pypi",
                "identifier": "chess",
                "version": "1.0.0",
                "transport": {"type": "stdio"},
            }
        ]
        await one.fill(entry("io.example/board", "A chess engine", CHESS, packages=package), FORECASTS)

        class Meanwhile(Proposals):
            """What searches the catalog after somebody installed a server."""

            async def of(
                self, need: str, settings: Mapping[str, Any], weighed_by: Index | None = None
            ) -> Offered:
                if "mine" not in one.library.servers:
                    await one.install(
                        "mine", CHESS, kind=SourceKind.PYPI, source="pypi:chess", package="chess"
                    )
                return await super().of(need, settings, weighed_by)

        judging = Gaps(one.library, Finder(one.library), Meanwhile(one.catalog, one.library))
        judged = await judging.judge("find the best chess move", {})
        assert judged.label == "covered"
        assert [found.tool.server for found in judged.tools] == ["mine"]


async def test_a_tool_that_is_installed_is_weighed_as_the_catalog_weighs_it_too(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        packages = {"packages": [{"registryType": "pypi", "identifier": "chess-server", "version": "1.0.0"}]}
        await one.fill(entry("io.example/board", "A chess engine", CHESS, **packages), HARMONY, FORECASTS)
        await one.install(
            "mine", CHESS, kind=SourceKind.PYPI, source="pypi:chess-server", package="chess-server"
        )
        # Among the few installed no word tells it from others; in the catalog it is the best there is.
        judged = await one.gaps.judge("find the best chess move", {})
        assert judged.label == "covered"
        assert [found.tool.name for found in judged.tools] == ["mine__best_move"]


async def test_a_disabled_server_that_would_serve_is_to_be_enabled_not_installed(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        await one.install("board", CHESS, enabled=False)
        await one.fill(FORECASTS, HARMONY)
        judged = await one.gaps.judge("find the best chess move", {})
        assert judged.label == "gap"
        assert judged.proposals[0].tool == "manage_server"
        assert judged.proposals[0].arguments == {"name": "board", "action": "enable"}
        await one.library.set_enabled("board", True)
        judged = await one.gaps.judge("find the best chess move", {})
        assert [found.tool.name for found in judged.tools] == ["board__best_move"]
        assert judged.label != "gap"


async def test_an_entry_that_cannot_be_installed_is_not_proposed(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        await one.fill(entry("io.example/board", "A chess engine", CHESS), HARMONY)
        judged = await one.gaps.judge("find the best chess move", {})
        assert judged.label == "gap"
        assert "io.example/board" not in [proposal.name for proposal in judged.proposals]


async def test_what_fits_far_worse_than_the_best_is_below_what_is_worth_trying(tmp_path: Path) -> None:
    image = {"registryType": "oci", "identifier": "docker.io/example/board:1", "transport": {"type": "stdio"}}
    house_move = tool("move_house", "Plan to move from one house into another", house="Which house")
    async with house(tmp_path) as one:
        await one.fill(
            entry("io.example/board", "A chess engine", CHESS, packages=[image]),
            entry("io.example/vans", "Vans", house_move, **remote("https://v.example/mcp")),
            HARMONY,
        )
        judged = await one.gaps.judge("find the best chess move", {})
        assert judged.unfit is not None
        assert judged.unfit.name == "io.example/board"
        assert "docker.io/example/board" in judged.unfit.note(judged.need)
        assert [(near.name, near.score < judged.least) for near in judged.proposals] == [
            ("io.example/vans", True)
        ]


async def test_the_best_there_is_is_not_worth_trying_when_it_shares_but_a_word(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        archive = entry("io.example/archive", "Find scientific papers", **remote("https://a.example/mcp"))
        await one.fill(archive, BOARD, HARMONY, FORECASTS)
        far = await one.gaps.judge("find a plumber, an electrician and a carpenter for the old barn", {})
        assert "io.example/archive" in [near.name for near in far.proposals]
        assert all(near.score < far.least for near in far.proposals)
        near = await one.gaps.judge("find scientific papers", {})
        assert near.proposals[0].score > near.least


async def test_a_server_whose_tools_may_serve_is_kept_where_a_person_wanted_it_or_nothing_else_comes_near(
    tmp_path: Path,
) -> None:
    near = tool("move_best", "Move the best files", files="Files")
    async with house(tmp_path) as one:
        await one.fill(BOARD, HARMONY)
        need = "find the best chess move"
        [proposal, *_] = (await one.gaps.judge(need, {})).proposals
        await one.install("mover", near)
        served = await one.gaps.serves(need, "mover", proposal, agreed=True)
        assert served is not None
        assert (served.label, served.tools[0].tool.name) == ("unsure", "mover__move_best")
        # The catalog has a far better one.
        assert await one.gaps.serves(need, "mover", proposal, agreed=False) is None
        await one.install("board", CHESS)
        assert await one.gaps.serves(need, "mover", proposal, agreed=True) is None


async def test_arguments_are_shown_of_tools_that_are_likely_to_be_called_only(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        await one.fill(FORECASTS, BOARD, HARMONY)
        judged = await one.gaps.judge("weather forecast for a city", {})
        [found] = judged.tools
        cases: tuple[tuple[Label, float, bool], ...] = (
            ("unsure", 0.1, False),
            ("unsure", 0.3, True),
            ("covered", 0.1, True),
        )
        for label, score, shown in cases:
            near = replace(judged, label=label, tools=(replace(found, score=score),))
            told = answer([near], FindToolGapResult, split="given", notes=[], max_tokens=2000)
            assert (told.needs[0].tools[0].arguments is not None) is shown


def newer(file: Path) -> None:
    base = sqlite3.connect(file)
    base.execute("PRAGMA user_version = 99")
    base.close()


@pytest.mark.parametrize(
    ("spoil", "step"),
    [
        (Path.mkdir, "readable and writable"),
        (lambda file: file.symlink_to(file), "readable and writable"),
        (newer, "written by a newer ToolScore"),
    ],
)
async def test_a_catalog_that_cannot_be_read_is_noted_each_time_and_what_is_installed_is_judged(
    tmp_path: Path, spoil: Callable[[Path], None], step: str
) -> None:
    async with house(tmp_path) as one:
        await one.install("sky", WEATHER)
        spoil(tmp_path / "catalog.db")
        for _ in range(2):
            judged = [
                await one.gaps.judge(need, {}) for need in ("find the best chess move", "weather forecast")
            ]
            assert [found.label for found in judged] == ["gap", "covered"]
            [note] = await one.gaps.notes()
            assert note.startswith(UNREAD)
            assert step in note
            told = answer(judged, FindToolGapResult, split="given", notes=[note], max_tokens=2000)
            assert "notes says what to do" in told.next
            assert "sync_catalog" not in told.next


@pytest.mark.parametrize("open_before", [False, True])
async def test_a_catalog_that_is_damaged_leaves_a_gap_and_is_told_of_once(
    tmp_path: Path, open_before: bool
) -> None:
    async with house(tmp_path) as one:
        if open_before:
            await one.fill(BOARD)
            assert (await one.gaps.judge("find the best chess move", {})).proposals
        (tmp_path / "new").write_bytes(b"no database" * 1000)
        (tmp_path / "new").replace(tmp_path / "catalog.db")
        for name in ("catalog.db-wal", "catalog.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        judged = await one.gaps.judge("find the best chess move", {})
        assert (judged.label, judged.proposals) == ("gap", ())
        [damaged, empty] = await one.gaps.notes()
        assert "was damaged and is now catalog.db.damaged" in damaged
        assert empty == NO_CATALOG
        assert await one.gaps.notes() == [NO_CATALOG]


async def test_an_empty_catalog_is_said_to_be_empty_and_how_it_is_filled(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        await one.fill()
        assert (tmp_path / "catalog.db").exists()
        assert (await one.gaps.judge("find the best chess move", {})).label == "gap"
        [note] = await one.gaps.notes()
        assert "empty" in note
        assert "sync_catalog fills it" in note


async def test_a_server_that_came_for_a_need_is_judged_by_its_real_tools(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        await one.fill(BOARD, HARMONY)
        need = "find the best chess move"
        [proposal, *_] = (await one.gaps.judge(need, {})).proposals
        await one.install("liar", MAIL)
        await one.install("honest", CHESS)
        assert await one.gaps.serves(need, "liar", proposal) is None
        # Nor does a name serve.
        await one.install("best-chess-move", MAIL)
        assert await one.gaps.serves(need, "best-chess-move", proposal) is None
        served = await one.gaps.serves(need, "honest", proposal)
        assert served is not None
        assert [found.tool.name for found in served.tools] == ["honest__best_move"]
        held = replace(one.library.tools["honest__best_move"], held="findings")
        one.library.tools[held.name] = held
        one.library._by_server["honest"] = [held]
        one.library.version += 1
        assert await one.gaps.serves(need, "honest", proposal) is None, "what is in quarantine is not called"
