"""Servers that the configuration file declares: the table `mcpServers` as other clients have it, read and checked."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..runners.confinement import Confinement, as_profile
from ..runners.container import Container, volume
from ..runners.keeping import Keeping
from ..runners.placement import Placement, as_placement
from ..runners.spec import ServerSpec, unconfinable
from .names import fitting_server_name, valid_server_name

TABLE = "mcpServers"
"""The table's name, with other clients as here."""

FOREIGN = frozenset(
    {"autoApprove", "alwaysAllow", "autoAllow", "trust", "disabledTools", "includeTools", "excludeTools"}
    | {"icon", "description", "gallery", "name", "title", "displayName", "tags", "category", "version"}
    | {"fromGalleryId", "note", "comment", "$comment", "_comment"}
)
"""What other clients keep in an entry and what means nothing to ToolScore."""

_EXPECTED = {
    "command": "a text: the program to start",
    "args": "a list of texts",
    "env": "a table of texts",
    "cwd": "a text: a folder",
    "url": "a text: a ws://, wss://, http:// or https:// endpoint",
    "headers": "a table of texts",
    "type": "stdio, http, sse, streamable-http or ws",
    "disabled": "true or false",
    "source": "a text such as pypi:NAME, npm:NAME, docker:IMAGE, registry:NAME, git+URL or a folder",
    "settings": "a table of texts, numbers, true or false, or lists of them",
    "constraints": "a list of texts such as mcp<2",
    "container": "a table of options, such as network, volumes, ports, user and memory",
    "cluster": "true, or a table of cpu, memory (MiB), resources, labels and node: what it needs of a node",
    "confine": "true, or a table of write, read and hide (lists of paths) and network (true or false)",
}
"""The keys of an entry besides those of `Keeping`, and what each must be."""

_MEANT = {
    "serverUrl": "url",
    "httpUrl": "url",
    "endpoint": "url",
    "environment": "env",
    "transport": "type",
    "enabled": "disabled",
    "workingDirectory": "cwd",
    "tool_timeout_sec": "timeout",
    "startup_timeout_sec": "start_timeout",
}
"""What others call a thing that has another name here, and is not spelled alike."""

_TYPES = {
    "stdio": "stdio",
    "http": "http",
    "sse": "http",
    "streamable-http": "http",
    "streamable_http": "http",
    "streamablehttp": "http",
    "ws": "ws",
    "websocket": "ws",
}
_SCHEMES = {"http": ("http://", "https://"), "ws": ("ws://", "wss://")}

_LIKELY_MS = 1000
"""A `timeout` from here on is more likely meant in milliseconds, as some clients have it."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One server of the configuration file, checked.

    Attributes:
        name: Its name.
        spec: How it is started or reached; with a `source` only the `args` and `env` in it count.
        source: Where it is installed from; `None` for one that is already there.
        constraints: Version constraints for its environment.
        settings: Values for what its entry in the catalog, or its bundle, asks for by name.
        enabled: Whether it may run.
        keeping: What is set for it alone.
    """

    name: str
    spec: ServerSpec
    source: str | None = None
    constraints: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    enabled: bool = True
    keeping: Keeping = field(default_factory=Keeping)

    def parts(self) -> dict[str, str]:
        """Give a digest of each part that makes it the server it is, literal values included.

        They tell whether a part has changed. They stay where the values themselves are kept: a short value could
        be guessed from its digest.
        """
        parts = self.spec.model_dump(mode="json")
        if self.source is not None:
            parts["command"] = None
        parts |= {"source": self.source, "constraints": list(self.constraints), "settings": self.settings}
        return {
            key: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
            for key, value in parts.items()
            if value
        }


@dataclass(slots=True)
class Declarations:
    """What was read of `mcpServers`.

    Attributes:
        servers: The servers by name.
        problems: What is wrong, each with its place and the fix. With any, the file is not to be used.
        remarks: What somebody should know.
    """

    servers: dict[str, Declared] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def read(table: Any, file: Path) -> Declarations:
    """Read and check the table. No value is part of a problem, as any may be a secret.

    Args:
        table: What the file holds under `mcpServers`.
        file: The file; relative paths in it start at its folder.
    """
    found = Declarations()
    if not isinstance(table, dict):
        found.problems.append(
            f"{TABLE} (file {file}) must be a table of servers by name. Write [{TABLE}.NAME] and its settings below."
        )
        return found
    for name, entry in table.items():
        reading = _Reading(name, file, found)
        if not isinstance(entry, dict):
            reading.problem("", "must be a table", 'Write command = "PROGRAM", or url, or source in it.')
        elif reason := valid_server_name(name):
            fits = fitting_server_name(name)
            offer = f' Call it "{fits}", or the like.' if fits else " Give it another name."
            reading.problem("", f"is no name for a server. {reason}", offer.strip())
        elif (server := reading.server(entry)) is not None:
            found.servers[name] = server
    return found


