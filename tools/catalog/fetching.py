"""What a package of an entry is fetched as: a source the installers know, or why there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ...runners.errors import SourceError
from ...runners.installers.entry import normal
from ...runners.installers.source import Source, parse
from .arguments import flag_of
from .entry import Argument, Package
from .values import usable

OFFICIAL = {"pypi": (("pypi", "org"),), "npm": (("npmjs", "org"), ("npmjs", "com"))}
"""The domains of the indexes everybody means, for which this machine's configured ones stand. They are only compared
with what an entry says; nothing is ever asked of them by that name."""

_LAUNCHERS = {
    "pypi": ("uvx", "uv", "pipx", "python", "python3"),
    "npm": ("npx", "npm", "bunx", "pnpx", "pnpm", "yarn", "bun", "node"),
}
_VERBS = ("tool", "run", "x", "exec", "dlx")
_PLAIN = {
    "pypi": {
        *(
            "-q",
            "--quiet",
            "-v",
            "--verbose",
            "-n",
            "--no-cache",
            "--refresh",
            "--isolated",
            "-U",
            "--upgrade",
        ),
        *("--reinstall", "--no-progress", "--native-tls", "--no-config", "--no-env-file", "-u"),
    },
    "npm": {
        *(
            "-y",
            "--yes",
            "-q",
            "--quiet",
            "--silent",
            "-s",
            "--prefer-online",
            "--prefer-offline",
            "--no-install",
        ),
        *("--ignore-existing", "--loglevel=error", "--loglevel=silent", "--no-fund", "--no-audit"),
    },
}
"""Options of launchers that only say how to fetch or what to print, which an installation settles in its own way."""
_SPEC = {"pypi": ("--from", "--spec", "--with"), "npm": ("-p", "--package")}
"""Options that name the package."""

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class UnfitError(Exception):
    """A package that cannot be installed here. The text says why, as a clause about the package."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a package is fetched.

    Attributes:
        source: For the installers.
        words: Words before the package's own arguments.
        notes: What somebody should know.
        sha256: What its file must hash to, where its source does not say it.
    """

    source: str
    words: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    sha256: str | None = None


def fetched(package: Package) -> Fetched:
    """Tell what a package is fetched as.

    Raises:
        UnfitError: If it cannot be.
    """
    match package.registry_type:
        case "mcpb":
            return _bundle(package)
        case "pypi" | "npm":
            return _indexed(package)
        case "oci":
            from .contained import image_of

            return image_of(package)
        case other:
            raise UnfitError(f"is of the kind {other:.40}, which ToolScore cannot install")


def _bundle(package: Package) -> Fetched:
    if not package.file_sha256:
        raise UnfitError(
            "is a bundle without a checksum, so that nobody could tell whether it is the right file"
        )
    if package.runtime_arguments:
        raise UnfitError("has runtime arguments, which a bundle cannot have")
    source = f"mcpb:{package.identifier}#sha256={package.file_sha256}"
    try:
        parse(source)
    except SourceError as error:
        raise UnfitError(f"cannot be fetched: {_first(error)}") from None
    return Fetched(source)


def _indexed(package: Package) -> Fetched:
    kind = package.registry_type
    _check_index(package)
    sha256 = package.file_sha256.strip().lower() if package.file_sha256 else None
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise UnfitError("asks for the checksum of its file, but gives none that can be one")
    named = _parsed(kind, package.identifier)
    version = package.version if package.version not in (None, "", "latest", "*") else None
    if named.version and version and named.version != version:
        raise UnfitError(f"names two versions, {named.version} and {version}")
    launch = _Launch(kind, package, named)
    asked = version or named.version or launch.version
    extras = tuple(dict.fromkeys((*named.extras, *launch.extras)))
    source = f"{kind}:{named.name}" + (f"[{','.join(extras)}]" if extras else "")
    source += f"@{asked}" if asked else ""
    source += f"#{launch.script}" if launch.script else ""
    final = _parsed(kind, source.removeprefix(f"{kind}:"))
    if (final.name, final.extras, final.entry) != (
        named.name,
        extras,
        launch.script,
    ):  # a version with a # in it
        raise UnfitError("has a name or version that would be read as something else")
    notes = launch.notes
    if not asked and sha256 is not None:
        raise UnfitError("asks for the checksum of its file, but names no version, so that it can be of any")
    if not asked:
        notes.append("the entry names no version, so that the newest one is fetched")
    return Fetched(source, tuple(launch.words), tuple(notes), sha256)


def _check_index(package: Package) -> None:
    """Refuse a package of another index: under its name, this machine's own could have somebody else's package."""
    base = package.registry_base_url
    if not base:
        return
    try:
        parts = urlsplit(base if "://" in base else f"https://{base}")
        host = parts.hostname
    except ValueError:
        host = None
    if tuple((host or "").split(".")[-2:]) not in OFFICIAL[package.registry_type]:
        kind, name = package.registry_type, package.identifier
        raise UnfitError(
            f"is to come from the index {host or base[:80]!r}, and here packages come from the index that uv or npm "
            f"is configured for, where {name:.80} may be somebody else's. Where they are configured for that index, "
            f"install_server(source='{kind}:{name:.80}') fetches it"
        )


def _parsed(kind: str, text: str) -> Source:
    try:
        return parse(f"{kind}:{text}")
    except SourceError as error:
        raise UnfitError(f"cannot be fetched: {_first(error)}") from None


def _first(error: SourceError) -> str:
    return str(error).partition(" Known forms:")[0].rstrip(".")


class _Launch:
    """What the words for a launcher (`uvx`, `npx`) say that an installation can honour."""

    def __init__(self, kind: str, package: Package, named: Source) -> None:
        self._kind, self._named = kind, named
        self.version: str | None = None
        self.extras: tuple[str, ...] = ()
        self.script: str | None = None
        self.words: list[str] = []
        self.notes: list[str] = []
        words = _fixed(package.runtime_arguments)
        hint = (package.runtime_hint or "").rpartition("/")[2].removesuffix(".exe")
        if hint and hint not in _LAUNCHERS[kind]:
            if words:
                raise UnfitError(
                    f"is to be run by {hint:.40} with arguments of its own, which it is not here"
                )
            self.notes.append(f"the entry suggests {hint:.40}; it gets an environment of its own instead")
        if hint.startswith("python"):
            self._python(words)
        else:
            self._launcher(words)

    def _python(self, words: list[str]) -> None:
        while words and words[0] in _PLAIN["pypi"]:
            words.pop(0)
        if words[:1] == ["-m"] and len(words) > 1:
            self.notes.append(f"its own entry point is started in place of python -m {words[1]:.80}")
            self.words = words[2:]
        elif words:
            raise UnfitError(f"is to be run by python with {words[0]:.80}, which cannot be honoured")

    def _launcher(self, words: list[str]) -> None:
        kind, named_by_option = self._kind, False
        while words and words[0] in _VERBS:
            words.pop(0)
        while words:
            word = words.pop(0)
            option, equals, value = word.partition("=")
            if word in _PLAIN[kind]:
                continue
            if option in _SPEC[kind]:
                spec = value if equals else words.pop(0) if words else ""
                self._package(spec, option)
                named_by_option = True
            elif kind == "pypi" and option in ("--python", "-p"):
                wish = value if equals else words.pop(0) if words else ""
                self.notes.append(
                    f"the entry asks for Python {wish:.20}; the setting install.python is what counts"
                )
            elif word == "--":
                self.words = words
                return
            elif word.startswith("-"):
                raise UnfitError(f"is to be fetched with {option:.60}, which cannot be honoured")
            elif named_by_option:
                self.script, self.words = word, words
                return
            else:
                self._package(word, "")
                self.words = words
                return

    def _package(self, spec: str, option: str) -> None:
        """Take in the package as the launcher is told of it, which must be the entry's own."""
        try:
            found = _parsed(self._kind, spec)
        except UnfitError:
            found = None
        same = found is not None and (
            normal(found.name) == normal(self._named.name)
            if self._kind == "pypi"
            else found.name == self._named.name
        )
        if found is None or not same:
            raise UnfitError(
                f"is to be run with {f'{option} ' if option else ''}{spec:.80}, which is another package than its own"
            )
        self.version = self.version or (found.version if found.version not in ("latest", "*") else None)
        self.extras = (*self.extras, *found.extras)


def _fixed(arguments: Sequence[Argument]) -> list[str]:
    """Give the words for a launcher, none of which anybody can choose."""
    words: list[str] = []
    for argument in arguments:
        value = usable(argument.value) or usable(argument.default)
        flag = flag_of(argument) if argument.type == "named" else None
        if argument.variables or "${" in (flag or "") or (argument.value and usable(argument.value) is None):
            shown = flag or argument.value or ""
            raise UnfitError(f"has the runtime argument {shown:.60}, which cannot be honoured")
        if value is None and flag is None and not argument.is_required:
            continue
        if value is None and flag is None:
            raise UnfitError("has a runtime argument that has to be chosen, which cannot be honoured")
        if flag is not None and value is not None and flag.endswith("="):
            words.append(flag + value)
        else:
            words += [word for word in (flag, value) if word]
    return words
