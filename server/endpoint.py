"""Addresses to serve on, as a person writes them: `ws://127.0.0.1:8765/mcp`, `unix:/run/user/1000/tools.sock`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from .folders import SOCKET_PATH_LIMIT

Scheme = Literal["ws", "wss", "http", "https", "unix"]

DEFAULT_PATH = "/mcp"
"""Where MCP is spoken on a listener whose address has no path."""

TAKEN_PATHS = ("/health", "/metrics", "/register")
"""Paths that every network listener has besides, with all below them; `/` is taken too."""

_DEFAULT_PORTS = {"ws": 8765, "wss": 8765, "http": 8000, "https": 8000}
_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+"
_PATH = re.compile(rf"(?:/{_SEGMENT})+")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# A last label that is a number makes resolvers read the whole as an IPv4 address: 127.1, 0x7f000001.
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!(?:\d+|0[xX][0-9A-Fa-f]*)$){_LABEL}")
_EXAMPLES = (
    "Write it like ws://127.0.0.1:8765/mcp, http://127.0.0.1:8000/mcp, ws://[::1]:8765/mcp (wss:// and https:// "
    "with a certificate) or unix:/absolute/path.sock."
)


class EndpointError(ValueError):
    """An address cannot be served on. The text says why and shows how one is written."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to serve on.

    Attributes:
        scheme: What is spoken there.
        host: Name or IP address, in lower case and without brackets; empty for `unix`.
        port: Its port, 0 for any that is free; 0 for `unix`.
        path: Where MCP is spoken; for `unix` the absolute path of the socket.
        text: The address as it was written.
    """

    scheme: Scheme
    host: str
    port: int
    path: str
    text: str

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it: 127.0.0.0/8, ::1, `localhost`, and every Unix socket."""
        if self.scheme == "unix" or self.host == "localhost":
            return True
        address = as_address(self.host)
        return address is not None and address.is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether it is every address this machine has: 0.0.0.0 or ::."""
        address = as_address(self.host)
        return address is not None and address.is_unspecified

    @property
    def is_secure(self) -> bool:
        """Whether it needs a certificate."""
        return self.scheme in ("wss", "https")

    def url(self, port: int | None = None) -> str:
        """Give the whole address.

        Args:
            port: The port it really has, where it was to be any.
        """
        if self.scheme == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port if port is None else port}{self.path}"


def parse_endpoint(text: str) -> Endpoint:
    """Read an address to serve on.

    Args:
        text: `ws://`, `wss://`, `http://` or `https://` with a host and, if wanted, a port (0: any that is free;
            otherwise 8765 for WebSocket, 8000 for HTTP) and a path (otherwise `/mcp`); or `unix:PATH`.

    Raises:
        EndpointError: If it is none of these, or would serve something else than it says.
    """
    shown = text.strip()
    if not shown or any(character.isspace() or not character.isprintable() for character in shown):
        raise _wrong(text, "is empty or holds blanks or control characters")
    scheme = shown.partition(":")[0].lower()
    if scheme == "unix":
        return _unix(shown)
    if scheme not in _DEFAULT_PORTS or not shown[len(scheme) :].startswith("://"):
        raise _wrong(shown, "does not begin with ws://, wss://, http://, https:// or unix:")
    if "?" in shown or "#" in shown:
        raise _wrong(shown, "must end with its path, without ? or #")
    try:
        parts = urlsplit(shown)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _wrong(shown, f"is malformed: {error}") from error
    if "@" in parts.netloc:
        raise _wrong(shown, "must not hold user information; clients come in with tokens")
    found = canonical_host(host)
    if as_address(found) is None and not _NAME.fullmatch(found):
        hint = ", which is 0.0.0.0 for every address" if found in {"", "*"} else ", or an IP address in full"
        raise _wrong(shown, f"must name a host{hint}")
    return Endpoint(
        scheme=cast(Scheme, scheme),
        host=found,
        port=_DEFAULT_PORTS[scheme] if port is None else port,
        path=_checked_path(parts.path, shown),
        text=shown,
    )


def canonical_host(host: str) -> str:
    """Give the one way in which a host is written: in lower case, an IP address in its shortest form.

    Args:
        host: A name, or an IP address with or without brackets. What is neither comes back in lower case.
    """
    address = as_address(host)
    return host.lower() if address is None else str(address)


def as_address(host: str) -> IPv4Address | IPv6Address | None:
    """Read an IP address, with or without brackets; an IPv4 address in IPv6's clothes is taken out of them."""
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _checked_path(path: str, shown: str) -> str:
    if not path:
        return DEFAULT_PATH
    if path == "/":
        raise _wrong(
            shown, f"must not have the path /, where its health is told: leave it out for {DEFAULT_PATH}"
        )
    path = path.removesuffix("/")
    if not _PATH.fullmatch(path):
        raise _wrong(shown, "may have letters, digits and . _ ~ - between the slashes of its path only")
    for taken in TAKEN_PATHS:
        if path == taken or path.startswith(f"{taken}/"):
            raise _wrong(shown, f"must not have the path {path}: every listener uses {taken} for itself")
    return path


def _unix(shown: str) -> Endpoint:
    path = shown[len("unix:") :]
    if path.startswith("//"):
        if not path.startswith("///"):
            raise _wrong(shown, "must not have a host after unix:")
        path = path[2:]
    try:
        full = os.fspath(Path(path).expanduser())
    except RuntimeError as error:
        raise _wrong(shown, f"cannot be resolved: {error}") from error
    if not full.startswith("/") or path.endswith("/"):
        raise _wrong(shown, "must hold the absolute path of a file")
    full = os.path.normpath(full)
    if len(os.fsencode(full)) > SOCKET_PATH_LIMIT:
        raise _wrong(shown, f"is longer than a Unix socket's path may be, {SOCKET_PATH_LIMIT} bytes")
    return Endpoint(scheme="unix", host="", port=0, path=full, text=shown)


def _wrong(shown: str, why: str) -> EndpointError:
    return EndpointError(f"the address {shown!r} {why}. {_EXAMPLES}")
