"""An agent's own skill library: a Python function becomes a tool, gets better, and is there the next time.

Run with `python examples/skills.py` where ToolScore is installed (Linux: functions run in its sandbox).
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

FIRST = '''
def slugify(text: str, sep: str = "-") -> str:
    """Make a slug of a text, for use in addresses.

    Args:
        text: The text.
        sep: What comes between its words.
    """
    return sep.join(text.lower().split())
'''

BETTER = '''
import re
import unicodedata

def slugify(text: str, sep: str = "-") -> str:
    """Make a slug of a text, for use in addresses: ASCII letters and digits only.

    Args:
        text: The text.
        sep: What comes between its words.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return sep.join(re.findall(r"[a-z0-9]+", plain.lower()))
'''


async def main(home: str) -> None:
    """Register a function twice, call it each time, and read how a client is told of it."""
    toolscore = shutil.which("toolscore") or "toolscore"
    server = StdioServerParameters(command=toolscore, args=["serve", "--standalone", "--home", home])
    for source in (FIRST, BETTER):
        # A new ToolScore each time: what was registered before is still there.
        async with Client(stdio_client(server)) as client:
            added = await client.call_tool("register_tool", {"name": "slugify", "source": source})
            assert added.structured_content is not None
            arguments = {"tool": "functions__slugify", "arguments": {"text": "Crème brûlée, twice!"}}
            called = await client.call_tool("execute_tool", arguments)
            assert called.structured_content is not None
            print(f"version {added.structured_content['version']}: {called.structured_content['result']}")
    print("`toolscore functions list` shows it, `toolscore functions export FOLDER` writes it to a file.")


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("the sandbox needs Linux")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
