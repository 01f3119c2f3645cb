"""ToolScore as it is, which on SIGUSR2 writes down how many tasks it has: nothing else tells that from outside.

python observed.py FILE serve --standalone ...
"""

import asyncio
import json
import signal
import sys
from pathlib import Path
from types import FrameType


def main() -> None:
    """Be ToolScore."""
    told = Path(sys.argv.pop(1))
    del sys.path[0]  # this folder is none of ToolScore's

    def tell(_number: int, _frame: FrameType | None) -> None:
        try:
            tasks = asyncio.all_tasks()
        except RuntimeError:
            return  # no loop runs now; whoever asks asks again
        names: dict[str, int] = {}
        for task in tasks:
            name = getattr(task.get_coro(), "__qualname__", "?")
            names[name] = names.get(name, 0) + 1
        half = told.with_suffix(".half")
        half.write_text(json.dumps({"tasks": len(tasks), "names": names}))
        half.replace(told)

    signal.signal(signal.SIGUSR2, tell)
    from toolscore.__main__ import main as toolscore

    toolscore()


main()
