"""search_tools where the extra `toolscore[semantic]` is installed: tools are found by what they mean, too."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from cli_shell import shell_in
from gap_parts import CHESS, MAIL, MUSIC, WEATHER, tool, tool_servers
from toolscore.tools.search.encoder import available
from toolscore_client import call, connected, text

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


def test_the_command_index_encodes_all_meanings_and_keeps_them(tmp_path: Path) -> None:
    shell = shell_in(tmp_path)
    assert "no tools yet" in shell("index").stderr
    assert not shell.home.exists(), "looking makes no home"
    shell.document("functions", "list")
    off = shell.document("index")
    assert (off["by_meaning"], "tools.semantic" in off["note"]) == (False, True)
    shell.environ["TOOLSCORE_TOOLS_SEMANTIC"] = "auto"
    done = shell("index")
    assert (done.returncode, f"{off['tools']} tools are found by their words and meaning" in done.stdout) == (
        0,
        True,
    ), done
    assert "loading the models" in done.stderr
    assert any((shell.home / "vectors").iterdir())


async def test_how_far_the_index_is_can_be_followed_while_it_is_built(tmp_path: Path) -> None:
    tools = [tool(f"boil_{one}", f"Boil {one} eggs in a pan of {one * 7} litres") for one in range(300)]
    heard: list[tuple[float, float | None, str | None]] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async def index() -> Any:
        [content] = (await client.read_resource("toolscore://installs")).contents
        return json.loads(getattr(content, "text"))["index"]  # noqa: B009 - of two kinds one has it

    with tool_servers(tmp_path, kitchen=tools) as (urls, ready):
        ready()
        async with connected(tmp_path / "home", env={"TOOLSCORE_TOOLS_SEMANTIC": "auto"}) as client:
            await call(client, "register_tool", name="kitchen", url=urls["kitchen"])
            assert await index() is None, "nothing is built before somebody needs it"
            asked = {"tool": "toolscore__index_tools", "arguments": {}}
            work = asyncio.create_task(client.call_tool("execute_tool", asked, progress_callback=told))
            async with asyncio.timeout(120):
                while (now := await index()) is None:
                    assert not work.done(), text(await work)
                    await asyncio.sleep(0.02)
                assert 0 <= now["encoded"] < now["tools"]
                done = (await work).structured_content
            assert done is not None
            assert done["by_meaning"]
            assert 300 <= now["tools"] <= done["tools"]
            assert await index() is None
    assert [one for one, _, _ in heard] == sorted({one for one, _, _ in heard}), "it only grows"
    assert (done["tools"], f"encoding the meanings of {done['tools']} tools") in {
        (total, message) for _, total, message in heard
    }
