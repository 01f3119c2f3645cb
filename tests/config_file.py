"""A configuration file that changes without ToolScore seeing it, so that only who asks for it has it read again."""

from __future__ import annotations

import os
from pathlib import Path

from mcp.client.client import Client

from toolscore_client import execute, text

SIZE = 16 * 1024


def padded(text: str) -> str:
    """A text as long as all others of its kind: blanks mean nothing at the end of JSON and TOML."""
    return text.ljust(SIZE)


async def rewrite_unseen(client: Client, path: Path, content: str) -> None:
    """Give a file that was written `padded` another text, with the size, the time and the number it had.

    ToolScore looks for changes every second, and where a test is held up for longer than a file has to stay as it is,
    what it is about to ask for is done before. It is also read once more soon after the start, which must be over:
    what somebody asked to be read is not looked at again as it is.
    """
    read = await execute(client, "toolscore__reload_configuration")
    assert not read.is_error, text(read)
    before = path.stat()
    assert before.st_size == SIZE >= len(content.encode())
    with path.open("r+") as file:
        file.write(padded(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
