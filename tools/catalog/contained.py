"""What an entry asks for with an image, in the words of `docker run`, as far as a container here is given that."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...runners.docker import address
from ...runners.errors import MachineAwayError, SourceError
from ...runners.installers.source import parse
from .arguments import Word, flag_of
from .entry import Argument, Package
from .fetching import Fetched, UnfitError
from .values import Text

_ALONE = frozenset(
    {"-i", "--interactive", "--rm", "--init", "--read-only", "-t", "--tty", "-it", "-ti", "-d", "run"}
)
"""Words that say what is so in any case, or that means nothing here."""

_SETTLED = frozenset({"--name", "--pull", "--log-driver", "--log-opt", "--restart", "--label", "-l", "-h"})
_SETTLED |= {"--hostname", "--cap-drop", "--security-opt", "--stop-timeout", "--platform"}
"""Options with a value for which the same holds."""

_ENV = frozenset({"-e", "--env"})
_VOLUME = frozenset({"-v", "--volume", "--mount"})
_PORT = frozenset({"-p", "--publish"})
_NETWORK = frozenset({"--network", "--net"})
_LIMITS = {"-m": "memory", "--memory": "memory", "--cpus": "cpus", "--pids-limit": "pids"}
_KNOWN = _ALONE | _SETTLED | _ENV | _VOLUME | _PORT | _NETWORK | _LIMITS.keys()
_KNOWN |= {"--tmpfs", "-u", "--user", "--cap-add"}

_HOST = re.compile(r"^(?:localhost|[^/]*[.:][^/]*)/")


@dataclass(slots=True)
class Contained:
    """What was made of it.

    Attributes:
        options: Options of the container; see `Container`.
        env: Variables, by name, in pieces.
        notes: What was asked for and is not given, with how to give it.
    """

    options: dict[str, Any] = field(default_factory=dict)
    env: dict[str, Word] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def image_of(package: Package) -> Fetched:
    """Tell which image a package is.

    Raises:
        UnfitError: If it cannot be had, or not be run here.
    """
    name = package.identifier
    base = (package.registry_base_url or "").partition("://")[2].rstrip("/")
    if base and not _HOST.match(name):
        name = f"{base}/{name}"
    tail = name.rpartition("/")[2]
    version = package.version if package.version not in (None, "", "latest") else None
    if version and "@" not in tail and ":" not in tail:
        name += f"@{version}" if version.startswith("sha256:") else f":{version}"
    try:
        source = f"docker:{parse(f'docker:{name}').name}" if not name.startswith(("/", ".", "~")) else ""
    except SourceError as error:
        raise UnfitError(
            f"cannot be fetched: {str(error).partition(' Known forms:')[0].rstrip('.')}"
        ) from None
    if not source:
        raise UnfitError("is no name of an image")
    if not has_engine():
        raise UnfitError(
            "is a container image, and there is no engine for it here (docs/containers.md has how to get one; "
            "register_tool takes a command that runs it, as its documentation gives it)"
        )
    for argument in package.runtime_arguments:
        option = _option(argument)
        if option is not None and option not in _KNOWN:
            raise UnfitError(f"asks for {option:.40}, which no container is given here")
    notes = ['its container has no network, unless container={"network": "bridge"} gives it one']
    return Fetched(source, (), tuple(notes))


def has_engine() -> bool:
    """Tell whether there is something to run containers with, without asking it."""
    if importlib.util.find_spec("aiodocker") is None:
        return False
    try:
        found = address.usual()
    except MachineAwayError:
        return False
    return found.socket is None or Path(found.socket).exists()


def _option(argument: Argument) -> str | None:
    """Give the option that an argument is, also where it is written as one without a name."""
    if argument.type == "named":
        return flag_of(argument).partition("=")[0]
    value = argument.value or argument.default or ""
    return value.partition("=")[0].split(" ")[0] if value.startswith("-") or value == "run" else None


def contained(words: Sequence[Word]) -> Contained:
    """Read the words; what is not safe to give is noted instead.

    Raises:
        UnfitError: If one of them cannot be honoured.
    """
    found = Contained()
    left = list(words)
    while left:
        word = left.pop(0)
        text = _text(word)
        option, equals, value = text.partition("=")
        if text in _ALONE:
            continue
        if option not in _KNOWN:
            raise UnfitError(f"asks for {option:.40}, which no container is given here")
        if equals:
            pieces = _without(word, len(option) + 1)
        elif left:
            pieces = left.pop(0)
            value = _text(pieces)
        else:
            raise UnfitError(f"asks for {option:.40} without a value")
        _take(found, option, value, pieces)
    return found


def _take(found: Contained, option: str, value: str, pieces: Word) -> None:
    options = found.options
    if option in _ENV:
        name, equals, _ = value.partition("=")
        if equals and name:
            found.env[name] = _without(pieces, len(name) + 1)
    elif option in _VOLUME:
        _volume(found, option, value, {piece.text for piece in pieces if piece.given})
    elif option in _PORT:
        options.setdefault("ports", []).append(value)
    elif option in _NETWORK:
        if value != "none":
            said = f'container={{"network": "{value:.40}"}}'
            found.notes.append(
                f"it asks for the network {value:.40}, and gets none, unless {said} gives it that"
            )
    elif option in ("-u", "--user"):
        if value.partition(":")[0] in ("root", "0"):
            found.notes.append('it asks to be root, and is not, unless container={"user": "root"} lets it')
        else:
            options["user"] = value
    elif option == "--cap-add":
        found.notes.append(
            f"it asks for {value:.40} of root's powers, and gets none, unless container gives it that"
        )
    elif option == "--tmpfs":
        options.setdefault("tmpfs", []).append(value)
    elif option in _LIMITS:
        read: Callable[[str], Any] = {"--cpus": float, "--pids-limit": int}.get(option, str)
        options[_LIMITS[option]] = read(value)


def _volume(found: Contained, option: str, value: str, given: set[str]) -> None:
    """Take a volume: a named one, or a folder that somebody named just now; never one that the entry itself chose."""
    if option == "--mount":
        parts: dict[str, str] = {}
        for part in value.split(","):
            key, _, said = part.partition("=")
            parts[key] = said
        source = parts.get("src") or parts.get("source") or ""
        target = parts.get("dst") or parts.get("destination") or parts.get("target") or ""
        writable = not ({"ro", "readonly"} & parts.keys())
    else:
        source, _, rest = value.partition(":")
        target, _, mode = rest.partition(":")
        writable = "ro" not in mode.split(",")
    named = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", source)
    if not source or not target or not (named or source in given):
        found.notes.append(
            f"it asks for {source or 'a folder':.80} of this machine, and does not get it; container="
            f'{{"volumes": ["FOLDER:{target or "/TARGET":.80}"]}} gives it a folder'
        )
        return
    found.options.setdefault("volumes", []).append(f"{source}:{target}{':rw' if writable else ''}")


def _text(word: Word) -> str:
    return "".join(piece.text for piece in word)


def _without(word: Word, length: int) -> Word:
    """Cut so many characters off the beginning of a word."""
    kept: list[Text] = []
    for piece in word:
        cut = min(length, len(piece.text))
        length -= cut
        if piece.text[cut:]:
            kept.append(Text(piece.text[cut:], secret=piece.secret, given=piece.given))
    return tuple(kept)
