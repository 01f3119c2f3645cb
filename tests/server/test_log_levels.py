"""A server is told how much to log when that changes, and not once more for every client that comes or goes."""

from __future__ import annotations

from pathlib import Path

from several import RICH, Line, serving


async def told(line: Line) -> list[str]:
    heard = (await line.call("r__heard", method="logging/setLevel"))["structuredContent"]["heard"]
    return [message["params"]["level"] for message in heard]


async def test_a_level_is_told_once_and_again_after_the_server_was_started_anew(tmp_path: Path) -> None:
    rights = ("--no-token", "--set", "network.rights=call,manage")
    with serving(tmp_path, *rights, r=["-S", RICH, "label=r"]) as toolscore:
        async with toolscore.line() as line:
            await line.request("logging/setLevel", level="warning")
            for _ in range(3):
                async with toolscore.line() as other:
                    await other.request("logging/setLevel", level="error")
            assert await told(line) == ["warning"]
            await line.request("logging/setLevel", level="debug")
            assert await told(line) == ["warning", "debug"]
            await line.call("manage_server", name="r", action="restart")
            assert await told(line) == ["debug"]
