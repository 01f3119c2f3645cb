"""Another version of a server takes the place of the one there is only once it has started; neither is ever lost."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import until
from packed import index as index_of
from packed import server_code, wheel
from pinned_house import pinned_house, refused, whats
from toolscore.runners.keeping import Keeping
from toolscore.tools.caller import OWNER, Caller
from toolscore.tools.outcome import RefusalError
from toolscore.tools.pins.upgrading import roll_back

PACKED = "pypi:toolscored-packed"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is uv's only index, with version 1.0."""
    for name, value in index_of(tmp_path / "wheels").items():
        monkeypatch.setenv(name, value)
    wheel(tmp_path / "wheels")
    return tmp_path / "wheels"


def places(folder: Path) -> list[str]:
    versions = folder / "servers" / "it" / "versions"
    return sorted(path.name for path in versions.iterdir()) if versions.is_dir() else []


async def test_an_upgrade_keeps_all_that_was_given_and_set(tmp_path: Path, wheels: Path) -> None:
    async with pinned_house(tmp_path / "home") as house:
        keeping = Keeping(groups=("g",), timeout=33)
        await house.install(PACKED, args=("a",), env={"KEY": "topsecret"}, keeping=keeping)
        (house.folder / "servers/it/data.txt").write_text("mine")
        wheel(wheels, "2.0", tools={"say": "Says it louder.", "more": "More."})
        shown = await house.upgrade(only_show=True)
        assert not shown.done
        assert places(house.folder) == []
        assert await house.say() == "1.0 a topsecret"
        done = (await house.upgrade(agreed=shown.changes.mark)).changes
        assert (done.before, done.after) == ("1.0", "2.0")
        assert [(one.name, one.before, one.after) for one in done.packages] == [
            ("toolscored-packed", "1.0", "2.0")
        ]
        assert [(one.name, one.kind) for one in done.tools] == [("more", "added"), ("say", "changed")]
        assert '-  "description": "Says it.",' in done.tools[1].diff
        assert '+  "description": "Says it louder.",' in done.tools[1].diff
        assert await house.say() == "2.0 a topsecret"
        assert house.installed().keeping == keeping
        assert {tool.original for tool in house.servers.library.of("it")} == {"say", "more"}
        assert (house.folder / "servers/it/data.txt").read_text() == "mine"
        assert await house.verify() == []
    async with pinned_house(tmp_path / "home") as house:  # and so it is after a restart
        assert await house.say() == "2.0 a topsecret"
        assert await house.verify() == []


async def test_one_can_go_back_and_forth_and_only_two_versions_are_kept(tmp_path: Path, wheels: Path) -> None:
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        assert "no previous version" in await refused(roll_back(house.servers, "it", OWNER))
        for version in ("2.0", "3.0"):
            wheel(wheels, version)
            await house.upgrade()
        assert places(house.folder) == ["2", "3"]
        assert not (house.folder / "servers/it/venv").exists()
        for version in ("2.0", "3.0", "2.0"):
            await roll_back(house.servers, "it", OWNER)
            assert await house.say() == version
            assert await house.verify() == []
        await house.upgrade(to="1.0")
        assert await house.say() == "1.0"
        assert await house.verify() == []


async def test_a_previous_version_that_was_changed_on_the_disk_is_not_returned_to(
    tmp_path: Path, wheels: Path
) -> None:
    wheel(wheels)
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        wheel(wheels, "2.0")
        await house.upgrade()
        code = house.file("toolscored_packed.py")
        code.unlink()  # it may be the very file of uv's cache
        code.write_text(server_code("evil"))
        said = await refused(roll_back(house.servers, "it", OWNER))
        assert "1 installed files were changed: venv/lib" in said
        assert await house.say() == "2.0"


async def test_a_version_that_does_not_start_changes_nothing(tmp_path: Path, wheels: Path) -> None:
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        before = house.servers.row("it")
        wheel(wheels, "2.0", first="sys.exit('it is broken')")
        said = await refused(house.upgrade())
        assert "it is broken" in said
        assert "it is what it was" in said
        assert "no version" in await refused(house.upgrade(to="7.0"))
        assert house.servers.row("it") == before
        assert places(house.folder) == []
        assert await house.say() == "1.0"
        assert await house.verify() == []


async def test_a_version_that_starts_once_and_not_in_its_place_is_taken_back(
    tmp_path: Path, wheels: Path
) -> None:
    mark = tmp_path / "mark"
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        code = f"sys.exit('once only') if os.path.exists({str(mark)!r}) else open({str(mark)!r}, 'w').close()"
        wheel(wheels, "2.0", first=code)
        said = await refused(house.upgrade())
        assert "did not start in its place, and is what it was" in said
        assert await house.say() == "1.0"
        assert house.installed().version == "1.0"
        assert await house.verify() == []
        await roll_back_is_refused(house.servers)


