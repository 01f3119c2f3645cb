"""The SDK's OAuth client for servers nobody watches: nothing but what is kept, no browser, no endless flow.

Importing this imports the SDK's client and its HTTP library; `authorization` does so when a server is reached.
"""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError, OAuthTokenError
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.auth.oauth2 import OAuthContext
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from mcp.shared.auth_utils import calculate_token_expiry
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from pydantic import AnyUrl, BaseModel, ValidationError

from .authorization import TokenVault
from .errors import AuthorizationNeededError, RunnerError, StartError

logger = logging.getLogger(__name__)

_OWN = "toolscore.authorization"
"""Mark on the requests that are part of an authorization."""

_ERROR = re.compile(r"[a-z_]{1,40}")
"""Error codes of RFC 6749, 5.2. The description beside them is somebody else's text and stays out."""

Model = TypeVar("Model", bound=BaseModel)
Flow = AsyncGenerator[httpx2.Request, httpx2.Response]


class Record:
    """What is kept of one server's authorization; a `TokenStorage` of the SDK's.

    Beside the registration and the tokens that is when they expire and where they are refreshed, neither of which
    the SDK knows after a restart, and the url they were granted for.

    Args:
        name: The server's name.
        url: Its endpoint.
        headers: The spec's headers.
        vault: Where it is kept.
        anew: Begin with nothing, and replace what is kept once there are tokens.
    """

    def __init__(
        self, name: str, url: str, headers: dict[str, str], vault: TokenVault, *, anew: bool = False
    ) -> None:
        self.name = name
        self.url = url
        self._headers = headers
        self._vault = vault
        self._anew = anew
        self._value: dict[str, Any] = {} if anew else self._loaded()
        self.context: OAuthContext | None = None
        """Where the SDK's provider has what it discovered."""

    def _loaded(self) -> dict[str, Any]:
        value = self._vault.load(self.name) or {}
        # A spec whose url leads elsewhere by now must not carry the tokens there.
        return value if _origin(str(value.get("url"))) == _origin(self.url) else {}

    async def reload(self) -> None:
        """Look at what is kept again."""
        if not self._anew:
            self._value = await asyncio.to_thread(self._loaded)

    @property
    def credentials(self) -> dict[str, Any] | None:
        """The credentials of a machine, where those are used."""
        found = self._value.get("credentials")
        return found if isinstance(found, dict) else None

    @property
    def expires_at(self) -> float | None:
        """When the access token expires, in seconds since 1970."""
        found = self._value.get("expires_at")
        return found if isinstance(found, int | float) else None

    def model(self, key: str, kind: type[Model]) -> Model | None:
        """Give a part as what it is, or `None` where there is none that can be understood."""
        try:
            return kind.model_validate(self._value[key])
        except (KeyError, ValidationError):
            return None

    async def get_tokens(self) -> OAuthToken | None:
        """Give the tokens."""
        return self.model("tokens", OAuthToken)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Give the registration."""
        return self.model("client", OAuthClientInformationFull)

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Do nothing yet: a registration without tokens is of no use, and must not replace one that has some."""

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep new tokens, and what is needed to refresh them."""
        assert self.context is not None
        parts: dict[str, BaseModel | None] = {
            "client": self.context.client_info,
            "tokens": tokens,
            "server": self.context.oauth_metadata,
            "resource": self.context.protected_resource_metadata,
        }
        known: dict[str, Any] = {
            key: part.model_dump(mode="json", exclude_none=True) for key, part in parts.items() if part
        }
        credentials = self.credentials
        if credentials is not None:
            # From now on the secret is sent nowhere else, whatever the server says later.
            issuer = self.context.oauth_metadata.issuer if self.context.oauth_metadata else None
            known["credentials"] = {**credentials, "issuer": str(issuer) if issuer else credentials["issuer"]}
            known.pop("client", None)
        known["expires_at"] = calculate_token_expiry(tokens.expires_in)
        self._value = {**self._value, **known, "url": self.url, "headers": self._headers}
        try:
            await asyncio.to_thread(self._vault.save, self.name, self._value)
        except RunnerError as exc:
            if self._anew:
                raise
            # They work until the next start, which says what to do.
            logger.warning("server %s: its refreshed tokens are not kept: %s", self.name, exc)

    def use(self, credentials: Mapping[str, Any]) -> None:
        """Take the credentials of a machine into what will be kept."""
        self._value["credentials"] = dict(credentials)

    async def ask(self) -> None:
        """Note where the server asked for authorization, for the command that obtains it."""
        if self._anew or (self._value.get("url") == self.url and self._value.get("headers") == self._headers):
            return
        self._value = {**self._value, "url": self.url, "headers": self._headers}
        try:
            await asyncio.to_thread(self._vault.save, self.name, self._value)
        except RunnerError as exc:
            logger.warning("server %s: that it needs authorization is not noted: %s", self.name, exc)


class _Nobody:
    """What both kinds of provider share that have no person to ask."""

    record: Record
    context: OAuthContext

    def _take(self, record: Record) -> None:
        self.record = record
        record.context = self.context
        self.on_failure: Callable[[RunnerError], None] = lambda _exc: None

    def owns(self, request: httpx2.Request) -> bool:
        """Tell whether a request is part of the authorization, and not a message to the server."""
        return _OWN in request.extensions

    def _discovered(self) -> None:
        """Give the SDK what it forgets between two starts."""
        self.context.token_expiry_time = self.record.expires_at
        self.context.oauth_metadata = self.record.model("server", OAuthMetadata)
        self.context.protected_resource_metadata = self.record.model("resource", ProtectedResourceMetadata)

    async def _needed(self, why: str) -> AuthorizationNeededError:
        await self.record.ask()
        return AuthorizationNeededError(self.record.name, why)

    def _authorize(self, request: httpx2.Request) -> str | None:
        """Put the token on a request, if there is one that is valid; give it."""
        tokens = self.context.current_tokens
        if tokens is None or not self.context.is_token_valid():
            request.headers.pop("Authorization", None)
            return None
        request.headers["Authorization"] = f"Bearer {tokens.access_token}"
        return tokens.access_token


class KeptProvider(_Nobody, OAuthClientProvider):
    """Authorizes with the tokens that are kept, and refreshes them; anything else is a person's business."""

    def __init__(self, record: Record) -> None:
        OAuthClientProvider.__init__(self, record.url, OAuthClientMetadata(redirect_uris=None), record)
        self._take(record)
        self._heard = False

    async def _initialize(self) -> None:
        await self.record.reload()
        await OAuthClientProvider._initialize(self)
        self._discovered()

    async def _auth_flow(self, request: httpx2.Request) -> Flow:
        # Not the SDK's: that one lets a request wait until the one before it is answered, asks for a new
        # authorization where a refresh would do, and registers a client before it finds nobody to ask.
        refused: str | None = None
        try:
            while True:
                async with self.context.lock:
                    if not self._initialized:
                        await self._initialize()
                    self.context.protocol_version = request.headers.get(MCP_PROTOCOL_VERSION_HEADER)
                    if self._is_stale(refused) and self.context.can_refresh_token():
                        answer = yield _marked(await self._refresh_token())
                        await self._take_over(answer)
                    sent = self._authorize(request)
                if refused is not None and sent in (None, refused):
                    raise await self._needed(
                        "Its access token is not accepted, and there is none to renew it."
                    )
                response = yield request
                if response.status_code != httpx2.codes.UNAUTHORIZED:
                    self._heard = True
                    return
                if sent is None:
                    if self._heard and request.method != "POST":
                        return  # it answers messages without; only the stream beside them is not for us
                    known = self.context.current_tokens is not None
                    raise await self._needed("Its access token has expired." if known else "")
                if refused is not None:
                    raise await self._needed("It does not accept a token that was just renewed.")
                refused = sent
        except RunnerError as exc:
            self.on_failure(exc)
            raise

    def _is_stale(self, refused: str | None) -> bool:
        tokens = self.context.current_tokens
        return tokens is not None and (tokens.access_token == refused or not self.context.is_token_valid())

    async def _take_over(self, answer: httpx2.Response) -> None:
        """Keep refreshed tokens.

        Raises:
            AuthorizationNeededError: If the refresh token is not accepted any more.
            StartError: If the authorization server is out of order.
        """
        if _out_of_order(answer):
            raise _later(self.record.name, answer)
        if answer.status_code == httpx2.codes.OK and await self._handle_refresh_response(answer):
            return
        said = await _error(answer)
        self._initialized = False  # somebody may authorize it meanwhile
        raise await self._needed(f"What was granted before cannot be renewed any more: {said}.")


