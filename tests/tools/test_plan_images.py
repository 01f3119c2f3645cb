"""Images of the catalog: what is fetched, what of their `docker run` is given to the container, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from toolscore.runners.docker import address
from toolscore.tools.catalog import contained
from toolscore.tools.catalog.entry import parse
from toolscore.tools.catalog.filled import Filled
from toolscore.tools.catalog.plan import Plan, plan_of
from toolscore.tools.outcome import RefusalError


@pytest.fixture(autouse=True)
def with_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contained, "has_engine", lambda: True)


def plan(*words: dict[str, Any], **more: Any) -> Plan:
    package = {
        "registryType": "oci",
        "identifier": "ghcr.io/a/thing:1",
        "transport": {"type": "stdio"},
        "runtimeHint": "docker",
        "runtimeArguments": list(words),
        **more,
    }
    return plan_of(parse({"name": "io.x/thing", "version": "1.0", "packages": [package]}))


def filled(made: Plan, **settings: Any) -> Filled:
    return made.filled(settings, {}, server="thing")


def named(name: str, value: str | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "named", "name": name, **({} if value is None else {"value": value}), **more}


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ({}, "docker:ghcr.io/a/thing:1"),
        ({"identifier": "a/thing", "version": "2"}, "docker:a/thing:2"),
        ({"identifier": "a/thing:3", "version": "3"}, "docker:a/thing:3"),
        ({"identifier": "a/thing", "registryBaseUrl": "https://ghcr.io"}, "docker:ghcr.io/a/thing:latest"),
        ({"identifier": f"a/thing@sha256:{'0' * 64}"}, f"docker:a/thing@sha256:{'0' * 64}"),
    ],
)
def test_an_image_is_fetched_by_the_name_the_entry_gives(package: dict[str, Any], source: str) -> None:
    made = plan(**package)
    assert made.kind == "oci"
    assert made.source == source
    assert any("no network" in note for note in made.notes)


def test_what_is_safe_of_its_words_is_given() -> None:
    made = plan(
        named("-i"),
        named("--rm"),
        named("-e", "MODE=quick"),
        named("-e", "TOKEN={token}", variables={"token": {"isRequired": True, "isSecret": True}}),
        named("--memory", "256m"),
        named("-u", "1000"),
        named("-v", "cache:/cache"),
        named("--tmpfs", "/work"),
        packageArguments=[{"type": "positional", "value": "serve"}],
        environmentVariables=[{"name": "LEVEL", "default": "info"}],
    )
    found = filled(made, token="hush")
    assert found.args == ("serve",)
    assert found.env == {"MODE": "quick", "TOKEN": "hush", "LEVEL": "info"}
    assert found.container == {
        "memory": "256m",
        "user": "1000",
        "volumes": ["cache:/cache:rw"],
        "tmpfs": ["/work"],
    }


def test_a_folder_is_given_only_where_somebody_named_it(tmp_path: Path) -> None:
    mount = named(
        "--mount",
        "type=bind,src={folder},dst=/data,readonly",
        variables={"folder": {"isRequired": True, "format": "filepath"}},
    )
    found = filled(plan(mount), folder=str(tmp_path))
    assert found.container == {"volumes": [f"{tmp_path}:/data"]}
    for sneaky in ("/:/host", "/var/run/docker.sock:/s"):
        found = filled(plan(named("-v", sneaky)))
        assert found.container == {}
        assert any("does not get it" in note for note in found.notes)


def test_network_root_and_its_powers_are_told_of_and_not_given() -> None:
    found = filled(plan(named("--network", "host"), named("--user", "root"), named("--cap-add", "SYS_ADMIN")))
    assert found.container == {}
    said = "\n".join(found.notes)
    assert "network host" in said
    assert "to be root" in said
    assert "SYS_ADMIN" in said


@pytest.mark.parametrize("option", ["--privileged", "--device", "--pid", "--ipc", "--gpus", "--entrypoint"])
def test_what_no_container_is_given_makes_an_image_unfit(option: str) -> None:
    with pytest.raises(RefusalError, match=f"asks for {option}"):
        plan(named(option, "x"))
    with pytest.raises(RefusalError, match="no container is given"):
        filled(plan({"type": "positional", "value": "{word}", "variables": {"word": {"default": option}}}))


def test_no_entry_sets_what_changes_which_programs_are_used() -> None:
    assert filled(plan(named("-e", "LD_PRELOAD=/x.so"))).env == {}


def test_without_an_engine_an_image_is_unfit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(address, "_CONFIGURED", [(f"unix://{tmp_path}/none", {})])
    with pytest.raises(RefusalError, match="no engine for it here"):
        plan()
