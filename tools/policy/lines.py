"""Where in a TOML file its tables and keys stand, which the parser of the standard library does not tell."""

from __future__ import annotations

import re

Place = tuple[str, int, str]
"""A table, the how-manieth of that name it is, and a key in it; an empty key is the table's own header."""

_HEADER = re.compile(r"\s*\[\[?\s*([^\]]*?)\s*\]\]?")
_KEY = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*[.=]""")
_QUOTES = ('"""', "'''", '"', "'")


def places(text: str) -> dict[Place, int]:
    """Give the lines of tables and keys.

    Args:
        text: A file that is valid TOML 1.0.

    Returns:
        Lines from 1. What is inside of strings, arrays and inline tables has no place of its own.
    """
    found: dict[Place, int] = {}
    counts: dict[str, int] = {}
    table, number, depth = "", 0, 0
    quote: str | None = None
    for line, content in enumerate(text.split("\n"), 1):
        if quote is None and depth == 0:
            if (header := _HEADER.match(content)) is not None:
                table = header[1].strip("\"' ")
                number = counts.get(table, 0)
                counts[table] = number + 1
                found.setdefault((table, number, ""), line)
                continue
            if (key := _KEY.match(content)) is not None:
                name = next(part for part in key.groups() if part is not None)
                found.setdefault((table, number, name), line)
        quote, depth = _after(content, quote, depth)
    return found


def _after(content: str, quote: str | None, depth: int) -> tuple[str | None, int]:
    """Tell what is still open behind a line: a text of several lines, and how many brackets."""
    at = 0
    while at < len(content):
        if quote is not None:
            if content[at] == "\\" and quote[0] == '"':
                at += 2
                continue
            if content.startswith(quote, at):
                at += len(quote)
                quote = None
                continue
        elif content[at] == "#":
            break
        elif (opened := next((one for one in _QUOTES if content.startswith(one, at)), None)) is not None:
            quote = opened
            at += len(opened)
            continue
        elif content[at] in "[{":
            depth += 1
        elif content[at] in "]}":
            depth -= 1
        at += 1
    # Only those of three go over the end of a line.
    return (quote if quote is not None and len(quote) == 3 else None), max(depth, 0)
