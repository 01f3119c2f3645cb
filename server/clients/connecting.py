"""ToolScore's own entry in a client's file: written, and taken out again."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ...tools.replace import replace_file
from .client import Client, Place
from .form import form_of_client
from .found import problem, text_of
from .rewriting import put_back, rewrite, secrets_in

_RECORD = "connected.json"
"""The file in the home that says what was written where."""

USUAL_NAME = "toolscore"
"""What the entry is called where nothing else is said."""


class ConnectError(Exception):
    """A client cannot be connected, or no more be; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Change:
    """A client's file as it is and as it would be.

    Attributes:
        path: The file.
        old: What it holds; empty where it is not there.
        new: What it would hold.
        hidden: Secrets in it, which are not to be shown.
    """

    path: Path
    old: str
    new: str
    hidden: frozenset[str] = frozenset()


def program() -> list[str]:
    """Give the command by which a client starts this ToolScore, wherever the client itself was started from."""
    suffix = ".exe" if sys.platform == "win32" else ""
    if (passing := _by_uvx()) is not None:
        return passing
    beside = Path(sys.executable).parent / f"toolscore{suffix}"
    if beside.is_file():
        return [str(beside)]
    if (found := shutil.which("toolscore")) is not None:
        return [os.path.abspath(found)]  # noqa: PTH100 - a link stays, as it survives an upgrade
    return [sys.executable, "-m", "toolscore"]


def _by_uvx() -> list[str] | None:
    """Give what starts this again where `uvx` runs it: in an environment of uv's cache, which it deletes some day."""
    # The root of the cache is marked as such (https://bford.info/cachedir/).
    if not any((folder / "CACHEDIR.TAG").is_file() for folder in Path(sys.prefix).parents):
        return None
    # Of what is in that environment, uvx is first on the PATH, and goes with it.
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    lasting = [place for place in places if place and not Path(place).is_relative_to(sys.prefix)]
    if (uvx := shutil.which("uvx", path=os.pathsep.join(lasting))) is None:
        return None
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        about = distribution("toolscore")
    except PackageNotFoundError:
        return None
    wanted = f"toolscore=={about.version}"
    # What was not taken from an index says where it came from (PEP 610).
    url = urlsplit(json.loads(about.read_text("direct_url.json") or "{}").get("url", ""))
    if url.scheme == "file":
        wanted = url2pathname(url.path)
    return [os.path.abspath(uvx), "--from", wanted, "toolscore"]  # noqa: PTH100 - a link stays, as below


def started(client: Client, options: Sequence[str] = ()) -> dict[str, Any]:
    """Make the entry of a client that starts ToolScore.

    Args:
        client: The client.
        options: Options of ToolScore's.
    """
    command, *args = [*program(), *options]
    entry: dict[str, Any] = {"type": "stdio"} if client.name in ("claude-code", "vscode", "cursor") else {}
    return entry | {"command": command} | ({"args": args} if args else {})


def reached(client: Client, url: str, token: str | None, *, project: bool) -> dict[str, Any]:
    """Make the entry of a client that reaches a ToolScore over the network.

    Args:
        client: The client.
        url: Where it listens, http:// or https://.
        token: What it comes in with; none where `None`.
        project: Whether the file is a project's, which others read: then the token stays out of it.

    Raises:
        ConnectError: If that client cannot.
    """
    if client.name == "claude-desktop":
        raise ConnectError(
            "Claude Desktop's file knows servers it starts only: connect it without --url, from the machine that "
            "runs ToolScore."
        )
    if project and token is not None:
        token = _VARIABLE.get(client.name)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    match client.name:
        case "windsurf":
            entry: dict[str, Any] = {"serverUrl": url, "headers": headers}
        case "gemini":
            entry = {"httpUrl": url, "headers": headers}
        case "codex" if project and token is not None:
            return {"url": url, "bearer_token_env_var": "TOOLSCORE_TOKEN"}
        case "codex":
            entry = {"url": url, "http_headers": headers}
        case "cursor":
            entry = {"url": url, "headers": headers}
        case _:
            entry = {"type": "http", "url": url, "headers": headers}
    return {key: value for key, value in entry.items() if value}


_VARIABLE = {
    "claude-code": "${TOOLSCORE_TOKEN}",
    "vscode": "${env:TOOLSCORE_TOKEN}",
    "cursor": "${env:TOOLSCORE_TOKEN}",
    "gemini": "${TOOLSCORE_TOKEN}",
    "codex": "TOOLSCORE_TOKEN",
}
"""How a project's file says that the token is in the environment."""