async def roll_back_is_refused(servers: object) -> None:
    assert "no previous version" in await refused(roll_back(servers, "it", OWNER))  # type: ignore[arg-type]


async def test_what_was_not_agreed_to_is_not_installed(tmp_path: Path, wheels: Path) -> None:
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        wheel(wheels, "2.0")
        mark = (await house.upgrade(only_show=True)).changes.mark
        wheel(wheels, "3.0")
        assert "no more what was shown" in await refused(house.upgrade(agreed=mark))
        assert await house.say() == "1.0"
        assert places(house.folder) == []


async def test_calls_under_way_are_answered_and_those_that_come_meanwhile_wait(
    tmp_path: Path, wheels: Path
) -> None:
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        wheel(wheels, "2.0")
        answers: list[str] = []
        over = asyncio.Event()

        async def calling() -> None:
            while not over.is_set():
                answers.append(await house.say())

        task = asyncio.create_task(calling())
        await until(lambda: answers)
        await house.upgrade()
        count = len(answers)
        await until(lambda: len(answers) > count + 3)
        over.set()
        await task
        assert set(answers) == {"1.0", "2.0"}
        assert answers == sorted(answers)


async def test_two_upgrades_at_once_are_one(tmp_path: Path, wheels: Path) -> None:
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        wheel(wheels, "2.0")
        done = await asyncio.gather(house.upgrade(), house.upgrade(), return_exceptions=True)
        [refusal] = [one for one in done if isinstance(one, RefusalError)]
        assert "right now" in str(refusal)
        assert await house.say() == "2.0"
        assert await house.verify() == []


async def test_one_who_goes_away_in_the_middle_leaves_the_old_version(tmp_path: Path, wheels: Path) -> None:
    mark = tmp_path / "mark"
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        wheel(wheels, "2.0", first=f"open({str(mark)!r}, 'w').close(); __import__('time').sleep(3600)")
        task = asyncio.create_task(house.upgrade())
        await until(mark.exists, 60)
        task.cancel()
        await asyncio.wait([task])
        assert await house.say() == "1.0"
        assert places(house.folder) == []
        assert await house.verify() == []


async def test_a_server_that_is_each_clients_own_is_upgraded_for_all(tmp_path: Path, wheels: Path) -> None:
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED, keeping=Keeping(isolation="per-client"))
        assert await house.say() == "1.0"
        wheel(wheels, "2.0")
        await house.upgrade()
        assert await house.say() == "2.0"


async def test_what_toolscore_did_not_fetch_is_not_upgraded_by_it(tmp_path: Path, wheels: Path) -> None:
    async with pinned_house(tmp_path / "home") as house:
        await house.install(f"command: {sys.executable} -c 'import toolscored'", keep=True)
        assert "upgrade it where it comes from" in await refused(house.upgrade())
        await house.install(PACKED, name="other")
        stranger = Caller(principal="stranger", listener="ws", rights=frozenset({"call"}))
        house_upgrade = house.servers
        from toolscore.tools.pins.upgrading import upgrade

        assert "may not" in await refused(upgrade(house_upgrade, "other", stranger))
        assert "no version" in await refused(house.upgrade("other", to="1.0 --index-url x"))


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from toolscore.tools.pins import swapping
from pinned_house import pinned_house

async def main():
    async with pinned_house(Path({home!r})) as house:
        real = getattr(swapping, {where!r})
        def killed(*args, **kwargs):
            if {after!r}:
                real(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        setattr(swapping, {where!r}, killed)
        await house.upgrade()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    ("where", "after", "version"),
    [("remember", True, "1.0"), ("_swapped", False, "2.0")],
)
async def test_a_toolscore_that_is_killed_during_an_upgrade_loses_neither_version(
    tmp_path: Path, wheels: Path, where: str, after: bool, version: str
) -> None:
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
    wheel(wheels, "2.0")
    code = KILLED.format(
        tests=str(Path(__file__).parents[1]), home=str(tmp_path / "home"), where=where, after=after
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    async with pinned_house(tmp_path / "home") as house:
        assert await house.say() == version
        assert whats(await house.verify()) == []
        if version == "1.0":
            assert places(house.folder) == []
            await house.upgrade()
        else:
            await roll_back(house.servers, "it", OWNER)
            assert await house.say() == "1.0"
            await roll_back(house.servers, "it", OWNER)
        assert await house.say() == "2.0"


async def test_a_server_that_forges_the_note_of_its_previous_version_is_not_rolled_back_to_it(
    tmp_path: Path, wheels: Path
) -> None:
    async with pinned_house(tmp_path / "home") as house:
        await house.install(PACKED)
        wheel(wheels, "2.0")
        await house.upgrade()
        note = house.folder / "servers/it/previous.json"
        note.write_text(note.read_text().replace("1.0", "9.9"))
        assert "no previous version" in await refused(roll_back(house.servers, "it", OWNER))
        assert await house.say() == "2.0"
