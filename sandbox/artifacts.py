"""Created files, kept for a while as MCP resources of whoever had them made."""

from __future__ import annotations

import asyncio
import base64
import mimetypes
import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from .execution import OutputFile
from .limits import mib

PREFIX = "sandbox://executions/"

TEMPLATE = {
    "uriTemplate": PREFIX + "{execution}/{+path}",
    "name": "created-file",
    "title": "File created by an execution",
    "description": "A file that code run with python_execute left in /workspace. Results give the link; it can be "
    "read for a while by whoever had the code run.",
}
"""MCP `ResourceTemplate`; gateways find the way to a link by it."""

IN_MEMORY = 16 << 10
"""Bytes of a file that is kept in memory; larger ones are in a temporary file."""

MOST_EXECUTIONS = 256
"""Executions whose files are kept: each may hold a descriptor."""

MOST_LISTED = 200
"""Resources that one list holds, the newest first."""

_TEXT = ("application/json", "application/xml", "application/javascript", "application/x-sh", "image/svg+xml")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A created file.

    Attributes:
        path: Its path in `/workspace`; `U+FFFD` stands for what is not Unicode in it.
        size: Its size in bytes.
        mime: Its media type, guessed from its name.
        uri: Its link; `None` where it is not kept.
        data: What it holds; `None` where a limit was reached before it.
    """

    path: str
    size: int
    mime: str
    uri: str | None
    data: bytes | None


@dataclass(slots=True)
class _Place:
    artifact: Artifact
    offset: int | None
    """Where it is in the temporary file; `None` for one in memory."""


class _Kept:
    """The files of one execution."""

    def __init__(self, principal: str, born: float, folder: Path | None) -> None:
        self.principal = principal
        self.born = born
        self.places: dict[str, _Place] = {}
        self.size = 0
        self._folder = folder
        self._file: Any = None

    def add(self, artifact: Artifact) -> None:
        data, offset = artifact.data or b"", None
        if len(data) > IN_MEMORY:
            if self._file is None:
                # Without a name: nothing is left of it, however this process ends.
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            offset = self._file.seek(0, os.SEEK_END)
            self._file.write(data)
            artifact = Artifact(artifact.path, artifact.size, artifact.mime, artifact.uri, None)
        self.places[artifact.uri or ""] = _Place(artifact, offset)
        self.size += len(data) + _names(artifact.path, artifact.uri or "")

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def read(self, place: _Place) -> bytes:
        if place.offset is None:
            return place.artifact.data or b""
        self._file.seek(place.offset)
        return bytes(self._file.read(place.artifact.size))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Artifacts:
    """Keeps created files up to a total size and age, and gives each only to its owner.

    Args:
        most: Bytes of all together; one principal may take half of them.
        seconds: How long they are kept.
        folder: Where temporary files are made.
        now: The clock.
    """

    def __init__(
        self,
        most: int,
        seconds: float,
        folder: Path | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._folder = folder
        self._now = now
        self._kept: dict[str, _Kept] = {}  # oldest first

    @property
    def share(self) -> int:
        """Bytes of one execution, and of one principal, that are kept at the most."""
        return self._most // 2

    @property
    def size(self) -> int:
        """Bytes that are kept, with those of names: an empty file with a long one takes room, too."""
        return sum(kept.size for kept in self._kept.values())

    async def keep(self, principal: str, files: Iterable[OutputFile]) -> list[Artifact]:
        """Take in the files of one execution.

        Args:
            principal: Who may read them.
            files: What it made.

        Returns:
            The same files in the same order, with links where they are kept.
        """
        execution = secrets.token_urlsafe(16)
        made: list[Artifact] = []
        total = 0
        for file in files:
            raw = file.path.encode("utf-8", "surrogateescape")
            shown = raw.decode("utf-8", "replace")
            uri: str | None = f"{PREFIX}{execution}/{quote(raw, safe='/')}"
            size = len(file.data or b"") + _names(shown, uri or "")
            if file.data is None or total + size > self.share:
                uri = None
            else:
                total += size
            made.append(Artifact(shown, file.size, mime_of(shown), uri, file.data))
        linked = [artifact for artifact in made if artifact.uri is not None]
        if linked:
            self._evict(principal, total)
            kept = _Kept(principal, self._now(), self._folder)
            if total > 1 << 20:
                await asyncio.to_thread(_store, kept, linked)
            else:
                _store(kept, linked)
            self._kept[execution] = kept
            self._evict(principal, 0)  # others may have come while it was written
        return made

    def read(self, principal: str, uri: str) -> dict[str, Any] | None:
        """Give the result of reading one (MCP `ReadResourceResult`); `None` if there is none for this principal."""
        self._expire()
        execution, _, path = uri.removeprefix(PREFIX).partition("/")
        kept = self._kept.get(execution) if uri.startswith(PREFIX) else None
        if kept is None or kept.principal != principal:
            return None
        # A client may write the same path with other characters escaped.
        same = f"{PREFIX}{execution}/{quote(unquote_to_bytes(path), safe='/')}"
        place = kept.places.get(same)
        if place is None:
            return None
        return {"contents": [contents(uri, place.artifact.mime, kept.read(place))]}

    def listed(self, principal: str) -> list[dict[str, Any]]:
        """Give the resources of a principal (MCP `Resource`), the newest first, `MOST_LISTED` at the most."""
        self._expire()
        found: list[dict[str, Any]] = []
        for kept in reversed(self._kept.values()):
            if kept.principal == principal:
                found.extend(described(place.artifact) for place in kept.places.values())
                if len(found) >= MOST_LISTED:
                    break
        return found[:MOST_LISTED]

    def close(self) -> None:
        """Let go of all of them."""
        while self._kept:
            self._drop(next(iter(self._kept)))

    def _expire(self) -> None:
        limit = self._now() - self._seconds
        for execution in [name for name, kept in self._kept.items() if kept.born <= limit]:
            self._drop(execution)

    def _evict(self, principal: str, room: int) -> None:
        """Make room, with the principal's own first where it holds more than its half."""
        self._expire()
        mine = [name for name, kept in self._kept.items() if kept.principal == principal]
        held = sum(self._kept[name].size for name in mine)
        for name in mine:
            if held + room <= self.share:
                break
            held -= self._kept[name].size
            self._drop(name)
        while self._kept and (self.size + room > self._most or len(self._kept) >= MOST_EXECUTIONS):
            self._drop(self._oldest_of_the_greediest())

    def _oldest_of_the_greediest(self) -> str:
        """Find what goes first: nobody pushes out what others keep while more is their own."""
        many = len(self._kept) >= MOST_EXECUTIONS
        held: Counter[str] = Counter()
        for kept in self._kept.values():
            held[kept.principal] += 1 if many else kept.size
        greediest = max(held, key=held.__getitem__)
        return next(name for name, kept in self._kept.items() if kept.principal == greediest)

    def _drop(self, execution: str) -> None:
        self._kept.pop(execution).close()


