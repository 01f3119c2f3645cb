"""Sessions of Streamable HTTP at several gateways: each is at one of them, and reached through any."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic_core import from_json
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ...tools.errors import StoreError
from ...tools.gateways.sessions import LARGEST, KeptSession, KeptSessions
from ..visit import SCOPE_KEY, Visit
from .body import again, whole
from .carried import UnknownThereError, carry, client_of, lost_answer
from .link import LineLostError, Links, UnreachedError
from .remembered import Remembered

if TYPE_CHECKING:
    from ...tools.gateways.gateway import Gateway
    from ...tools.gateways.registry import Registry
    from ..streamable import HttpListener

logger = logging.getLogger(__name__)

RENEWAL = 60.0
"""Seconds between two times that all sessions here are renewed in the store."""

PATIENCE = 5.0
"""Seconds beyond the time-out of gateways that a request waits for one which does not answer."""

UNKNOWN = -32600

Managed = StreamableHTTPSessionManager


class HttpSessions:
    """The sessions of all gateways, as far as requests for them come here.

    Args:
        registry: The gateways.
        links: The lines to them.
        kept: The sessions in the store.
    """

    def __init__(self, registry: Registry, links: Links, kept: KeptSessions) -> None:
        self._registry = registry
        self._links = links
        self._kept = kept
        self._me = registry.me.id
        self.hosts: list[HttpListener] = []
        """The listeners of this gateway."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._looked = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = 0
        self.leaving = False
        """Whether this gateway is on its way out, and hands its sessions over."""

    # --- sessions that are here

    async def began(self, identity: str, visit: Visit, opening: dict[str, Any]) -> Remembered:
        """Take note of a session that begins here."""
        one = Remembered(identity, client_of(visit.identity), opening, self._keep)
        await self._keep(one)
        return one

    async def _keep(self, one: Remembered) -> None:
        state = one.state
        if len(state) > LARGEST:
            logger.warning("what a session over HTTP consists of is too long to be kept for other gateways")
            return
        try:
            await self._kept.put(KeptSession(one.identity, self._registry.me.id, one.client, state))
        except StoreError as exc:
            logger.warning("a session over HTTP could not be written down for other gateways: %s", exc)

    async def ended(self, identity: str) -> None:
        """Take note that a session which was here is over, unless this gateway ends and it goes on elsewhere."""
        if self.leaving:
            return
        with suppress(StoreError):  # its time runs out
            await self._kept.delete(identity, self._registry.me.id)

    def host_of(self, identity: str) -> HttpListener | None:
        """Give the listener whose session it is, if it is here."""
        return next((host for host in self.hosts if host.has(identity)), None)

    # --- sessions that are elsewhere

    async def serve(
        self, host: HttpListener, identity: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve a request in a session that is not here: where it is, or here after taking it over."""
        body = await whole(receive)
        visit: Visit = scope[SCOPE_KEY]
        until = asyncio.get_running_loop().time() + self._registry.timeout + PATIENCE
        holder: Gateway | None = None
        while True:
            if host.has(identity):
                return await host.here(scope, again(body, receive), send)
            try:
                found = await self._kept.find(identity)
                if found is None or found.client != client_of(visit.identity):
                    return await _not_found(scope, receive, send)
                holder = self._registry.get(found.gateway)
                if found.gateway == self._registry.me.id:
                    if (turn := self._turns.get(identity)) is not None and turn.locked():
                        async with turn:  # another request in it has it taken over just now
                            continue
                    # It was here, and is over; or it is another listener's of this gateway.
                    return await (self.host_of(identity) or host).here(scope, again(body, receive), send)
                if holder is None:
                    if await self._take_over(host, found, scope):
                        continue
                    return await _later(
                        scope, receive, send, "This gateway cannot take the session over now."
                    )
                await carry(self._links, holder, scope, body, receive, send)
                return None
            except StoreError as exc:
                logger.warning("a session over HTTP could not be looked up: %s", exc)
                return await _later(scope, receive, send, "The shared database cannot be asked.")
            except UnreachedError as exc:
                why = str(exc)
            except UnknownThereError:
                why = "The session is being moved."
            except LineLostError:
                assert holder is not None
                if (answer := _definite(scope, body, holder)) is not None:
                    return await answer(scope, receive, send)
                why = f"gateway '{holder.name}' was lost."
            if asyncio.get_running_loop().time() > until:
                return await _later(scope, receive, send, why)
            await self._look()

    async def _look(self) -> None:
        """Wait for the next look at the gateways, which is made soon."""
        self._looked.clear()
        with suppress(StoreError):
            await self._registry.poke()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._looked.wait()

    async def _take_over(self, host: HttpListener, found: KeptSession, scope: Scope) -> bool:
        """Take a session over whose gateway is gone; tell whether to look again."""
        lock = self._turns.setdefault(found.id, asyncio.Lock())
        async with lock:
            if host.has(found.id):
                return True
            if not await self._kept.claim(found, self._registry.me.id):
                return True  # somebody was quicker
            one, done = None, False
            try:
                one = Remembered.read(found.id, found.client, found.state, self._keep)
                done = await host.adopt(found.id, scope, one)
            except ValueError as exc:
                logger.warning("a session over HTTP cannot be taken over: %s", exc)
            finally:
                if not done:
                    await self._kept.release(found.id, self._registry.me.id)
            if one is None or not done:
                return False
            logger.info("a session over HTTP of %s is taken over", found.client.split(" ")[0])
            if one.uris:
                self.hold(host.subscribe_again(found.id, scope, one))
            else:
                await one.goes_on()
            return True

    # --- on the way out

    async def leave(self) -> None:
        """Have other gateways go on with all sessions, each as soon as nothing is under way in it."""
        self.leaving = True
        for host in self.hosts:
            for identity in host.identities:
                if identity not in host.busy:
                    await self.let_go(host, identity)

    async def let_go(self, host: HttpListener, identity: str) -> None:
        """Leave a session to the others; there is one, or it stays."""
        if self.taker() is None or not host.has(identity):
            return
        try:
            await self._kept.release(identity, self._registry.me.id)
        except StoreError as exc:
            logger.warning("a session over HTTP could not be left to other gateways: %s", exc)
        else:
            await host.drop(identity)

    def taker(self) -> Gateway | None:
        """Give a gateway that takes the clients of this one, if there is any; each time the next one."""
        others = [one for one in self._registry.others if one.state == "serving"]
        self._turn += 1
        return others[self._turn % len(others)] if others else None

    async def pass_on(
        self, host: HttpListener, identity: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Have another gateway answer a request that came although this one is on its way out."""

        async def last(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        body = await whole(receive)
        if identity and identity in host.busy and host.has(identity):
            return await host.here(scope, again(body, receive), last)
        if identity:
            await self.let_go(host, identity)
        for _other in self._registry.others:
            if (gateway := self.taker()) is None or (identity and host.has(identity)):
                break
            try:
                return await carry(self._links, gateway, scope, body, receive, last, take=True)
            except (UnreachedError, UnknownThereError):
                continue
            except LineLostError:
                if (answer := _definite(scope, body, gateway)) is not None:
                    return await answer(scope, receive, last)
        if host.stopping:
            return await _later(scope, receive, last, "ToolScore is ending.")
        await host.here(scope, again(body, receive), last)

    def hold(self, work: Any) -> None:
        """Have something done meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- as time goes by

    def looked(self) -> None:
        """Take note of a look at the gateways."""
        self._looked.set()
        if (me := self._registry.me.id) != self._me:
            before, self._me = self._me, me
            self.hold(self._moved(before, me))

    async def _moved(self, before: str, after: str) -> None:
        """After this gateway was taken for dead: go on with what nobody took over, and let go of the rest."""
        with suppress(StoreError):
            await self._kept.move(before, after)
        await self._renew()

    async def run(self) -> None:
        """Renew what is here from time to time, for ever."""
        while True:
            await asyncio.sleep(RENEWAL)
            await self._renew()

    async def _renew(self) -> None:
        here = {identity: host for host in self.hosts for identity in host.identities}
        try:
            kept = await self._kept.renew(self._registry.me.id, here)
        except StoreError as exc:
            logger.warning("sessions over HTTP could not be renewed: %s", exc)
            return
        for identity in here.keys() - kept:
            found = None
            with suppress(StoreError):
                found = await self._kept.find(identity)
            if found is not None and found.gateway != self._registry.me.id:
                await here[identity].drop(identity)

    async def aclose(self) -> None:
        """Do nothing more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _definite(scope: Scope, body: bytes, holder: Gateway) -> Response | None:
    """Answer a request that its gateway may have done; `None` for what does no harm twice."""
    if scope["method"] != "POST":
        return None
    answer = lost_answer(body, holder.name)
    return None if answer is None or _harmless(body) else JSONResponse(answer)


def _harmless(body: bytes) -> bool:
    method = from_json(body)["method"]
    return method.endswith("/list") or method in ("ping", "logging/setLevel", "tasks/get")


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    # As the SDK has it: the client begins a new session (MCP, session management).
    error = {"code": UNKNOWN, "message": "Session not found"}
    body = {"jsonrpc": "2.0", "id": None, "error": error}
    await JSONResponse(body, status_code=404)(scope, receive, send)


async def _later(scope: Scope, receive: Receive, send: Send, why: str) -> None:
    text = f"{why} Try again."
    await Response(text + "\n", 503, {"Retry-After": "1"}, "text/plain")(scope, receive, send)
