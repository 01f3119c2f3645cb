"""The commands on the library: what is installed, registered and callable."""

from __future__ import annotations

import json
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ...runners.spec import silent
from ...tools.approvals.notes import QUARANTINED
from ..home import Home
from ..settings import Settings
from .backend import Backend, open_backend
from .missing import ROUNDS, asked
from .output import Output
from .results import ToolFailedError, content_lines, outcome, shown, structured
from .status import show_servers, tell_waiting

_SCHEMES = ("pypi:", "npm:", "git+", "command:", "registry:", "mcpb:", "docker:")


class _UsageError(Exception):
    """The command line is wrong in a way the grammar cannot tell."""


async def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Do one command on the library.

    Returns:
        The exit status.
    """
    try:
        # Before the library is opened: a slip must not cost the start of one.
        arguments = _PREPARED[options.command](options)
        options.home = settings.home  # as it turned out, whoever said so
        async with open_backend(settings, out.remark) as backend:
            return await _COMMANDS[options.command](options, arguments, backend, out)
    except _UsageError as error:
        out.error(str(error))
        return 2
    except ToolFailedError as failure:
        if out.json_wanted:
            out.document(failure.result)
        out.error(_for_people(options, failure) if options.command == "install" else str(failure))
        return failure.status


# --- arguments -----------------------------------------------------------------------------------------


def _nothing(options: Namespace) -> dict[str, Any]:
    return {}


def _install_arguments(options: Namespace) -> dict[str, Any]:
    source = options.source.strip()
    if not source:  # a variable that is not set, and not the folder this is
        raise _UsageError(
            "SOURCE is empty. Name what is to be installed, such as pypi:NAME, or `.` for this folder."
        )
    if source.startswith("command:"):
        source = _command(source)
    elif source.startswith("docker:") and (path := source.removeprefix("docker:")).startswith((".", "~")):
        source = f"docker:{os.path.abspath(Path(path).expanduser())}"  # noqa: PTH100 - tidies `..`, keeps links
    elif not source.startswith(_SCHEMES) and "://" not in source:
        # The ToolScore that does it runs in another directory.
        path, mark, script = source.partition("#")
        found = Path(path).expanduser()
        if found.exists():
            source = os.path.abspath(found) + mark + script  # noqa: PTH100 - tidies `..`, keeps links
        elif path.startswith((".", "~", os.sep)) or path.endswith(".mcpb"):
            raise _UsageError(
                f"there is no {path} in {Path.cwd()}. Check the path, or go to the folder it is in."
            )
    arguments = {"source": source, "args": options.rest, "env": dict(options.env)} | _confinement(options)
    if container := _container(options):
        arguments["container"] = container
    if options.url:
        arguments["url"] = options.url
    arguments |= _placement(options)
    if options.settings:
        arguments["settings"] = _settings(options.settings)
    return arguments | ({"name": options.name} if options.name else {})


def _settings(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Make the settings; one that is given several times is a list."""
    found: dict[str, Any] = {}
    for name, text in pairs:
        value: Any = {"true": True, "false": False}.get(text, text)
        if name in found:
            before = found[name]
            value = [*(before if isinstance(before, list) else [before]), value]
        found[name] = value
    return found


def _confinement(options: Namespace) -> dict[str, Any]:
    """Make the profile; paths start here, not where the server will run."""
    paths = {"write": options.allow_write, "read": options.allow_read, "hide": options.hide}
    profile: dict[str, Any] = {key: [_path(path) for path in found] for key, found in paths.items() if found}
    if options.allow_network:
        profile["network"] = True
    return {"confine": profile or True} if profile or options.confine else {}


def _container(options: Namespace) -> dict[str, Any]:
    """Make the options of a container; paths of volumes start here."""
    found: dict[str, Any] = {
        "network": options.network,
        "service": options.service,
        "aliases": options.alias,
        "volumes": [_volume(text) for text in options.volume],
        "ports": options.publish,
        "tmpfs": options.tmpfs,
        "capabilities": options.capability,
        "user": options.user,
        "read_only": False if options.writable else None,
        "memory": options.memory,
        "cpus": options.cpus,
        "pids": options.pids,
    }
    return {key: value for key, value in found.items() if value is not None and value != []}


def _volume(text: str) -> str:
    source, colon, rest = text.partition(":")
    return f"{_path(source)}{colon}{rest}" if source.startswith((".", "~")) else text


def _placement(options: Namespace) -> dict[str, Any]:
    """Make what a server needs of its node; nothing, where it is to run here."""
    try:
        amounts = {name: float(amount) for name, amount in options.cluster_resource}
    except ValueError as error:
        raise _UsageError(f"--cluster-resource is NAME=AMOUNT, with a number: {error}") from error
    wanted = {
        "cpu": options.cluster_cpu,
        "memory": options.cluster_memory,
        "resources": amounts,
        "labels": dict(options.cluster_label),
        "node": options.cluster_node,
    }
    wanted = {key: value for key, value in wanted.items() if value}
    return {"cluster": wanted or True} if wanted or options.cluster else {}


