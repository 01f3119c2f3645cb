"""What all network listeners of a ToolScore share: who may come in, the limits, the pages and what is counted."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..tools.caller import REGISTER
from ..tools.names import valid_server_name
from .admission import Door
from .given_token import given
from .home import HomeError
from .private_file import PrivateFileError
from .revoking import Revoking
from .tokens import ANYONE, Identity, Tokens

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .home import Home
    from .pages import Pages
    from .settings_model import NetworkSettings


class ListenError(HomeError):
    """A listener cannot be opened. The text says which, why, and what to change."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who was let in.

    Attributes:
        identity: Who it is, and what it may do.
        listener: The address of the listener, as it was given.
        path: The path it asked for.
    """

    identity: Identity
    listener: str
    path: str


class Network:
    """What the listeners share.

    Args:
        settings: The settings `network.*`.
        home: Where the tokens are.
        pages: The pages besides MCP.
        no_token: Whether whoever reaches a listener may come in, which only those on loopback allow.
        shared: The database that the named tokens of several gateways lie in.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        home: Home,
        pages: Pages,
        *,
        no_token: bool = False,
        shared: str = "",
    ) -> None:
        self.settings = settings
        self.pages = pages
        self.refused = 0
        """Requests that were turned away so far."""
        self._rights = frozenset(settings.rights)
        self._tokens = None if no_token else Tokens(home, self._rights, given(), shared)
        self._connections: Counter[str] = Counter()
        self.revoking = Revoking(self._tokens)
        """Cuts off who is in by a token that is not good any more."""
        self.name_taken: Callable[[str, str], str | None] = lambda _name, _principal: None
        """Tells why a server cannot dial in under a name; `None` if it can."""

    def door(self, endpoint: Endpoint) -> Door:
        """Make the door of a listener.

        Raises:
            OpenDoorError: If it would let in anybody from other machines.
        """
        settings = self.settings
        return Door(
            self._tokens,
            endpoint,
            anonymous=self._rights,
            allowed_hosts=settings.allowed_hosts,
            allowed_origins=settings.allowed_origins,
        )

    def pages_of(self, endpoint: Endpoint) -> Pages:
        """Give the pages of a listener."""
        return self.pages.at(endpoint, token=self._tokens is not None)

    @property
    def tokens(self) -> Tokens | None:
        """The tokens that count; `None` where none is needed."""
        return self._tokens

    def take_tokens(self, body: str) -> None:
        """Take the tokens that all gateways share, and cut off at once who is in by one that is not among them.

        Raises:
            PrivateFileError: If this is not what another gateway writes.
        """
        if self._tokens is not None:
            self._tokens.take(body)
            self.revoking.look()

    def vouch(self, digest: bytes) -> Identity | None:
        """Tell who comes in by the token of this digest, of which another gateway says that it was shown there.

        Returns:
            Who it is; `None` if it is no token here, or cannot be told.
        """
        if self._tokens is None:
            return None if digest else Identity(ANYONE, self._rights)
        try:
            return self._tokens.of_digest(digest)
        except PrivateFileError:
            return None

    def token(self) -> str | None:
        """Give the generated token, made now if need be; `None` where none is needed."""
        return self._tokens.default() if self._tokens is not None else None

    def tls(self, endpoint: Endpoint) -> ssl.SSLContext | None:
        """Make the TLS context of a `wss://` or `https://` listener.

        Raises:
            ListenError: If there is no certificate, or it cannot be used.
        """
        return tls_of(self.settings, endpoint)

    def may_register(self, name: str, visitor: Visitor) -> tuple[int, str] | None:
        """Tell whether a server may dial in under a name.

        Returns:
            `None` if it may; otherwise an HTTP status and why not.
        """
        if REGISTER not in visitor.identity.rights:
            return 403, (
                f"'{visitor.identity.principal}' may not register servers. Make a token that may: "
                "toolscore token create NAME --allow call,register\n"
            )
        if (wrong := valid_server_name(name)) is not None:
            return 400, f"Give the server's name: /register?name=NAME. {wrong}\n"
        if (taken := self.name_taken(name, visitor.identity.principal)) is not None:
            return 409, taken + "\n"
        return None

    def turned_away(self) -> None:
        """Count a request that was not let in."""
        self.refused += 1

    def connected(self, listener: str) -> int:
        """Give how many clients a listener has."""
        return self._connections[listener]

    def connections(self) -> dict[str, int]:
        """Give how many clients each listener has."""
        return dict(self._connections)

    @contextmanager
    def counted(self, listener: str) -> Iterator[None]:
        """Count a client of a listener while it is there."""
        self._connections[listener] += 1
        try:
            yield
        finally:
            self._connections[listener] -= 1


def tls_of(settings: NetworkSettings, endpoint: Endpoint) -> ssl.SSLContext | None:
    """Make the TLS context of an address with the certificate of the settings; `None` where it needs none.

    Raises:
        ListenError: If there is no certificate, or it cannot be used.
    """
    if not endpoint.is_secure:
        return None
    certificate, key = settings.tls_cert, settings.tls_key
    if not certificate:
        raise ListenError(
            f"{endpoint.text} needs a certificate: set network.tls_cert and network.tls_key to its PEM files."
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as exc:
        raise ListenError(
            f"The certificate of {endpoint.text} cannot be used: {exc}. Check network.tls_cert "
            f"({certificate}) and network.tls_key ({key or 'not set'})."
        ) from exc
    return context
