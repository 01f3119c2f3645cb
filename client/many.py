"""Many calls at the same time, of a client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Self, TypeVar, overload

from .discovery import Discovery
from .parallel import Spread
from .result import Outcome, Result

T = TypeVar("T")
Given = TypeVar("Given", bound=Mapping[str, Any])

Call = tuple[str, Mapping[str, Any]]
"""A tool, and its arguments."""


class Many(Discovery):
    """The part of a client that makes many calls."""

    async def _once(
        self, tool: str, arguments: Mapping[str, Any], timeout: float | None, repeat: bool | None
    ) -> Result:
        """Call a tool; `ToolScore` has it.

        Raises:
            ValueError: If the arguments have no JSON form.
        """
        raise NotImplementedError

    def within(self, *, check: bool | None = None) -> Self:
        """Give a client on the same lines; `ToolScore` has it."""
        raise NotImplementedError

    @overload
    def map(
        self,
        tool: str,
        items: Iterable[Given] | AsyncIterable[Given],
        *,
        in_flight: int = 64,
        ordered: bool = False,
        patience: float = 60.0,
        timeout: float | None = None,
        repeat: bool | None = None,
    ) -> AsyncGenerator[tuple[Given, Result]]: ...

    @overload
    def map(
        self,
        tool: Callable[[Self, T], Awaitable[Result]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        in_flight: int = 64,
        ordered: bool = False,
        patience: float = 60.0,
    ) -> AsyncGenerator[tuple[T, Result]]: ...

    async def map(
        self,
        tool: str | Callable[[Self, Any], Awaitable[Result]],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        in_flight: int = 64,
        ordered: bool = False,
        patience: float = 60.0,
        timeout: float | None = None,
        repeat: bool | None = None,
    ) -> AsyncGenerator[tuple[Any, Result]]:
        """Call a tool for each of many arguments, and give each with its result, as they come.

        Things are taken as there is room, so that there may be more than fit into memory. Where ToolScore says that a
        queue is full, fewer calls are made at the same time, and those that were refused are made again. Results are
        never raised, and arguments without a JSON form are `invalid_arguments`. Where the things break off with an
        error, it is raised behind the results of those that were taken. Close the generator (`contextlib.aclosing`)
        to cancel what is under way.

        Args:
            tool: A tool, and the things are its arguments; or what makes a call of a thing. What that raises ends it
                all, and cancels what is under way.
            items: The things.
            in_flight: Calls at the same time, at the most.
            ordered: Whether to give them in the order of the things.
            patience: Seconds in which a call that is refused for now is made again.
            timeout: Seconds for each call of a tool that is named.
            repeat: Whether calls of a tool that is named may be sent again after a line was lost.

        Raises:
            ValueError: If `in_flight` is less than 1.
            JSONRPCError: If a call was answered with a JSON-RPC error, which is a fault of the protocol.
            ClosedError: If the client was closed.
        """
        if isinstance(tool, str):
            name = tool

            async def call(item: Any) -> Result:
                return await self._calm(name, item, timeout, repeat)
        else:
            make, view = tool, self.within(check=False)

            async def call(item: Any) -> Result:
                return await make(view, item)

        spread = Spread(items, call, in_flight, ordered=ordered, patience=patience)
        async with aclosing(spread.results()) as results:
            async for _number, item, result in results:
                yield item, result

    async def execute_many(
        self,
        calls: Iterable[Call] | AsyncIterable[Call],
        *,
        in_flight: int = 64,
        patience: float = 60.0,
        timeout: float | None = None,
        repeat: bool | None = None,
    ) -> list[Result]:
        """Make many calls, and give their results in the same order.

        Args:
            calls: Tools with their arguments.
            in_flight: Calls at the same time, at the most.
            patience: Seconds in which a call that is refused for now is made again.
            timeout: Seconds for each call.
            repeat: Whether calls may be sent again after a line was lost.

        Raises:
            JSONRPCError: As for `map`.
            ClosedError: As for `map`.
        """

        async def one(view: Self, call: Call) -> Result:
            return await view._calm(call[0], call[1], timeout, repeat)

        found = self.map(one, calls, in_flight=in_flight, ordered=True, patience=patience)
        return [result async for _call, result in found]

    async def _calm(
        self, tool: str, arguments: Mapping[str, Any], timeout: float | None, repeat: bool | None
    ) -> Result:
        try:
            return await self._once(tool, arguments, timeout, repeat)
        except ValueError as exc:  # of one call among many
            text = f"{str(exc)[:500]}. Nothing was sent."
            return Result.refusal(tool, Outcome.INVALID_ARGUMENTS, text, 0.0)
