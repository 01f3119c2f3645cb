"""Serving one request in a task of its own, whichever lane it came by."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..runners.errors import FaultError
from ..tools.errors import StoreError
from .exchange import Exchange
from .front import Front
from .shape import INTERNAL

logger = logging.getLogger(__name__)

INTERNAL_ERROR = -32603


async def serve(front: Front, exchange: Exchange) -> None:
    """Serve a request, and hand its outcome to whoever waits for it by then. The one error boundary of both lanes."""
    if exchange.peer.tape is not None:
        exchange.peer.tape.asked(exchange)
    front.under_way += 1
    try:
        result = await front.answer(exchange)
    except asyncio.CancelledError:
        if exchange.tape is not None:
            exchange.tape.cancelled()
        front.parking.abandoned(exchange)  # a cancelled request is not answered (MCP)
    except FaultError as exc:
        _finished(front, exchange, "error", exc.as_error())
    except StoreError as exc:  # of this machine, such as a full disk; it says what to do
        logger.error("%s failed: %s", exchange.method, exc)
        _finished(front, exchange, "error", {"code": INTERNAL_ERROR, "message": str(exc)})
    except Exception:
        logger.exception("bug while serving %s", exchange.method)
        _finished(front, exchange, "error", {"code": INTERNAL_ERROR, "message": INTERNAL})
    else:
        _finished(front, exchange, "result", result)
    finally:
        front.under_way -= 1


def _finished(front: Front, exchange: Exchange, member: str, value: dict[str, Any]) -> None:
    if exchange.tape is not None:
        exchange.tape.answered(member, value)
    front.parking.finished(exchange, member, value)


class WaitedReply:
    """An answer that a handler of the SDK waits for."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[str, dict[str, Any]]] = asyncio.get_running_loop().create_future()

    def put(self, member: str, value: dict[str, Any]) -> None:
        """Take the answer."""
        if not self._answer.done():
            self._answer.set_result((member, value))

    async def served(self, front: Front, exchange: Exchange) -> dict[str, Any]:
        """Serve a request, whose reply this is, and give its result: the last one, or a request for input.

        Raises:
            FaultError: The JSON-RPC error to answer with.
        """
        exchange.work = asyncio.get_running_loop().create_task(serve(front, exchange))
        try:
            member, value = await self._answer
        except asyncio.CancelledError:
            # Unless it waits for its client's input, nobody is there for the answer any more.
            if exchange.reply is self:
                exchange.work.cancel()
            raise
        if member == "error":
            raise FaultError(value["code"], value["message"], value.get("data"))
        return value
