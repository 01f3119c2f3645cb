"""Python in the sandbox of a ToolScore (docs/sandbox.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

import anyio

from .errors import ClosedError, JSONRPCError
from .options import CodeOptions, SessionOptions
from .result import Result

if TYPE_CHECKING:
    from .runtime import ToolScore

EXECUTOR = "python-executor"

ENDED_WITHIN = 5.0
"""Seconds that ending a session may take; after that it ends when it is idle."""

logger = logging.getLogger("toolscore.client")


class Execution:
    """What came of code.

    Attributes:
        result: The result of the call.
    """

    __slots__ = ("result",)

    def __init__(self, result: Result) -> None:
        self.result = result

    def _said(self, name: str, otherwise: Any = None) -> Any:
        structured = self.result.structured
        return structured.get(name, otherwise) if isinstance(structured, dict) else otherwise

    @property
    def ok(self) -> bool:
        """Whether the code ended well."""
        return self.result.ok

    @property
    def status(self) -> str:
        """`ok`, `error`, `timeout`, ... (docs/sandbox.md); of a call that was refused, its outcome."""
        return str(self._said("status") or self.result.outcome)

    @property
    def value(self) -> Any:
        """Of the last expression, as JSON; `None` where it has no such form, and `repr` tells."""
        return self._said("value")

    @property
    def repr(self) -> str | None:
        """Of the last expression."""
        said = self._said("repr")
        return said if isinstance(said, str) else None

    @property
    def stdout(self) -> str:
        """What it printed."""
        return str(self._said("stdout") or "")

    @property
    def stderr(self) -> str:
        """What it wrote on standard error."""
        return str(self._said("stderr") or "")

    @property
    def error(self) -> str | None:
        """The traceback, or why no code was run; `None` if it ended well."""
        if self.ok:
            return None
        said = self._said("error")
        if isinstance(said, dict):
            return str(said.get("traceback") or said.get("message"))
        return self.result.text

    @property
    def files(self) -> list[dict[str, Any]]:
        """What it left in its working folder: `path`, `size`, `uri`, `mime`."""
        files = self._said("files")
        return files if isinstance(files, list) else []

    @property
    def notes(self) -> list[str]:
        """Remarks of the sandbox."""
        notes = self._said("notes")
        return notes if isinstance(notes, list) else []

    def __repr__(self) -> str:
        return f"<execution: {self.status}, value {self.repr}>"


class PythonSession:
    """Executions that share their variables, imports and files, for as long as a block lasts.

    Args:
        view: What the calls are made by.
        options: Arguments of `session_start`.
    """

    def __init__(self, view: ToolScore, options: SessionOptions) -> None:
        self._view, self._options = view, options
        self.id = ""

    async def __aenter__(self) -> PythonSession:
        # Sent again after a lost line: a session that was begun and not heard of ends when it is idle.
        started = await self._view.call(
            f"{EXECUTOR}__session_start", {**self._options}, repeat=True, check=True
        )
        self.id, self._view = str(started.structured["session"]), self._view.at(started.line)
        return self

    async def run(
        self,
        code: str,
        *,
        on_output: Callable[[str], None] | None = None,
        timeout: float | None = None,
        **options: Unpack[CodeOptions],
    ) -> Execution:
        """Run code in it; see `ToolScore.execute_python`."""
        return await self._view.execute_python(
            code, session=self.id, on_output=on_output, timeout=timeout, **options
        )

    async def __aexit__(self, *_exc: object) -> None:
        if self._view.closed:
            return
        with anyio.CancelScope(shield=True):  # also a block that is cancelled ends what it began
            try:
                await self._view.call(
                    f"{EXECUTOR}__session_end",
                    {"session": self.id},
                    timeout=ENDED_WITHIN,
                    repeat=True,
                    check=False,
                )
            except (JSONRPCError, ClosedError) as exc:  # it ends when it is idle
                logger.info("a session of Python was not ended: %s", exc)
