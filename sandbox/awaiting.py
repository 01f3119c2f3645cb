"""Runs compiled code, and the event loop of code that has an `await` outside of functions."""

from __future__ import annotations

from _contextvars import copy_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType
    from typing import Any

_COROUTINE = 0x80
"""The flag of code that has to be awaited (`Include/cpython/code.h`)."""


class Evaluator:
    """Evaluates code in one namespace; the loop, and what runs in it, is kept until it is closed.

    Args:
        names: The namespace.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names
        self._runner: Any = None
        self.context = copy_context()
        """What variables of context the code has, with a loop or without one: numpy prints as they say."""

    def evaluate(self, parts: Iterable[CodeType]) -> Any:
        """Run the parts in their order; gives the value of the last one.

        If any of them awaits, all run in one task: what starts tasks may stand in another part than what awaits them.
        If none does there is no loop, so that the code can run its own.
        """
        parts = list(parts)
        if not any(code.co_flags & _COROUTINE for code in parts):
            return self.context.run(self._directly, parts)
        import asyncio

        if self._runner is None or self._runner.get_loop().is_closed():
            self._runner = asyncio.Runner()
        task = self._in_a_loop(parts)
        try:
            return self._runner.run(task, context=self.context)
        finally:
            task.close()  # where it could not even be started

    def close(self) -> None:
        """End the loop and what runs in it."""
        if self._runner is not None:
            self._runner.close()

    def _directly(self, parts: Iterable[CodeType]) -> Any:
        value = None
        for code in parts:
            value = eval(code, self._names)  # noqa: S307 -- what this is for
        return value

    async def _in_a_loop(self, parts: Iterable[CodeType]) -> Any:
        value = None
        for code in parts:
            value = eval(code, self._names)  # noqa: S307
            if code.co_flags & _COROUTINE:
                value = await value
        return value
