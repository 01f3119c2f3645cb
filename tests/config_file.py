"""A configuration file that changes without ToolScore seeing it, so that only who asks for it has it read again."""

from __future__ import annotations

import os
from pathlib import Path

SIZE = 16 * 1024


def padded(text: str) -> str:
    """A text as long as all others of its kind: blanks mean nothing at the end of JSON and TOML."""
    return text.ljust(SIZE)


def rewrite_unseen(path: Path, text: str) -> None:
    """Give a file that was written `padded` another text, with the size, the time and the number it had.

    ToolScore looks for changes every second, and where a test is held up for longer than a file has to stay as it is,
    what it is about to ask for is done before.
    """
    before = path.stat()
    assert before.st_size == SIZE >= len(text.encode())
    with path.open("r+") as file:
        file.write(padded(text))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
