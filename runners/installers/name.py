"""A short name for a server, taken from its source."""

from __future__ import annotations

import os
import re
import tomllib
import zipfile
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic_core import from_json

from ..spec import SourceKind
from .source import Source

_PREFIXES = ("mcp-server-", "server-", "mcp-")
_SUFFIXES = ("-mcp-server", "-mcp", "-server")
_GENERIC = ("mcp", "server", "mcp-server", "main", "index", "app", "src", "")
_LAUNCHERS = (
    "npx",
    "uvx",
    "bunx",
    "pnpx",
    "pipx",
    "uv",
    "npm",
    "pnpm",
    "node",
    "bun",
    "deno",
    "docker",
    "podman",
)
_VERBS = ("run", "exec", "tool", "dlx", "x", "--")
MAX_LENGTH = 32
MAX_MANIFEST = 1024 * 1024
"""Bytes of a manifest that are read; real ones have a few kilobytes."""


def suggest_name(source: Source) -> str:
    """Suggest a server name: `[a-z0-9][a-z0-9_-]*`, at most 32 characters, without `__`.

    A clash with an existing name is the caller's to refuse: an invented suffix would surprise the user.

    Args:
        source: A source taken apart by `parse`.

    Returns:
        The name; `server` where the source offers nothing better.
    """
    for raw in _offers(source):
        name = _tidy(raw)
        if name not in _GENERIC:
            return name
    return "server"


def _tidy(raw: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", raw.lower()).strip("-")
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    return name[:MAX_LENGTH].strip("-")


def _offers(source: Source) -> list[str]:
    """List what the name could be made of, best first."""
    if source.kind in (SourceKind.PYPI, SourceKind.NPM):
        return _package(source.name)
    if source.kind is SourceKind.DOCKER and source.path is not None:
        return [Path(os.path.realpath(source.path)).name]
    if source.kind is SourceKind.DOCKER:
        plain = re.sub(r"(?::[^/@]*)?(?:@.*)?$", "", source.name)
        return _package(plain)
    if source.kind is SourceKind.GIT:
        *above, last = [part for part in urlsplit(source.url).path.split("/") if part]
        repository = last.removesuffix(".git")
        # A subfolder of a repository of many servers says more than the repository.
        sub = [source.entry.rstrip("/").rsplit("/", 1)[-1]] if source.entry and "/" in source.entry else []
        return [*(name for name in sub if "." not in name), repository, *above[-1:]]
    if source.kind is SourceKind.COMMAND:
        return _from_command(source.argv)
    if source.kind is SourceKind.MCPB and source.path is None:
        *above, last = [unquote(part) for part in urlsplit(source.url).path.split("/") if part] or [""]
        return [Path(last).stem, *above[1:2]]  # in a release of a forge, the repository
    assert source.path is not None
    path = Path(os.path.realpath(source.path))  # unlike `resolve`, no error for links in a circle
    if source.kind is SourceKind.MCPB:
        return [*_package(_manifest_name(path)), path.stem]
    return [*_package(_project_name(path)), path.name]


def _package(name: str) -> list[str]:
    """Offer the name without its scope, then the scope, which says more in `@playwright/mcp`."""
    scope, _, last = name.rpartition("/")
    return [last, scope]


def _from_command(argv: tuple[str, ...]) -> list[str]:
    program = Path(argv[0]).name
    words = [word for word in argv[1:] if not word.startswith("-") and word not in _VERBS]
    python = re.fullmatch(r"python[0-9.]*", program)
    if words and (program in _LAUNCHERS or python):
        word = words[0]
        if (
            "://" in word
            or word.startswith((".", "/", "~"))
            or Path(word).suffix in (".py", ".js", ".mjs", ".ts")
        ):
            try:
                path = Path(urlsplit(word).path)
            except ValueError:  # it only looks like a URL
                path = Path(word)
            return [path.stem, path.parent.name, program]
        # Cut a version (`NAME@1.2`, `image:tag`), but not a scope.
        bare = word[:1] + re.split(r"[@:=\[]", word[1:], maxsplit=1)[0]
        return [*_package(bare), program]
    return [Path(program).stem, program]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_MANIFEST)
    except OSError:
        return b""


def _name_of(table: Any) -> str:
    name = table.get("name") if isinstance(table, dict) else None
    return name if isinstance(name, str) else ""


def _project_name(folder: Path) -> str:
    """Read the name a project declares; anything unreadable declares none, the installer will say why."""
    try:
        project = tomllib.loads(_read(folder / "pyproject.toml").decode(errors="replace"))
    except tomllib.TOMLDecodeError:
        project = {}
    tool = project.get("tool")
    poetry = tool.get("poetry") if isinstance(tool, dict) else None
    try:
        package = from_json(_read(folder / "package.json") or b"{}")
    except ValueError:
        package = {}
    return _name_of(project.get("project")) or _name_of(poetry) or _name_of(package)


def _manifest_name(bundle: Path) -> str:
    try:
        with zipfile.ZipFile(bundle) as archive, archive.open("manifest.json") as file:
            return _name_of(from_json(file.read(MAX_MANIFEST)))
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        NotImplementedError,
        EOFError,
        zlib.error,
        zipfile.BadZipFile,
    ):
        return ""