class _Reading:
    """One entry while it is read."""

    def __init__(self, name: str, file: Path, found: Declarations) -> None:
        self.name = name
        self.file = file
        self.found = found

    def problem(self, key: str, text: str, fix: str) -> None:
        place = f"file {self.file}, [{TABLE}.{self.name}]"
        shown = f"{TABLE}.{self.name}.{key} ({place} {key})" if key else f"{TABLE}.{self.name} ({place})"
        self.found.problems.append(f"{shown} {text.rstrip('.')}. {fix}".rstrip())

    def remark(self, text: str) -> None:
        self.found.remarks.append(f"{TABLE}.{self.name}: {text}")

    def server(self, entry: Mapping[str, Any]) -> Declared | None:
        before = len(self.found.problems)
        given = {key: value for key, value in entry.items() if value is not None}
        self._unknown(given)
        for key in sorted(given.keys() & _EXPECTED.keys()):
            if not _fits(key, given[key]):
                self.problem(key, f"must be {_EXPECTED[key]}", "Correct it there, or remove it.")
                del given[key]
        if "container" in given and (wrong := _bad_container(given["container"], self.file.parent)):
            self.problem("container", f"cannot be used: {wrong}", "Correct it there, or remove it.")
            del given["container"]
        keeping = self._keeping(given)
        self._one_way(given, entry)
        if len(self.found.problems) > before or keeping is None:
            return None
        return self._made(given, keeping)

    def _unknown(self, given: Mapping[str, Any]) -> None:
        known = [*_EXPECTED, *Keeping.model_fields]
        for key in given:
            if key in known:
                continue
            if key in FOREIGN:
                self.remark(f"{key} means nothing to ToolScore and is left out")
                continue
            close = [_MEANT[key]] if key in _MEANT else difflib.get_close_matches(key, known, n=1)
            fix = f"Did you mean {close[0]}?" if close else f"Remove it; known are {', '.join(known)}."
            self.problem(key, "is not known", fix)

    def _keeping(self, given: Mapping[str, Any]) -> Keeping | None:
        values = {key: value for key, value in given.items() if key in Keeping.model_fields}
        listed = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        timeout = values.get("timeout")
        if isinstance(timeout, int) and timeout >= _LIKELY_MS:
            self.remark(f"timeout is in seconds here, so that {timeout} is {timeout / 60:.0f} minutes")
        try:
            return Keeping.model_validate(listed, strict=True)
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False):
                expected = fault["msg"].replace("Input should be ", "must be ", 1)
                self.problem(str(fault["loc"][0]), expected, "Correct it there, or remove it.")
        return None

    def _one_way(self, given: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
        """Check that there is one way to the server, and that what is given goes together."""
        if given.get("confine") and (wrong := self._unconfinable(given)):
            self.problem("confine", wrong, "")
        if "source" in given:
            image = given["source"].strip().startswith("docker:")
            foreign = {"command", "cwd"} if image else {"command", "url", "cwd", "headers", "type"}
            for key in sorted(given.keys() & foreign):
                self.problem(key, "does not go with source", f"Remove {key}, or source.")
            if "container" in given and not image and not given["source"].strip().startswith("registry:"):
                self.problem(
                    "container", "only goes with an image", 'Write source = "docker:IMAGE", or remove it.'
                )
            if problem := _bad_source(_placed_source(given["source"], self.file.parent)):
                self.problem("source", f"cannot be used: {problem}", "")
            return
        for key in ("constraints", "settings", "container"):
            if key in given:
                self.problem(key, "only goes with source", "Remove it.")
        command, url = given.get("command"), given.get("url")
        if given.get("cluster") and (url or not command):
            self.problem("cluster", "only goes with a command, without a url", "Remove it, or the url.")
        if not command and not url:
            if not entry.keys() & {"command", "url", "source"}:
                self.problem("", "says neither command nor url nor source", "Write one of them.")
            return
        if url and not url.startswith(("ws://", "wss://", "http://", "https://")):
            self.problem("url", f"must be {_EXPECTED['url']}", "Correct it there.")
        elif "headers" in given and not url:
            self.problem("headers", "only goes with url", "Remove it.")
        for key in ("args", "cwd"):
            if key in given and not command:
                self.problem(key, "only goes with command", "Remove it.")
        self._check_type(given, command, url or "")

    def _unconfinable(self, given: Mapping[str, Any]) -> str | None:
        command = "-" if "source" in given else given.get("command")
        return unconfinable(command, given.get("url"), _profile(given) or Confinement())

    def _check_type(self, given: Mapping[str, Any], command: str | None, url: str) -> None:
        if "type" not in given:
            return
        kind = _TYPES[given["type"].lower()]
        if kind == "stdio" and (url or not command):
            self.problem("type", "is stdio, which needs a command and no url", "Remove type, or url.")
        elif kind != "stdio" and not url:
            self.problem("type", f"is {given['type']}, which needs a url", "Write the url, or remove type.")
        elif kind != "stdio" and not url.startswith(_SCHEMES[kind]):
            schemes = " or ".join(_SCHEMES[kind])
            self.problem(
                "type", f"is {given['type']}, but the url does not begin with {schemes}", "Remove type."
            )

    def _made(self, given: Mapping[str, Any], keeping: Keeping) -> Declared | None:
        base = self.file.parent
        source, command, cwd = given.get("source"), given.get("command"), given.get("cwd")
        try:
            spec = ServerSpec(
                command="-" if source else None if command is None else _placed(command, base, program=True),
                args=tuple(given.get("args", ())),
                env=dict(given.get("env", {})),
                cwd=None if cwd is None else _placed(cwd, base),
                url=given.get("url"),
                headers=dict(given.get("headers", {})),
                sse=_sse(given),
                confine=_profile(given),
                container=_container(given, base),
                cluster=as_placement(given.get("cluster")),
            )
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            key = str(fault["loc"][0]) if fault["loc"] else ""
            self.problem(key, fault["msg"].removeprefix("Value error, "), "Correct it there, or remove it.")
            return None
        return Declared(
            self.name,
            spec,
            source=None if source is None else _placed_source(source, base),
            constraints=tuple(given.get("constraints", ())),
            settings=dict(given.get("settings", {})),
            enabled=not given.get("disabled", False),
            keeping=keeping,
        )


def _fits(key: str, value: Any) -> bool:
    match key:
        case "args" | "constraints":
            return isinstance(value, list) and _texts(value)
        case "env" | "headers":
            return isinstance(value, dict) and _texts(value.values())
        case "container":
            return isinstance(value, dict)
        case "settings":
            return isinstance(value, dict) and all(_settable(one) for one in value.values())
        case "cluster":
            return isinstance(value, bool) or (isinstance(value, dict) and _placements(value))
        case "confine":
            return isinstance(value, bool) or (isinstance(value, dict) and _profiles(value))
        case "disabled":
            return isinstance(value, bool)
        case "type":
            return isinstance(value, str) and value.lower() in _TYPES
        case _:
            return isinstance(value, str) and bool(value.strip())


def _settable(value: Any) -> bool:
    if isinstance(value, list):
        return all(not isinstance(one, list) and _settable(one) for one in value)
    return isinstance(value, str | int | float | bool)


def _profiles(value: dict[str, Any]) -> bool:
    try:
        Confinement.model_validate(value)
    except ValidationError:
        return False
    return True


def _placements(value: dict[str, Any]) -> bool:
    try:
        Placement.model_validate(value)
    except ValidationError:
        return False
    return True


def _profile(given: Mapping[str, Any]) -> Confinement | None:
    found = as_profile(given.get("confine"))
    return found if found is None or isinstance(found, Confinement) else Confinement.model_validate(found)


def _bad_container(value: dict[str, Any], base: Path) -> str | None:
    try:
        _container({"container": value}, base)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults)
    return None


