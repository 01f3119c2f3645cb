"""Servers from a local folder or a git repository: every kind of project, and the user's own files "
"untouched."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from toolscore.runners.errors import InstallError
from toolscore.runners.installers import tree
from toolscore.runners.installers.install import install, remove
from toolscore.runners.spec import Candidate, Installation, SourceKind, silent

HELLO_PY = "import sys, os\nprint('hello', *sys.argv[1:], os.path.basename(os.getcwd()))\n"
HELLO_JS = (
    "console.log(['hello', ...process.argv.slice(2), require('path').basename(process.cwd())].join(' '))\n"
)

# A build back-end without dependencies, so that building a package needs no index.
BACKEND = """
import os, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "thing-1.5-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.write("thing.py")
        info = "thing-1.5.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: thing\\nVersion: 1.5\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "entry_points.txt", open("entry_points.txt").read())
        wheel.writestr(info + "RECORD", "")
    return name
"""
PYPROJECT = """
[project]
name = "thing"
version = "1.5"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def write(folder: Path, **files: str) -> Path:
    """Write files whose names have `__` for a slash and `_` before the suffix for the dot."""
    for name, text in files.items():
        stem, _, suffix = name.replace("__", "/").rpartition("_")
        path = folder / f"{stem}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def package(folder: Path, scripts: str = "thing = thing:main") -> Path:
    write(
        folder,
        pyproject_toml=PYPROJECT,
        backend_py=BACKEND,
        thing_py="def main():\n    print('hello package')\n",
    )
    (folder / "entry_points.txt").write_text(f"[console_scripts]\n{scripts}\n")
    return folder


async def put(tmp_path: Path, source: Path | str, **more: object) -> Installation:
    candidate = Candidate(source=str(source), name="it", **more)
    return await install(candidate, servers=tmp_path / "s", report=silent)


