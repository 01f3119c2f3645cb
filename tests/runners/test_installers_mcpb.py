"""MCPB bundles: unpacked safely, their manifest turned into a command, their settings filled in."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from toolscore.runners.errors import InstallError
from toolscore.runners.installers import archive
from toolscore.runners.installers.install import install
from toolscore.runners.installers.node import find_node
from toolscore.runners.spec import Candidate, Installation, SourceKind, silent

SHOW_PY = "import json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ.get('KEY')]))\n"
SHOW_JS = "console.log(JSON.stringify([process.argv.slice(2), process.env.KEY ?? null]))\n"


def manifest(kind: str, entry_point: str, config: dict[str, Any] | None = None, **more: Any) -> str:
    server: dict[str, Any] = {"type": kind, "entry_point": entry_point}
    if config is not None:
        server["mcp_config"] = config
    author = {"name": "t"}
    return json.dumps(
        {
            "manifest_version": "0.4",
            "name": "demo",
            "version": "1.2.3",
            "author": author,
            "server": server,
            **more,
        }
    )


def bundle(tmp_path: Path, **files: str) -> Path:
    """Make a bundle of files whose names have `__` for a slash and the last `_` for the dot."""
    path = tmp_path / "demo.mcpb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, text in files.items():
            stem, _, suffix = name.replace("__", "/").rpartition("_")
            zipped.writestr(f"{stem}.{suffix}", text)
    return path


async def put(tmp_path: Path, path: Path, **more: Any) -> Installation:
    return await install(
        Candidate(source=str(path), name="it", **more), servers=tmp_path / "s", report=silent
    )


async def shown(installation: Installation) -> Any:
    """Run what was installed and give the arguments and the KEY it saw."""
    spec = installation.spec
    assert spec.command is not None
    process = await asyncio.create_subprocess_exec(
        spec.command, *spec.args, cwd=spec.cwd, env=spec.env, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return json.loads(out)


async def test_a_python_bundle_runs_with_an_environment_of_its_own(tmp_path: Path) -> None:
    config = {
        "command": "python3",
        "args": ["${__dirname}/server/main.py", "a"],
        "env": {"PYTHONPATH": "${__dirname}/server/lib", "KEY": "${pathSeparator}"},
    }
    path = bundle(
        tmp_path,
        manifest_json=manifest("python", "server/main.py", config),
        server__main_py="import bundled\n" + SHOW_PY,
        server__lib__bundled_py="",
        requirements_txt="no-such-package-as-the-libraries-are-bundled\n",
    )
    done = await put(tmp_path, path, args=("b",))
    assert (done.kind, done.package, done.version) == (SourceKind.MCPB, "demo", "1.2.3")
    assert done.runtime == "python"
    assert done.spec.command == str(tmp_path / "s/it/venv/bin/python")
    assert done.spec.cwd == str(tmp_path / "s/it/src")
    assert await shown(done) == [["a", "b"], "/"]


async def test_a_node_bundle_runs_with_the_node_that_was_found(tmp_path: Path) -> None:
    path = bundle(
        tmp_path,
        manifest_json=manifest("node", "server/index.js", {"command": "node", "args": ["server/index.js"]}),
        server__index_js=SHOW_JS,
    )
    done = await put(tmp_path, path, env={"KEY": "mine"})
    assert done.runtime == "node"
    assert done.spec.command == find_node().node
    assert await shown(done) == [[], "mine"]


async def test_a_binary_bundle_is_made_executable(tmp_path: Path) -> None:
    path = bundle(
        tmp_path,
        manifest_json=manifest("binary", "bin/run.sh", {"command": "bin/run.sh", "args": ["x"]}),
        bin__run_sh='#!/bin/sh\necho "[[\\"$1\\"], null]"\n',
    )
    done = await put(tmp_path, path)
    assert done.runtime == "binary"
    assert await shown(done) == [["x"], None]


@pytest.mark.index
async def test_a_uv_bundle_gets_its_dependencies_without_naming_a_command(tmp_path: Path) -> None:
    path = bundle(
        tmp_path,
        manifest_json=manifest("uv", "src/server.py"),
        pyproject_toml='[project]\nname = "demo"\nversion = "1"\ndependencies = ["six"]\n',
        src__server_py="import six\n" + SHOW_PY,
    )
    assert await shown(await put(tmp_path, path, args=("a",))) == [["a"], None]


@pytest.mark.index
async def test_a_python_bundle_gets_its_requirements(tmp_path: Path) -> None:
    path = bundle(
        tmp_path,
        manifest_json=manifest("python", "main.py"),
        requirements_txt="six\n",
        main_py="import six\n" + SHOW_PY,
    )
    assert await shown(await put(tmp_path, path)) == [[], None]


@pytest.mark.parametrize(
    "args",
    [
        ["run", "src/server.py", "a"],
        ["--directory", "${__dirname}", "run", "src/server.py", "a"],
        ["run", "--directory", "${__dirname}", "--quiet", "python", "src/server.py", "a"],
    ],
)
async def test_uv_run_becomes_the_environments_own_python(tmp_path: Path, args: list[str]) -> None:
    path = bundle(
        tmp_path,
        manifest_json=manifest("uv", "src/server.py", {"command": "uv", "args": args}),
        src__server_py=SHOW_PY,
    )
    done = await put(tmp_path, path)
    assert done.spec.command == str(tmp_path / "s/it/venv/bin/python")
    assert await shown(done) == [["a"], None]


async def test_overrides_of_this_platform_win(tmp_path: Path) -> None:
    config = {
        "command": "no-such-program",
        "args": ["x"],
        "env": {"KEY": "base", "OTHER": "base"},
        "platform_overrides": {
            sys.platform: {"command": "node", "args": ["a.js", "y"], "env": {"KEY": "over"}}
        },
    }
    path = bundle(tmp_path, manifest_json=manifest("node", "a.js", config), a_js=SHOW_JS)
    done = await put(tmp_path, path)
    assert done.spec.env == {"KEY": "over", "OTHER": "base"}
    assert await shown(done) == [["y"], "over"]


OPTIONS: dict[str, Any] = {
    "api_key": {"type": "string", "title": "API Key", "required": True, "sensitive": True},
    "folders": {"type": "directory", "multiple": True, "default": ["${HOME}/a", "${DESKTOP}"]},
    "verbose": {"type": "boolean", "default": True},
    "limit": {"type": "number", "default": 10},
    "nickname": {"type": "string"},
}
SETTINGS = {
    "command": "node",
    "args": ["a.js", "${user_config.folders}", "--limit=${user_config.limit}", "${user_config.nickname}"],
    "env": {
        "KEY": "${user_config.api_key}",
        "V": "${user_config.verbose}",
        "NICK": "${user_config.nickname}",
    },
}


def with_settings(tmp_path: Path) -> Path:
    return bundle(
        tmp_path, manifest_json=manifest("node", "a.js", SETTINGS, user_config=OPTIONS), a_js=SHOW_JS
    )


async def test_settings_come_from_the_environment_given_or_from_their_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    done = await put(
        tmp_path, with_settings(tmp_path), env={"API_KEY": "${secret:demo}", "OWN": "${OWN_VALUE}"}
    )
    # A reference to a secret stays one: it is filled in at start. What was a setting is no variable any more.
    assert done.spec.env == {"KEY": "${secret:demo}", "V": "true", "OWN": "${OWN_VALUE}"}
    assert done.spec.args == ("a.js", "/home/me/a", "/home/me/Desktop", "--limit=10")


async def test_settings_can_be_lists_and_are_taken_in_either_spelling(tmp_path: Path) -> None:
    env = {"api_key": "k", "FOLDERS": '["/x", "/y"]', "nickname": "n", "verbose": "false", "LIMIT": "3"}
    done = await put(tmp_path, with_settings(tmp_path), env=env)
    assert done.spec.args == ("a.js", "/x", "/y", "--limit=3", "n")
    assert done.spec.env == {"KEY": "k", "V": "false", "NICK": "n"}


async def test_a_missing_setting_is_named_with_how_to_give_it(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"api_key \(API Key\).*as in api_key=VALUE"):
        await put(tmp_path, with_settings(tmp_path))
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.parametrize("value", ["${secret:github}", "${AWS_SECRET_ACCESS_KEY}", "${user_config.unknown}"])
@pytest.mark.parametrize("place", ["args", "env", "command", "default"])
async def test_a_bundle_cannot_reach_for_the_users_secrets(tmp_path: Path, place: str, value: str) -> None:
    config: dict[str, Any] = {"command": "node", "args": ["a.js"]}
    more: dict[str, Any] = {}
    if place == "default":
        more["user_config"] = {"x": {"type": "string", "default": value}}
    else:
        config[place] = {"args": ["a.js", value], "env": {"X": value}, "command": value}[place]
    path = bundle(tmp_path, manifest_json=manifest("node", "a.js", config, **more), a_js="")
    with pytest.raises(InstallError, match=r"uses .* neither a variable of bundles"):
        await put(tmp_path, path)


@pytest.mark.parametrize(
    ("template", "default", "given"),
    [
        ("$${user_config.a}", "{AWS_SECRET_ACCESS_KEY}", {}),
        ("${user_config.a}{AWS_SECRET_ACCESS_KEY}", "$", {}),
        ("${user_config.a}{AWS_SECRET_ACCESS_KEY}", ["x", "$"], {}),
        ("${user_config.a}", "$${user_config.key}", {"key": "{A}"}),
        ("${user_config.key}{AWS_SECRET_ACCESS_KEY}", "x", {"key": "ends with $"}),
        ("$${user_config.key}", "x", {"key": "{AWS_SECRET_ACCESS_KEY}"}),
        ("$${user_config.key}", "x", {"key": "${secret:it/env/key}"}),
        ("$${user_config.many}{AWS_SECRET_ACCESS_KEY}", "x", {"many": '["", ""]'}),
        ("$${user_config.unset}{AWS_SECRET_ACCESS_KEY}", "x", {}),
        ("$$${user_config.a}{secret:it/env/key}", "", {}),
    ],
)
@pytest.mark.parametrize("place", ["args", "env", "command"])
async def test_a_bundle_cannot_build_a_reference_out_of_parts(
    tmp_path: Path, place: str, template: str, default: Any, given: dict[str, str]
) -> None:
    config: dict[str, Any] = {"command": "node", "args": ["a.js"]}
    config[place] = {"args": ["a.js", template], "env": {"X": template}, "command": template}[place]
    options = {"key": {}, "many": {"multiple": True}, "unset": {}, "a": {"default": default}}
    path = bundle(tmp_path, manifest_json=manifest("node", "a.js", config, user_config=options), a_js="")
    with pytest.raises(InstallError, match=r"The manifest of demo builds a '\$\{' out of parts"):
        await put(tmp_path, path, env=given)


async def test_what_the_user_gives_may_hold_references_dollars_and_braces(tmp_path: Path) -> None:
    args = [
        "a.js",
        "${user_config.a}",
        "x${user_config.a}-${user_config.b}",
        "${user_config.many}",
        "$HOME",
        "$",
    ]
    config = {"command": "node", "args": args}
    options = {"a": {}, "b": {}, "many": {"multiple": True}}
    path = bundle(tmp_path, manifest_json=manifest("node", "a.js", config, user_config=options), a_js="")
    done = await put(tmp_path, path, env={"a": "${A:-x}pa$", "b": "${b", "many": '["$", "{c}", "${D}"]'})
    assert done.spec.args == (*("a.js", "${A:-x}pa$", "x${A:-x}pa$-${b", "$", "{c}", "${D}", "$HOME", "$"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "wrong at the whole"),
        ("{}", "wrong at name"),
        (manifest("java", "x"), "wrong at server.type"),
        (manifest("node", "x", {"command": "node", "args": "x"}), "wrong at server.mcp_config.args"),
        (manifest("node", "missing.js"), "entry point 'missing.js', which is not in the bundle"),
        (manifest("binary", "../../bin/sh"), "which is not in the bundle"),
        (
            manifest("binary", "x", {"command": "no-such-program-here"}),
            "neither in the bundle nor on the PATH",
        ),
        (manifest("binary", "x", {"command": "../../../bin/sh"}), "neither in the bundle nor on the PATH"),
        (manifest("node", "x", compatibility={"platforms": ["win32"]}), "runs on win32"),
        (manifest("python", "x", compatibility={"runtimes": {"python": ">=3.99"}}), r"needs Python >=3\.99"),
    ],
)
async def test_a_manifest_that_is_wrong_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InstallError, match=message):
        await put(tmp_path, bundle(tmp_path, manifest_json=text))
    assert list((tmp_path / "s").iterdir()) == []


async def test_a_bundle_without_a_manifest_or_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"no manifest\.json"):
        await put(tmp_path, bundle(tmp_path, a_txt=""))
    broken = tmp_path / "broken.mcpb"
    broken.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(InstallError, match="no intact zip"):
        await put(tmp_path, broken)
    with pytest.raises(InstallError, match="does not exist"):
        await put(tmp_path, tmp_path / "missing.mcpb")


async def test_a_damaged_member_is_found(tmp_path: Path) -> None:
    path = bundle(tmp_path, manifest_json=manifest("node", "a.js"), a_js="x" * 1000)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"a.js") + 6] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(InstallError, match="no intact zip"):
        await put(tmp_path, path)


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:/evil", "a/..", ".."]
)
async def test_a_name_that_leads_out_of_the_bundle_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.mcpb"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("manifest.json", manifest("node", "a.js"))
        zipped.writestr(name, "evil")
    with pytest.raises(InstallError, match="leads out of it"):
        await put(tmp_path, path)
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
async def test_links_and_devices_in_a_bundle_are_refused(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "evil.mcpb"
    with zipfile.ZipFile(path, "w") as zipped:
        member = zipfile.ZipInfo("link")
        member.create_system = 3
        member.external_attr = (kind | 0o777) << 16
        zipped.writestr(member, "/etc")
        zipped.writestr("link/passwd", "evil")
    with pytest.raises(InstallError, match="link or a device"):
        await put(tmp_path, path)


async def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.mcpb"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("manifest.json", manifest("node", "a.js"))
        with pytest.warns(UserWarning, match="Duplicate"):
            zipped.writestr("manifest.json", "{}")
    with pytest.raises(InstallError, match=r"'manifest\.json' twice"):
        await put(tmp_path, path)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a", "a/"), ("a", "a/b/c")])
async def test_a_name_of_a_file_and_of_a_folder_is_refused_by_that_name(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    path = tmp_path / "both.mcpb"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("manifest.json", manifest("node", "a.js"))
        for name in names:
            zipped.writestr(name, "")
    with pytest.raises(InstallError, match=rf"'{names[1]}' twice, or as a file and as a folder"):
        await put(tmp_path, path)


async def test_a_bundle_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    with pytest.raises(InstallError, match="unpacks to more than"):
        await put(tmp_path, bundle(tmp_path, a_txt="0" * 1001))
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    with pytest.raises(InstallError, match="more than 2 files"):
        await put(tmp_path, bundle(tmp_path, a_txt="", b_txt="", c_txt=""))
    assert list((tmp_path / "s").iterdir()) == []
