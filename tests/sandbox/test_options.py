"""The executor by itself, as somebody starts it without ToolScore: its flags, its environment, what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from toolscore.sandbox import options
from toolscore.sandbox.settings import SettingsError


def started(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "toolscore.sandbox", *flags],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_its_help_names_every_setting_and_what_it_is_measured_in() -> None:
    said = started("--help").stdout
    for option in options.OPTIONS:
        assert option.flag in said
    for words in ("MCP server", "--memory MIB", "TOOLSCORE_SANDBOX_WALL=10", "needs no ToolScore"):
        assert words in " ".join(said.split())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--wall", "abc"], "--wall: a number of seconds an execution may take, not 'abc'"),
        (["--wall", "0"], "--wall: a number above 0"),
        (["--memory", "1"], "--memory: 32 or more, not 1"),
        (["--packages", "numpy,-r/etc/passwd"], "--packages: packages such as numpy or pandas==2.3.0, not"),
        (["--preload", "a-b"], "--preload: modules such as numpy"),
        (["--allow-packages", "numpy>2"], "--allow-packages: names of packages, or *"),
        (["--minimum", "none"], "--minimum: one of full, reduced, limits, not 'none'"),
        (["--settings", "["], "--settings: not valid JSON"),
        (["--settings", '{"x": 1}'], "--settings: unknown: x; there are limits, packages"),
        (["--wal", "3"], "unrecognized arguments: --wal 3"),
        (["--state", "/proc/none/x"], "give another folder with --state"),
    ],
)
def test_what_it_cannot_take_is_told_with_what_it_may_be(flags: list[str], words: str) -> None:
    done = started(*flags)
    assert done.returncode
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_variable_that_is_no_setting_is_told() -> None:
    assert "TOOLSCORE_SANDBOX_WAL: there is no such setting" in started(TOOLSCORE_SANDBOX_WAL="3").stderr
    assert "TOOLSCORE_SANDBOX_WALL: a number" in started(TOOLSCORE_SANDBOX_WALL="x").stderr


def test_toolscores_own_variables_are_let_pass_and_not_offered() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    options.add(parser)
    given = parser.parse_args([])
    for name in options.TOOLSCORES:
        options.settings("{}", given, {f"TOOLSCORE_SANDBOX_{name.upper()}": "x"})
    with pytest.raises(SettingsError) as wrong:
        options.settings("{}", given, {"TOOLSCORE_SANDBOX_WAL": "3"})
    assert "TOOLSCORE_SANDBOX_WALL" in str(wrong.value)
    for name in ("ENABLED", "MODE", "TOOLS"):
        assert f"TOOLSCORE_SANDBOX_{name}" not in str(wrong.value)


def test_flags_come_before_the_json_and_that_before_the_environment() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    options.add(parser)
    given = parser.parse_args(["--wall", "3", "--packages", "numpy>=2,<3, pandas"])
    environ = {"TOOLSCORE_SANDBOX_WALL": "1", "TOOLSCORE_SANDBOX_CPU": "1", "TOOLSCORE_SANDBOX_MEMORY": "64"}
    found = options.settings('{"limits": {"wall": 2, "cpu": 2}, "packages": ["six"]}', given, environ)
    assert (found.limits.wall, found.limits.cpu, found.limits.memory) == (3.0, 2.0, 64 << 20)
    assert found.packages == ("numpy>=2,<3", "pandas")


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")
async def test_any_client_can_use_it_and_its_status_says_what_is_active(tmp_path: Path) -> None:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "toolscore.sandbox", "--wall", "7", "--preload", "decimal", "--warm", "1", "--most", "3"],
        env={"PATH": os.environ["PATH"], "TOOLSCORE_SANDBOX_MEMORY": "128", "HOME": str(tmp_path)},
    )
    async with Client(stdio_client(parameters)) as client:
        found = await client.call_tool("python_execute", {"code": "import sys; 'decimal' in sys.modules"})
        assert found.structured_content is not None
        assert found.structured_content["value"] is True
        status = await client.call_tool("sandbox_status", {})
    told = status.structured_content
    assert told is not None
    assert (told["ready"], told["mode"], told["preload"]) == (True, "separate", ["decimal"])
    assert (told["limits"]["wall"], told["limits"]["memory"]) == (7.0, 128 << 20)
    assert told["pools"][0]["executions"] == 1
    assert told["isolation"]["tier"] in ("full", "reduced")
    assert list(tmp_path.iterdir()) == []  # nothing is kept where there are no packages


def test_the_names_are_those_of_toolscores_settings() -> None:
    from toolscore.server.settings_sandbox import SandboxSettings

    own = {option.name for option in options.OPTIONS}
    assert own | set(options.TOOLSCORES) == set(SandboxSettings.model_fields)