async def output(installation: Installation) -> str:
    """Run what was installed to its end and give what it printed."""
    spec = installation.spec
    assert spec.command is not None
    process = await asyncio.create_subprocess_exec(
        spec.command, *spec.args, cwd=spec.cwd or installation.directory, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode().strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my-server"
    path.mkdir()
    return path


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")}


async def test_a_lone_server_file_runs_in_its_own_environment_from_a_copy(
    tmp_path: Path, folder: Path
) -> None:
    write(folder, server_py=HELLO_PY, other_py="")
    before = snapshot(folder)
    done = await put(tmp_path, folder, args=("a", "b"))
    assert done.kind is SourceKind.FOLDER
    assert done.runtime == "python"
    assert done.spec.cwd == str(tmp_path / "s/it/src")
    assert await output(done) == "hello a b src"
    assert snapshot(folder) == before


async def test_a_package_is_built_and_its_script_is_the_entry(tmp_path: Path, folder: Path) -> None:
    package(folder)
    before = snapshot(folder)
    done = await put(tmp_path, folder)
    assert (done.package, done.version) == ("thing", "1.5")
    assert done.spec.command == str(tmp_path / "s/it/venv/bin/thing")
    assert await output(done) == "hello package"
    assert snapshot(folder) == before


async def test_a_changed_package_is_built_again_after_a_reinstall(tmp_path: Path, folder: Path) -> None:
    package(folder)
    await remove(await put(tmp_path, folder), servers=tmp_path / "s")
    write(folder, thing_py="def main():\n    print('hello again')\n")
    assert await output(await put(tmp_path, folder)) == "hello again"


async def test_of_several_scripts_the_named_one_runs_and_the_others_are_offered(
    tmp_path: Path, folder: Path
) -> None:
    package(folder, "alpha = thing:main\nbeta = thing:main")
    with pytest.raises(InstallError, match=r"several entry points \(alpha, beta\).*append"):
        await put(tmp_path, folder)
    done = await put(tmp_path, f"{folder}#beta")
    assert done.spec.command == str(tmp_path / "s/it/venv/bin/beta")
    assert done.candidates == ("alpha",)


async def test_a_build_that_fails_shows_why(tmp_path: Path, folder: Path) -> None:
    write(package(folder), backend_py="def build_wheel(*a, **k):\n    raise SystemExit('no compiler here')\n")
    with pytest.raises(InstallError, match="Building thing failed") as caught:
        await put(tmp_path, folder)
    assert "no compiler here" in caught.value.stderr
    assert list((tmp_path / "s").iterdir()) == []


async def test_a_build_of_python_does_not_see_what_the_shell_exports(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_CLOUD_SECRET", "hush")
    seen = tmp_path / "seen"
    spy = f"import os\nopen({str(seen)!r}, 'w').write(repr(dict(os.environ)))\n"
    write(package(folder), backend_py=spy + BACKEND)
    await put(tmp_path, folder)
    assert "PATH" in seen.read_text()
    assert "hush" not in seen.read_text()


async def test_a_script_of_npm_does_not_see_what_the_shell_exports(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_CLOUD_SECRET", "hush")
    seen = tmp_path / "seen"
    own = {"name": "x", "main": "a.js", "scripts": {"postinstall": "node spy.js"}}
    write(
        folder,
        package_json=json.dumps({**own, "dependencies": {"dep": "file:./dep"}}),
        dep__package_json=json.dumps({"name": "dep", "version": "1.0.0"}),
        spy_js=f"require('fs').writeFileSync({json.dumps(str(seen))}, JSON.stringify(process.env))",
        a_js=HELLO_JS,
    )
    await put(tmp_path, folder)
    assert "PATH" in seen.read_text()
    assert "hush" not in seen.read_text()


@pytest.mark.index
async def test_requirements_are_installed_for_a_file(tmp_path: Path, folder: Path) -> None:
    write(folder, requirements_txt="six\n", src__main_py="import six\nprint('hello', six.__name__)\n")
    assert await output(await put(tmp_path, folder)) == "hello six"


@pytest.mark.index
async def test_a_project_without_a_build_system_gets_its_dependencies_and_runs_from_its_folder(
    tmp_path: Path, folder: Path
) -> None:
    write(
        folder,
        pyproject_toml='[project]\nname = "app"\nversion = "2"\ndependencies = ["six"]\n',
        main_py="import six\nprint('hello', six.__name__)\n",
    )
    done = await put(tmp_path, folder)
    assert done.package == "app"
    assert await output(done) == "hello six"


@pytest.mark.index
async def test_a_lone_file_gets_what_its_inline_metadata_asks_for(tmp_path: Path, folder: Path) -> None:
    write(
        folder,
        server_py="# /// script\n# dependencies = ['six']\n# ///\nimport six\nprint('hello', six.__name__)\n",
    )
    assert await output(await put(tmp_path, folder)) == "hello six"


@pytest.mark.index
async def test_a_lone_file_gets_the_mcp_library_it_imports(tmp_path: Path, folder: Path) -> None:
    write(folder, server_py="import mcp\nprint('hello', mcp.__name__)\n")
    assert await output(await put(tmp_path, folder)) == "hello mcp"


async def test_a_pyproject_with_settings_of_tools_only_is_no_package(tmp_path: Path, folder: Path) -> None:
    write(folder, pyproject_toml="[tool.ruff]\nline-length = 100\n", app_py=HELLO_PY)
    assert await output(await put(tmp_path, folder)) == "hello src"


async def test_a_project_for_another_python_is_refused(tmp_path: Path, folder: Path) -> None:
    write(
        folder,
        pyproject_toml='[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.99"\n',
        main_py="",
    )
    with pytest.raises(InstallError, match=r"needs Python >=3\.99, and its environment has Python 3\."):
        await put(tmp_path, folder)


async def test_the_named_file_or_subfolder_is_taken(tmp_path: Path, folder: Path) -> None:
    write(folder, server_py="", tools__extra_py=HELLO_PY, inner__main_py="print('hello inner')\n")
    done = await put(tmp_path, f"{folder}#tools/extra.py")
    assert await output(done) == "hello src"
    await remove(done, servers=tmp_path / "s")
    assert await output(await put(tmp_path, f"{folder}#inner")) == "hello inner"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"index_js": HELLO_JS}, "hello src"),
        ({"dist__index_js": HELLO_JS, "package_json": {"name": "x", "version": "3"}}, "hello src"),
        ({"cli_js": HELLO_JS, "package_json": {"name": "x", "bin": "cli.js"}}, "hello src"),
        ({"lib__a_js": HELLO_JS, "package_json": {"name": "x", "main": "lib/a"}}, "hello src"),
        (
            {"a_js": HELLO_JS, "package_json": {"scripts": {"start": "node --no-warnings a.js --stdio"}}},
            "hello --stdio src",
        ),
        (
            {
                "package_json": {"bin": {"x": "out/a.js"}, "scripts": {"build": "node make.js"}},
                "make_js": "require('fs').mkdirSync('out'); require('fs').copyFileSync('a.js', 'out/a.js')",
                "a_js": HELLO_JS,
            },
            "hello src",
        ),
    ],
    ids=["file", "dist", "bin", "main", "start", "build"],
)
async def test_node_projects_of_every_shape_run(
    tmp_path: Path, folder: Path, files: dict[str, Any], expected: str
) -> None:
    write(
        folder, **{name: text if isinstance(text, str) else json.dumps(text) for name, text in files.items()}
    )
    before = snapshot(folder)
    done = await put(tmp_path, folder)
    assert done.runtime == "node"
    assert await output(done) == expected
    assert snapshot(folder) == before


