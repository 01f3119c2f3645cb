"""An MCP server that wants OAuth, and its authorization server, of the SDK's own parts: `oauth_server.py FD FD`.

Each is a socket that listens. The first serves MCP (`/mcp`, `/sse`), the second authorizes and approves everybody.
`/control` on the second changes its ways and tells what was done.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import socket
import sys
import time
from typing import Any

import uvicorn
from mcp.server.auth.handlers.token import TokenHandler
from mcp.server.auth.middleware.client_auth import ClientAuthenticator
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

MACHINE = ("robot", "machine-secret")


class Provider(OAuthAuthorizationServerProvider[AuthorizationCode, RefreshToken, AccessToken]):
    """Approves at once, and forgets when told."""

    def __init__(self) -> None:
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.codes: dict[str, AuthorizationCode] = {}
        self.access: dict[str, AccessToken] = {}
        self.refresh: dict[str, RefreshToken] = {}
        self.ways: dict[str, Any] = {"expires_in": 3600, "registers": True}
        self.counts = dict.fromkeys(("registered", "authorized", "refreshed", "machine", "refused"), 0)
        self.secrets: list[str] = []
        """Every token and secret that was ever given."""

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.counts["registered"] += 1
        self.clients[client_info.client_id] = client_info
        self.secrets += [client_info.client_secret] if client_info.client_secret else []

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        self.counts["authorized"] += 1
        back = str(params.redirect_uri)
        if self.ways.get("deny"):
            return construct_redirect_uri(back, error="access_denied", state=params.state)
        code = AuthorizationCode(
            code=secrets.token_hex(20),
            client_id=client.client_id,
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            **params.model_dump(include={"code_challenge", "redirect_uri", "resource"}),
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
        )
        self.codes[code.code] = code
        return construct_redirect_uri(back, code=code.code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self.codes[authorization_code.code]
        return self.issue(client.client_id, authorization_code.scopes, authorization_code.resource)

    async def load_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: str
    ) -> RefreshToken | None:
        return self.refresh.get(refresh_token)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        self.counts["refreshed"] += 1
        del self.refresh[refresh_token.token]  # rotated: the old one is worth nothing
        return self.issue(client.client_id, scopes, refresh_token.resource)

    async def load_access_token(self, token: str) -> AccessToken | None:
        return self.access.get(token)

    async def verify_token(self, token: str) -> AccessToken | None:
        return self.access.get(token)

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        self.access.pop(token.token, None)
        self.refresh.pop(token.token, None)

    def issue(
        self, client_id: str, scopes: list[str], resource: str | None, *, renewable: bool = True
    ) -> OAuthToken:
        token = f"access-{secrets.token_hex(16)}"
        self.access[token] = AccessToken(token=token, client_id=client_id, scopes=scopes, resource=resource)
        renewal = f"refresh-{secrets.token_hex(16)}" if renewable else None
        if renewal is not None:
            self.refresh[renewal] = RefreshToken(
                token=renewal, client_id=client_id, scopes=scopes, resource=resource
            )
            self.secrets.append(renewal)
        self.secrets.append(token)
        return OAuthToken(access_token=token, refresh_token=renewal, expires_in=self.ways["expires_in"])

    async def control(self, request: Request) -> Response:
        if request.method == "POST":
            asked = await request.json()
            if asked.pop("expire", False):
                self.access.clear()
            if asked.pop("revoke", False):
                self.access.clear()
                self.refresh.clear()
            self.ways |= asked
        return JSONResponse({**self.counts, "secrets": self.secrets})

    async def token(self, request: Request) -> Response:
        form = await request.form()
        if self.ways.get("down"):
            return Response(status_code=503)
        if form.get("grant_type") != "client_credentials":
            answer: Response = await TokenHandler(self, ClientAuthenticator(self)).handle(request)
            return answer
        expected = base64.b64encode(":".join(MACHINE).encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        self.counts["machine"] += 1
        given = self.issue(MACHINE[0], [], str(form.get("resource")), renewable=False)
        return JSONResponse(given.model_dump(mode="json", exclude_none=True))


def resource_app(provider: Provider, at: str, issuer: str) -> ASGIApp:
    server = MCPServer(
        "guarded",
        version="1.0",
        token_verifier=provider,
        auth=AuthSettings(
            issuer_url=AnyHttpUrl(issuer), resource_server_url=AnyHttpUrl(at), validate_token_resource=True
        ),
    )

    @server.tool()
    def add(a: int, b: int) -> str:
        return str(a + b)

    streamable, sse = server.streamable_http_app(), server.sse_app()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Any) -> None:
            provider.counts["refused"] += message.get("status") == 401
            await send(message)

        over_sse = scope.get("path", "").startswith(("/sse", "/messages"))
        await (sse if over_sse else streamable)(scope, receive, counted)

    return app


def authorization_app(provider: Provider, issuer: str) -> Starlette:
    own = [
        Route("/control", provider.control, methods=["GET", "POST"]),
        Route("/token", provider.token, methods=["POST"]),
    ]
    registration = ClientRegistrationOptions(enabled=True)
    return Starlette(
        routes=own
        + create_auth_routes(provider, AnyHttpUrl(issuer), client_registration_options=registration)
    )


async def main(one: socket.socket, other: socket.socket) -> None:
    at, issuer = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in (one, other))
    provider = Provider()
    apps = ((resource_app(provider, f"{at}/", issuer), one), (authorization_app(provider, issuer), other))
    print("ready", flush=True)  # what comes from now on waits in the sockets until it is answered
    await asyncio.gather(
        *(
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listening])
            for app, listening in apps
        )
    )


if __name__ == "__main__":
    asyncio.run(main(*(socket.socket(fileno=int(number)) for number in sys.argv[1:3])))
