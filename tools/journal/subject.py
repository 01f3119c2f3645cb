"""What a request is in the journal: its kind, the server it is about, and arguments that may be seen."""

from __future__ import annotations

from typing import Any

from ...runners.spec import ServerSpec
from ..names import OWN_PREFIX
from ..spec_secrets import extract
from ..written_out import written_out
from .content import MASK

EXECUTE = f"{OWN_PREFIX}execute_tool"
"""The tool that calls another one, which has the record."""

READ = f"{OWN_PREFIX}read_journal"
"""The tool whose results are in the journal already."""

LONGEST = 200
"""Characters of a server's name, which a client can make up."""

_METHODS = {"resources/read": "read", "prompts/get": "prompt", "completion/complete": "completion"}

_KINDS = {
    "install_server": "install",
    "ensure_tools": "ensure",
    "uninstall_server": "uninstall",
    "register_tool": "register",
    "unregister_tool": "unregister",
    "upgrade_server": "upgrade",
    "sync_server": "sync",
    "accept_server": "accept",
    "approve_tool": "approve",
    "reject_tool": "reject",
    "manage_server": "manage",
    "configure_server": "configure",
    "reload_configuration": "reload",
}
"""Own tools that change which servers there are, or how they run."""

_ADDING = frozenset({"install", "ensure", "register", "upgrade", "configure", "sync"})

_VALUES = ("env", "headers", "settings", "secrets")
"""Arguments whose values may be secrets whatever they are named."""


def kind_of(method: str) -> str:
    """Give the kind of a request that is no tool call: `read`, `prompt`, `completion` or `task`."""
    return _METHODS.get(method) or method.partition("/")[0].removesuffix("s")


def safe_arguments(tool: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Give the kind of a call of an own tool, and its arguments without values that are given to a server."""
    own = tool.removeprefix(OWN_PREFIX)
    kind = _KINDS.get(own, "call")
    inner, passed = arguments.get("tool"), arguments.get("arguments")
    passed = written_out(passed)
    if own == "execute_tool" and isinstance(inner, str) and isinstance(passed, dict):
        # It has a record of its own only where it did not get as far as that tool.
        return kind, {**arguments, "arguments": safe_arguments(inner, passed)[1]}
    if kind not in _ADDING and own != "ensure_tools":
        return kind, arguments
    safe = dict(arguments)
    for name in _VALUES:
        if name in safe and (kind, name) != ("configure", "settings"):
            safe[name] = _blank(safe[name])
    return kind, {**safe, **safe_words(safe)}


def safe_words(arguments: dict[str, Any]) -> dict[str, Any]:
    """Give those of the words that a server is started or reached with, without the secrets that are seen in them."""
    safe: dict[str, Any] = {}
    words = written_out(arguments.get("args"))
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        safe["args"] = _without_secrets(tuple(words))
    if isinstance(url := arguments.get("url"), str):
        safe["url"] = _without_secrets((url,))[0]
    if isinstance(source := arguments.get("source"), str) and (
        "://" in source or source.startswith("command:")
    ):
        safe["source"] = " ".join(_without_secrets(tuple(source.split(" "))))
    return safe


def _blank(value: Any) -> Any:
    """Keep the names of values only."""
    if isinstance(value, dict):
        return {name: _blank(one) if isinstance(one, dict) else MASK for name, one in value.items()}
    return MASK if value else value


def _without_secrets(words: tuple[str, ...]) -> list[str]:
    kept, values = extract("it", ServerSpec(command="program", args=words))
    found = list(kept.args)
    for key in values:
        found = [word.replace(f"${{secret:{key}}}", MASK) for word in found]
    return found


def server_of(kind: str, arguments: dict[str, Any], result: dict[str, Any] | None) -> str:
    """Give the server that an install, a removal or the like is about; empty for all else."""
    if kind == "call":
        return ""
    told = (result or {}).get("structuredContent")
    for place in (told, arguments):
        if isinstance(place, dict) and isinstance(name := place.get("name"), str):
            return name[:LONGEST]
    return ""
