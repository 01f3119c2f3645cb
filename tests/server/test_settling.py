"""What stays is left alone by the garbage collector."""

from __future__ import annotations

import asyncio
import gc

import pytest

from toolscore.server import settling


async def test_what_was_loaded_is_left_alone_by_the_garbage_collector_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settling, "SETTLED", 0.0)
    frozen = gc.get_freeze_count()
    try:
        settling.settle_later()
        async with asyncio.timeout(30):
            while gc.get_freeze_count() <= frozen:
                await asyncio.sleep(0)
    finally:
        gc.unfreeze()
    settling.settle_later()()
    await asyncio.sleep(0)
    assert gc.get_freeze_count() == 0, "it was taken back"
