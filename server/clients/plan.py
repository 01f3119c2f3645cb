"""What an import would take: each server under its name here, its secrets apart, and what is left and why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from ...runners.secret_look import looks_random, looks_secret, variable_for
from ...runners.spec import ServerSpec
from ...runners.template import is_template
from ...tools import declared
from ...tools.names import LONGEST_SERVER, fitting_server_name
from ...tools.spec_secrets import extract
from .client import Machine
from .form import JSON, form_of_config
from .found import FoundServer
from .translated import translate

_REFERENCE = re.compile(r"\$\{secret:([^{}]+)\}")
_SEGMENT = re.compile(r"(?<=/)[^/?#{}]+")
_OWN = re.compile(r"(?:^|[/\\])toolscore(?:\.exe)?$")


@dataclass(slots=True)
class Taken:
    """One server that would be taken over.

    Attributes:
        name: Its name here.
        entry: What would stand in the file.
        secrets: Values by the names under which they would be kept.
        inputs: Names a person has to give a value, and what each is.
        remarks: What somebody should know.
        found: Where it was.
    """

    name: str
    entry: dict[str, Any]
    secrets: dict[str, str]
    inputs: dict[str, str]
    remarks: list[str]
    found: FoundServer


@dataclass(slots=True)
class Plan:
    """What an import would do.

    Attributes:
        taken: What would be taken over.
        left: What would not, with the reason.
    """

    taken: list[Taken] = field(default_factory=list)
    left: list[tuple[FoundServer, str]] = field(default_factory=list)


def plan(
    servers: Iterable[FoundServer],
    machine: Machine,
    *,
    taken: Collection[str],
    there: Collection[ServerSpec] = (),
    secrets: Container[str],
    secret: Callable[[str], str | None],
    wanted: Collection[str] = (),
) -> Plan:
    """Plan an import.

    Args:
        servers: What was found.
        machine: Where variables of the entries lead.
        taken: Names that servers have already.
        there: How servers are started that ToolScore's file declares already.
        secrets: Names of the secrets that are there.
        secret: Gives the value of one, which may have to be asked for: only where two would be called alike.
        wanted: Names of those that are wanted; all when empty.
    """
    done = Plan()
    entries: dict[str, dict[str, Any]] = {}
    kept = _Kept(secrets, secret)
    for found in servers:
        name = fitting_server_name(found.name) or "server"
        if wanted and found.name not in wanted and name not in wanted:
            continue
        if _is_own(found):
            done.left.append((found, "it is ToolScore itself"))
            continue
        translated = translate(found, machine)
        if translated.problem is not None:
            done.left.append((found, translated.problem))
            continue
        if translated.entry in entries.values():
            done.left.append((found, "it is the same as one that is taken over"))
            continue
        if name in taken:
            done.left.append((found, f"there is a server named {name} already"))
            continue
        if name in entries:
            name = _free(name, found.client, entries.keys() | set(taken))
        # As it stands there first: what nothing could start has no secrets that could be told apart.
        if (wrong := declared.read({name: translated.entry}, found.file)).problems:
            done.left.append((found, wrong.problems[0]))
            continue
        entry, values = _without_secrets(name, translated.entry, kept)
        wrong = declared.read({name: entry}, found.file)
        if wrong.problems:
            done.left.append((found, wrong.problems[0]))
            continue
        if wrong.servers[name].spec in there:
            done.left.append((found, "there is the same already, by another name"))
            continue
        entries[name] = translated.entry
        kept.new |= values
        remarks = list(translated.remarks)
        if name != found.name:
            remarks.insert(0, f"it is called {name} here")
        inputs = {key: text for key, text in translated.inputs.items() if key not in kept}
        done.taken.append(Taken(name, entry, values, inputs, remarks, found))
    return done


class _Kept:
    """The named secrets there are and will be.

    Args:
        names: Names of those that are there.
        value: Gives the value of one.
        new: Those that will be.
    """

    def __init__(
        self, names: Container[str], value: Callable[[str], str | None], new: Mapping[str, str] | None = None
    ) -> None:
        self.names = names
        self.value = value
        self.new = dict(new or {})

    def __contains__(self, name: str) -> bool:
        return name in self.new or name in self.names

    def take(self, wanted: Iterable[str], value: str) -> str:
        """Take the first name that is free, or that has this very value."""
        for name in wanted:
            if name not in self:
                self.new[name] = value
                return name
            if (self.new[name] if name in self.new else self.value(name)) == value:
                return name
        raise AssertionError("there is always another name")


def _is_own(found: FoundServer) -> bool:
    words = [found.entry.get("command"), *(found.entry.get("args") or ())]
    return any(isinstance(word, str) and _OWN.search(word) for word in words)


def _free(name: str, client: str, used: Collection[str]) -> str:
    for end in (f"-{client}", *(f"-{number}" for number in range(2, len(used) + 3))):
        if (free := f"{name[: LONGEST_SERVER - len(end)]}{end}") not in used:
            return free
    raise AssertionError("one of so many is free")


def _without_secrets(
    name: str, entry: Mapping[str, Any], kept: _Kept
) -> tuple[dict[str, Any], dict[str, str]]:
    """Take what looks like a secret out of an entry, and give its values by the names that stand for them."""
    parts = {key: dict(entry.get(key, {})) for key in ("env", "headers")}
    secret = {
        key: {one: value for one, value in values.items() if _is_secret(one, value)}
        for key, values in parts.items()
    }
    spec = ServerSpec(
        command=entry.get("command"),
        args=tuple(entry.get("args", ())),
        env=secret["env"],
        url=entry.get("url"),
        headers=secret["headers"],
    )
    bare, values = extract(name, spec)
    mine = _Kept(kept.names, kept.value, kept.new)  # as it may not be taken over in the end
    names = {key: mine.take(_secret_names(key), value) for key, value in values.items()}

    def renamed(text: str) -> str:
        return _REFERENCE.sub(lambda match: f"${{secret:{names.get(match[1], match[1])}}}", text)

    done = dict(entry)
    for key, found in (("env", bare.env), ("headers", bare.headers)):
        if parts[key]:
            done[key] = {one: renamed(str(found.get(one, value))) for one, value in parts[key].items()}
    if bare.args:
        done["args"] = [renamed(word) for word in bare.args]
    if entry.get("url") is not None and bare.url is not None:
        # Some services give each of their users an address of their own, with a key in its path.
        done["url"] = _SEGMENT.sub(
            lambda match: (
                f"${{secret:{mine.take(_secret_names(f'{name}/url/key'), match[0])}}}"
                if looks_random(match[0])
                else match[0]
            ),
            renamed(bare.url),
        )
    return done, {one: value for one, value in mine.new.items() if one not in kept.new}


def _is_secret(name: str, value: str) -> bool:
    if looks_secret(name) or (looks_random(value) and not is_template(value)):
        return True
    # A value may have one in it, as the address of a database has a password.
    return bool(extract("", ServerSpec(command="x", args=(value,)))[1])


def _secret_names(key: str) -> Iterator[str]:
    server, kind, *rest = key.split("/")
    last = variable_for("_".join(rest)).strip("_").upper() or "SECRET"
    last = last if kind == "env" else f"{kind.upper()}_{last}"
    server = variable_for(server).strip("_").upper()
    if kind == "env":
        yield last
    yield f"{server}_{last}"
    yield from (f"{server}_{last}_{number}" for number in count(2))


def shown(entry: Mapping[str, Any], file: Path) -> str:
    """Write an entry as it would stand in a file."""
    if form_of_config(file) is JSON:
        return json.dumps(entry, indent=2, ensure_ascii=False)
    from .written_toml import table

    return table((declared.TABLE, "NAME"), entry)
