"""What the journal keeps of what a server is to be given: its names, and no value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from toolscore.tools.journal.subject import safe_arguments

PIN = "zx81"
"""Under a name, and with a look, that no secret has."""


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ensure_tools", {"task": "t", "settings": {"io.x/y": {"PLACE": PIN}, "PLACE": PIN}}),
        ("install_server", {"source": "pypi:x", "settings": {"deep": {"PLACE": PIN}, "list": [PIN]}}),
        ("install_server", {"source": f"https://user:{PIN}@git.example/x"}),
        ("register_tool", {"name": "x", "env": {"PLACE": PIN}, "headers": [PIN]}),
        ("register_tool", {"name": "x", "args": ["--token", PIN], "url": f"wss://x.example/?token={PIN}"}),
        ("sync_server", {"name": "x", "locked": {}, "secrets": {"x/env/PLACE": PIN}}),
        ("configure_server", {"name": "x", "settings": {"timeout": 5}, "env": {"PLACE": PIN}}),
    ],
)
def test_values_that_a_server_is_given_are_not_kept(tool: str, arguments: dict[str, Any]) -> None:
    _, kept = safe_arguments(f"toolscore__{tool}", arguments)
    assert PIN in json.dumps(arguments)
    assert PIN not in json.dumps(kept)
    assert kept.keys() == arguments.keys()
    # Nor where it came as a text, which some models make of it.
    texts = {
        key: json.dumps(value) if isinstance(value, dict | list) else value
        for key, value in arguments.items()
    }
    assert PIN not in json.dumps(safe_arguments(f"toolscore__{tool}", texts)[1])
    # Nor where the tool that would have passed them on was refused, and has a record itself.
    for name in (tool, f"toolscore__{tool}"):
        passed = {"tool": name, "arguments": arguments, "nonsense": True}
        kind, kept = safe_arguments("toolscore__execute_tool", passed)
        assert kind == "call"
        assert PIN not in json.dumps(kept)
        assert kept["tool"] == name
        written = {"tool": name, "arguments": json.dumps(arguments)}
        assert PIN not in json.dumps(safe_arguments("toolscore__execute_tool", written)[1])


def test_settings_of_how_a_server_runs_are_kept() -> None:
    given = {"name": "x", "settings": {"timeout": 5, "groups": ["a"]}}
    assert safe_arguments("toolscore__configure_server", given) == ("configure", given)
    assert safe_arguments("toolscore__search_tools", {"settings": PIN}) == ("call", {"settings": PIN})
