"""The source of a server as somebody writes it, taken apart and checked before any program sees it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from packaging.version import InvalidVersion, Version

from ..errors import SourceError
from ..spec import SourceKind
from .entry import normal
from .mask import mask

KNOWN_FORMS = (
    "Known forms: pypi:NAME[@VERSION][#SCRIPT], npm:[@SCOPE/]NAME[@VERSION][#BIN], git+URL[@REF][#ENTRY], "
    "a folder (./NAME, /path/NAME, ~/NAME), a file ending in .mcpb, https://HOST/FILE.mcpb#sha256=CHECKSUM, "
    "docker:IMAGE[:TAG][@sha256:DIGEST], docker:FOLDER with a Dockerfile, "
    "registry:NAME[@VERSION][#KIND] of the catalog, or command: PROGRAM ARGS..."
)

LONGEST = 16_384
"""Characters of a source: more than any path or URL that works; what is a little too long the system itself says."""

# Strict on purpose: what passes here can be no option, path or URL to uv, npm or git.
_PYPI_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_PYPI = re.compile(
    rf"(?P<name>{_PYPI_NAME})\s*(?:\[(?P<extras>[^\]]*)\])?\s*(?:(?:@|==)\s*(?P<version>\S+))?", re.ASCII
)
_NPM_PART = r"[A-Za-z0-9][A-Za-z0-9._~-]*"
_NPM_NAME = re.compile(rf"(?:@{_NPM_PART}/)?{_NPM_PART}", re.ASCII)
# A version, a tag, or a plain range; never an alias (`npm:x`), a path, or a URL.
_NPM_VERSION = re.compile(r"\*|[\^~]?[A-Za-z0-9][A-Za-z0-9.+_-]*", re.ASCII)
_SCRIPT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_GIT_SCHEMES = ("https", "http", "ssh", "git", "file")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~%-]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+", re.ASCII)
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock$|[./]$")
_BUNDLE_SUFFIXES = (".mcpb", ".dxt")  # the format's first name was DXT
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
# The grammar of references to images: an optional host, a path in lower case, a tag, a digest.
_IMAGE_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_IMAGE_HOST = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:[0-9]))(?::[0-9]{1,5})?"
_IMAGE = re.compile(
    rf"(?:{_IMAGE_HOST}/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Source:
    """A source taken apart. Which fields are filled depends on the kind.

    Attributes:
        kind: What sort of source it is.
        text: The source as given.
        name: Name of the distribution (`pypi`), package with its scope (`npm`), or image (`docker`), which has a tag
            or a digest in any case.
        extras: Extras of the distribution (`pypi`).
        version: Version asked for (`pypi`, `npm`).
        entry: Script, file or subfolder after `#`.
        url: What git clones (`git`), or where the file is (`mcpb` on the web).
        sha256: The checksum the file must have (`mcpb` on the web, and a package whose entry in the catalog says it).
        ref: Branch, tag or commit (`git`).
        path: Absolute path (`folder`, `mcpb`, and `docker` where an image is built).
        argv: Program and its arguments (`command`).
    """

    kind: SourceKind
    text: str
    name: str = ""
    extras: tuple[str, ...] = ()
    version: str | None = None
    entry: str | None = None
    url: str = ""
    ref: str | None = None
    path: Path | None = None
    argv: tuple[str, ...] = ()
    sha256: str | None = None


def parse(source: str) -> Source:
    """Take a source apart.

    Args:
        source: The source as given, in one of the forms of `KNOWN_FORMS`.

    Raises:
        SourceError: If it has none of the known forms, or says something impossible.
    """
    text = source.strip()
    if not text:
        raise _error("The source is empty.")
    if len(text) > LONGEST and not text.startswith("command:"):
        raise _error(f"A source has at most {LONGEST} characters, and this has {len(text)}.")
    if any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise _error(f"The source {text!r} holds control characters.")
    if text.startswith("pypi:"):
        return _pypi(text)
    if text.startswith("npm:"):
        return _npm(text)
    if text.startswith("git+"):
        return _git(text)
    if text.startswith("command:"):
        return _command(text)
    if text.startswith("docker:"):
        return _docker(text)
    if text.startswith("mcpb:") or (text.startswith(("https://", "http://")) and _is_bundle(text)):
        return _bundle(text)
    if text.startswith(("/", "~", "./", "../", "file://")) or text in (".", ".."):
        return _path(text)
    # A scope is npm's; a folder of that name can still be written with ./
    if text.startswith("@") or ("/" not in text and not text.lower().endswith(_BUNDLE_SUFFIXES)):
        raise _error(_bare_word(text))
    if "://" in text or re.match(r"[\w.-]+@[\w.-]+:", text):
        raise _error(_bare_url(text))
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        raise _error(f"{text!r} begins with {text.split(':', 1)[0]!r}:, which is no known kind of source.")
    return _path(text)


def _error(message: str) -> SourceError:
    return SourceError(f"{mask(message)} {KNOWN_FORMS}.")


def _bare_word(text: str) -> str:
    if text.startswith("@"):
        return f"{text!r} does not say where it comes from; did you mean npm:{text}?"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        return f"{text!r} begins with {text.split(':', 1)[0]!r}:, which is no known kind of source."
    if " " in text:
        return f"{text!r} looks like a command line; did you mean `command: {text}`?"
    offers = f"pypi:{text}, npm:{text}, or the folder ./{text}"
    return f"{text!r} does not say where it comes from; did you mean {offers}?"


def _bare_url(text: str) -> str:
    if "://" not in text:
        user_host, _, path = text.partition(":")
        return f"{text!r} is a git address; write it as git+ssh://{user_host}/{path}."
    return f"{text!r} is a URL; did you mean git+{text}? (A running server is registered, not installed.)"


def _split_url(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:  # such as a bracket that is not closed
        raise _error(f"{url!r} is no URL ({error}).") from None


def is_fetchable(url: str) -> bool:
    """Tell whether a file may be fetched from an address: encrypted, or from this machine; and without a login.

    Raises:
        ValueError: If it is no URL.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None or parts.password is not None:
        return False
    _ = parts.port
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _is_bundle(text: str) -> bool:
    return _split_url(text).path.lower().endswith(_BUNDLE_SUFFIXES)


