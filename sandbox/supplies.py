"""Where boxes and packages come from, as the executor sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

from .execution import Execution, Job, OnOutput, Tools
from .isolation import Isolation

Tell = Callable[[str], None]
"""Is told how something goes on, a line at a time."""


class OpenBox(Protocol):
    """A box that stays for several executions."""

    @property
    def alive(self) -> bool:
        """Whether it can run another job."""
        ...

    async def run(
        self, job: Job, *, on_output: OnOutput | None = None, tools: Tools | None = None
    ) -> Execution:
        """Run a job in it."""
        ...

    async def close(self) -> None:
        """End it and all in it."""
        ...


class Boxes(Protocol):
    """Where boxes come from: `Pool`."""

    async def __aenter__(self) -> Any:
        """Begin."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """End every box."""
        ...

    async def isolation(self) -> Isolation:
        """Tell what protects, as found in a box."""
        ...

    async def run(
        self, job: Job, *, on_output: OnOutput | None = None, tools: Tools | None = None
    ) -> Execution:
        """Run a job in a box of its own."""
        ...

    async def open(self) -> OpenBox:
        """Give a box for several jobs."""
        ...

    def stats(self) -> dict[str, Any]:
        """Tell how many boxes there are, and the like."""
        ...


class Packages(Protocol):
    """Makes environments of packages: `Environments`."""

    async def environment(self, packages: Sequence[str], tell: Tell | None = None) -> Any:
        """Give the environment with these packages, made now if there is none; `None` for no packages.

        Raises:
            Exception: If it cannot be made; the message says why.
        """
        ...

    def release(self, environment: Any) -> None:
        """Take back one that was given: no box uses it any more."""
        ...

    def sweep(self) -> int:
        """Remove what was left half-made."""
        ...

    def close(self) -> None:
        """Let go of all that was given out."""
        ...
