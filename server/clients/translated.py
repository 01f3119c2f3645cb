"""A client's entry for a server, as ToolScore's own file has it; what cannot be said there is told."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...tools.declared import FOREIGN
from .client import Machine
from .found import FoundServer, text_of

_KNOWN = frozenset(
    {"command", "args", "env", "cwd", "url", "headers", "type", "disabled", "timeout", "envFile"}
)
_MORE = {
    "claude-code": frozenset({"headersHelper", "oauth"}),
    "windsurf": frozenset({"serverUrl"}),
    "gemini": frozenset({"httpUrl", "tcp"}),
    "codex": frozenset(
        {"enabled", "env_vars", "bearer_token_env_var", "http_headers", "env_http_headers"}
        | {"startup_timeout_sec", "startup_timeout_ms", "tool_timeout_sec"}
    ),
}
"""What a client has beyond what all have, and what is taken over, or is worth a remark of its own."""

_QUIET = FOREIGN | {"enabled_tools", "disabled_tools", "dev", "sandboxEnabled", "sandbox", "metadata", "auth"}

_TYPES = {"stdio", "http", "sse", "streamable-http", "streamable_http", "streamablehttp", "ws", "websocket"}

_VARIABLE = re.compile(r"\$\{([^{}]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)|%([A-Za-z_][A-Za-z0-9_]*)%")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=(.*)")


@dataclass(slots=True)
class Translated:
    """An entry of ToolScore's.

    Attributes:
        entry: What stands under `mcpServers.NAME`; secrets are in it still.
        remarks: What is different there, or has to be done.
        problem: Why it cannot be taken over; `None` where it can.
        inputs: Names in it that a person has to give a value, and what each is.
    """

    entry: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    problem: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)


def translate(found: FoundServer, machine: Machine) -> Translated:
    """Say of a client's entry what ToolScore's would be.

    Args:
        found: The server.
        machine: Where variables such as `${userHome}` lead.
    """
    done = Translated()
    given = {key: value for key, value in found.entry.items() if value is not None}
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        done.problem = f"it holds half a character, which no file can; correct it in {found.file}"
        return done
    known = _KNOWN | _MORE.get(found.client, frozenset())
    for key in sorted(given.keys() - known - _QUIET):
        done.remarks.append(f"{key} is not known to ToolScore and is left out")
    # Widths of the field differ: what is plainly of the wrong kind is told rather than guessed at.
    kinds: dict[str, type | tuple[type, ...]] = {"command": str, "args": list, "env": dict, "headers": dict}
    for key, kind in (
        kinds | {"url": str, "cwd": str, "http_headers": dict, "env_http_headers": dict}
    ).items():
        if key in given and not isinstance(given[key], kind):
            done.problem = f"{key} is not what it must be; correct it in {found.file}"
            return done
    fill = _filler(found, machine, done)
    _reach(found, given, fill, done)
    if done.problem is None:
        _rest(found, given, fill, done)
    return done


def _reach(
    found: FoundServer, given: Mapping[str, Any], fill: Callable[[str], str], done: Translated
) -> None:
    entry = done.entry
    url = given.get("url") or given.get("serverUrl") or given.get("httpUrl")
    if isinstance(command := given.get("command"), str) and command.strip():
        entry["command"] = fill(command)
        entry["args"] = [fill(_text(word)) for word in given.get("args", ())]
        env = {
            str(key): fill(_text(value)) for key, value in given.get("env", {}).items() if value is not None
        }
        entry["env"] = _from_file(found, given, fill, done) | env
        for name in given.get("env_vars", ()):
            if isinstance(name, str):
                entry["env"].setdefault(name, f"${{env:{name}}}")
        if isinstance(cwd := given.get("cwd"), str) and cwd.strip():
            entry["cwd"] = _placed(fill(cwd), str(found.folder))
        elif _relative(command, entry["args"], found.folder):
            entry["cwd"] = str(found.folder)
        if "/" in entry["command"]:
            # In ToolScore's own file a path begins at that file's folder.
            entry["command"] = _placed(entry["command"], entry.get("cwd", str(found.folder)))
    elif isinstance(url, str) and url.strip():
        entry["url"] = fill(url)
        headers = {**given.get("headers", {}), **given.get("http_headers", {})}
        entry["headers"] = {str(key): fill(_text(value)) for key, value in headers.items()}
        for header, variable in given.get("env_http_headers", {}).items():
            entry["headers"][str(header)] = f"${{env:{variable}}}"
        if isinstance(variable := given.get("bearer_token_env_var"), str):
            entry["headers"]["Authorization"] = f"Bearer ${{env:{variable}}}"
        kind = str(given.get("type", "")).lower()
        if found.client == "gemini" and not kind and "httpUrl" not in given and "url" in given:
            kind = "sse"  # so it is there, unless the type says otherwise
        if kind in _TYPES - {"stdio"}:
            entry["type"] = kind
        if "oauth" in given or "auth" in given:
            done.remarks.append("it signs in with OAuth: run `toolscore authorize NAME` once")
        if "headersHelper" in given:
            done.remarks.append(
                "headersHelper is not known to ToolScore; give the header it makes as a secret"
            )
    elif "tcp" in given:
        done.problem = "it is reached at ws:// by `tcp`: register it with `toolscore register NAME --url`"
    else:
        done.problem = "it says neither command nor url"
    for key in [key for key in ("args", "env", "headers") if not entry.get(key, True)]:
        del entry[key]


def _rest(found: FoundServer, given: Mapping[str, Any], fill: Callable[[str], str], done: Translated) -> None:
    entry = done.entry
    if given.get("disabled") is True or given.get("enabled") is False:
        entry["disabled"] = True
    timeout = given.get("tool_timeout_sec", given.get("timeout"))
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and 0 < timeout < math.inf:
        # In milliseconds with Gemini; nobody waits for a quarter of an hour elsewhere either.
        milli = found.client == "gemini" or ("tool_timeout_sec" not in given and timeout >= 1000)
        entry["timeout"] = round(timeout / 1000, 3) if milli else timeout
    start = given.get("startup_timeout_sec")
    if start is None and isinstance(milli_start := given.get("startup_timeout_ms"), int | float):
        start = milli_start / 1000
    if isinstance(start, int | float) and not isinstance(start, bool) and 0 < start < math.inf:
        entry["start_timeout"] = start


def _filler(found: FoundServer, machine: Machine, done: Translated) -> Callable[[str], str]:
    """Make what puts variables of the client into ToolScore's form; what is known now is filled in."""
    fixed = {
        "workspaceFolder": str(found.folder),
        "workspaceRoot": str(found.folder),
        "workspaceFolderBasename": found.folder.name,
        "userHome": str(machine.home),
        "HOME": str(machine.home),
        "pathSeparator": "\\" if machine.system == "win32" else "/",
        "/": "\\" if machine.system == "win32" else "/",
    }
    bare = found.client == "gemini"

    def one(match: re.Match[str]) -> str:
        braced, plain, percent = match.groups()
        if percent is not None:
            return f"${{env:{percent}}}" if bare and machine.system == "win32" else match[0]
        if plain is not None:
            return f"${{env:{plain}}}" if bare else match[0]
        if braced in fixed:
            return fixed[braced]
        prefix, separator, name = braced.partition(":")
        if separator and prefix == "input":
            return _input(found, name, done)
        if separator and prefix == "file":
            done.remarks.append(f"${{file:...}} is filled in now, with what {name} holds")
            try:
                return text_of(Path(name).expanduser()).strip()
            except (OSError, ValueError, RuntimeError):
                done.remarks.append(
                    f"{name} cannot be read; write what it should hold in place of {match[0]}"
                )
        if separator and prefix in ("config", "command"):
            done.remarks.append(f"{match[0]} is known to {found.client} only; write its value in place of it")
        return match[0]

    return lambda text: _VARIABLE.sub(one, text)


