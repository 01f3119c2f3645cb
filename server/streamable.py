"""Clients over Streamable HTTP, on the SDK's own session manager behind ToolScore's door, and the pages beside it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mcp.server.transport_security import RequestBodyLimitMiddleware
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic_core import from_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from .admission import TurnedAwayError
from .balanced.carried import authorized
from .balanced.manager import SessionManager
from .http_idle import IDLE
from .http_server import HttpConfig, HttpConnection, HttpServer, bound
from .revoking import REVOKED
from .tokens import Identity
from .visit import SCOPE_KEY, Visit

if TYPE_CHECKING:
    from ..tools.caller import Caller
    from .balanced.remembered import Remembered
    from .endpoint import Endpoint
    from .listeners import Holder, Reception
    from .network import Network

KEEP_ALIVE = 75
"""Seconds a connection without a request is kept."""

CLOSE_TIMEOUT = 1
"""Seconds the last answers may take to leave."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600

_SESSION = "mcp-session-id"
_EXPOSED = "Mcp-Session-Id, WWW-Authenticate"
_METHODS = "GET, POST, DELETE"


class HttpListener:
    """Listens on one `http://` or `https://` address.

    Args:
        endpoint: The address.
        network: Who may come in, the limits and the pages.
        desk: Serves the clients.
        holder: Who runs all of this.
    """

    def __init__(self, endpoint: Endpoint, network: Network, desk: Reception, holder: Holder) -> None:
        self.endpoint = endpoint
        self.url = endpoint.url()
        self.front = desk.front
        self._network = network
        self._holder = holder
        self._door = network.door(endpoint)
        self._pages = network.pages_of(endpoint)
        limit = network.settings.max_message << 20
        self._manager = SessionManager(
            desk.gateway.server,
            session_idle_timeout=IDLE,
            max_request_body_size=limit,
            max_sessions=network.settings.max_connections,
        )
        self._whole = RequestBodyLimitMiddleware(self._strict, limit)
        self._managing: asyncio.Task[None] | None = None
        self._uvicorn: HttpServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self.stopping = False
        self._busy: Counter[str] = Counter()

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            OSError: If the address cannot be had.
            ListenError: If there is no certificate for it, or it cannot be used.
        """
        tls = self._network.tls(self.endpoint)
        sockets = await bound(self.endpoint.host, self.endpoint.port)
        config = HttpConfig(
            self._answer,
            interface="asgi3",
            http=HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=CLOSE_TIMEOUT,
        )
        config.load()
        config.ssl = tls  # a context that is made already cannot be given to every version of uvicorn
        config.slow_timeout = self._network.settings.slow_timeout
        self._uvicorn = HttpServer(config)
        loop = asyncio.get_running_loop()
        managed = asyncio.Event()
        self._managing = loop.create_task(self._manage(managed))
        self._serving = loop.create_task(self._uvicorn.serve(sockets))
        await managed.wait()
        starting = loop.create_task(self._uvicorn.up.wait())
        await asyncio.wait([starting, self._serving], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            for one in sockets:
                one.close()
            await self._serving
        self.url = self.endpoint.url(sockets[0].getsockname()[1])

    async def _manage(self, managed: asyncio.Event) -> None:
        async with self._manager.run():
            managed.set()
            await asyncio.Event().wait()

    def stop_accepting(self) -> None:
        """Take no new connections, and no new requests on those that are there."""
        self.stopping = True
        if self._uvicorn is not None:
            for server in self._uvicorn.servers:
                server.close()

    async def close(self) -> None:
        """End all sessions and requests, and listen no more."""
        self.stop_accepting()
        tasks = [task for task in (self._managing, self._serving) if task is not None]
        if self._managing is not None:
            self._managing.cancel()
        if self._uvicorn is not None:
            self._uvicorn.ending.set()
        if tasks:
            _done, left = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT + 1)
            for task in left:
                task.cancel()

    # --- what a visit asks for

    def caller(self, identity: Identity) -> Caller:
        """Give the caller of a new client."""
        return self._holder.caller("http", identity)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Count a session while it lasts; when clients are ended, which only the end of all does, it is, too."""
        ended = asyncio.Event()

        async def last() -> None:
            try:
                await ended.wait()
            finally:
                if not ended.is_set() and self._managing is not None:
                    self._managing.cancel()

        self._holder.hold(asyncio.get_running_loop().create_task(last()))
        try:
            with self._network.counted(self.endpoint.text):
                yield
        finally:
            ended.set()

    # --- requests

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (ASGI)."""
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        response: Response | None = None
        identity: Identity | None = None
        try:
            if self._pages.is_open(path):
                self._door.check_origin(headers.getlist)
                response = await self._page(path, method, headers)
            elif method == "OPTIONS" and "access-control-request-method" in headers:
                self._door.check_origin(headers.getlist)
                response = Response(status_code=204, headers=_preflight(headers))
            else:
                identity = self._door.admit(_target(scope), headers.getlist)
                response = await self._page(path, method, headers) or self._refusal(path, headers)
        except TurnedAwayError as exc:
            self._network.turned_away()
            response = _text(exc.status, exc.message, exc.headers)
        else:
            # The door has let in this origin; a browser must be told so.
            if (origin := headers.get("origin")) is not None:
                send = _open_to(origin, send)
        if response is not None or identity is None:
            await (response or _text(404, "There is nothing here."))(scope, receive, send)
            return
        visit = scope[SCOPE_KEY] = Visit(self, identity)
        authorized(scope, identity)
        if _in_session(headers):
            await self.managed(scope, receive, send)
            return
        with visit.place:  # in the modern era, a client is there while it asks
            visit.place.enter_context(self._network.counted(self.endpoint.text))
            await self.managed(scope, receive, send)

    async def _page(self, path: str, method: str, headers: Headers) -> Response | None:
        page = await self._pages.answer(path, method, headers.getlist)
        if page is None:
            return None
        return Response(page.body, page.status, dict(page.headers), page.content_type)

    def _refusal(self, path: str, headers: Headers) -> Response | None:
        """Say why a request of somebody who was let in is not served; `None` if it is."""
        network = self._network
        if path != self.endpoint.path:
            hint = " Servers dial in at a ws:// listener." if path == "/register" else ""
            return _text(404, f"There is nothing at {path}. Clients connect to {self.endpoint.path}.{hint}")
        if self.stopping and self.front.balance is None:
            return _text(503, "ToolScore is ending.", {"Retry-After": "1"})
        limit = network.settings.max_connections
        if not _in_session(headers) and network.connected(self.endpoint.text) >= limit:
            network.turned_away()
            return _text(503, f"This listener has its {limit} clients (network.max_connections).")
        return None

    async def managed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the SDK serve a request, in a task that ends with ToolScore; or the gateway that has its session."""
        began = finished = False

        async def watched(message: Message) -> None:
            nonlocal began, finished
            began = True
            finished = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        task = asyncio.get_running_loop().create_task(self._whole(scope, receive, watched))
        self._holder.hold(task)
        visit: Visit = scope[SCOPE_KEY]
        revoked = False

        def cut_off() -> None:
            nonlocal revoked
            revoked = True
            task.cancel()

        try:
            with self._network.revoking.inside(visit.identity, cut_off):
                await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not began:
            status, text = (503, "ToolScore is ending.") if task.cancelled() else (500, "Internal error.")
            if revoked:
                status, text = 401, f"This request was cut off: {REVOKED}."
            await _text(status, text)(scope, receive, send)
        elif not finished:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _strict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the SDK a request, unless it is one it takes for something else.

        A batch it calls wrong parameters, and it reads what Python does but JSON has not: NaN, infinity (RFC 8259).
        """
        first: Message | None = await receive()
        body = first.get("body", b"") if first is not None else b""
        error: dict[str, object] | None = None
        if body[:64].lstrip()[:1] == b"[":
            error = {
                "code": INVALID_REQUEST,
                "message": "Batches are not part of MCP: send one message a request.",
            }
        elif b"NaN" in body or b"Infinity" in body:
            try:
                from_json(body, allow_inf_nan=False)
            except ValueError as exc:
                error = {"code": PARSE_ERROR, "message": f"This is not valid JSON: {exc}."}
        if error is not None:
            answer = {"jsonrpc": "2.0", "id": None, "error": error}
            await JSONResponse(answer, status_code=400)(scope, receive, send)
            return

        async def again() -> Message:
            nonlocal first
            if first is not None:
                message, first = first, None
                return message
            return await receive()

        headers = Headers(scope=scope)
        session = headers.get(_SESSION, "")
        session = session if _in_session(headers) else ""
        if self.front.balance is None:
            await self.here(scope, again, send)
            return
        sessions = (await self.front.balanced()).sessions
        if sessions.leaving:
            asked = scope["method"] == "POST"
            self._busy[""] += asked
            try:
                await sessions.pass_on(self, session, scope, again, send)
            finally:
                self._busy[""] -= asked
        elif session and not self._manager.has(session):
            await sessions.serve(self, session, scope, again, send)
        else:
            await self.here(scope, again, send)

    # --- sessions that are shared with other gateways

    async def here(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the SDK serve a request, whatever other gateways there are."""
        headers = Headers(scope=scope)
        # A stream that a client only listens on is nothing that anybody waits for.
        lasting = scope["method"] != "POST" or headers.get("mcp-method") == "subscriptions/listen"
        session = headers.get(_SESSION, "")
        self._busy[session] += not lasting
        try:
            await self._manager.handle_request(scope, receive, send)
        finally:
            self._busy[session] -= not lasting
            if not self._busy[session]:
                del self._busy[session]
                if self.front.balance is not None and session:
                    sessions = (await self.front.balanced()).sessions
                    if sessions.leaving:
                        await sessions.let_go(self, session)

    @property
    def busy(self) -> Collection[str]:
        """The sessions in which a request waits for its answer; an empty text for those outside of any."""
        return {session for session, waiting in self._busy.items() if waiting}

    def has(self, session: str) -> bool:
        """Tell whether a session is here."""
        return self._manager.has(session)

    @property
    def identities(self) -> list[str]:
        """The ids of all sessions that are here."""
        return self._manager.identities

    async def began(self, session: str | None, visit: Visit, opening: dict[str, Any]) -> Remembered | None:
        """Take note of a session that begins; what is given keeps what it becomes, where gateways share it."""
        if self.front.balance is None or session is None:
            return None
        return await (await self.front.balanced()).sessions.began(session, visit, opening)

    async def ended(self, remembered: Remembered) -> None:
        """Take note that a session is over."""
        if self.front.balance is not None:
            await (await self.front.balanced()).sessions.ended(remembered.identity)

    async def adopt(self, session: str, scope: Scope, remembered: Remembered) -> bool:
        """Make a session of another gateway anew here; tell whether that could be done."""
        visit = Visit(self, scope[SCOPE_KEY].identity, remembered)
        return await self._manager.adopt(session, {**scope, SCOPE_KEY: visit}, remembered.said())

    async def subscribe_again(self, session: str, scope: Scope, remembered: Remembered) -> None:
        """Subscribe to all that the client of such a session was subscribed to."""
        try:
            for message in remembered.subscribed():
                await self._manager.say(session, scope, message)
        finally:
            await remembered.goes_on()

    async def drop(self, session: str) -> None:
        """End a session here that goes on elsewhere."""
        await self._manager.drop(session)


def _in_session(headers: Headers) -> bool:
    """Tell whether a request belongs to a session, which is counted already. The modern era has none."""
    version = headers.get("mcp-protocol-version")
    return _SESSION in headers and (version is None or version in HANDSHAKE_PROTOCOL_VERSIONS)


def _target(scope: Scope) -> str:
    """Give what was asked for, as it was written."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return f"{path.decode('latin-1')}?{scope['query_string'].decode('latin-1')}"


def _text(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text.rstrip("\n") + "\n", status, dict(headers or {}), "text/plain")


def _preflight(headers: Headers) -> dict[str, str]:
    """Answer a browser that asks whether a page may send what it is about to (Fetch standard, CORS preflight)."""
    answer = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Max-Age": "600"}
    if (asked := headers.get("access-control-request-headers")) is not None:
        answer["Access-Control-Allow-Headers"] = asked
    return answer


def _open_to(origin: str, send: Send) -> Send:
    """Let a browser hand the answer to the page that asked."""

    async def opened(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = _EXPOSED
            headers.add_vary_header("Origin")
        await send(message)

    return opened
