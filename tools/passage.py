"""One request on its way, as those see it who let it through and who write down what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .written import written

if TYPE_CHECKING:
    from .asker import Asker
    from .caller import Caller
    from .outcome import RefusalError
    from .tool import Tool


@dataclass(slots=True, eq=False)
class Passage:
    """One request for a server, or a call of one of ToolScore's own tools.

    Attributes:
        method: Its method, such as `tools/call`.
        server: The server it is for; empty where nobody has such a tool.
        subject: What of it: a tool by the name callers use, a uri, a prompt.
        arguments: Its arguments, as they came.
        caller: In whose name.
        meta: The `_meta` that is passed on with it.
        asker: The client's request this is done for, whose client may be asked for input.
        began: When it came, by `time.perf_counter`.
        tool: The tool that is called; `None` for all else, and for ToolScore's own.
        own_hints: Annotations of one of ToolScore's own tools.
        timeout: Seconds it may take at the most; `None` where the server's own time-out holds.
        undo: What gives back what was taken up for it; called with it once it is over.
        span: What those call it who keep traces; empty where nobody does.
        late: What it is refused with if it was cancelled for taking longer than it may.
        outcome: What came of it: `ok`, `error`, an outcome code, `server_error` or `cancelled`.
        said: What was said of a failure.
        result: The answer, where there is one.
        seconds: How long it took.
    """

    method: str
    server: str
    subject: str
    arguments: dict[str, Any]
    caller: Caller
    meta: dict[str, Any] | None
    asker: Asker | None
    began: float
    tool: Tool | None = None
    own_hints: Mapping[str, Any] | None = None
    timeout: float | None = None
    undo: list[Callable[[Passage], None]] | None = None
    span: str = ""
    late: RefusalError | None = None
    outcome: str = ""
    said: str | None = None
    result: dict[str, Any] | None = None
    seconds: float = 0.0
    _asked: bytes | None = None
    _answered: bytes | None = None

    @property
    def hints(self) -> Mapping[str, Any]:
        """What its server says of what the tool does (MCP `ToolAnnotations`)."""
        if self.tool is None:
            return self.own_hints or {}
        hints = self.tool.definition.get("annotations")
        return hints if isinstance(hints, dict) else {}

    def at_end(self, undo: Callable[[Passage], None]) -> None:
        """Have something called once it is over, whatever came of it.

        What is called is given the passage: kept by it and keeping it, it would be left to the garbage collector.
        """
        if self.undo is None:
            self.undo = [undo]
        else:
            self.undo.append(undo)

    def end(self) -> None:
        """Give back what was taken up for it."""
        undos, self.undo = self.undo, None
        for undo in reversed(undos or ()):
            undo(self)

    def asked(self) -> bytes:
        """Give its arguments as compact JSON, which is written once for all who want that."""
        if self._asked is None:
            self._asked = written(self.arguments)
        return self._asked

    def answered(self) -> bytes:
        """Give the answer as compact JSON, `null` where there is none; to be asked for once it is over."""
        if self._answered is None:
            self._answered = written(self.result)
        return self._answered


class Guard(Protocol):
    """Lets requests through, or not."""

    def admit(self, passage: Passage) -> Awaitable[None] | None:
        """Let a request through.

        Returns:
            What is to be waited for, where that cannot be said at once.

        Raises:
            RefusalError: If it is not let through; also from what is waited for.
        """
        ...


Watch = Callable[[Passage], None]
"""Told of every request when it is over."""

Mask = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes the secrets of one server out of what it says; gives the very same object where there are none."""
