"""Requests of modern clients that wait for their client's input.

In the 2026-07-28 era a server does not send requests. One that needs something from its client answers the client's
request with `input_required`, and the client makes its request again with what was asked for and the state it was
given. A server of the handshake era that asks in the middle of a call knows nothing of that: its call stays open
here, parked, until the client comes back.

The state travels through the client, so it is signed, and bound to the caller, the request, this ToolScore and an
expiry; when that is over, the parked call is cancelled in the server.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from typing import Any

from pydantic_core import to_json

from ..runners.errors import FaultError
from .exchange import Exchange

EXPIRY = 600.0
"""Seconds a client has to come back with its input: people answer forms."""

LIMIT = 1000
"""Parked calls at the most; each holds a call open in a server."""

SHARE = 250
"""Parked calls of one principal, so that nobody keeps all others from being asked."""

INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

_PREFIX = "ts1"


class _Question:
    """One thing a client is asked for."""

    def __init__(self, method: str, params: dict[str, Any]) -> None:
        self.request = {"method": method, "params": params}
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()


class _FutureReply:
    """An answer that the request which came back waits for."""

    def __init__(self) -> None:
        self.future: asyncio.Future[tuple[str, dict[str, Any]]] = asyncio.get_running_loop().create_future()

    def put(self, member: str, value: dict[str, Any]) -> None:
        if not self.future.done():
            self.future.set_result((member, value))


class _Parked:
    """One call, with what its client is asked for."""

    def __init__(self, exchange: Exchange, binding: bytes) -> None:
        self.exchange = exchange
        self.binding = binding
        self.questions: dict[str, _Question] = {}
        self.outcome: tuple[str, dict[str, Any]] | None = None
        """What became of the call while nobody waited for it."""
        self.expiry: asyncio.TimerHandle | None = None
        self.numbers = 0

    def give_up(self) -> None:
        """Fail the questions that are still open: nobody will answer them, and a server may wait."""
        for question in self.questions.values():
            if not question.answer.done():
                question.answer.set_exception(FaultError(INTERNAL_ERROR, "the client gave no answer"))
                question.answer.exception()  # whoever asked may be gone as well


class Parking:
    """The parked calls of all clients.

    Args:
        expiry: Seconds a client has to come back.
    """

    def __init__(self, *, expiry: float = EXPIRY) -> None:
        self._expiry = expiry
        self._key = secrets.token_bytes(32)
        # Told apart from the states of servers behind, which may be ToolScores themselves.
        self._gateway = secrets.token_hex(4)
        self._mine = {self._gateway}
        self._cluster = ""
        self._parked: dict[str, _Parked] = {}
        self._names: dict[int, str] = {}

    @property
    def parked(self) -> int:
        """How many calls are parked, or were and still run."""
        return len(self._parked)

    def questions(self, exchange: Exchange) -> int:
        """Give how many questions were asked in the course of a request so far."""
        name = self._names.get(id(exchange))
        return self._parked[name].numbers if name is not None else 0

    def is_own(self, state: Any) -> bool:
        """Tell whether a `requestState` is one of this ToolScore; the others are for the servers that made them."""
        return isinstance(state, str) and _gateway_of(state) in self._mine

    def is_of(self, cluster: str, gateway: str) -> None:
        """Let other gateways tell whose the states are that are given out from now on.

        The key stays this gateway's own: the others pass the call on to it, and nobody else has to read a state.

        Args:
            cluster: What the gateways of one store have in common.
            gateway: The id of this one.
        """
        self._cluster, self._gateway = cluster, f"{cluster}-{gateway}"
        self._mine.add(self._gateway)

    def elsewhere(self, state: Any) -> str | None:
        """Give the id of the gateway whose state this is; `None` if it is of none in this cluster, or this one's."""
        whose = _gateway_of(state) if self._cluster and isinstance(state, str) else ""
        if whose in self._mine or not whose.startswith(f"{self._cluster}-"):
            return None
        return whose.removeprefix(f"{self._cluster}-")

    async def ask(self, exchange: Exchange, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Answer the client's request with `input_required`, and wait until it comes back with the answer.

        Raises:
            FaultError: If it did not come back in time, or too many calls are parked.
        """
        name = self._names.get(id(exchange))
        if name is None:
            if exchange.reply is None:
                raise FaultError(INTERNAL_ERROR, "the call this belongs to is over")
            who = exchange.peer.caller.principal
            mine = sum(one.exchange.peer.caller.principal == who for one in self._parked.values())
            if len(self._parked) >= LIMIT or mine >= SHARE:
                raise FaultError(INTERNAL_ERROR, "too many calls wait for their client's input; try again")
            name = self._names[id(exchange)] = secrets.token_urlsafe(12)
            self._parked[name] = _Parked(exchange, _binding(exchange))
        parked = self._parked[name]
        parked.numbers += 1
        key = f"input-{parked.numbers}"
        question = parked.questions[key] = _Question(method, params)
        self._put_questions(name, parked)
        try:
            return await question.answer
        finally:
            parked.questions.pop(key, None)

    def _put_questions(self, name: str, parked: _Parked) -> None:
        """Answer who waits with what its client is asked for. If nobody waits, the next to come back is."""
        reply, parked.exchange.reply = parked.exchange.reply, None
        if reply is None:
            return
        expires = time.time() + self._expiry
        if parked.expiry is not None:
            parked.expiry.cancel()
        parked.expiry = asyncio.get_running_loop().call_later(self._expiry, self._expired, name)
        reply.put(
            "result",
            {
                "resultType": "input_required",
                "inputRequests": {key: question.request for key, question in parked.questions.items()},
                "requestState": self._sealed(name, expires, parked.binding),
            },
        )

    async def resume(self, exchange: Exchange) -> tuple[str, dict[str, Any]]:
        """Serve a request that comes back with its client's input.

        Args:
            exchange: The request, with a state of this ToolScore.

        Returns:
            `result` or `error`, and its value: what became of the call, or the next thing that is asked for.

        Raises:
            FaultError: If the state is not valid for this caller and request, or its time is over.
        """
        name = self._opened(exchange)
        parked = self._parked.get(name)
        if parked is None:
            raise FaultError(
                INVALID_PARAMS,
                "This input came too late: the call that waited for it is over. Make the call again, without "
                "requestState and inputResponses.",
                {"reason": "expired"},
            )
        if parked.exchange.reply is not None:
            raise FaultError(INVALID_PARAMS, "This input was given already; its call goes on.")
        reply = _FutureReply()
        held = parked.exchange
        held.reply, held.token, held.peer, held.meta = reply, exchange.token, exchange.peer, exchange.meta
        held.stream = exchange.stream
        if parked.expiry is not None:
            parked.expiry.cancel()
        responses = exchange.params.get("inputResponses")
        for key, answer in responses.items() if isinstance(responses, dict) else ():
            question = parked.questions.get(key)
            if question is not None and not question.answer.done() and isinstance(answer, dict):
                question.answer.set_result(answer)
                del parked.questions[key]
        # First the questions: they may be those of another call of this client, which goes on.
        if parked.questions:
            self._put_questions(name, parked)
        elif parked.outcome is not None:
            self._forget(name)
            return parked.outcome
        try:
            return await reply.future
        except asyncio.CancelledError:
            # The client cancelled it, or is gone.
            self._end(name)
            raise

    def finished(self, exchange: Exchange, member: str, value: dict[str, Any]) -> None:
        """Hand the outcome of a request to whoever waits for it."""
        reply, exchange.reply = exchange.reply, None
        name = self._names.get(id(exchange)) if self._names else None
        if reply is not None:
            reply.put(member, value)
            if name is not None:
                self._forget(name)
        elif name is not None:
            # The client comes back for it, with the answers it was asked for, or its time runs out.
            self._parked[name].outcome = (member, value)

    def abandoned(self, exchange: Exchange) -> None:
        """Forget a request that was cancelled. Whoever came back and waits for its outcome is told."""
        if self._names and (name := self._names.get(id(exchange))) is not None:
            self._forget(name)
            self._dismiss(exchange)

    def left(self, peer: Any) -> None:
        """Cancel what is parked for a client that is gone."""
        for name in [name for name, parked in self._parked.items() if parked.exchange.peer is peer]:
            self._end(name)

    def close(self) -> None:
        """Cancel everything."""
        for name in list(self._parked):
            self._end(name)

    def _expired(self, name: str) -> None:
        if (parked := self._parked.get(name)) is not None and parked.exchange.reply is None:
            self._end(name)

    def _end(self, name: str) -> None:
        parked = self._parked.get(name)
        if parked is None:
            return
        if parked.exchange.work is not None:
            parked.exchange.work.cancel()
        self._forget(name)
        self._dismiss(parked.exchange)

    @staticmethod
    def _dismiss(exchange: Exchange) -> None:
        """Answer who waits for the outcome of a call that was cancelled: the one who cancelled it is another."""
        reply, exchange.reply = exchange.reply, None
        if reply is not None:
            fault = FaultError(
                INTERNAL_ERROR, "The call was cancelled while its client's input was on the way."
            )
            reply.put("error", fault.as_error())

    def _forget(self, name: str) -> None:
        parked = self._parked.pop(name, None)
        if parked is None:
            return
        self._names.pop(id(parked.exchange), None)
        parked.give_up()
        if parked.expiry is not None:
            parked.expiry.cancel()

    def _sealed(self, name: str, expires: float, binding: bytes) -> str:
        body = f"{_PREFIX}.{self._gateway}.{name}.{int(expires)}"
        return f"{body}.{self._signature(body, binding)}"

    def _signature(self, body: str, binding: bytes) -> str:
        sealed = body.encode("utf-8", "replace") + b"\0" + binding
        digest = hmac.new(self._key, sealed, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _opened(self, exchange: Exchange) -> str:
        """Give the name in a state, once everything about it was found right."""
        state = exchange.params["requestState"]
        body, _, signature = state.rpartition(".")
        expected = self._signature(body, _binding(exchange))
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), expected.encode()):
            raise FaultError(
                INVALID_PARAMS,
                "This requestState is not valid here: it belongs to another caller or to other arguments, or was "
                "changed. Give it back as it was, with the same request.",
                {"reason": "invalid_state"},
            )
        name: str = body.split(".")[2]
        return name


def _gateway_of(state: str) -> str:
    prefix, _, rest = state.partition(".")
    return rest.partition(".")[0] if prefix == _PREFIX else ""


def _binding(exchange: Exchange) -> bytes:
    """Give what a state is bound to: the caller, and the request without what changes from round to round."""
    request = {
        key: value
        for key, value in exchange.params.items()
        if key not in ("_meta", "inputResponses", "requestState")
    }
    canonical = to_json([exchange.peer.caller.principal, exchange.method, _sorted(request)])
    return hashlib.sha256(canonical).digest()


def _sorted(value: Any) -> Any:
    """Give a value with the members of its objects in order: the client may write them in another."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value
