"""What has to be minded when texts of the code become Markdown."""

from __future__ import annotations

import re


def cell(text: str) -> str:
    """Make a text fit for a cell of a table, or a line of a list."""
    line = " ".join(text.split())
    return _outside_code(line).replace("|", "\\|")


def _outside_code(line: str) -> str:
    """Escape what Markdown would take for markup, but for what stands in backticks."""
    parts = re.split(r"(`[^`]+`)", line)
    return "".join(
        part if at % 2 else re.sub(r"([*<>\[\]]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", part)
        for at, part in enumerate(parts)
    )


def code(text: str) -> str:
    """Make a text code within a cell of a table."""
    line = " ".join(text.split()).replace("|", "\\|")
    return f"`` {line} ``" if "`" in line else f"`{line}`"
