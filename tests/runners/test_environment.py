"""What of ToolScore's own environment a child gets to see."""

from __future__ import annotations

import pytest

from toolscore.runners.environment import child_environment

OURS = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "LC_TIME": "C",
    "OPENAI_API_KEY": "secret",
    "UV_INDEX_URL": "https://mirror",
    "npm_config_registry": "https://mirror",
    "TOOLSCORE_HOME": "/x",
}


def test_only_the_white_list_and_what_the_spec_names_gets_through() -> None:
    environment = child_environment(OURS, spec_env={"KEY": "v"}, program="/usr/bin/python3")
    assert environment == {"PATH": "/bin", "HOME": "/home/me", "LC_TIME": "C", "KEY": "v"}


def test_the_spec_wins_over_the_white_list() -> None:
    assert child_environment(OURS, spec_env={"PATH": "/mine"}, program="x")["PATH"] == "/mine"


def test_further_names_can_be_let_through() -> None:
    assert "TOOLSCORE_HOME" in child_environment(OURS, spec_env={}, program="x", pass_env=["TOOLSCORE_HOME"])


@pytest.mark.parametrize("program", ["uvx", "/opt/bin/npx", "npx.cmd", "UV"])
def test_launchers_get_the_settings_of_their_index_too(program: str) -> None:
    environment = child_environment(OURS, spec_env={}, program=program)
    assert environment["UV_INDEX_URL"] == environment["npm_config_registry"] == "https://mirror"
    assert "OPENAI_API_KEY" not in environment


@pytest.mark.parametrize(
    ("proxy", "handed_on"),
    [
        ("http://proxy:8080", True),
        ("http://me:pw@proxy:8080", False),
        ("http://:pw@proxy:8080", False),
        ("me:pw@proxy:8080", False),
        ("http://[not-an-address", True),
    ],
)
def test_a_proxy_is_handed_on_unless_it_holds_credentials(proxy: str, handed_on: bool) -> None:
    ours = {"HTTPS_PROXY": proxy}
    assert ("HTTPS_PROXY" in child_environment(ours, spec_env={}, program="server")) is handed_on
    assert "HTTPS_PROXY" in child_environment(ours, spec_env={}, program="uvx")


@pytest.mark.parametrize("name", ["TOOLSCORE_PASSPHRASE", "TOOLSCORE_PASSPHRASE_FILE"])
def test_what_opens_the_secrets_goes_to_no_child_whoever_names_it(name: str) -> None:
    ours = {**OURS, name: "hush"}
    assert name not in child_environment(ours, spec_env={}, program="uvx", pass_env=[name])
