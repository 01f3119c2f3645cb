"""OAuth towards servers that are reached over HTTP: what is kept of an authorization, and what makes use of it.

A running ToolScore never opens a browser. It uses and refreshes what is kept (`provider_for`); a person grants it
once (`person_for`), or credentials of a machine stand in for one (`machine_for`), both in a command of its own.
The SDK's client does the protocol and is imported only once a server is reached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from .errors import RunnerError, StartError

if TYPE_CHECKING:
    import httpx2
    from mcp.client.auth import OAuthClientProvider
    from mcp.shared.auth import AuthorizationCodeResult

    from .oauth import KeptProvider, MachineProvider

_NOT_THIS_WAY = (404, 405)
"""HTTP statuses of an endpoint that does not take such a request."""

PROBE = {
    "jsonrpc": "2.0",
    "id": "toolscore-authorize",
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "toolscore", "version": "1"},
    },
}
"""The request a server that wants authorization answers with 401."""


class TokenVault(Protocol):
    """Where authorizations are kept, by server. A value is a JSON object of this floor's making, and secret."""

    def load(self, server: str) -> dict[str, Any] | None:
        """Give what is kept.

        Raises:
            SpecError: If it cannot be read.
        """
        ...

    def save(self, server: str, value: Mapping[str, Any]) -> None:
        """Keep something in place of what was kept.

        Raises:
            SpecError: If it cannot be written; what was kept is kept.
        """
        ...


def applies(url: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a server may be authorized with OAuth: over HTTP, and without credentials of its own."""
    parts = urlsplit(url)
    named = {name.lower() for name in headers}
    return parts.scheme in ("http", "https") and "@" not in parts.netloc and "authorization" not in named


def target(value: Mapping[str, Any] | None) -> tuple[str, dict[str, str]] | None:
    """Give the url and headers with which a server was reached when it asked for authorization, if it did."""
    if value is None or not isinstance(value.get("url"), str):
        return None
    return value["url"], dict(value.get("headers") or {})


def provider_for(
    name: str, url: str, vault: TokenVault, *, headers: Mapping[str, str] | None = None
) -> KeptProvider | MachineProvider:
    """Make what authorizes the requests of a running ToolScore, with what is kept and nobody to ask.

    It does nothing until the server answers 401, unless there are tokens.

    Args:
        name: The server's name.
        url: Its endpoint. Tokens that were granted for another origin are not used.
        vault: Where authorizations are kept.
        headers: The spec's headers, which a later authorization sends too.
    """
    from .oauth import KeptProvider, Record, machine

    record = Record(name, url, dict(headers or {}), vault)
    credentials = record.credentials
    return machine(record, credentials) if credentials is not None else KeptProvider(record)


def person_for(
    name: str,
    url: str,
    vault: TokenVault,
    *,
    headers: Mapping[str, str],
    redirect_uri: str,
    redirect: Callable[[str], Awaitable[None]],
    callback: Callable[[], Awaitable[AuthorizationCodeResult]],
) -> OAuthClientProvider:
    """Make what authorizes a request by asking a person; what is granted replaces what was kept.

    Args:
        name: The server's name.
        url: Its endpoint.
        vault: Where authorizations are kept.
        headers: The spec's headers.
        redirect_uri: Where the person's browser comes back to.
        redirect: Sends the person to the authorization server.
        callback: Waits for the person to come back.
    """
    from .oauth import Record, person

    return person(Record(name, url, dict(headers), vault, anew=True), redirect_uri, redirect, callback)


def machine_for(
    name: str,
    url: str,
    vault: TokenVault,
    *,
    headers: Mapping[str, str],
    client_id: str,
    client_secret: str,
    issuer: str | None = None,
) -> MachineProvider:
    """Make what authorizes a request with the credentials of a machine (RFC 6749, 4.4), kept once they worked.

    Args:
        name: The server's name.
        url: Its endpoint.
        vault: Where authorizations are kept.
        headers: The spec's headers.
        client_id: Who the machine is.
        client_secret: Its secret.
        issuer: The authorization server the secret is for; when `None`, the one the server names now, from then on.
    """
    from .oauth import Record, machine

    credentials = {"client_id": client_id, "client_secret": client_secret, "issuer": issuer}
    return machine(Record(name, url, dict(headers), vault, anew=True), credentials)


async def obtain(name: str, url: str, headers: Mapping[str, str], provider: Any) -> None:
    """Send a request that the server refuses until it is authorized, so that the provider obtains tokens.

    Raises:
        StartError: With the reason and the next step, if there are no tokens in the end.
    """
    import httpx2
    from mcp.client.auth import OAuthFlowError, OAuthRegistrationError
    from mcp.shared._httpx_utils import stream_within_origin

    from .remote import http_client, is_sse, shown

    accept = "application/json, text/event-stream"
    ways: list[tuple[str, Any]] = [("POST", PROBE), ("GET", None)]
    status, session, tokens = 0, None, None
    try:
        async with http_client(url, headers={**headers, "accept": accept}, auth=provider) as client:
            for method, body in reversed(ways) if is_sse(url) else ways:
                async with stream_within_origin(client, method, url, json=body) as response:
                    status = response.status_code
                    session = response.headers.get("mcp-session-id")
                tokens = provider.context.current_tokens
                if tokens is not None or status not in _NOT_THIS_WAY:
                    break  # one with SSE may be at any address, and answers the other kind of request only
            if session is not None and tokens is not None:
                # A courtesy, and not worth another flow if the token is short-lived.
                bearer = {"mcp-session-id": session, "authorization": f"Bearer {tokens.access_token}"}
                with suppress(httpx2.HTTPError):
                    await client.delete(url, headers=bearer, auth=None)
    except OAuthRegistrationError as exc:
        raise StartError(
            f"the authorization server of '{name}' does not let ToolScore register as a client: {exc}. If it takes "
            f"a key, register the server again with --header 'Authorization=Bearer KEY'; if it gave you credentials "
            "for a machine, use --client-id and --client-secret-env."
        ) from exc
    except OAuthFlowError as exc:
        raise StartError(
            f"'{name}' was not authorized: {exc}. Try again, or ask who runs {shown(url)}."
        ) from exc
    except httpx2.HTTPError as exc:
        raise StartError(
            f"'{name}' was not authorized: {str(exc) or type(exc).__name__} while talking to {shown(url)} or its "
            "authorization server. Check that both can be reached."
        ) from exc
    if provider.context.current_tokens is None:
        raise StartError(
            f"'{name}' does not ask for authorization: {shown(url)} answered with HTTP status {status}. Nothing was "
            "changed."
        )
    if status == httpx2.codes.UNAUTHORIZED:
        raise StartError(f"'{name}' refuses the token its own authorization server gave. Ask who runs it.")


class Watched(Protocol):
    """What a channel needs of a provider besides that it is an `httpx2.Auth`."""

    on_failure: Callable[[RunnerError], None]
    """Called with the error when a request cannot be authorized; some transports would swallow it."""

    def owns(self, request: httpx2.Request) -> bool:
        """Tell whether a request is part of the authorization, and not a message to the server."""
        ...
