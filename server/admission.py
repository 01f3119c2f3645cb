"""The door of every network listener: is this host meant, may this page come from there, whose token is it.

A page in a browser can reach what listens on its user's machine. The Host header gives away one whose name was
made to point here (DNS rebinding), the Origin header one from elsewhere; both are checked before any token.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import parse_qsl

from .endpoint import Endpoint, as_address, canonical_host
from .private_file import PrivateFileError
from .tokens import ANYONE, Identity, Tokens

logger = logging.getLogger(__name__)

HeaderLookup = Callable[[str], str | Sequence[str] | None]
"""Gives a header by its name in lower case: its value, all its values, or `None`. All is better, as in `get_all` of
websockets and `getlist` of starlette: a header that must be there once and comes twice is then refused."""

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.+)")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PARAMETERS = frozenset({"token", "access_token"})
_WHERE = (
    "Send it as the header `Authorization: Bearer TOKEN`, or as ?token=TOKEN in the address. "
    "`toolscore token show`, run as the user and for the home of this ToolScore, prints it."
)


class OpenDoorError(ValueError):
    """A listener without tokens could be reached from other machines. The text says what to do instead."""


class TurnedAwayError(Exception):
    """A request is not let in. Nothing that it presented as a token is repeated.

    Args:
        status: The HTTP status to answer with: 400, 401, 403, 421 or 503.
        message: What to answer with, as plain text: what is wrong and what to do next.
        headers: Headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class Door:
    """Lets in who may come in on one listener.

    Args:
        tokens: The tokens that count; `None` where none is needed (`--no-token`).
        endpoint: What it listens on.
        anonymous: What whoever comes in without a token may do, where none is needed.
        allowed_hosts: Further names it is reached under.
        allowed_origins: Further origins that browsers may come from.

    Raises:
        OpenDoorError: If no token is needed although other machines can reach it.
    """

    def __init__(
        self,
        tokens: Tokens | None,
        endpoint: Endpoint,
        *,
        anonymous: frozenset[str] = frozenset(),
        allowed_hosts: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
    ) -> None:
        if tokens is None and not endpoint.is_loopback:
            raise OpenDoorError(
                f"{endpoint.text} can be reached from other machines, where --no-token would let anybody in. "
                "Leave --no-token out, or listen on 127.0.0.1."
            )
        self._tokens = tokens
        self._anyone = Identity(ANYONE, anonymous)
        self._any_address = endpoint.is_wildcard
        self._hosts = {endpoint.host, *map(canonical_host, allowed_hosts)}
        if endpoint.is_loopback:
            self._hosts |= _LOOPBACK
        elif endpoint.is_wildcard:
            # No one can make another name out of these: they mean this machine to whoever runs the browser.
            self._hosts |= {"localhost", socket.gethostname().lower()}
        self._origins = {origin for text in allowed_origins if (origin := _canonical_origin(text))}
        self._told = ""

    def admit(self, target: str, header: HeaderLookup) -> Identity:
        """Tell who comes in.

        Args:
            target: The path of the request with its query.
            header: Gives its headers.

        Raises:
            TurnedAwayError: If it may not come in.
        """
        self.check_origin(header)
        if self._tokens is None:
            return self._anyone
        presented = _presented(target, header)
        if not presented:
            raise _needs_token(f"A token is needed. {_WHERE}")
        try:
            identity = self._tokens.check(presented)
        except PrivateFileError as error:
            if self._told != str(error):  # once, however often somebody knocks
                self._told = str(error)
                logger.error("nobody can come in: %s", error)
            raise TurnedAwayError(
                503, "The tokens cannot be read, so nobody is let in. ToolScore's log says why."
            ) from error
        self._told = ""
        if identity is None:
            raise _needs_token(f"The token is not valid here, or not any more. {_WHERE}", "invalid_token")
        return identity

    def check_origin(self, header: HeaderLookup) -> None:
        """Check where a request goes and comes from; for pages that need no token, too.

        Args:
            header: Gives its headers.

        Raises:
            TurnedAwayError: If it means another host, or comes from a page that has no business here.
        """
        authority = _single(header, "host")
        if authority is None:
            raise TurnedAwayError(400, "The request has no Host header. Send one that names this listener.")
        host = _host(authority)
        if host is None:
            raise TurnedAwayError(400, "The Host header is malformed. Send HOST or HOST:PORT.")
        if host not in self._hosts and not (self._any_address and as_address(host) is not None):
            raise TurnedAwayError(
                421,
                f"This listener is not known as {host}. Connect to the address it listens on, or add the name to "
                "the setting network.allowed_hosts.",
            )
        origin = _single(header, "origin")
        if origin is not None and not self._may_come_from(origin, host):
            raise TurnedAwayError(
                403,
                "Pages of this Origin may not connect. If this one should, add it to the setting "
                "network.allowed_origins, such as https://app.example.",
            )

    def _may_come_from(self, origin: str, host: str) -> bool:
        found = _canonical_origin(origin)
        if found is None:  # `null` among them, which any sandboxed frame has
            return False
        if found in self._origins:
            return True
        scheme, _, authority = found.partition("://")
        # Not any IP address, even where any is a good host: there a stranger's page may come from.
        return scheme in _DEFAULT_PORTS and _host(authority) in self._hosts | {host}


def _needs_token(message: str, error: str = "") -> TurnedAwayError:
    # RFC 6750, section 3: no error code where nothing was presented.
    challenge = 'Bearer realm="toolscore"' + (f', error="{error}"' if error else "")
    return TurnedAwayError(401, message, {"WWW-Authenticate": challenge})


def _single(header: HeaderLookup, name: str) -> str | None:
    try:
        found = header(name)
    except LookupError:  # websockets' `get` where there are several
        found = ("", "")
    if found is None or isinstance(found, str):
        return found
    if len(found) > 1:
        raise TurnedAwayError(400, f"The request has more than one {name.title()} header. Send one.")
    return found[0] if found else None


def _host(authority: str) -> str | None:
    """Give the host of `host[:port]` in its one form; `None` if it is malformed."""
    match = _AUTHORITY.fullmatch(authority.strip(" \t"))
    if match is None or (match[1].startswith("[") and as_address(match[1]) is None):
        return None
    return canonical_host(match[1])


def _canonical_origin(text: str) -> str | None:
    """Give an origin the way browsers write it; `None` if it is none."""
    match = _ORIGIN.fullmatch(text.strip(" \t").removesuffix("/"))
    if match is None or _host(match[2]) is None:
        return None
    scheme, authority = match[1].lower(), match[2].lower()
    return f"{scheme}://{authority.removesuffix(_DEFAULT_PORTS.get(scheme, ''))}"


def _presented(target: str, header: HeaderLookup) -> str:
    """Give the token of a request; empty where there is none. The header counts before the query."""
    scheme, _, credentials = (_single(header, "authorization") or "").strip(" \t").partition(" ")
    if scheme.lower() == "bearer":  # of other schemes, a proxy's own may be left
        return credentials.strip(" \t")
    query = target.partition("#")[0].partition("?")[2]
    try:
        found = [value for key, value in parse_qsl(query, max_num_fields=100) if key in _PARAMETERS]
    except ValueError:
        raise TurnedAwayError(400, "The address has too many parameters. Send the token alone.") from None
    if len(found) > 1:
        raise TurnedAwayError(400, "The address holds more than one token. Send one.")
    return found[0] if found else ""
