"""Environments of packages, made with the real uv from the real index, and used in real boxes."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import science
from package_folders import folders, index, site
from toolscore.sandbox import packages
from toolscore.sandbox.claims import drop, turn
from toolscore.sandbox.execution import Execution, Job, Status
from toolscore.sandbox.limits import Limits
from toolscore.sandbox.nursery import Environment
from toolscore.sandbox.packages import Environments, PackagesError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="boxes are Linux's")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Environment]:
    environments = Environments(tmp_path / "packages")
    yield await environments.get(["six==1.17.0"])
    environments.close()


@pytest.fixture(scope="module")
def made_before() -> Environment:
    return science.environment()


async def run(
    environment: Environment, state: Path, *codes: str, skip: frozenset[str] = frozenset()
) -> list[Execution]:
    from toolscore.sandbox.pool import Pool, PoolConfig

    if "namespaces" in skip and os.geteuid() == 0:
        pytest.skip("only root can read these packages, and root's boxes are of nobody without namespaces")
    async with Pool(PoolConfig(state, environment=environment, warm=0, skip=skip)) as pool:
        return [await pool.run(Job(code, Limits())) for code in codes]


@index
async def test_a_package_can_be_imported_in_a_box_and_not_be_changed(
    small: Environment, tmp_path: Path
) -> None:
    found, changed = await run(
        small, tmp_path / "state", "import six; six.__version__", "import six; open(six.__file__, 'a')"
    )

    assert found.value == "1.17.0"
    assert changed.error is not None
    assert changed.error.type in ("OSError", "PermissionError")
    assert small.names == ("six==1.17.0",)


@index
async def test_code_finds_no_package_of_toolscores_own(small: Environment, tmp_path: Path) -> None:
    for skip in (frozenset[str](), frozenset({"namespaces"})):
        for preload in ((), ("six",)):
            environment = Environment(small.site, preload, small.names)
            done, *_ = await run(environment, tmp_path / "state", "import pydantic", skip=skip)

            assert done.error is not None
            assert done.error.type == "ModuleNotFoundError"


@index
async def test_an_environment_is_used_again_without_an_index(
    small: Environment, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))

    again = await Environments(tmp_path / "packages").get(["six == 1.17.0"])

    assert again == small
    assert not (tmp_path / "empty").exists()  # uv was not even asked


@index
async def test_two_spellings_with_the_same_versions_share_an_environment(
    small: Environment, tmp_path: Path
) -> None:
    other = await Environments(tmp_path / "packages").get(["Six<1.18,>=1.17"])

    assert other.site == small.site


@index
async def test_a_lost_environment_comes_back_with_the_same_versions(
    small: Environment, tmp_path: Path
) -> None:
    about = site(small).parent / "about.json"
    about.unlink()

    again = await Environments(tmp_path / "packages").get(["six==1.17.0"])

    assert again == small
    assert about.exists()


@index
async def test_a_refresh_asks_the_index_again(
    small: Environment, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    environments = Environments(tmp_path / "packages")

    with pytest.raises(PackagesError, match="network was disabled"):
        await environments.get(["six==1.17.0"], refresh=True)

    assert await environments.get(["six==1.17.0"]) == small  # what was there stays


@index
async def test_environments_that_nobody_asked_for_in_a_long_time_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MOST", 1)
    folder = tmp_path / "packages"
    environments = Environments(folder, own=["six == 1.17.0"])
    for name in ("six == 1.17.0", "toml", "iniconfig"):
        await environments.get([name])
    assert len(environments.built()) == 3  # in use, all of them
    environments.close()
    later = Environments(folder, own=["six == 1.17.0"])
    later.sweep()
    assert [built.names[0].partition("==")[0] for built in later.built()] == ["six", "iniconfig"]
    monkeypatch.setattr(packages, "LASTS", -1.0)
    later.sweep()
    assert [built.names for built in later.built()] == [("six==1.17.0",)]


@index
async def test_what_is_named_or_used_stays_and_the_rest_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    user, sweeper = Environments(folder), Environments(folder)
    used = await user.get(["six==1.17.0"])
    (folder / "building-of-a-dead-one" / "site").mkdir(parents=True)
    assert sweeper.sweep() == 1

    for lock in (folder / "locks").glob("*.json"):
        lock.unlink()  # as if a refresh had come to newer versions
    assert sweeper.sweep() == 0
    assert site(used).exists()
    user.close()
    assert sweeper.sweep() == 1
    assert folders(folder, "*") == ["locks"]


@index
async def test_what_was_given_back_is_removed_while_its_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MOST", 1)
    folder = tmp_path / "packages"
    environments = Environments(folder)
    first = await environments.get(["six==1.17.0"])
    again = await environments.get(["six==1.17.0"])
    environments.release(first)
    await environments.get(["toml"])
    assert site(again).exists()  # one user is left
    environments.release(again)
    third = await environments.get(["iniconfig"])
    assert not site(first).exists()
    assert site(third).exists()
    assert len(folders(folder, "locks/*.lock")) == 1
    environments.close()


@index
async def test_nothing_is_left_of_what_cannot_be_installed(tmp_path: Path) -> None:
    environments = Environments(tmp_path / "packages")
    with pytest.raises(PackagesError):
        await environments.get(["six==99"])
    assert folders(tmp_path / "packages", "locks/*") == []
    (tmp_path / "packages" / "locks" / "of-a-killed-one.lock").touch()
    environments.sweep()
    assert folders(tmp_path / "packages", "locks/*") == []


async def test_the_file_of_a_turn_stays_while_somebody_has_it_and_is_no_ones_after(tmp_path: Path) -> None:
    path, needed = tmp_path / "a.lock", tmp_path / "a.json"
    order: list[str] = []

    async def second() -> None:
        async with turn(path):
            order.append("second")
            assert path.exists()

    async with turn(path):
        drop(path, needed)
        assert path.exists()
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        path.unlink()  # as one that failed does
        order.append("first")
    await waiting
    assert order == ["first", "second"]
    needed.touch()
    drop(path, needed)
    assert path.exists()
    needed.unlink()
    drop(path, needed)
    assert not path.exists()


@index
async def test_its_size_is_told(small: Environment, tmp_path: Path) -> None:
    (built,) = Environments(tmp_path / "packages").built()

    assert built.site == small.site
    assert 30_000 < built.size < 1_000_000
    assert built.made <= time.time()


@index
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["no-such-package-of-toolscores-tests"], "was not found in the package registry"),
        (["six==99"], "there is no version of six==99"),
        (["six==1.17.0", "six<1.17"], "unsatisfiable"),
        (["docopt==0.6.2"], "only wheels are, as building a package runs its code out of any box"),
    ],
)
async def test_what_cannot_be_installed_is_told_in_uvs_words(
    tmp_path: Path, asked: list[str], words: str
) -> None:
    with pytest.raises(PackagesError, match=words) as failed:
        await Environments(tmp_path / "packages").get(asked)

    assert asked[0].split("=")[0] in str(failed.value)
    assert folders(tmp_path / "packages", "*") == ["locks"]


async def test_without_a_network_it_says_so_and_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")

    with pytest.raises(PackagesError, match="Connection refused") as failed:
        await Environments(tmp_path / "packages").get(["six"])

    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    "asked",
    [
        "--index-url=x",
        "six\n--index-url x",
        "six @ file:///etc",
        "-r /etc/passwd",
        "./here",
        "",
        "six; print()",
    ],
)
async def test_nothing_but_a_requirement_is_taken_for_one(tmp_path: Path, asked: str) -> None:
    with pytest.raises(PackagesError, match="not a package's name"):
        await Environments(tmp_path / "packages").get([asked])


async def test_no_packages_need_no_environment(tmp_path: Path) -> None:
    assert await Environments(tmp_path / "packages").environment(()) is None
    assert not (tmp_path / "packages").exists()


@index
async def test_a_module_that_nothing_has_cannot_be_preloaded(small: Environment, tmp_path: Path) -> None:
    environments = Environments(tmp_path / "packages")

    with pytest.raises(
        PackagesError, match=r"'numpi' shall be preloaded.*sandbox\.packages.*sandbox\.preload"
    ):
        await environments.get(["six==1.17.0"], ("six", "numpi"))


@index
async def test_only_the_operators_own_packages_are_preloaded(tmp_path: Path) -> None:
    own = ("six==1.17.0",)
    environments = Environments(tmp_path / "packages", own=own, preload=("six",))

    operators = await environments.environment(own)
    callers = await environments.environment((*own, "toml==0.10.2"))

    assert operators is not None
    assert operators.preload == ("six",)
    assert callers is not None
    assert callers.preload == ()


async def test_a_preloaded_module_that_starts_threads_is_refused(tmp_path: Path) -> None:
    from toolscore.sandbox.errors import BoxError, SandboxRefusedError

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "busy.py").write_text(
        "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    with pytest.raises((BoxError, SandboxRefusedError), match="busy cannot be preloaded: it started threads"):
        await run_refused(Environment(tmp_path / "site", ("busy",)), tmp_path / "state")


async def run_refused(environment: Environment, state: Path) -> None:
    from toolscore.sandbox.pool import Pool, PoolConfig

    async with Pool(PoolConfig(state, environment=environment, warm=0)) as pool:
        await pool.run(Job("1", Limits()))


MATMUL = "import numpy; float((numpy.ones((500, 500)) @ numpy.ones((500, 500))).sum())"
RANDOM = "import numpy; float(numpy.random.rand())"
TABLE = "import pandas; pandas.DataFrame({'a': [1, 2]}).sum().to_dict()"
FIGURE = "import matplotlib.pyplot as plt; _ = plt.plot([1, 2]); _ = plt.title('x'); import os; "
FIGURE += (
    "folder = os.environ['MPLCONFIGDIR']; [os.path.islink(f'{folder}/{name}') for name in os.listdir(folder)]"
)


@index
@pytest.mark.parametrize("skip", [frozenset(), frozenset({"namespaces"})], ids=["full", "reduced"])
@pytest.mark.parametrize("preload", [(), ("numpy", "pandas", "matplotlib.pyplot")], ids=["cold", "preloaded"])
async def test_numpy_pandas_and_matplotlib_work_in_a_box(
    made_before: Environment, tmp_path: Path, preload: tuple[str, ...], skip: frozenset[str]
) -> None:
    environment = Environment(made_before.site, preload, made_before.names)
    loaded = "import sys; 'numpy' in sys.modules"

    done = await run(
        environment, tmp_path / "state", MATMUL, RANDOM, RANDOM, TABLE, FIGURE, loaded, skip=skip
    )

    assert [execution.status for execution in done] == [Status.OK] * 6, done
    assert done[0].value == 125_000_000.0
    assert done[1].value != done[2].value  # boxes do not share their randomness
    assert done[3].value == {"a": 3}
    assert [image.mime for image in done[4].images] == ["image/png"]
    assert done[4].stderr == b""
    assert done[4].value == [True]  # no list of fonts was made anew
    assert done[5].value is bool(preload)
