"""The SDK's sessions of Streamable HTTP, and one thing more: a session of another gateway, made anew here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.server.auth.middleware.bearer_auth import authorization_context
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic_core import to_json
from starlette.types import Message, Receive, Scope, Send

from .body import again


class SessionManager(StreamableHTTPSessionManager):
    """The sessions of one listener."""

    _adopting: set[str]

    def has(self, identity: str) -> bool:
        """Tell whether a session is here, and whole."""
        return identity in self._server_instances and identity not in self._adopted

    @property
    def _adopted(self) -> set[str]:
        if not hasattr(self, "_adopting"):
            self._adopting = set()
        return self._adopting

    async def adopt(self, identity: str, scope: Scope, said: Sequence[Mapping[str, Any]]) -> bool:
        """Make a session anew, under its id, from what its client had said.

        Args:
            identity: The id.
            scope: The request that is in it; what is said in its name is said by the same client.
            said: The messages, `initialize` first.

        Returns:
            Whether it is here now: there may be too many, or `initialize` may be refused.
        """
        if self.max_sessions is not None and len(self._server_instances) >= self.max_sessions:
            return False
        transport = StreamableHTTPServerTransport(
            mcp_session_id=identity, idle_timeout=self.session_idle_timeout
        )
        self._adopted.add(identity)
        try:
            self._session_owners[identity] = authorization_context(scope["user"])
            self._server_instances[identity] = transport
            opening, *further = said
            # Without the lock of new sessions: this id is known to nobody else here.
            await self._serve_opening_request(transport, *_request(scope, identity, opening))
            for message in further:
                if identity in self._server_instances:
                    await transport.handle_request(*_request(scope, identity, message))
        finally:
            self._adopted.discard(identity)
        return identity in self._server_instances

    async def say(self, identity: str, scope: Scope, message: Mapping[str, Any]) -> None:
        """Have one more thing said in a session."""
        transport = self._server_instances.get(identity)
        if transport is not None:
            await transport.handle_request(*_request(scope, identity, message))

    async def drop(self, identity: str) -> None:
        """End a session here, which is another gateway's."""
        transport = self._server_instances.get(identity)
        if transport is not None:
            await self._discard_session(identity, transport)

    @property
    def identities(self) -> list[str]:
        """The ids of all sessions that are here."""
        return [one for one in self._server_instances if one not in self._adopted]


def _request(scope: Scope, identity: str, message: Mapping[str, Any]) -> tuple[Scope, Receive, Send]:
    """Give a message as a request that holds it (ASGI), whose answer nobody reads."""
    body = to_json({"jsonrpc": "2.0", **message})
    headers = [
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
        (b"mcp-session-id", identity.encode()),
    ]

    async def never() -> Message:
        await asyncio.Event().wait()  # nobody leaves
        raise AssertionError

    async def send(_message: Message) -> None:
        return

    return {**scope, "method": "POST", "headers": headers}, again(body, never), send
