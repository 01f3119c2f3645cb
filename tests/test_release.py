"""What is released: made from the checkout, the same each time, held against the rules of those who read it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import release
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from cli_shell import shell_in
from new_user import Person, walk
from toolscore.server.own_tools import OWN_TOOLS
from toolscore.tools.catalog.entry import parse
from toolscore.tools.catalog.plan import plan_of

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "deploy" / "mcpb" / "manifest.json"


def known_to_git() -> bool:
    """Tell whether this is a checkout, and one that git looks into for this user."""
    command = ["git", "ls-files", "--error-unmatch", "README.md"]
    return (
        shutil.which("git") is not None
        and subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    )


pytestmark = pytest.mark.skipif(
    not known_to_git(), reason="what is released is what git knows of, and it knows nothing of this folder"
)
on_posix = pytest.mark.skipif(os.name != "posix", reason="environments are looked into as POSIX has them")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `make release` put what it made, after it had tried it."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    folder.mkdir()
    (folder / "toolscore-0.0.1.tar.gz").write_text("of an earlier one")
    command = [sys.executable, str(ROOT / "deploy" / "release.py"), "--uncommitted", "--out", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def one(made: Path, pattern: str) -> Path:
    (found,) = made.glob(pattern)
    return found


@pytest.mark.index
@on_posix
def test_a_release_is_complete_has_its_checksums_and_nothing_of_an_earlier_one(made: Path) -> None:
    number = release.version()
    names = {file.name for file in made.glob("[!.]*")}
    files = {f"toolscore-{number}{end}" for end in (".tar.gz", "-py3-none-any.whl", ".mcpb")}
    assert names == files | {"server.json", "SHA256SUMS"}
    sums = dict(line.split()[::-1] for line in (made / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == names - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((made / name).read_bytes()).hexdigest() == digest


@pytest.mark.index
@on_posix
def test_the_same_files_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    again = release.build(tmp_path, release.version(), release.dated())
    assert len(again) == 3
    for file in again:
        assert file.read_bytes() == (made / file.name).read_bytes(), file.name


@pytest.mark.index
@on_posix
def test_toolscore_itself_installs_the_bundle_and_the_toolscore_in_it_lists_its_tools(
    made: Path, tmp_path: Path
) -> None:
    shell = shell_in(tmp_path)
    inner = f"TOOLSCORE_HOME={tmp_path / 'inner'}"
    installed = shell("install", str(one(made, "*.mcpb")), "--name", "inner", "--env", inner)
    assert installed.returncode == 0, installed.stderr
    assert "inner__search_tools" in installed.stdout


@pytest.mark.index
@on_posix
def test_somebody_new_takes_over_what_they_have_and_calls_a_server_of_the_index(
    made: Path, tmp_path: Path
) -> None:
    uv, venv = release.uv(), tmp_path / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    wheel = one(made, "*.whl")
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", str(venv / "bin/python"), str(wheel)], check=True
    )
    walk(Person(tmp_path, venv / "bin" / "toolscore", "vscode"))


def test_a_file_too_many_or_too_few_ends_it() -> None:
    with pytest.raises(release.ReleaseError, match=r"lacks \['b'\] and has besides \['c'\]"):
        release.same({"a", "c"}, {"a", "b"}, Path("x.whl"))


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("server.json", '"version": "', '"version": "9', "server.json is of 9"),
        ("CHANGELOG.md", "## [", "## [Not ", "CHANGELOG.md has no heading"),
        ("README.md", "mcp-name: ", "mcp-name: some", "README.md has no line"),
    ],
)
def test_what_names_another_version_or_server_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, before: str, after: str, said: str
) -> None:
    for name in ("server.json", "CHANGELOG.md", "README.md"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    monkeypatch.setattr(release, "ROOT", tmp_path)
    release.in_step(json.loads((tmp_path / "server.json").read_text())["version"])
    (tmp_path / file).write_text((ROOT / file).read_text().replace(before, after))
    with pytest.raises(release.ReleaseError, match=re.escape(said)):
        release.in_step(json.loads((ROOT / "server.json").read_text())["version"])


# The rules of server.json, schema 2025-12-11, and of the official registry for packages of PyPI; and those of
# manifest.json 0.4: no more keys than ToolScore uses, each as strictly as the schema has it.


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _exact(version: str) -> str:
    assert version != "latest"
    assert not re.search(r"[\^~<>=*|]|\.x\b", version), "a range"
    return version


Version = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_exact)]


class Input(Strict):
    name: str
    description: str = ""
    format: Literal["string", "number", "boolean", "filepath"] = "string"
    default: str = ""


class Argument(Input):
    type: Literal["named"]


class Stdio(Strict):
    type: Literal["stdio"]


class Package(Strict):
    registryType: Literal["pypi"]
    identifier: str
    version: Version
    runtimeHint: Literal["uvx"]
    transport: Stdio
    packageArguments: list[Argument]
    environmentVariables: list[Input]


class ServerJson(Strict):
    schema_: Literal["https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"] = Field(
        alias="$schema"
    )
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$", min_length=3, max_length=200)]
    title: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(min_length=1, max_length=100)]
    version: Version
    packages: list[Package]


class Author(Strict):
    name: str


class Config(Strict):
    command: str
    args: list[str]


class Server(Strict):
    type: Literal["uv"]
    entry_point: str
    mcp_config: Config


class Runtimes(Strict):
    python: str


class Compatibility(Strict):
    platforms: list[Literal["darwin", "win32", "linux"]]
    runtimes: Runtimes


class Option(Strict):
    type: Literal["string", "number", "boolean", "directory", "file"]
    title: str
    description: str
    default: str
    required: bool


class Manifest(Strict):
    manifest_version: Literal["0.4"]
    name: str
    display_name: str
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$")]
    description: str
    long_description: str
    author: Author
    license: str
    keywords: list[str]
    server: Server
    tools_generated: bool
    compatibility: Compatibility
    user_config: dict[str, Option]


def keys(value: Any) -> set[str]:
    return set(re.findall(r"\$\{user_config\.(\w+)\}", json.dumps(value)))


def test_the_entry_for_registries_keeps_to_their_rules_and_toolscores_own_catalog_can_install_it() -> None:
    text = (ROOT / "server.json").read_text("utf-8")
    entry = TypeAdapter(ServerJson).validate_json(text)
    assert entry.version == release.version()
    planned = plan_of(parse(json.loads(text)))
    assert planned.source == f"pypi:toolscore@{release.version()}"
    assert not planned.missing


def test_the_manifest_keeps_to_the_rules_and_each_setting_has_a_default_that_is_used() -> None:
    manifest = TypeAdapter(Manifest).validate_json(MANIFEST.read_text("utf-8"))
    assert manifest.version == release.version()
    assert manifest.server.entry_point in manifest.server.mcp_config.args
    # A setting that nobody gave, without a default, would reach ToolScore as it is written.
    assert keys(manifest.server.mcp_config.model_dump()) == set(manifest.user_config)
    assert not keys([option.default for option in manifest.user_config.values()])


def test_what_is_said_of_the_own_tools_is_so() -> None:
    assert "ten tools" in json.loads(MANIFEST.read_text("utf-8"))["long_description"]
    assert sum(tool.listed for tool in OWN_TOOLS) == 10
