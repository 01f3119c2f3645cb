"""Images built from folders: what is sent, and what the engine makes of it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from docker_engine import IMAGE, DockerEngine, needs_engine
from docker_engine import engine as engine
from docker_house import call, runners_of, running
from toolscore.runners.docker import context
from toolscore.runners.docker.context import Ignored, packed
from toolscore.runners.errors import InstallError
from toolscore.runners.pin import Locked
from toolscore.runners.spec import Candidate


def names(folder: Path) -> list[str]:
    archive, _ = packed(folder)
    with archive, tarfile.open(fileobj=archive) as tar:
        return tar.getnames()


def project(folder: Path, ignore: str = "") -> Path:
    for path in (
        "src/a.py",
        "src/deep/b.log",
        "node_modules/x/index.js",
        "notes.md",
        "README.md",
        ".git/HEAD",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY src /src\nENV BUILT=yes\n")
    (folder / ".dockerignore").write_text(ignore)
    return folder


@pytest.mark.parametrize(
    ("pattern", "out", "stays"),
    [
        ("node_modules", "node_modules/x/index.js", "src/a.py"),
        ("*.md", "notes.md", "src/x.md"),
        ("**/*.log", "src/deep/b.log", "src/a.py"),
        ("**/*.log", "b.log", "b.logs"),
        ("/src/deep", "src/deep/b.log", "src/a.py"),
        ("src/?.py", "src/a.py", "src/ab.py"),
        ("[ab].txt", "a.txt", "c.txt"),
        ("src/**", "src/deep/b.log", "sources/a"),
        (".git/", ".git/HEAD", ".gitignore"),
        ("# a remark\n*.tmp", "x.tmp", "# a remark"),
        ("*.md\n!README.md", "notes.md", "README.md"),
        ("a+b(c)", "a+b(c)", "aab(c)"),
    ],
)
def test_dockerignore_leaves_out_what_docker_would(pattern: str, out: str, stays: str) -> None:
    ignored = Ignored(pattern)
    assert ignored.leaves_out(out)
    assert not ignored.leaves_out(stays)


def test_what_is_left_out_is_not_sent_but_what_is_brought_back_is(tmp_path: Path) -> None:
    found = names(project(tmp_path, "*\n!src\nsrc/deep\n!notes.md\n"))
    assert "src/a.py" in found
    assert "notes.md" in found
    assert "Dockerfile" in found
    assert not {"src/deep/b.log", "node_modules/x/index.js", ".git/HEAD", "README.md"} & set(found)


def test_the_same_folder_is_the_same_wherever_and_whenever_it_is(tmp_path: Path) -> None:
    hashes = []
    for place in ("here", "there"):
        archive, digest = packed(project(tmp_path / place))
        archive.close()
        hashes.append(digest)
    (tmp_path / "there" / "src" / "a.py").write_text("another")
    archive, other = packed(tmp_path / "there")
    archive.close()
    assert hashes[0] == hashes[1] != other


def test_a_folder_that_is_too_large_or_has_no_dockerfile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InstallError, match="does not exist"):
        packed(tmp_path / "none")
    with pytest.raises(InstallError, match="holds no Dockerfile"):
        packed(tmp_path)
    monkeypatch.setattr(context, "MOST", 10)
    with pytest.raises(InstallError, match="dockerignore"):
        packed(project(tmp_path))


@needs_engine
async def test_a_folder_is_built_started_pinned_and_deleted_with_its_server(
    tmp_path: Path, engine: DockerEngine
) -> None:
    folder = project(tmp_path / "project")
    told: list[str] = []

    async def report(_done: float, _total: float | None, message: str) -> None:
        told.append(message)

    def built() -> list[object]:
        label = '{"label":["org.toolscore.server=one"]}'
        found: list[object] = engine.ask("GET", f"/images/json?filters={label.replace(chr(34), '%22')}")
        return found

    async with runners_of(tmp_path, engine) as runners:
        source = f"docker:{folder}"
        installation = await runners.install_server(Candidate(source=source, name="one"), report)
        assert any("COPY src /src" in line for line in told)
        assert built()
        async with running(runners, installation) as unit:
            assert "works" in await call(unit, "echo", text="works")
        assert installation.pin is not None
        locked = Locked(version=installation.version, content=installation.pin.content)
        (folder / "src" / "a.py").write_text("changed")
        with pytest.raises(InstallError, match="not what was locked"):
            await runners.install_server(Candidate(source=source, name="two", locked=locked))
        await runners.remove_server(installation)
        assert not built()


@needs_engine
async def test_a_build_that_fails_says_why_and_leaves_nothing(tmp_path: Path, engine: DockerEngine) -> None:
    folder = project(tmp_path / "project")
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY nowhere /\n")
    async with runners_of(tmp_path, engine) as runners:
        with pytest.raises(InstallError, match="nowhere"):
            await runners.install_server(Candidate(source=f"docker:{folder}", name="one"))
    assert not (tmp_path / "servers" / "one").exists()