def _container(given: Mapping[str, Any], base: Path) -> Container | None:
    """Read a container's options; paths of volumes start at the file's folder."""
    value = given.get("container")
    if value is None:
        return None
    found = Container.model_validate(
        {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
    )
    placed = []
    for text in found.volumes:
        source, target, writable = volume(text)
        if source.startswith((".", "~")):
            source = _placed(source, base)
        placed.append(f"{source}:{target}{':rw' if writable else ''}")
    return found.model_copy(update={"volumes": tuple(placed)})


def _texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _placed(text: str, base: Path, *, program: bool = False) -> str:
    """Make a path absolute; a program's bare name is looked up on `PATH`, and templates are filled in later."""
    if "${" in text or (program and not text.startswith("~") and not ({"/", os.sep} & set(text))):
        return text
    try:
        return os.path.abspath(base / Path(text).expanduser())  # noqa: PTH100 - tidies `..`, keeps links
    except RuntimeError:  # `~nobody`; starting it will say so
        return text


def _sse(given: Mapping[str, Any]) -> bool | None:
    """Tell one that is declared as SSE at an address that does not say it."""
    from ..runners.remote import is_sse

    said = str(given.get("type", "")).lower() == "sse" and "url" in given
    return True if said and not is_sse(given["url"]) else None


def _placed_source(source: str, base: Path) -> str:
    """Make the path of a folder or bundle absolute."""
    if source.startswith("docker:"):
        return f"docker:{_placed_source(source.removeprefix('docker:').strip(), base)}"
    if not source.startswith(("./", "../", "~")) and source not in (".", ".."):
        return source
    path, mark, entry = source.partition("#")
    return f"{_placed(path, base)}{mark}{entry}"


def _bad_source(source: str) -> str | None:
    from ..runners.errors import SourceError
    from ..runners.installers.source import parse
    from .catalog.installing import PREFIX, named
    from .outcome import RefusalError

    try:
        if source.strip().startswith(PREFIX):
            named(source)
        else:
            parse(source)
    except (SourceError, RefusalError) as error:
        return str(error)
    return None
