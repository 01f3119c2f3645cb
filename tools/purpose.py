"""What a tool is for, in one line: the beginning of its description."""

from __future__ import annotations

import re

PURPOSE = 160
"""Characters of one line that says what a tool is for."""

_NOTED = 2_000
"""Characters in which notes before a description are looked for."""
_MOST_NOTES = 4
_NOTE = re.compile(
    r"[^\w\n]*(?:SECURITY|IMPORTANT|WARNING|NOTE|NOTICE|CAUTION|CRITICAL|ATTENTION|DANGER|MANDATORY|REQUIRED|ALERT)"
    r"(?: (?:NOTES?|NOTICE|WARNING|RULE|INFO|INFORMATION))?\W{0,3}[:!\]]"
    # Or a sentence without a small letter, of several words.
    r"|(?=[^a-z.!?\n]{12,300}[.!?](?:\s|$))(?:[A-Z]+[,;]? ){2}"
)
_NOTE_END = re.compile(r"[.!?](?=\s)|[。!?]|\n\s*\n")
_END = re.compile(r"[.!?。!?](?=\s|$)|[。!?]")


def purpose(description: str, room: int = PURPOSE) -> str:
    """Say in one line what a tool is for: the beginning of its description, without the notes some have before it."""
    return beginning(_without_notes(description[: _NOTED + room * 8]), room)


def _without_notes(description: str) -> str:
    """Skip what is shouted first, `IMPORTANT: ...`, as long as something follows."""
    for _ in range(_MOST_NOTES):
        note = _NOTE.match(description)
        if note is None:
            break
        end = _NOTE_END.search(description, note.end())
        if end is None or not (rest := description[end.end() :].lstrip()):
            break
        description = rest
    return description


def beginning(description: str, room: int) -> str:
    """Give the beginning of a text as one line: whole sentences where some fit, else whole words."""
    line = plain(" ".join(description[: room * 8].split()))
    if len(line) <= room:
        return line
    ends = [found.end() for found in _END.finditer(line, 0, room)]
    if ends and ends[-1] >= room // 4:
        return line[: ends[-1]]
    space = line.rfind(" ", room // 2, room)
    return line[: space if space > 0 else room - 1] + "…"


def plain(text: str) -> str:
    """Make a text one that can be written as JSON, and without control characters."""
    text = text.encode("utf-8", "replace").decode()
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)
