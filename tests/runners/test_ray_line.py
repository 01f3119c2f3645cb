"""The line between ToolScore and an agent, without Ray: the agent's host runs in the test's own process."""

from __future__ import annotations

from pathlib import Path

from ray_host import hosting, speaking


async def test_a_server_is_spoken_to_and_ends_when_it_is_stopped(tmp_path: Path) -> None:
    async with hosting(tmp_path) as house:
        child = await house.child(await house.link())
        async with speaking(child) as session:
            assert len(await session.list_tools()) > 3
            await child.stop(5.0)
        assert child.returncode == 0
        assert house.lost == []
