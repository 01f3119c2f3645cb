"""Functions in the store: versions, the current one, and what is forgotten, in either database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from toolscore.tools.database import Where
from toolscore.tools.functions.function import Function
from toolscore.tools.functions.shelf import Shelf
from toolscore.tools.store import Store


@pytest.fixture
async def store(where: Where) -> AsyncIterator[Store]:
    store = await Store.open(where)
    yield store
    await store.close()


def function(name: str = "f", version: int = 1) -> Function:
    return Function(
        name=name,
        version=version,
        source=f"def {name}(): return {version}  # \0 ✓",
        packages=("numpy",),
        hints={"readOnlyHint": True},
        definition={"name": name, "n": version},
        current=True,
        created="",
    )


async def test_the_newest_version_is_current_and_the_oldest_are_forgotten(store: Store) -> None:
    shelf = Shelf(store)
    for version in (1, 2, 3):
        await shelf.put(function(version=version), most=2)
    assert [(one.version, one.current) for one in await shelf.versions("f")] == [(2, False), (3, True)]
    one = await shelf.one("f")
    assert one is not None
    assert (one.source, one.packages) == (function(version=3).source, ("numpy",))
    assert await shelf.latest("f") == 3
    await shelf.make_current("f", 2)
    assert [one.version for one in await shelf.current()] == [2]
    await shelf.delete("f")
    assert await shelf.latest("f") == 0


async def test_when_a_version_was_made_is_told_alike_when_it_is_read_again(store: Store) -> None:
    shelf = Shelf(store)
    told = await shelf.put(function(), most=2)
    (one,) = await shelf.versions("f")
    assert one.created == told
    assert told.endswith("+00:00")
