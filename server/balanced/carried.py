"""An HTTP request of a client on its way from the gateway it came to, to the one that has its session."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from pydantic_core import from_json, to_json
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from ...tools.outcome import OUTCOME_KEY, Outcome, RefusalError
from ..tokens import Identity
from ..visit import SCOPE_KEY, Visit
from .body import again
from .link import Line, LineLostError, Links

if TYPE_CHECKING:
    from ...tools.gateways.gateway import Gateway
    from ..streamable import HttpListener

CARRIED = frozenset({"accept", "content-type", "last-event-id"})
"""The headers that go with it, and those of MCP. Who sends it is told by the gateway, never by a header."""

_MCP = "mcp-"

REFUSED = -32010

SENT_BACK = frozenset({"content-type", "cache-control", "mcp-session-id", "allow", "retry-after"})
"""The headers of the answer that come back."""


class UnknownThereError(Exception):
    """The session is not at the gateway that was asked."""


def client_of(identity: Identity) -> str:
    """Name the client that a session belongs to: other rights are another client."""
    return f"{identity.principal} {','.join(sorted(identity.rights))}"


def authorized(scope: Scope, identity: Identity) -> None:
    """Let a session be found only by whom it belongs to: the SDK compares this."""
    token = AccessToken(token="", client_id=client_of(identity), scopes=[])
    scope["user"] = AuthenticatedUser(token)


async def carry(
    links: Links,
    gateway: Gateway,
    scope: Scope,
    body: bytes,
    receive: Receive,
    send: Send,
    *,
    take: bool = False,
) -> None:
    """Have another gateway answer a request, and hand its answer on as it comes.

    Args:
        links: The lines to the gateways.
        gateway: The one to answer it.
        scope: The request.
        body: What it holds, which was read already.
        receive: Tells when its client leaves.
        send: Takes the answer.
        take: Whether it is to answer what does not belong to it yet, too.

    Raises:
        UnreachedError: If it cannot be reached; it knows nothing of the request.
        UnknownThereError: If it has no such session.
        LineLostError: If it was lost before it answered anything.
    """
    visit: Visit = scope[SCOPE_KEY]
    headers = Headers(scope=scope)
    told = [[name, value] for name, value in headers.items() if _goes_along(name)]
    line = await links.take(gateway)
    began = False
    gone = asyncio.get_running_loop().create_task(_left(receive))
    gone.add_done_callback(lambda task: None if task.cancelled() else links.cut(line))

    def over() -> None:
        # Of a client that has left the callback cuts the line: nobody else may have it by then.
        if gone.done():
            links.cut(line)
        links.give_back(gateway, line)

    try:
        await line.send(
            {
                "kind": "http",
                "take": take,
                "token": visit.identity.digest.hex(),
                "method": scope["method"],
                "headers": told,
            }
        )
        await line.send_body(body)
        answer = await line.receive()
        if not isinstance(answer, dict) or "status" not in answer:
            over()
            raise UnknownThereError
        began = True
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in answer["headers"]]
        await send({"type": "http.response.start", "status": answer["status"], "headers": pairs})
        while isinstance(part := await line.receive(), bytes):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except LineLostError:
        if gone.done():
            return  # the client left, which ended it
        links.cut(line)
        if not began:
            raise
        last = lost_event(body, gateway.name)
        await send({"type": "http.response.body", "body": last, "more_body": False})
    except UnknownThereError:
        raise
    except BaseException:
        links.cut(line)
        raise
    else:
        over()
    finally:
        gone.cancel()


def _goes_along(name: str) -> bool:
    return name in CARRIED or name.startswith(_MCP)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def take(
    line: Line, host: HttpListener, identity: Identity, asked: Mapping[str, Any], body: bytes
) -> None:
    """Answer a request that came to another gateway."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": str(asked["method"]),
        "scheme": "http",
        "path": host.endpoint.path,
        "raw_path": host.endpoint.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (name.encode(), value.encode("latin-1")) for name, value in asked["headers"] if _goes_along(name)
        ],
        "client": None,
        "server": None,
        "state": {},
    }
    scope[SCOPE_KEY] = Visit(host, identity)
    authorized(scope, identity)

    async def left() -> Message:
        await line.wire.wait_closed()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        with suppress(LineLostError):  # its client has left; what serves it hears of that by itself
            if message["type"] == "http.response.start":
                headers = [
                    [name.decode(), value.decode("latin-1")]
                    for name, value in message.get("headers", ())
                    if name.decode().lower() in SENT_BACK
                ]
                await line.send({"status": message["status"], "headers": headers})
            elif message["type"] == "http.response.body":
                if part := message.get("body", b""):
                    await line.send_part(part)
                if not message.get("more_body", False):
                    await line.send({})

    await host.managed(scope, again(body, left), send)


def lost_answer(body: bytes, gateway: str) -> dict[str, Any] | None:
    """Give the definite answer to a request whose gateway died over it; `None` where nothing waits for one."""
    try:
        asked = from_json(body)
    except ValueError:
        return None
    if not isinstance(asked, dict) or "id" not in asked or not isinstance(asked.get("method"), str):
        return None
    refusal = RefusalError(
        Outcome.OUTCOME_UNKNOWN,
        f"Gateway '{gateway}' ended while it worked on this, so it is not known whether it was done. See what there "
        "is before you ask for it again.",
    )
    if asked["method"] == "tools/call":
        return {"jsonrpc": "2.0", "id": asked["id"], "result": refusal.result()}
    data = {OUTCOME_KEY: str(refusal.outcome)}
    error = {"code": REFUSED, "message": refusal.message, "data": data}
    return {"jsonrpc": "2.0", "id": asked["id"], "error": error}


def lost_event(body: bytes, gateway: str) -> bytes:
    """Give the same as the last event of a stream that was begun; nothing where nothing waits for it."""
    answer = lost_answer(body, gateway)
    return b"" if answer is None else b"event: message\r\ndata: " + to_json(answer) + b"\r\n\r\n"
