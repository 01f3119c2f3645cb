"""search_tools where the extra `toolscore[semantic]` is installed: tools are found by what they mean, too."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from cli_shell import shell_in
from gap_parts import CHESS, MAIL, MUSIC, WEATHER, tool_servers
from toolscore.tools.search.encoder import available
from toolscore_client import call, connected

MEANT = "how can my queen checkmate his king"
"""Not one word of it is in a tool."""

pytestmark = pytest.mark.skipif(
    available() is not None, reason="the extra toolscore[semantic] is not installed"
)


async def test_a_tool_is_found_by_its_meaning_once_it_is_encoded_and_after_a_restart(tmp_path: Path) -> None:
    settings = {"TOOLSCORE_TOOLS_SEMANTIC": "auto"}
    tools = {"sky": [WEATHER], "post": [MAIL], "band": [MUSIC], "board": [CHESS]}
    with tool_servers(tmp_path, **tools) as (urls, ready):
        ready()
        async with connected(tmp_path / "home", env=settings) as client:
            for name, url in urls.items():
                await call(client, "register_tool", name=name, url=url)
            deadline = time.monotonic() + 60  # the models are read, and nothing signals that they are
            first = await call(client, "search_tools", query=MEANT)
            assert first["tools"] or "Meanings are still being encoded (" in first["note"]
            while not (found := (await call(client, "search_tools", query=MEANT))["tools"]):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert found[0]["name"] == "board__best_move"
            assert "meaning" in found[0]["why"]
            while "note" in (await call(client, "search_tools", query=MEANT)):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            exact = (await call(client, "search_tools", query="get_forecast"))["tools"]
            assert exact[0]["name"] == "sky__get_forecast"
        async with connected(tmp_path / "home", env=settings) as client:
            deadline = time.monotonic() + 60
            while not (found := (await call(client, "search_tools", query=MEANT))["tools"]):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert found[0]["name"] == "board__best_move"


def test_a_single_command_goes_by_words_and_ends_cleanly(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    for _ in range(2):
        done = shell("call", "search_tools", '{"query": "run python code"}', "--set", "tools.semantic=auto")
        assert (done.returncode, done.stderr) == (0, "")
    assert not (shell.home / "vectors").exists()