@pytest.mark.index
async def test_what_a_node_project_depends_on_is_installed(tmp_path: Path, folder: Path) -> None:
    write(
        folder,
        package_json=json.dumps(
            {"name": "x", "version": "3.1.0", "main": "a.js", "dependencies": {"is-odd": "*"}}
        ),
        a_js="console.log('hello', require('is-odd')(3))\n",
    )
    done = await put(tmp_path, folder)
    assert (done.package, done.version) == ("x", "3.1.0")
    assert await output(done) == "hello true"


async def test_a_node_build_that_fails_shows_why(tmp_path: Path, folder: Path) -> None:
    write(
        folder,
        package_json=json.dumps(
            {"name": "x", "main": "dist/a.js", "scripts": {"build": "echo no types; exit 2"}}
        ),
    )
    with pytest.raises(InstallError, match=r"Building x failed|could not install x") as caught:
        await put(tmp_path, folder)
    assert "no types" in caught.value.stderr


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {},
            "holds no server .* looked for pyproject.toml, setup.py, requirements.txt, package.json, server.py",
        ),
        ({"notes_txt": "x"}, "holds no server"),
        ({"package_json": "{}"}, "names none in bin, main or scripts.start"),
        ({"package_json": "{"}, "package.json .* cannot be read"),
        ({"package_json": '{"main": "../../etc/passwd"}'}, "which is not in it"),
        ({"package_json": '{"scripts": {"start": "node a.js && rm -rf /"}}'}, "names none"),
        ({"pyproject_toml": "["}, "pyproject.toml .* cannot be read"),
        ({"requirements_txt": ""}, "declares no script and has none of server.py, main.py"),
    ],
)
async def test_a_folder_without_a_server_says_what_was_looked_for(
    tmp_path: Path, folder: Path, files: dict[str, Any], message: str
) -> None:
    write(folder, **files)
    with pytest.raises(InstallError, match=message):
        await put(tmp_path, folder)
    assert list((tmp_path / "s").iterdir()) == []


async def test_a_folder_that_is_not_there_or_is_a_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="does not exist"):
        await put(tmp_path, tmp_path / "nothing")
    (tmp_path / "a.py").touch()
    with pytest.raises(InstallError, match="is a file"):
        await put(tmp_path, tmp_path / "a.py")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InstallError, match="is a link that leads nowhere"):
        await put(tmp_path, tmp_path / "circle")
    with pytest.raises(InstallError, match="name too long"):
        await put(tmp_path, f"/{'x' * 5000}")


async def test_links_that_leave_the_folder_and_what_is_made_anew_are_not_copied(
    tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    write(folder, server_py=HELLO_PY, real_txt="real", node_modules__x_js="", __pycache____x_py="")
    (folder / "escape").symlink_to(tmp_path / "secret")
    (folder / "escape_folder").symlink_to(tmp_path)
    (folder / "dangling").symlink_to("nowhere")
    (folder / "inside").symlink_to(folder / "real.txt")
    write(folder, env__pyvenv_cfg="home = /usr")
    os.mkfifo(folder / "pipe")
    await put(tmp_path, folder)
    copy = tmp_path / "s/it/src"
    assert sorted(path.name for path in copy.iterdir()) == ["inside", "real.txt", "server.py"]
    assert os.readlink(copy / "inside") == "real.txt"


async def test_a_folder_that_holds_the_servers_is_not_copied_into_itself(
    tmp_path: Path, folder: Path
) -> None:
    write(folder, server_py=HELLO_PY)
    candidate = Candidate(source=str(folder), name="it")
    await install(candidate, servers=folder / "home" / "servers", report=silent)
    assert not (folder / "home/servers/it/src/home/servers").exists()


@pytest.mark.parametrize("beside", ["owner.lock", "secrets.json"])
async def test_a_home_inside_of_a_folder_is_not_copied(tmp_path: Path, folder: Path, beside: str) -> None:
    write(folder, server_py=HELLO_PY, data__toolscore_db="", data__more_txt="", plain__toolscore_db="")
    (folder / "data" / beside).write_text("hush")
    await put(tmp_path, folder)
    assert not (tmp_path / "s/it/src/data").exists()
    assert (tmp_path / "s/it/src/plain/toolscore.db").exists()


async def test_toolscores_own_folders_are_no_servers(tmp_path: Path, folder: Path) -> None:
    write(folder, server_py="", toolscore_db="", secrets_json="{}")
    for source in (folder, tmp_path / "s"):
        with pytest.raises(InstallError, match="ToolScore's own folder"):
            await put(tmp_path, source)
    assert list((tmp_path / "s").iterdir()) == []


async def test_a_folder_beyond_all_bounds_is_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "MAX_FILES", 3)
    write(folder, a_py="", b_py="", c_py="", server_py="")
    with pytest.raises(InstallError, match="more than 3 files"):
        await put(tmp_path, folder)


