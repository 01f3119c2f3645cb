"""The file `toolscore.lock`: what it holds, and reading it with suspicion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...runners.confinement import Confinement
from ...runners.installers.file_list import text_hash
from ...runners.keeping import Keeping
from ...runners.pin import NPM_LOCK, PYTHON_LOCK, Locked
from ...runners.placement import Placement
from ...runners.spec import ServerSpec, SourceKind
from ..errors import LibraryError
from ..names import valid_server_name

FORMAT = 1
"""Version of the format."""

NAME = "toolscore.lock"
"""What such a file is called."""

MAX_BYTES = 64 << 20
MAX_SERVERS = 2_000
"""Bounds on what is read: no home is so large."""

_HASH = r"^[0-9a-f]{64}$"


class LockError(LibraryError):
    """A lock cannot be read, or cannot be trusted. The text says why and what to do next."""


class LockText(BaseModel):
    """A lock of packages, in the lines of the tool that reads it.

    Attributes:
        sha256: Hash of the text.
        lines: The text, split at its line ends; `None` where only the hash is compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=_HASH)
    lines: tuple[str, ...] | None = None


class LockedServer(BaseModel):
    """One server of a lock.

    Attributes:
        kind: Where it came from.
        source: The source as it was given.
        fetched: What was fetched for it; see `Pin`.
        version: The version that was installed.
        package: The distribution's name.
        runtime: What runs it.
        content: See `Pin`.
        python: Version of Python of its environment.
        constraints: Version constraints the environment was made with.
        sha256: What the package was asked to hash to.
        programs: Hash of each program and script of a server that was not installed, by path.
        locks: The locks of its packages, by name.
        entry: How it is started, without what was given to it; `<server>` stands for its folder. It is compared,
            and never run as it stands here.
        command: The program, of a server that was not installed.
        args: What was given to it: arguments,
        env: environment variables (references to secrets, never these),
        settings: and values for the manifest of a bundle.
        url: Where it is reached.
        headers: HTTP headers sent there.
        sse: Whether it speaks HTTP with SSE there.
        cwd: Its working directory, of a server that was not installed.
        confine: What it may reach.
        cluster: What it needs of the node of a cluster it runs on.
        keeping: What is set for it.
        enabled: Whether it may be started.
        tools: Digest of each tool's definition, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: SourceKind
    source: str
    fetched: str = ""
    version: str | None = None
    package: str | None = None
    runtime: str = "binary"
    content: str | None = None
    python: str | None = None
    constraints: tuple[str, ...] = ()
    sha256: str | None = Field(None, pattern=_HASH)
    programs: dict[str, str] = Field(default_factory=dict)
    locks: dict[str, LockText] = Field(default_factory=dict)
    entry: tuple[str, ...] = ()
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, str] = Field(default_factory=dict)
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    sse: bool | None = None
    cwd: str | None = None
    confine: Confinement | None = None
    cluster: Placement | None = None
    keeping: Keeping = Keeping()
    enabled: bool = True
    tools: dict[str, str] = Field(default_factory=dict)

    @property
    def installed(self) -> bool:
        """Whether something of it is fetched and kept in a folder."""
        return self.kind not in (SourceKind.COMMAND, SourceKind.REGISTERED)

    def locked(self) -> Locked:
        """Give what must come out of its installation.

        Raises:
            LockError: If the lock does not hold the texts.
        """
        texts = {}
        for name, lock in self.locks.items():
            if lock.lines is None:
                raise LockError(f"The lock holds only the hash of {name}; sync needs the whole file.")
            texts[name] = "\n".join(lock.lines)
        return Locked(version=self.version, content=self.content, locks=texts)

    def spec(self) -> ServerSpec:
        """Give how it is started or reached; of one that is installed without the program.

        Raises:
            LockError: If that cannot be.
        """
        try:
            return ServerSpec(
                command=self.command or ("-" if self.installed else None),
                args=self.args,
                env=self.env,
                url=self.url,
                headers=self.headers,
                sse=self.sse,
                cwd=self.cwd,
                confine=self.confine,
                cluster=self.cluster,
            )
        except ValidationError as error:
            raise LockError(
                f"The lock says how to start it in a way that cannot be: {_faults(error)}."
            ) from None

    def dump(self) -> dict[str, Any]:
        """Give it as it is written: without what is as it is by default, in a fixed order."""
        found = self.model_dump(mode="json", exclude_defaults=True, exclude={"keeping"})
        if kept := self.keeping.model_dump(mode="json", exclude_defaults=True):
            found["keeping"] = kept
        for key in ("programs", "env", "settings", "headers", "tools", "locks"):
            if key in found:
                found[key] = dict(sorted(found[key].items()))
        return {"kind": self.kind.value, "source": self.source, **found}

    def brief(self) -> LockedServer:
        """Give it without the texts of its locks, which is enough to compare."""
        short = {name: LockText(sha256=lock.sha256) for name, lock in self.locks.items()}
        return self.model_copy(update={"locks": short})


def write(servers: Mapping[str, LockedServer]) -> dict[str, Any]:
    """Give the document of a lock.

    Args:
        servers: The servers by name.
    """
    listed = {name: servers[name].dump() for name in sorted(servers)}
    return {"toolscore-lock": FORMAT, "digest": _digest(listed), "servers": listed}


def render(document: Mapping[str, Any]) -> str:
    """Give the text of a document."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def parse(content: bytes, where: str) -> dict[str, LockedServer]:
    """Read a lock.

    Args:
        content: The file's content.
        where: The file, for errors.

    Raises:
        LockError: If it is too large, of a newer format, no lock, changed by hand, or in disagreement with itself.
    """
    if len(content) > MAX_BYTES:
        raise LockError(f"{where} is larger than {MAX_BYTES >> 20} MiB, which no lock is; it was not read.")
    try:
        document = json.loads(content, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise LockError(f"{where} is no lock: {error}. Write it again with `toolscore lock`.") from None
    return read(document, where)


def read(document: Any, where: str) -> dict[str, LockedServer]:
    """Read the document of a lock; see `parse`."""
    if not isinstance(document, dict) or "toolscore-lock" not in document:
        raise LockError(f"{where} is no lock of ToolScore. `toolscore lock` writes one.")
    version = document["toolscore-lock"]
    if type(version) is not int or version < 1:
        raise LockError(f"{where} does not say which format it has. Write it again with `toolscore lock`.")
    if version > FORMAT:
        raise LockError(
            f"{where} has format {version}, and this ToolScore knows up to {FORMAT}: a newer one wrote it. Upgrade "
            "ToolScore."
        )
    listed = document.get("servers")
    unknown = document.keys() - {"toolscore-lock", "digest", "servers"}
    if not isinstance(listed, dict) or unknown or len(listed) > MAX_SERVERS:
        raise LockError(f"{where} is no lock that can be understood. Write it again with `toolscore lock`.")
    try:
        true = document.get("digest") == _digest(listed)
    except (ValueError, RecursionError):
        true = False
    if not true:
        raise LockError(
            f"{where} was changed after it was written: its digest is not that of its content. Write it again with "
            "`toolscore lock` where it came from."
        )
    return {name: read_server(name, value, where) for name, value in listed.items()}


def read_server(name: str, value: Any, where: str) -> LockedServer:
    """Read one server of a lock; see `parse`."""
    if wrong := valid_server_name(name):
        raise LockError(f"{where} names a server {name[:80]!r}: {wrong}")
    try:
        found = LockedServer.model_validate(value)
    except ValidationError as error:
        raise LockError(f"{where} cannot be understood about server '{name}': {_faults(error)}.") from None
    if found.kind is SourceKind.BUILTIN or (
        found.installed and (found.command or found.cwd or not found.fetched)
    ):
        raise LockError(f"{where} says of server '{name}' what cannot be of one of kind {found.kind}.")
    for what, text in (("source", found.source), ("version", found.version)):
        if text is not None and not (text and text.isprintable()):
            raise LockError(f"{where} gives server '{name}' the {what} {text[:80]!r}, which none can have.")
    if found.installed:
        _agree(name, found, where)
    for label, lock in found.locks.items():
        if label not in (PYTHON_LOCK, NPM_LOCK):
            raise LockError(
                f"{where} holds a lock {label[:80]!r} for server '{name}', which no installer reads."
            )
        if lock.lines is not None and text_hash("\n".join(lock.lines)) != lock.sha256:
            raise LockError(
                f"{where} was changed after it was written: {label} of server '{name}' is not what its hash says. "
                "Write it again with `toolscore lock` where it came from."
            )
    found.spec()
    return found


def _agree(name: str, found: LockedServer, where: str) -> None:
    """Refuse one that would fetch something else than it says it comes from.

    Raises:
        LockError: If it would.
    """
    from ...runners.errors import SourceError
    from ...runners.installers.source import identity, parse
    from ..catalog.installing import PREFIX

    try:
        kind = parse(found.fetched).kind
    except SourceError as error:
        raise LockError(f"{where} names a source of server '{name}' that is none: {error}") from None
    if kind is not found.kind:
        raise LockError(
            f"{where} says that server '{name}' is of kind {found.kind}, and {found.fetched[:120]!r}, which would be "
            f"fetched for it, is of kind {kind}."
        )
    if not found.source.startswith(PREFIX) and identity(kind, found.source) != identity(kind, found.fetched):
        raise LockError(
            f"{where} says that server '{name}' comes from {found.source[:120]!r}, and {found.fetched[:120]!r} would "
            "be fetched for it, which is something else."
        )


def _digest(listed: Mapping[str, Any]) -> str:
    text = json.dumps(listed, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it holds a name twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _faults(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found[:3])
