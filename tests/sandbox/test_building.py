"""How environments are made: by several at once, by one that is killed, on a full disk, and too slowly."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from helpers import until
from package_folders import folders, index, site
from toolscore.sandbox.packages import Environments, PackagesError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="boxes are Linux's")

ROOT = Path(__file__).parents[2]

BUILD = """
import asyncio, sys
from pathlib import Path
from toolscore.sandbox.packages import Environments
def tell(step):
    if step.startswith(sys.argv[3]):
        sys.stdin.read()
print(asyncio.run(Environments(Path(sys.argv[2])).get([sys.argv[1]], tell=tell)).site)
"""


def builder_of(package: str, folder: Path, stays_at: str = "never") -> subprocess.Popen[str]:
    """A process that makes an environment, and prints where it is; one that stays at a step of uv's never does."""
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, package, str(folder), stays_at],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".dev")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(builder: subprocess.Popen[str]) -> None:
    """Kill it as nothing can be prepared for."""
    builder.kill()
    builder.communicate()


@index
async def test_several_builders_at_once_make_one_environment(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    others = [builder_of("six==1.17.0", folder) for _ in range(2)]
    ours = await asyncio.gather(*(Environments(folder).get(["six==1.17.0"]) for _ in range(3)))
    theirs = [(await asyncio.to_thread(other.communicate))[0].strip() for other in others]

    assert {str(environment.site) for environment in ours} | set(theirs) == {str(ours[0].site)}
    assert folders(folder, "*") == sorted([site(ours[0]).parent.name, "locks"])


@index
async def test_a_killed_builder_leaves_nothing_that_counts_and_it_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    builder = builder_of("numpy", folder, stays_at="Installed")
    await until(lambda: folders(folder, "building-*/site"), within=120)
    environments = Environments(folder)
    assert environments.sweep() == 0  # its builder is at it
    end(builder)

    assert environments.built() == []
    await until(environments.sweep, within=60)  # uv itself may go on for a moment
    assert folders(folder, "*") == ["locks"]


@index
async def test_a_killed_builder_takes_uv_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    builder = builder_of("numpy", folder, stays_at="Installed")
    await until(lambda: folders(folder, "building-*/site"), within=120)
    uvs = psutil.Process(builder.pid).children()
    assert uvs
    end(builder)
    _, alive = await asyncio.to_thread(psutil.wait_procs, uvs, timeout=20)
    assert not alive


@index
async def test_a_full_disk_is_told_as_such_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    code = (
        "import asyncio, sys; from pathlib import Path; from toolscore.sandbox.packages import *\n"
        "try: asyncio.run(Environments(Path(sys.argv[1])).get(['six==1.17.0']))\n"
        "except PackagesError as error: print(error)\n"
        "print(sorted(path.name for path in Path(sys.argv[1]).iterdir()))"
    )
    inside = 'mount -t tmpfs -o size=48k none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside, "sh", str(folder), sys.executable, code],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".dev")},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert "six==1.17.0 cannot be installed: the disk of " in done.stdout, done.stdout + done.stderr
    assert "is full" in done.stdout
    assert done.stdout.endswith("['locks']\n")


@index
async def test_a_cancelled_build_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    building = asyncio.create_task(Environments(folder).get(["numpy"]))
    await until(lambda: folders(folder, "building-*/site") or building.done(), within=120)
    assert not building.done()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building

    assert folders(folder, "*") == ["locks"]


@index
async def test_files_are_readable_for_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        environment = await Environments(tmp_path / "packages").get(["six==1.17.0"])
    finally:
        os.umask(before)

    assert (site(environment) / "__pycache__").is_dir()  # compiled, as boxes cannot write it
    for path in (site(environment).parent, site(environment), *site(environment).rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else mode & 0o111 | 0o644), path


async def test_a_build_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(PackagesError, match=r"took longer than 0\.001 seconds"):
        await Environments(tmp_path / "packages", timeout=0.001).get(["six"])

    assert folders(tmp_path / "packages", "*") == ["locks"]
