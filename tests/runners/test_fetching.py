"""Confined launchers: caches of their own among temporary files, and what they are told without the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolscore.runners.fetching import fetched, fetching

WRITABLE = ["/tmp", "/work/data"]


def test_a_launcher_with_the_network_has_caches_of_its_own() -> None:
    assert fetching("npx", {}, WRITABLE, network=True) == ({}, {"npm_config_cache": "npm"})
    settings, private = fetching("uvx", {}, WRITABLE, network=True)
    assert settings == {}
    assert private == {
        "UV_CACHE_DIR": "uv/cache",
        "UV_TOOL_DIR": "uv/tools",
        "UV_PYTHON_INSTALL_DIR": "uv/python",
    }


def test_a_cache_that_it_can_write_anyway_is_left_as_it_is() -> None:
    environment = {"NPM_CONFIG_CACHE": "/work/data/npm"}
    assert fetching("npx", environment, WRITABLE, network=True) == ({}, {})
    assert fetching("npx", environment, [], network=True) == ({}, {"NPM_CONFIG_CACHE": "npm"})
    usual = str(Path.home() / ".npm")
    assert fetching("npx", {}, [usual], network=True) == ({}, {})


def test_a_launcher_without_the_network_is_told_so_and_other_programs_nothing() -> None:
    assert fetching("npx", {}, WRITABLE, network=False) == ({"npm_config_offline": "true"}, {})
    assert fetching("uvx", {}, WRITABLE, network=False) == ({"UV_OFFLINE": "true"}, {})
    for network in (True, False):
        assert fetching("node", {"TMPDIR": "/tmp/x"}, WRITABLE, network=network) == ({}, {})


def test_a_temporary_folder_that_it_cannot_write_is_replaced() -> None:
    assert fetching("node", {"TMPDIR": "/home/me/tmp"}, WRITABLE, network=False) == ({}, {"TMPDIR": ""})


@pytest.mark.parametrize(
    ("command", "args", "source"),
    [
        ("npx", ["-y", "@scope/server@1.2", "/data"], "npm:@scope/server@1.2"),
        ("/usr/bin/npx", ["--package=a", "b"], "npm:a"),
        ("npx", ["-p", "a", "b"], "npm:a"),
        ("uvx", ["--from", "a", "b"], "pypi:a"),
        ("uvx", ["a"], "pypi:a"),
        ("npx", [], "npm:NAME"),
        ("node", ["a"], None),
    ],
)
def test_what_a_launcher_fetches_is_named_as_toolscore_installs_it(
    command: str, args: list[str], source: str | None
) -> None:
    assert fetched(command, args) == source
