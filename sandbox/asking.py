"""The way to the caller's tools where there is no socket to ToolScore: requests on the client's own line.

An executor on a node of a cluster has nothing but that line. What it asks there is a request of its own,
`toolscore/tools`, with the token of the execution it is asked for. What is asked and answered is JSON in a text, so
that it passes as it does over the socket, whatever the line makes of numbers and the like.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from .bridge import Redeemed, settle

METHOD = "toolscore/tools"

Message = dict[str, Any]


class Asking:
    """What is asked on one client's line.

    Args:
        send: Takes the messages to the client.
    """

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Any]] = {}

    def granted(self, caller: Mapping[str, Any]) -> LineTools | None:
        """Give the tools that ToolScore grants a caller; `None` if it grants none."""
        grant = caller.get("tools")
        token = grant.get("token") if isinstance(grant, Mapping) else None
        return LineTools(self, token) if isinstance(token, str) else None

    async def ask(self, params: Message) -> Any:
        """Ask, and wait for the answer; cancelled here, it is cancelled at the other end too."""
        identity = f"tools-{next(self._numbers)}"
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[identity] = answered
        try:
            self._send({"jsonrpc": "2.0", "id": identity, "method": METHOD, "params": params})
            return await answered
        finally:
            if self._waiting.pop(identity, None) is not None:
                told = {"requestId": identity, "reason": "the execution is over"}
                self._send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": told})

    def answered(self, message: Message) -> bool:
        """Take an answer of the client.

        Returns:
            Whether it is the answer to something that was asked here.
        """
        identity = message.get("id")
        if "method" in message or not isinstance(identity, str):
            return False
        waiting = self._waiting.pop(identity, None)
        if waiting is None:
            return False
        if not waiting.done():
            try:
                settle(waiting, from_json(message["result"]["body"]) if "result" in message else message)
            except (KeyError, TypeError, ValueError) as exc:
                waiting.set_exception(ConnectionError(f"ToolScore's answer cannot be read: {exc}"))
        return True


class LineTools(Redeemed):
    """The tools of one execution.

    Args:
        asking: The line.
        token: What ToolScore knows the execution by, and whose it is.
    """

    def __init__(self, asking: Asking, token: str) -> None:
        self._asking = asking
        self._token = token

    async def _asked(self, method: str, params: dict[str, Any]) -> Any:
        try:
            body = to_json({"method": method, "params": params}).decode()
        except ValueError as exc:
            raise ValueError(f"the arguments have no JSON form: {exc}") from None
        return await self._asking.ask({"token": self._token, "body": body})
