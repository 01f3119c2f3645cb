"""What the library has of a server's tools is what its store has, however the list changes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from toolscore.runners.spec import Installation, ServerSpec, SourceKind
from toolscore.tools.database import Where
from toolscore.tools.library import FEW, Library
from toolscore.tools.rows import Said, ServerRow, tool_rows
from toolscore.tools.store import Store

INSTALLATION = Installation(
    server_id="s", kind=SourceKind.REGISTERED, source="test", spec=ServerSpec(command="x")
)
SAID: Said = {"era": None, "server_info": None, "instructions": None, "offers": None}


@pytest.fixture
async def store(where: Where) -> AsyncIterator[Store]:
    store = await Store.open(where)
    yield store
    await store.close()


@pytest.fixture
async def library(store: Store) -> Library:
    library = Library(store)
    await library.add(ServerRow("s", "cli", True, INSTALLATION), [])
    return library


def tools(*names: Any, said: str = "") -> list[dict[str, Any]]:
    return [{"name": str(name), "description": f"{name}{said}", "inputSchema": {}} for name in names]


async def agreed(library: Library, store: Store, wanted: list[dict[str, Any]]) -> None:
    assert [tool.definition for tool in library.of("s")] == wanted
    again = Library(store)
    await again.load()
    assert again.of("s") == library.of("s")


async def test_a_list_that_changes_in_every_way_is_kept_as_it_is(library: Library, store: Store) -> None:
    dice = random.Random(6)
    listed: list[dict[str, Any]] = []
    for turn in range(40):
        match dice.choice(["add", "add", "change", "remove", "shuffle"]):
            case "add":
                listed = [*listed, *tools(f"t{turn}", f"u{turn}")]
            case "change" if listed:
                one = dice.choice(listed)["name"]
                listed = [tool if tool["name"] != one else tools(one, said="!")[0] for tool in listed]
            case "remove" if listed:
                one = dice.choice(listed)
                listed = [tool for tool in listed if tool is not one]
            case "shuffle":
                listed = dice.sample(listed, len(listed))
        await library.refresh("s", SAID, listed)
        await agreed(library, store, listed)


async def test_lists_that_come_at_the_same_time_end_with_the_last(library: Library, store: Store) -> None:
    lists = [tools(*range(turn, turn + 5)) for turn in range(20)]
    await asyncio.gather(*(library.refresh("s", SAID, listed) for listed in lists))
    await agreed(library, store, lists[-1])


async def test_a_write_that_failed_half_way_is_made_good_by_the_next(
    library: Library, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.refresh("s", SAID, tools(1, 2, 3))

    async def failing(*_: Any) -> None:
        await store.replace_tools("s", tool_rows("s", tools(2, 9)))
        raise OSError("written, and yet not")

    with monkeypatch.context() as patch:
        patch.setattr(store, "change_tools", failing)
        with pytest.raises(OSError, match="and yet not"):
            await library.refresh("s", SAID, tools(1, 2, 3, 4))
    await library.refresh("s", SAID, tools(1, 2, 3, 9))
    await agreed(library, store, tools(1, 2, 3, 9))


async def test_many_changes_at_once_are_written_as_a_whole(library: Library, store: Store) -> None:
    for said in ("", "!"):
        listed = tools(*range(FEW + 10), said=said)
        await library.refresh("s", SAID, listed)
        await agreed(library, store, listed)
    await library.refresh("s", SAID, listed[1:])
    await agreed(library, store, listed[1:])