def change(place: Place, name: str, entry: Mapping[str, Any] | None) -> Change:
    """Say what a client's file would be with an entry, or without it.

    Args:
        place: The file, and where servers are in it.
        name: The entry's name.
        entry: It; `None` to take it out.

    Raises:
        ConnectError: If the file cannot be read, or is not of the form it must be.
    """
    path, keys = place.path, (*place.table, name)
    if path.exists() and not path.is_file():
        raise ConnectError(f"{path} is no file.")
    try:
        old = text_of(path) if path.exists() else ""
        form = form_of_client(path)
        new = form.take(old, keys) if entry is None else form.put(old, keys, entry)
        before, after = form.read(old), form.read(new)
        if path.exists() and path.read_bytes().startswith(codecs.BOM_UTF8):
            old, new = f"\ufeff{old}", f"\ufeff{new}"
    except (OSError, ValueError) as error:
        raise ConnectError(problem(path, error)) from None
    if after != _expected(before, keys, entry):
        shown = json.dumps({name: entry}, ensure_ascii=False)
        raise ConnectError(f"{path} is of a form that is better changed by hand: under {keys[0]}, {shown}.")
    return Change(path, old, new, frozenset(secrets_in(after)))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _names(note: Mapping[str, Any] | None) -> list[str]:
    """Give the entries that were written into a file; notes of a version before hold one."""
    return [] if note is None else list(note.get("names") or [note["name"]])


def _without(place: Place, name: str) -> Change | None:
    done = change(place, name, None)
    return None if done.old == done.new else done


def _meant(path: Path, name: str, there: Sequence[str]) -> str:
    """Say which of ToolScore's entries is to go, of those that are there."""
    if name in there or name != USUAL_NAME or not there:
        return name
    if len(there) > 1:
        raise ConnectError(f"{path} has ToolScore as {' and '.join(there)}: say which with --name.")
    return there[0]


def _expected(value: Any, keys: Sequence[str], entry: Mapping[str, Any] | None) -> Any:
    key, *rest = keys
    if entry is None and (not isinstance(value, dict) or key not in value):
        return value
    inner = value.get(key, {})
    if rest:
        return value | {key: _expected(inner, rest, entry)}
    if entry is not None:
        return value | {key: dict(entry)}
    return {one: kept for one, kept in value.items() if one != key}


class Connections:
    """What was written into clients' files, so that it can be undone.

    Args:
        home: ToolScore's home.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / _RECORD

    def write(self, done: Change, name: str) -> Path | None:
        """Write a change, and take note of it.

        Returns:
            The copy of what the file was; `None` where it was not there, or was ToolScore's own writing.

        Raises:
            OSError: If the file or the note cannot be written.
        """
        known = self._read()
        key = str(done.path.resolve())
        note = known.get(key)
        # Of several in a row the first copy is the one without ToolScore; what ToolScore wrote itself needs none.
        ours = note is not None and note.get("sha256") == _digest(done.old.encode())
        copy = rewrite(done.path, done.new, keep=not ours)
        if note is None:
            first, names = None if copy is None else str(copy), []
        else:
            first, names = note["copy"], _names(note)
        known[key] = {
            "names": [*(one for one in names if one != name), name],
            "copy": first,
            # What others wrote in between is not in the first copy: then that is no longer put back.
            "sha256": _digest(done.new.encode()) if note is None or ours else None,
        }
        self._write(known)
        return copy

    def undo(self, place: Place, name: str) -> str:
        """Take ToolScore's entry out of a client's file again.

        Args:
            place: The file.
            name: The entry's name; another that was noted alone is meant by the usual one.

        Returns:
            What was done.

        Raises:
            ConnectError: If the entry is not there, or the file cannot be changed.
            OSError: If it cannot be written.
        """
        path = place.path.resolve()
        known = self._read()
        note = known.pop(str(path), None)
        if not path.exists():
            raise ConnectError(f"{place.path} is not there, and ToolScore not in it.")
        unchanged = note is not None and note["sha256"] == _digest(path.read_bytes())
        there = [one for one in _names(note) if unchanged or _without(place, one)]
        name = _meant(place.path, name, there)
        if note is not None and unchanged and there == [name]:
            said = self._as_before(place.path, note["copy"])
        else:
            if (done := _without(place, name)) is None:
                raise ConnectError(f"{place.path} has no server {name}; there is nothing to undo.")
            put_back(path, done.new.encode())
            said = f"{name} is out of {place.path}; all else in it stays as it is now"
            left = [one for one in there if one != name]
            if note is not None and left:
                digest = _digest(done.new.encode()) if unchanged else None
                known[str(path)] = {"names": left, "copy": note["copy"], "sha256": digest}
            elif note is not None and note["copy"] and Path(note["copy"]).is_file():
                said += f", and so does the copy {note['copy']}"
        self._write(known)
        return said

    @staticmethod
    def _as_before(path: Path, copy: str | None) -> str:
        if copy is None:
            path.resolve().unlink()
            return f"{path} is gone again, as it was made for ToolScore"
        try:
            content = Path(copy).read_bytes()
        except OSError as error:
            raise ConnectError(
                f"The copy {copy} cannot be read ({error.strerror}); take ToolScore's entry out of {path} by hand."
            ) from None
        put_back(path, content)
        Path(copy).unlink(missing_ok=True)
        return f"{path} is as it was before"

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, known: Mapping[str, Any]) -> None:
        if known:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._file, json.dumps(known, indent=2).encode())
        else:
            self._file.unlink(missing_ok=True)