class MachineProvider(_Nobody, ClientCredentialsOAuthProvider):
    """Authorizes with the credentials of a machine, as often as need be."""

    def __init__(self, record: Record, credentials: Mapping[str, Any]) -> None:
        with warnings.catch_warnings():
            # Whose credentials they are is learnt with the first token, and held to from then on.
            warnings.simplefilter("ignore", MCPDeprecationWarning)
            ClientCredentialsOAuthProvider.__init__(
                self,
                record.url,
                record,
                str(credentials["client_id"]),
                str(credentials["client_secret"]),
                issuer=credentials.get("issuer"),
            )
        self._take(record)

    async def _initialize(self) -> None:
        await ClientCredentialsOAuthProvider._initialize(self)
        self._discovered()

    async def _auth_flow(self, request: httpx2.Request) -> Flow:
        name = self.record.name
        try:
            async with self.context.lock:
                if not self._initialized:
                    await self._initialize()
                sent = self._authorize(request)
            # Outside the SDK's flow, in which requests wait for each other.
            response = yield request
            if response.status_code not in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
                return
            if self.context.current_tokens is not None and self.context.current_tokens.access_token == sent:
                # The SDK would take it for valid until it expires.
                self.context.clear_tokens()
            flow = ClientCredentialsOAuthProvider._auth_flow(self, request)
            held: httpx2.Response | None = response
            status = response.status_code
            try:
                outgoing = await anext(flow)
                if outgoing is not request or self.context.is_token_valid():
                    held = None  # there is a new token by now, or will be
                while True:
                    if outgoing is request and held is not None:
                        answer, held = held, None
                    else:
                        answer = yield (outgoing if outgoing is request else _marked(outgoing))
                    if outgoing is request:
                        status = answer.status_code
                    outgoing = await flow.asend(answer)
            except StopAsyncIteration:
                pass
            finally:
                await flow.aclose()
            if status == httpx2.codes.UNAUTHORIZED:
                raise await self._needed("It does not accept the token its credentials gave.")
        except OAuthTokenError as exc:
            needed = await self._needed("Its client id and secret are not accepted.")
            self.on_failure(needed)
            raise needed from exc
        except OAuthFlowError as exc:
            failed = StartError(f"server '{name}' cannot be authorized: {exc}")
            self.on_failure(failed)
            raise failed from exc
        except RunnerError as exc:
            self.on_failure(exc)
            raise

    async def _handle_token_response(self, response: httpx2.Response) -> None:
        if _out_of_order(response):
            raise _later(self.record.name, response)
        await ClientCredentialsOAuthProvider._handle_token_response(self, response)


