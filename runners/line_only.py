"""A server of which ToolScore has the line and nothing else: no process of its own, and no output beside it."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from .base import Channel, Child


class Line(Channel, Protocol):
    """A line that can say why it is closed."""

    def epitaph(self) -> str:
        """Say it in one clause."""
        ...


L = TypeVar("L", bound=Line)


class LineOnly(Child, Generic[L]):
    """What all such servers have in common.

    Args:
        line: The line.
    """

    def __init__(self, line: L) -> None:
        self.line = line

    @property
    def channel(self) -> Channel:
        """The line."""
        return self.line

    @property
    def pid(self) -> int | None:
        """Give none: no process is the server's alone, or it is somebody else's."""
        return None

    @property
    def returncode(self) -> int | None:
        """Give none."""
        return None

    def stderr_tail(self) -> str:
        """Give nothing: a line has no standard error."""
        return ""

    def noise(self) -> str:
        """Give nothing: the line carries messages only."""
        return ""

    def epitaph(self) -> str:
        """Say why the line is closed."""
        return self.line.epitaph()