@pytest.fixture
def repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a tagged first commit, a branch, and a later commit on the main branch."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "one")
    git(folder, "tag", "v1")
    git(folder, "branch", "feature/two")
    commit(folder, "three")
    git(folder, "switch", "-q", "feature/two")
    commit(folder, "two")
    git(folder, "switch", "-q", "main")
    return folder


def git(folder: Path, *args: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    return subprocess.check_output(["git", *who, "-C", str(folder), *args], text=True).strip()


def commit(folder: Path, word: str) -> None:
    write(folder, server_py=f"print('hello {word}')\n", sub__main_py=f"print('sub {word}')\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", word)


@pytest.mark.parametrize(
    ("ref", "word"),
    [("", "three"), ("@main", "three"), ("@v1", "one"), ("@feature/two", "two"), ("#sub", "three")],
)
async def test_a_branch_tag_or_subfolder_of_a_repository_is_installed(
    tmp_path: Path, repository: Path, ref: str, word: str
) -> None:
    done = await put(tmp_path, f"git+file://{repository}{ref}")
    assert done.kind is SourceKind.GIT
    assert done.version == git(repository, "rev-parse", ref.removeprefix("@") if "@" in ref else "HEAD")
    assert await output(done) == f"{'sub' if '#' in ref else 'hello'} {word}"
    assert not (tmp_path / "s/it/src/.git").exists()


@pytest.mark.parametrize("length", [40, 8])
async def test_a_commit_is_installed_by_its_full_or_short_name(
    tmp_path: Path, repository: Path, length: int
) -> None:
    commit_id = git(repository, "rev-parse", "v1")
    done = await put(tmp_path, f"git+file://{repository}@{commit_id[:length]}")
    assert done.version == commit_id
    assert await output(done) == "hello one"


async def test_an_unknown_ref_or_repository_is_told_apart(tmp_path: Path, repository: Path) -> None:
    for ref in ("no-such-branch", "deadbeef"):
        with pytest.raises(InstallError, match="no such branch, tag or commit"):
            await put(tmp_path, f"git+file://{repository}@{ref}")
    with pytest.raises(InstallError, match="no git repository at"):
        await put(tmp_path, f"git+file://{tmp_path}/nothing")
    assert list((tmp_path / "s").iterdir()) == []


async def test_links_of_a_repository_that_lead_out_of_it_are_dropped(
    tmp_path: Path, repository: Path
) -> None:
    (repository / "escape").symlink_to(tmp_path / "secret")
    (repository / "inside").symlink_to("server.py")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "links")
    await put(tmp_path, f"git+file://{repository}")
    assert not (tmp_path / "s/it/src/escape").is_symlink()
    assert (tmp_path / "s/it/src/inside").is_symlink()


async def test_a_submodule_with_a_transport_that_runs_commands_is_refused(
    tmp_path: Path, repository: Path
) -> None:
    marker = tmp_path / "ran"
    (repository / ".gitmodules").write_text(
        f'[submodule "x"]\n\tpath = x\n\turl = "ext::sh -c touch% {marker}"\n'
    )
    git(
        repository, "update-index", "--add", "--cacheinfo", f"160000,{git(repository, 'rev-parse', 'HEAD')},x"
    )
    git(repository, "add", ".gitmodules")
    git(repository, "commit", "-q", "-m", "submodule")
    with pytest.raises(InstallError, match="transport"):
        await put(tmp_path, f"git+file://{repository}")
    assert not marker.exists()


async def test_without_git_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InstallError, match="apt-get install git"):
        await put(tmp_path, "git+https://example.invalid/x")