def machine(record: Record, credentials: Mapping[str, Any]) -> MachineProvider:
    """Make a provider from the credentials of a machine."""
    record.use(credentials)
    return MachineProvider(record, credentials)


def person(
    record: Record,
    redirect_uri: str,
    redirect: Callable[[str], Awaitable[None]],
    callback: Callable[[], Awaitable[AuthorizationCodeResult]],
) -> OAuthClientProvider:
    """Make a provider that asks a person."""
    metadata = OAuthClientMetadata(client_name="ToolScore", redirect_uris=[AnyUrl(redirect_uri)])
    provider = OAuthClientProvider(record.url, metadata, record, redirect, callback)
    record.context = provider.context
    return provider


def _marked(request: httpx2.Request) -> httpx2.Request:
    request.extensions = {**request.extensions, _OWN: True}
    return request


def _out_of_order(answer: httpx2.Response) -> bool:
    """Tell whether an authorization server answers nothing about the tokens, so that it is asked again later."""
    return answer.status_code >= 500 or answer.status_code in (408, 429)


def _later(name: str, answer: httpx2.Response) -> StartError:
    return StartError(
        f"the authorization server of '{name}' answered with HTTP status {answer.status_code}; it is asked again."
    )


async def _error(answer: httpx2.Response) -> str:
    said = f"HTTP status {answer.status_code}"
    await answer.aread()
    try:
        found = answer.json()
    except ValueError:
        return said
    code = found.get("error") if isinstance(found, dict) else None
    return f"{said}, {code}" if isinstance(code, str) and _ERROR.fullmatch(code) else said


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname, port
    except ValueError:
        return "", None, None
