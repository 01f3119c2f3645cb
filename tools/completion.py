"""Steps that must not be left half-way by whoever asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def completed(step: Coroutine[Any, Any, T]) -> T:
    """Finish a short step even if the caller is cancelled meanwhile, and only then let it be cancelled.

    A transaction that was handed to the store's thread is committed whatever becomes of who waits for it.
    """
    task = asyncio.get_running_loop().create_task(step)
    with anyio.CancelScope(shield=True):
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            if task.cancelled():
                raise
    return task.result()
