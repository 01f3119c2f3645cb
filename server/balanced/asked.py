"""A request of a client on its way from the gateway it came to, to the one that holds what it names."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...runners.errors import FaultError
from ...runners.patron import ProgressSink
from ...tools.caller import Caller
from ...tools.outcome import OUTCOME_KEY, Outcome, RefusalError
from ..exchange import Exchange
from ..peer import Peer
from ..serving import serve
from .link import Line, LineLostError, Links, UnreachedError

if TYPE_CHECKING:
    from ...tools.gateways.gateway import Gateway
    from ..front import Front
    from ..tokens import Identity

REFUSED = -32010
INTERNAL_ERROR = -32603

BEHIND = 256
"""Messages waiting for a gateway that does not take them, from where on what may be left out is."""

NETWORK = frozenset({"http", "ws"})
"""The listeners whose clients came in by a token, which counts at every gateway."""


class PeerElsewhere(Peer):
    """A client that another gateway speaks with.

    Args:
        caller: Who it is.
        line: The line to that gateway, while a request of it lasts.
    """

    def __init__(self, caller: Caller, line: Line) -> None:
        super().__init__(caller)
        self._line = line
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        with suppress(LineLostError):
            while True:
                await self._line.send(await self._waiting.get())
                self._waiting.task_done()

    def notify(self, method: str, params: dict[str, Any] | None, *, droppable: bool = False) -> None:
        """Send a notification."""
        if droppable and self._waiting.qsize() >= BEHIND:
            return
        self._waiting.put_nowait({"notify": method, "params": params or {}})

    async def ask(
        self, exchange: Exchange, method: str, params: dict[str, Any], on_progress: ProgressSink | None
    ) -> dict[str, Any]:
        """Send a request.

        Raises:
            FaultError: If the client answers with an error, or is gone.
        """
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait({"ask": number, "method": method, "params": params})
        try:
            value = await answer
        finally:
            del self._asked[number]
        if "error" in value:
            error = value["error"]
            raise FaultError(error["code"], error["message"], error.get("data"))
        result: dict[str, Any] = value["result"]
        return result

    def answered(self, message: dict[str, Any]) -> None:
        """Take what its client answered."""
        waiting = self._asked.get(message.get("answer", 0))
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def last(self, message: dict[str, Any]) -> None:
        """Send the answer, after all else."""
        self._waiting.put_nowait(message)
        joined = asyncio.get_running_loop().create_task(self._waiting.join())
        await asyncio.wait([joined, self._writing], return_when=asyncio.FIRST_COMPLETED)
        joined.cancel()

    def close(self) -> None:
        """Say nothing more."""
        self._writing.cancel()


class _Reply:
    def __init__(self) -> None:
        self.future: asyncio.Future[tuple[str, Any]] = asyncio.get_running_loop().create_future()

    def put(self, member: str, value: dict[str, Any]) -> None:
        if not self.future.done():
            self.future.set_result((member, value))


async def take(front: Front, line: Line, identity: Identity, asked: dict[str, Any]) -> None:
    """Serve a request that came to another gateway.

    Raises:
        LineLostError: If the line is lost; the request is cancelled then.
    """
    peer = PeerElsewhere(Caller(identity.principal, str(asked["listener"]), 0, identity.rights), line)
    peer.caller = replace(peer.caller, token=identity.digest)
    peer.modern, peer.ready = bool(asked["modern"]), True
    peer.capabilities, peer.log_level = asked["capabilities"], asked["level"]
    peer.name, peer.version, peer.protocol = asked["client"]
    reply = _Reply()
    exchange = Exchange(peer, asked["method"], asked["params"], reply, front.parking)
    exchange.carried = True
    exchange.work = asyncio.get_running_loop().create_task(serve(front, exchange))
    hearing = asyncio.get_running_loop().create_task(_hear(line, peer))
    try:
        over: list[asyncio.Future[Any]] = [reply.future, hearing, exchange.work]
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        if hearing.done() and not reply.future.done():
            if exchange.reply is reply:  # otherwise it waits for its client's input, at whichever gateway
                exchange.work.cancel()
            raise LineLostError("its client is gone")
        if not reply.future.done():
            return await peer.last(
                {"error": {"code": INTERNAL_ERROR, "message": "the request was cancelled"}}
            )
        hearing.cancel()
        await asyncio.wait([hearing])
        member, value = reply.future.result()
        await peer.last({member: value})
    except asyncio.CancelledError:
        exchange.work.cancel()
        raise
    finally:
        hearing.cancel()
        peer.close()


async def _hear(line: Line, peer: PeerElsewhere) -> None:
    with suppress(LineLostError):
        while isinstance(message := await line.receive(), dict):
            peer.answered(message)


async def ask(links: Links, gateway: Gateway, exchange: Exchange) -> dict[str, Any]:
    """Have another gateway serve a request.

    Raises:
        FaultError: The JSON-RPC error to answer with.
        RefusalError: If the gateway was lost in the course of it.
        UnreachedError: If it cannot be reached; it knows nothing of the request.
    """
    peer = exchange.peer
    line = await links.take(gateway)
    try:
        await line.send(
            {
                "kind": "request",
                "token": peer.caller.token.hex(),
                "listener": peer.caller.listener,
                "modern": peer.modern,
                "capabilities": peer.capabilities,
                "level": peer.log_level,
                "client": [peer.name, peer.version, peer.protocol],
                "method": exchange.method,
                "params": exchange.params,
            }
        )
        await line.send_body(b"")
        while True:
            message = await line.receive()
            if not isinstance(message, dict):
                raise LineLostError("this is no answer")
            if "notify" in message:
                peer.notify_within(exchange, message["notify"], message["params"])
            elif "ask" in message:
                await line.send({"answer": message["ask"], **await _put(exchange, message)})
            else:
                break
    except LineLostError as exc:
        links.cut(line)
        raise RefusalError(
            Outcome.OUTCOME_UNKNOWN,
            f"Gateway '{gateway.name}' ended while it worked on this, so it is not known whether it was done. See "
            "what there is before you ask for it again.",
        ) from exc
    except BaseException:
        links.cut(line)  # which cancels it there
        raise
    links.give_back(gateway, line)
    if "error" in message:
        error = message["error"]
        raise FaultError(error["code"], error["message"], error.get("data"))
    result: dict[str, Any] = message["result"]
    return result


async def _put(exchange: Exchange, message: dict[str, Any]) -> dict[str, Any]:
    """Put a question of the other gateway to the client."""
    try:
        return {"result": await exchange.peer.ask(exchange, message["method"], message["params"], None)}
    except FaultError as exc:
        return {"error": exc.as_error()}


async def has(links: Links, gateway: Gateway, caller: Caller, what: str, identity: str) -> bool:
    """Ask a gateway whether it has something of a caller; one that cannot say has it not."""
    for _line in range(2):  # the first may be one that was kept, and broke meanwhile
        try:
            line = await links.take(gateway)
        except UnreachedError:
            return False
        try:
            await line.send({"kind": "has", "token": caller.token.hex(), "what": what, "id": identity})
            await line.send_body(b"")
            answer = await line.receive()
        except LineLostError:
            links.cut(line)
            continue
        except BaseException:
            links.cut(line)
            raise
        links.give_back(gateway, line)
        return isinstance(answer, dict) and answer.get("has") is True
    return False


def refused(exc: RefusalError, method: str) -> dict[str, Any]:
    """Give a refusal as the result of a tool, or raise it.

    Raises:
        FaultError: Where the answer is no tool's.
    """
    if method == "tools/call":
        return exc.result()
    raise FaultError(REFUSED, exc.message, {OUTCOME_KEY: str(exc.outcome)}) from exc
