"""The places of a profile: odd names, links, what is not there, and paths that a server made lead elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from confined import NEEDS, ordinary_folder, running, server
from helpers import call, runner_at
from toolscore.runners.confinement import Confinement
from toolscore.runners.errors import StartError
from toolscore.server.folders import runtime_folder

pytestmark = NEEDS


@pytest.fixture
def place() -> Iterator[Path]:
    with ordinary_folder() as made:
        yield made


async def tried(folder: Path, profile: Confinement, *attempts: tuple[str, str], **spec: object) -> list[str]:
    """What a server confined so is told when it writes or reads at these paths."""
    async with running(folder, server(folder, "python", profile, **spec)) as (session, _):
        return [await call(session, tool, path=path) for tool, path in attempts]


async def refusal(folder: Path, profile: Confinement, **spec: object) -> str:
    with pytest.raises(StartError) as refused:
        await runner_at(folder).start_server(server(folder, "python", profile, **spec))
    return str(refused.value)


@pytest.mark.parametrize("name", ["with blanks ", "Größe-数据", "a'b\"c$d", "-v", "line\nbreak", "*", "~"])
async def test_folders_with_odd_names_are_opened_and_hidden(place: Path, tmp_path: Path, name: str) -> None:
    opened, hidden = place / name / "open", place / name / "hidden"
    for folder in (opened, hidden):
        folder.mkdir(parents=True)
        (folder / "file").write_text("")
    profile = Confinement(write=(str(opened),), hide=(str(hidden),))
    attempts = [
        ("write", str(opened / "file")),
        ("write", str(place / name / "x")),
        ("read", str(hidden / "file")),
    ]
    assert await tried(tmp_path, profile, *attempts) == ["done", "EROFS", "ENOENT"]


async def test_a_path_is_relative_to_its_own_folder_or_to_a_home(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "home").mkdir()
    monkeypatch.setenv("HOME", str(place / "home"))
    own = tmp_path / "servers" / "probing"
    (own / "secret").mkdir(parents=True)
    (own / "secret" / "file").write_text("")
    profile = Confinement(write=("~",), hide=("./x/../secret",))
    attempts = [("write", str(place / "home" / "file")), ("read", str(own / "secret" / "file"))]
    (own / "x").mkdir()
    assert await tried(tmp_path, profile, *attempts) == ["done", "ENOENT"]


async def test_a_link_opens_what_it_leads_to(place: Path, tmp_path: Path) -> None:
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    profile = Confinement(write=(str(place / "link"),))
    attempts = [("write", str(place / how / "file")) for how in ("link", "real")]
    assert await tried(tmp_path, profile, *attempts) == ["done", "done"]


@pytest.mark.parametrize("kind", ["write", "read", "hide"])
async def test_what_is_not_there_is_named_with_what_to_do(place: Path, tmp_path: Path, kind: str) -> None:
    (place / "dangling").symlink_to("nowhere")
    (place / "file").write_text("")
    for name in ("none", "dangling", "file/below"):
        said = await refusal(tmp_path, Confinement.model_validate({kind: [str(place / name)]}))
        assert f"confine.{kind}[0] does not exist: {place / name}" in said
        assert "correct the path" in said
    said = await refusal(tmp_path, Confinement.model_validate({kind: ["~no-such-user-anywhere/x"]}))
    assert f"confine.{kind}[0] cannot be used: Could not determine home directory" in said
    (place / "loop").symlink_to("loop")
    said = await refusal(tmp_path, Confinement.model_validate({kind: [str(place / "loop")]}))
    assert f"confine.{kind}[0] cannot be reached: {place / 'loop'}: Too many levels of symbolic links" in said


async def test_the_root_by_another_name_is_no_confinement_either(place: Path, tmp_path: Path) -> None:
    (place / "root").symlink_to("/")
    said = await refusal(tmp_path, Confinement(write=(str(place / "root"),)))
    assert "confine.write[0] is /, which is no confinement" in said


@pytest.mark.parametrize("kind", ["write", "read", "cwd"])
async def test_a_link_that_the_server_laid_itself_opens_nothing(
    place: Path, tmp_path: Path, kind: str
) -> None:
    own = tmp_path / "servers" / "probing"
    (own / "data" / "in").mkdir(parents=True)
    (place / "secret").mkdir()
    (place / "secret" / "in").mkdir()
    profile = Confinement() if kind == "cwd" else Confinement.model_validate({kind: ["data/in"]})
    spec = {"cwd": str(own / "data" / "in")} if kind == "cwd" else {}
    assert await tried(tmp_path, profile, ("write", str(own / "data" / "in" / "x")), **spec) == ["done"]
    (own / "data").rename(own / "before")
    (own / "data").symlink_to(place / "secret")
    said = await refusal(tmp_path, profile, **spec)
    assert f"leads out of {own}, which the server can write, and may have been changed by it" in said
    assert f"is {place / 'secret' / 'in'} now" in said


async def test_a_link_outside_that_leads_through_its_folder_is_not_trusted_either(
    place: Path, tmp_path: Path
) -> None:
    own = tmp_path / "servers" / "probing"
    own.mkdir(parents=True)
    (place / "secret").mkdir()
    (place / "short").symlink_to(own / "data")
    (own / "data").symlink_to(place / "secret")
    said = await refusal(tmp_path, Confinement(write=(str(place / "short"),)))
    assert f"confine.write[0] leads out of {own}" in said


async def test_keys_in_a_home_are_hidden_unless_they_are_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(place))
    kept = [".ssh/id", ".config/gh/hosts.yml", ".netrc", ".aws/credentials", ".npmrc", "notes"]
    for name in kept:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("s3cret")
    attempts = [("read", str(place / name)) for name in kept]
    said = await tried(tmp_path, Confinement(), *attempts)
    assert said == ["ENOENT", "ENOENT", "EACCES", "ENOENT", "EACCES", "done"]
    profile = Confinement(read=("~/.netrc", "~/.aws", "~/.config"))
    said = await tried(tmp_path, profile, *attempts)
    assert said == ["ENOENT", "ENOENT", "done", "done", "EACCES", "done"]  # the deeper of two wins


async def test_other_servers_files_and_what_toolscore_listens_on_are_hidden(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "servers" / "other"
    other.mkdir(parents=True)
    (other / "file").write_text("")
    # Where the home's path is too long for a socket, it lies elsewhere.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    listening = runtime_folder() / "some.sock"
    listening.write_text("")
    attempts = [("read", str(other / "file")), ("read", str(listening)), ("write", str(place / "x"))]
    profile = Confinement(write=(str(place.parent),))
    assert await tried(tmp_path, profile, *attempts) == ["ENOENT", "ENOENT", "EROFS"]


async def test_a_working_directory_among_toolscores_own_files_opens_none_of_them(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    installed = server(place, "python", cwd=str(place)).model_copy(update={"directory": None})
    async with running(place, installed) as (session, _):
        assert await call(session, "read", path=str(place / "secrets.json")) == "ENOENT"
        assert await call(session, "write", path=str(place / "file")) == "EROFS"


async def test_a_temporary_folder_of_one_s_own_is_replaced_by_a_private_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(place))
    script = "import tempfile, sys; print(tempfile.mkdtemp(), file=sys.stderr)"
    runner = runner_at(tmp_path)
    try:
        child = await runner.start_server(
            server(tmp_path, "python", command=sys.executable, args=("-I", "-S", "-c", script))
        )
        assert await child.ended_within(30)
        assert "/tmp/tmp" in child.stderr_tail()
    finally:
        await runner.stop_server("probing", 0)
        await runner.aclose()