def _bundle(text: str) -> Source:
    """Take a bundle on the web apart. Without a checksum nobody could tell what is run in the end."""
    url, _, fragment = text.removeprefix("mcpb:").strip().partition("#")
    sha256 = fragment.removeprefix("sha256=").strip().lower()
    try:
        fine = is_fetchable(url)
    except ValueError as error:
        raise _error(f"{url!r} is no URL ({error}).") from None
    if not fine or "?" in url or re.search(r"\s", url):
        raise _error(
            f"{url.partition('?')[0]!r} cannot be fetched: a bundle's address begins with https:// (http:// only on "
            "this machine) and holds no user, password or parameters, which would be stored."
        )
    if not fragment.startswith("sha256=") or not _SHA256.fullmatch(sha256):
        raise _error(
            f"{url!r} is a bundle on the web, which is only fetched with its checksum: append #sha256= and the "
            "64 digits its author published, or download it and give the path of the file."
        )
    return Source(SourceKind.MCPB, text, url=url, sha256=sha256)


def _split_entry(text: str, pattern: re.Pattern[str] = _SCRIPT) -> tuple[str, str | None]:
    body, mark, entry = text.partition("#")
    if mark and not pattern.fullmatch(entry):
        raise _error(f"{entry!r}, after the # of {text!r}, is no name of a script.")
    return body.strip(), entry if mark else None


def _pypi(text: str) -> Source:
    body, entry = _split_entry(text.removeprefix("pypi:").strip())
    match = _PYPI.fullmatch(body)
    if not match:
        raise _error(f"{body!r} is no name of a Python distribution with an optional @VERSION.")
    extras = tuple(extra.strip() for extra in (match["extras"] or "").split(",") if extra.strip())
    if not all(re.fullmatch(_PYPI_NAME, extra, re.ASCII) for extra in extras):
        raise _error(f"{match['extras']!r} is no list of extras.")
    version = match["version"]
    if version == "latest":  # as in `uvx NAME@latest`
        version = None
    if version is not None:
        try:
            version = str(Version(version))
        except InvalidVersion:
            raise _error(f"{version!r} is no version of a Python distribution, such as 1.4.2.") from None
    return Source(SourceKind.PYPI, text, name=match["name"], extras=extras, version=version, entry=entry)


def _npm(text: str) -> Source:
    body, entry = _split_entry(text.removeprefix("npm:").strip())
    at = body.rfind("@")
    name, version = (body[:at], body[at + 1 :]) if at > 0 else (body, None)
    if not _NPM_NAME.fullmatch(name) or len(name) > 214 or name in ("node_modules", "favicon.ico"):
        raise _error(f"{name!r} is no name of an npm package.")
    if version is not None and not _NPM_VERSION.fullmatch(version):
        raise _error(f"{version!r} is no version or tag of an npm package, such as 1.4.2 or latest.")
    return Source(SourceKind.NPM, text, name=name, version=version, entry=entry)


def _docker(text: str) -> Source:
    name = text.removeprefix("docker:").strip()
    if name.startswith("//"):
        raise _error(f"{text!r} is written without slashes: docker:IMAGE.")
    if name.startswith(("/", "./", "../", "~")) or name in (".", ".."):
        return Source(SourceKind.DOCKER, text, path=_absolute(name))
    match = _IMAGE.fullmatch(name)
    if match is None or len(name) > 512:
        raise _error(f"{name!r} is no name of an image, such as mcp/fetch:1.2 or ghcr.io/somebody/server.")
    if not match["tag"] and not match["digest"]:
        name += ":latest"
    return Source(SourceKind.DOCKER, text, name=name)


