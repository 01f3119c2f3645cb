"""What is wrong with a policy file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import LibraryError

MOST_TOLD = 100
"""Problems that are told of one file."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file.

    Attributes:
        line: The line it is in, from 1; 0 where it is about the file as a whole.
        text: What is wrong, and how to mend it.
    """

    line: int
    text: str


class PolicyError(LibraryError):
    """A policy file cannot be used, and nothing of it is.

    Args:
        path: The file.
        problems: All that is wrong with it.
    """

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """Give a line for each problem: file, line, what is wrong and the fix; of very many, the first ones."""
        told = [
            f"{self.path}, line {one.line}: {one.text}" if one.line else f"{self.path}: {one.text}"
            for one in self.problems[:MOST_TOLD]
        ]
        if (more := len(self.problems) - MOST_TOLD) > 0:
            told.append(f"{self.path}: {more} more; correct these first")
        return told