def _store(kept: _Kept, artifacts: Iterable[Artifact]) -> None:
    for artifact in artifacts:
        kept.add(artifact)
    kept.flush()


def _names(path: str, uri: str) -> int:
    return len(path.encode()) + len(uri)


def unlinked(files: Iterable[Artifact], taken: int, kept: int) -> list[str]:
    """Say why files have no link, and what to do.

    Args:
        files: Those of one execution.
        taken: Bytes of them that are taken out of the box at the most (`Limits.files`).
        kept: Bytes of them that are kept at the most.
    """
    lacking = [file for file in files if file.uri is None]
    told = []
    for names, reason in (
        (
            [file.path for file in lacking if file.data is None],
            f"not taken out of /workspace: the created files of an execution are up to {mib(taken)} together, and as "
            "long as that takes no more than seconds",
        ),
        (
            [file.path for file in lacking if file.data is not None],
            f"not kept: the created files of an execution are up to {mib(kept)} together",
        ),
    ):
        if names:
            shown = ", ".join(name[:100] for name in names[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            told.append(
                f"{shown}{more}: {reason}. Write less, print what is needed, or use a session, where files stay, and "
                "take a part of them with each execution"
            )
    return told


def mime_of(path: str) -> str:
    """Guess a media type from a name."""
    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def contents(uri: str, mime: str, data: bytes) -> dict[str, Any]:
    """Give a file as MCP `TextResourceContents` where it is text by its type and its bytes, else as a blob."""
    textual = mime.startswith("text/") or mime in _TEXT or mime.endswith(("+json", "+xml"))
    if (textual or mime == "application/octet-stream") and b"\0" not in data:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            pass
        else:
            return {"uri": uri, "mimeType": mime if textual else "text/plain", "text": text}
    return {"uri": uri, "mimeType": mime, "blob": base64.b64encode(data).decode()}


def described(artifact: Artifact) -> dict[str, Any]:
    """Give a file as MCP `Resource`."""
    name = artifact.path.rpartition("/")[2]
    return {"uri": artifact.uri, "name": name, "mimeType": artifact.mime, "size": artifact.size}