def _path(path: str) -> str:
    return path if path.startswith("~") or "${" in path else os.path.abspath(path)  # noqa: PTH100 - keeps links


def _command(source: str) -> str:
    try:
        words = shlex.split(source.removeprefix("command:"))
    except ValueError:
        return source  # which the installer explains
    if not words or (program := _program(words[0])) == words[0]:
        return source
    return f"command: {shlex.join([program, *words[1:]])}"


def _program(program: str) -> str:
    """Name a program so that another directory does not make it another one, or none."""
    if os.sep not in program or program.startswith("~") or "${" in program:
        return program  # on the PATH, of a person's own folder, or filled in when it starts
    return os.path.abspath(program)  # noqa: PTH100 - keeps links, such as those of environments


def _register_arguments(options: Namespace) -> dict[str, Any]:
    if not options.rest and not options.url:
        raise _UsageError("register needs --url URL, or a command after `--`")
    if options.header and not options.url:
        raise _UsageError("--header goes with --url")
    arguments: dict[str, Any] = {"name": options.name, "env": dict(options.env)} | _confinement(options)
    arguments |= _placement(options)
    if options.rest:
        arguments |= {"command": _program(options.rest[0]), "args": options.rest[1:]}
    if options.url:
        arguments |= {"url": options.url, "headers": dict(options.header)}
    return arguments


