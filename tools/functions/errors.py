"""What is wrong with a source that is to become a tool."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ast


class FunctionError(ValueError):
    """A source that cannot become a tool. The text says what is wrong, on which line, and what to do."""

    @classmethod
    def at(cls, node: ast.AST, text: str) -> FunctionError:
        """Give one about a place in the source."""
        line = getattr(node, "lineno", None)
        return cls(f"line {line}: {text}" if line else text)