def _git(text: str) -> Source:
    address, mark, entry = text.removeprefix("git+").partition("#")
    scheme, separator, rest = address.partition("://")
    if not separator and re.match(r"[\w.-]+@[\w.-]+:", address):
        raise _error(_bare_url(address))
    if not separator or scheme not in _GIT_SCHEMES:
        raise _error(
            f"git+ must be followed by a URL with one of {', '.join(_GIT_SCHEMES)}, not {address!r}."
        )
    _check_credentials(scheme, rest)
    # The authority may hold `git@host`; only an @ after it starts a REF.
    authority, slash, path = rest.partition("/")
    path, at, ref = path.rpartition("@") if "@" in path else (path, "", "")
    if not slash or not path.strip("/") or " " in rest:
        raise _error(f"{scheme}://{rest} names no repository.")
    _check_authority(scheme, authority)
    _split_url(f"{scheme}://{authority}")  # what reads it later need not expect an error
    if at and (not ref or ref.startswith(("-", "+", ".", "/")) or _BAD_REF.search(ref)):
        raise _error(f"{ref!r} is no branch, tag or commit.")
    entry = entry.removeprefix("subdirectory=")  # as in pip's and uv's git sources
    return Source(
        SourceKind.GIT,
        text,
        url=f"{scheme}://{authority}/{path}",
        ref=ref or None,
        entry=_check_entry(entry, text) if mark else None,
    )


def _check_credentials(scheme: str, rest: str) -> None:
    """Refuse what holds a token in a web address: it would be in the store, in reports and in errors.

    Nobody can tell a token from a user's name, or which parameter holds one; so neither may be there at all.
    """
    if scheme in ("http", "https") and ("@" in rest.partition("/")[0] or "?" in rest):
        raise _error(
            "The URL holds a user or token, which would be stored; leave it out and use git's credential "
            "helper, or an ssh URL."
        )


def _check_authority(scheme: str, authority: str) -> None:
    """Refuse hosts and users that ssh could take for options, and passwords, which would be stored."""
    if scheme == "file":
        if authority not in ("", "localhost"):
            raise _error(
                f"A file:// URL names no host, but this one names {authority!r}; write file:///path."
            )
        return
    user, at, host_port = authority.rpartition("@")
    if ":" in user:
        raise _error(
            "The URL holds a password, which would be stored; use ssh or git's credential helper instead."
        )
    if at and not _USER.fullmatch(user):
        raise _error(f"{user!r} is no user name.")
    host, _, port = host_port.rpartition(":") if re.search(r":\d*$", host_port) else (host_port, "", "")
    if not _HOST.fullmatch(host.removeprefix("[").removesuffix("]")) or (port and not port.isascii()):
        raise _error(f"{host_port!r} is no host.")


def _check_entry(entry: str, text: str) -> str:
    parts = entry.split("/")
    if not entry or entry.startswith(("-", "/")) or ".." in parts or "\\" in entry:
        raise _error(
            f"{entry!r}, after the # of {text!r}, is no script, file or subfolder inside the project."
        )
    return entry


def _path(text: str) -> Source:
    plain, entry = text, None
    if text.startswith("file://"):
        plain, mark, entry = text.partition("#")
        parts = _split_url(plain)
        if parts.netloc not in ("", "localhost"):
            raise _error(f"{text!r} names the host {parts.netloc!r}; write file:///path.")
        plain = unquote(parts.path)
        if "\0" in plain:
            raise _error(f"{text!r} holds control characters.")
        entry = entry if mark else None
    elif "#" in text and not _exists(_absolute(text)):  # a folder may be called `C#`
        plain, _, entry = text.rpartition("#")
    path = _absolute(plain)
    kind = SourceKind.MCPB if path.name.lower().endswith(_BUNDLE_SUFFIXES) else SourceKind.FOLDER
    if kind is SourceKind.MCPB and entry is not None:
        raise _error("A bundle's manifest names its own entry point; leave out the part after #.")
    return Source(kind, text, path=path, entry=None if entry is None else _check_entry(entry, text))


def _absolute(text: str) -> Path:
    try:
        # A lexical `..` is left to the file system, which knows about links.
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise _error(f"{text!r} begins with the home folder of a user who does not exist.") from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long
        return False


def _command(text: str) -> Source:
    try:
        argv = tuple(shlex.split(text.removeprefix("command:")))
    except ValueError as error:
        raise _error(f"The command line of {text!r} cannot be split into words ({error}).") from None
    if not argv or not argv[0]:
        raise _error("command: must be followed by a program.")
    return Source(SourceKind.COMMAND, text, argv=argv)


def identity(kind: SourceKind, source: str) -> tuple[str, ...]:
    """Give what makes two sources versions of one thing: a name, an address; of a folder or bundle its kind.

    Args:
        kind: What is known to be at the source.
        source: It.
    """
    if kind in (SourceKind.COMMAND, SourceKind.REGISTERED):
        return (kind, source)
    try:
        found = parse(source)
    except SourceError:
        return (kind, source)
    name = normal(found.name) if found.kind is SourceKind.PYPI else found.name
    if found.kind is SourceKind.DOCKER:
        name = _image_repository(name)
    return (found.kind, name, found.url if found.kind is SourceKind.GIT else "")


def _image_repository(name: str) -> str:
    """Cut tag and digest off the name of an image."""
    rest = name.partition("@")[0]
    head, colon, tag = rest.rpartition(":")
    return head if colon and "/" not in tag else rest