def _call_arguments(options: Namespace) -> dict[str, Any]:
    given = options.arguments
    where = "the arguments"
    try:
        if given == "-":
            where, given = "standard input", sys.stdin.read()
        elif given.startswith("@"):
            where = given[1:]
            given = Path(where).read_text(encoding="utf-8")
        found = json.loads(given or "{}", parse_constant=_refused_constant)
    except OSError as error:
        raise _UsageError(f"{where} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _UsageError(f"{where} must be a JSON object such as '{{\"a\": 1}}': {error}") from error
    if not isinstance(found, dict):
        raise _UsageError(f"{where} must be a JSON object such as '{{\"a\": 1}}', not {type(found).__name__}")
    arguments = {"tool": options.tool, "arguments": found}
    return arguments | ({"timeout": options.timeout} if options.timeout else {})


def _refused_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _manage_arguments(options: Namespace) -> dict[str, Any]:
    return {"name": options.name, "action": options.action, "force": options.force}


def _uninstall_arguments(options: Namespace) -> dict[str, Any]:
    return {"name": options.name, "force": options.force} | ({"volumes": True} if options.volumes else {})


def _configure_arguments(options: Namespace) -> dict[str, Any]:
    return {"name": options.name, "settings": {key: value or None for key, value in options.settings}}


# --- commands ------------------------------------------------------------------------------------------


async def _add(options: Namespace, arguments: dict[str, Any], backend: Backend, out: Output) -> int:
    tool = "install_server" if options.command == "install" else "register_tool"
    for argument in options.rest[1 if tool == "register_tool" else 0 :]:
        # Not `Path.is_file`, which raises for what is too long to be a path, such as a program's text.
        if not argument.startswith(("-", os.sep)) and os.path.isfile(argument):  # noqa: PTH113
            out.remark(f"note: {argument} is relative to this directory, where the server may not run")
    added: dict[str, Any] | None = None
    for left in reversed(range(ROUNDS)):
        try:
            async with out.progress() as report:
                added = structured(await backend.call(tool, arguments, report))
            break
        except ToolFailedError as failure:
            given = asked(failure, arguments, Home.at(options.home), out) if left else None
            if given is None:
                raise
            arguments = given
    assert added is not None  # the last round raises
    if options.accept_findings:
        from .approvals import accept

        accepted = await accept(backend, added["name"], out)
        added["notes"] = [note for note in added["notes"] if not (accepted and note.startswith(QUARANTINED))]
    if out.json_wanted:
        out.document(added)
        return 0
    for note in added["notes"]:
        out.remark(f"note: {note}")
    version = f" {added['version']}" if added["version"] else ""
    verb = "installed" if options.command == "install" else "registered"
    plural = "" if (count := added["total"]) == 1 else "s"
    out.line(f"{verb} {added['name']}{version} in {added['seconds']:.1f} s: {count} tool{plural}")
    for name in added["tools"]:
        out.line(f"  {name}")
    if count > len(added["tools"]):
        out.line(f"  and {count - len(added['tools'])} more: toolscore list {added['name']}")
    return 0


def _for_people(options: Namespace, failure: ToolFailedError) -> str:
    """Say which values are missing, and how they are given here: the answer itself names a model's call."""
    missing = (failure.result.get("_meta") or {}).get("toolscore/missing")
    if not missing:
        return str(failure)
    from ...runners.secret_look import looks_secret, variable_for
    from ...tools.catalog.values import Wanted

    wanted = [Wanted(**one) for one in missing]
    words = ["toolscore", "install", options.source]
    secret = {one.name: variable_for(one.name) for one in wanted if one.secret or looks_secret(one.name)}
    for one in wanted:
        words += [
            "--give",
            f"{one.name}=${{{secret[one.name]}}}" if one.name in secret else f"{one.name}=...",
        ]
    lines = "".join(f"\n- {one.line()}" for one in wanted)
    first = "".join(f"\nSet the secret first: toolscore secret set {name}" for name in secret.values())
    return (
        f"{options.source} needs what was not given:{lines}{first}\nRun it again with it beside all else you gave: "
        f"{shlex.join(words)}"
    )


async def _uninstall(options: Namespace, arguments: dict[str, Any], backend: Backend, out: Output) -> int:
    servers = structured(await backend.call("list_servers", {}, silent))["servers"]
    registered = any(s["name"] == options.name and s["kind"] == "registered" for s in servers)
    # To a person it is one thing: the server goes. The tools tell the two apart for models.
    tool = "unregister_tool" if registered else "uninstall_server"
    if registered:
        arguments.pop("volumes", None)
    removed = structured(await backend.call(tool, arguments, silent))
    if out.json_wanted:
        out.document(removed)
    else:
        for note in removed.get("notes", ()):
            out.remark(f"note: {note}")
        out.line(f"removed {removed['name']}")
    return 0


async def _list(options: Namespace, arguments: dict[str, Any], backend: Backend, out: Output) -> int:
    tools: list[dict[str, Any]] = []
    asked: dict[str, Any] = {"server": options.server} if options.server else {}
    while True:
        page = structured(await backend.call("list_tools", asked, silent))
        tools += page["tools"]
        if not page.get("nextCursor"):
            break
        asked = {**asked, "cursor": page["nextCursor"]}
    every = servers = structured(await backend.call("list_servers", {}, silent))["servers"]
    if options.server:
        servers = [server for server in servers if server["name"] == options.server]
    if out.json_wanted:
        out.document({"servers": servers, "tools": tools})
        return 0
    tell_waiting(options.loaded, every, out)
    if not servers and not tools:
        out.line("no servers: `toolscore install SOURCE` adds one")
        return 0
    if servers:
        show_servers(servers, out)
    if tools:
        if servers:
            out.line()
        out.table(("tool", "description"), [(t["name"], t["description"].partition("\n")[0]) for t in tools])
    return 0


async def _call(options: Namespace, arguments: dict[str, Any], backend: Backend, out: Output) -> int:
    # Whoever writes the call as a model would has the tool and its arguments one level further in.
    if arguments.get("tool") in ("execute_tool", "toolscore__execute_tool"):
        arguments = arguments.get("arguments") or {}
    async with out.progress() as report:
        result = await backend.call("execute_tool", arguments, report)
    failed = bool(result.get("isError"))
    if failed and outcome(result) is not None:
        raise ToolFailedError(result)
    if out.json_wanted:
        out.document(result)
    else:
        lines = content_lines(result)
        if not lines and "structuredContent" in result:
            out.document(result["structuredContent"])
        for line in lines:
            out.line(line)
    return 1 if failed else 0


async def _manage(options: Namespace, arguments: dict[str, Any], backend: Backend, out: Output) -> int:
    if options.action in ("start", "restart") and not out.quiet:
        out.remark(f"{options.action}ing {shlex.quote(options.name)} ...")
    done = structured(await backend.call("manage_server", arguments, silent))
    up = options.action not in ("stop", "disable")
    if out.json_wanted:
        out.document(done)
    else:
        for server in done["servers"]:
            state = "disabled" if options.action == "disable" else str(server["state"]).lower()
            out.line(f"{server['name']}: {state}" + (f" ({server['reason']})" if server["reason"] else ""))
    return 1 if up and any(server["state"] != "READY" for server in done["servers"]) else 0


async def _configure(options: Namespace, arguments: dict[str, Any], backend: Backend, out: Output) -> int:
    done = structured(await backend.call("configure_server", arguments, silent))
    if out.json_wanted:
        out.document(done)
        return 0
    for note in done["notes"]:
        out.remark(f"note: {note}")
    settings = ", ".join(f"{key}={shown(value)}" for key, value in done["settings"].items())
    out.line(f"{done['name']}: {settings or 'nothing of its own is set'}")
    return 0


_PREPARED: dict[str, Callable[[Namespace], dict[str, Any]]] = {
    "install": _install_arguments,
    "register": _register_arguments,
    "uninstall": _uninstall_arguments,
    "list": _nothing,
    "call": _call_arguments,
    "manage": _manage_arguments,
    "configure": _configure_arguments,
}

_COMMANDS: dict[str, Callable[[Namespace, dict[str, Any], Backend, Output], Awaitable[int]]] = {
    "install": _add,
    "register": _add,
    "uninstall": _uninstall,
    "list": _list,
    "call": _call,
    "manage": _manage,
    "configure": _configure,
}