def _input(found: FoundServer, name: str, done: Translated) -> str:
    said = found.inputs.get(name, {})
    default = said.get("default")
    if isinstance(default, str) and default and not said.get("password"):
        return f"${{input:{name}:-{default}}}" if not re.search(r"[{}]", default) else default
    done.inputs[name] = str(said.get("description") or name)
    return f"${{input:{name}}}"


def _from_file(
    found: FoundServer, given: Mapping[str, Any], fill: Callable[[str], str], done: Translated
) -> dict[str, str]:
    """Read the variables of `envFile`, written as `NAME=value` or in quotes."""
    name = given.get("envFile")
    if not isinstance(name, str) or not name:
        return {}
    path = found.folder / fill(name)
    try:
        text = text_of(path)
    except (OSError, ValueError):
        done.remarks.append(f"its envFile {path} cannot be read; its variables are missing")
        return {}
    values = {}
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line)) is not None:
            value = match[2].strip()
            if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            else:
                value = re.split(r"\s#", value, maxsplit=1)[0].rstrip()
            values[match[1]] = value
    done.remarks.append(f"the variables of {path} were taken over as they are now")
    return values


def _text(value: Any) -> str:
    """Write a value as clients do, whose language is another one."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _placed(path: str, folder: str) -> str:
    """Say where a path leads that begins at a folder; one that does not, or is known later only, stays."""
    if path.startswith("~") or "${" in path or Path(path).is_absolute():
        return path
    return os.path.normpath(os.path.join(folder, path))  # noqa: PTH118 - the folder may begin with `${`


def _relative(command: str, args: list[str], folder: Path) -> bool:
    """Tell whether it is started from the project's folder: a path in it begins nowhere else."""
    return any(
        word.startswith(("./", "../"))
        or ("/" in word and not word.startswith(("/", "-", "@", "~")) and (folder / word).exists())
        for word in (command, *args)
    )
