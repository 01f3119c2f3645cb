"""A ToolScore that is nothing but a recording: in front of clients as ever, with nobody behind."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
from mcp.server.context import HandlerResult

from ...runners.errors import FaultError
from ...tools.exposure import Exposure
from ...tools.outcome import OUTCOME_KEY
from ..announcer import Bus
from ..exchange import Exchange
from ..front import REFUSED, Front
from ..gateway import Context, Gateway
from ..parking import Parking
from ..peer import LEVELS, Peer
from ..toolset import ToolSet
from .event import TapeError
from .likeness import differences, likeness
from .part import MissError, Part, StrictPart
from .report import Account, Report
from .streams import as_event
from .tape import Entry, Tape

REPORT_URI = "toolscore://replay"
"""The resource that holds the report so far. It is not listed: what is listed was recorded."""

INTERNAL_ERROR = -32603
INVALID_PARAMS = -32602

CANCEL_GRACE = 5.0
"""Seconds that a client has, beyond those it took when it was recorded, to cancel what it cancelled then."""

_ROUNDS = 20
"""Times that one call asks for input at the most."""


class ReplayFront(Front):
    """Answers clients from a recording.

    Args:
        tape: The recording.
        bus: Reaches the listen streams of modern clients.
        strict: Whether the order counts.
        delayed: Whether answers take as long as they did.
    """

    def __init__(self, tape: Tape, bus: Bus, *, strict: bool = False, delayed: bool = False) -> None:
        super().__init__(_nobody, Exposure.parse(("own",)), Parking())
        self.tape = tape
        self.report = Report(tape, strict=strict)
        self._bus = bus
        self._strict = strict
        self._delayed = delayed
        self._parts: dict[Any, Part] = {}

    async def answer(self, exchange: Exchange) -> dict[str, Any]:
        """Answer a request; see `Front.answer`.

        Raises:
            FaultError: The JSON-RPC error to answer with.
        """
        state = exchange.params.get("requestState")
        if state is not None and self.parking.is_own(state):
            member, value = await self.parking.resume(exchange)
            if member == "error":
                raise FaultError(value["code"], value["message"], value.get("data"))
            return value
        match exchange.method:
            case "logging/setLevel" if exchange.params["level"] in LEVELS:
                exchange.peer.log_level = exchange.params["level"]
                return {}
            case "resources/read" if exchange.params["uri"] == REPORT_URI:
                text = self.report.as_json()
                return {"contents": [{"uri": REPORT_URI, "mimeType": "application/json", "text": text}]}
        part = self._part(exchange.peer)
        part.account.asked += 1
        try:
            result = await self._play(part, exchange)
        except MissError as miss:
            alike = likeness(exchange.method, exchange.params)
            part.account.miss(miss.outcome, miss.message, exchange.method, alike, miss.near)
            return _refused(exchange.method, miss)
        except TapeError as exc:
            raise FaultError(INTERNAL_ERROR, str(exc)) from exc
        except FaultError:
            part.account.answered += 1
            raise
        part.account.answered += 1
        return result

    def _part(self, peer: Peer) -> Part:
        """Give a client's part. Requests of 2026-07-28 over HTTP belong together by whose they are."""
        whose: Any = peer if peer.caller.connection else peer.caller.principal
        part = self._parts.get(whose)
        if part is None:
            number = len(self._parts) + 1
            if self._strict:
                sessions = self.tape.sessions
                session = sessions[number - 1] if number <= len(sessions) else None
                account = Account(number, number if session is not None else None)
                part = StrictPart(self.tape, account, session)
            else:
                part = Part(self.tape, Account(number, None))
            part.account.client = peer.name
            self._parts[whose] = part
            self.report.accounts.append(part.account)
        return part

    async def _play(self, part: Part, exchange: Exchange) -> dict[str, Any]:
        for _ in range(_ROUNDS):
            chosen = part.choose(exchange)
            if not isinstance(chosen, Entry):
                return chosen
            self.report.used.add(chosen.line)
            result = await self._course(part, exchange, chosen)
            if result.get("resultType") != "input_required" or exchange.modern:
                return result
            # Recorded with a client of 2026-07-28, which was told to come back; this one is asked instead.
            state = await self._required(exchange, result)
            again = {key: value for key, value in exchange.params.items() if key != "requestState"}
            exchange.params = again | ({"requestState": state} if state is not None else {})
        raise FaultError(INTERNAL_ERROR, "the recording asks for input too often")

    async def _required(self, exchange: Exchange, result: dict[str, Any]) -> Any:
        requests = result.get("inputRequests")
        for request in requests.values() if isinstance(requests, dict) else ():
            if isinstance(request, dict) and isinstance(request.get("method"), str):
                params = request.get("params")
                await exchange.ask(request["method"], params if isinstance(params, dict) else {})
        return result.get("requestState")

    async def _course(self, part: Part, exchange: Exchange, entry: Entry) -> dict[str, Any]:
        """Do again what happened in the course of a recorded request, and answer as it was answered."""
        before = entry.at
        asked: dict[str, tuple[str, str, dict[str, Any]]] = {}
        answer: dict[str, Any] | FaultError | None = None
        for kind, at, line in self.tape.course(entry):
            # How long the client took to answer is up to the client of today.
            if self._delayed and kind != "reply" and at > before:
                await asyncio.sleep(at - before)
            before = at
            method, params = str(line.get("method") or ""), _object(line.get("params"))
            number = str(line.get("question"))
            match kind:
                case "told":
                    _tell(exchange, method, params)
                case "note":
                    if answer is None:
                        self._note(exchange.peer, method, params)
                    else:
                        # After the answer, which must be on its way before.
                        self._later(exchange.peer, method, params)
                case "question":
                    asked[number] = (method, *await _ask(exchange, method, params))
                case "reply" if number in asked:
                    self._compare(part, line, *asked[number])
                case "answer":
                    answer = _answered(line)
                case "cancelled":
                    break
        if isinstance(answer, FaultError):
            raise answer
        if answer is not None:
            return answer
        if entry.ended == "cancelled":
            # Its client gave up waiting, and does so again; if not, it must not wait for ever.
            await asyncio.sleep((before - entry.at if not self._delayed else 0) + CANCEL_GRACE)
            why = "its client cancelled it before it was answered"
        else:
            why = "the recording ended before it was answered"
        raise MissError(
            "not_recorded", f"This was asked when it was recorded (line {entry.line}), and {why}."
        )

    def _compare(
        self, part: Part, line: dict[str, Any], method: str, member: str, value: dict[str, Any]
    ) -> None:
        if method == "roots/list":  # folders are another machine's
            return
        recorded = "result" if "result" in line else "error"
        if recorded != member:
            differs = [{"path": "", "recorded": line.get(recorded), "asked": value}]
        elif member == "error":
            return
        else:
            differs = differences(_without_meta(_object(line.get("result"))), _without_meta(value))
        if differs:
            part.account.disagree(method, differs)
            part.disagreed(method, differs)

    def _note(self, peer: Peer, method: str, params: dict[str, Any]) -> None:
        if peer.modern:
            if (event := as_event(method, params)) is not None:
                self._bus.tell(event)
        elif peer.ready:
            peer.notify(method, params or None)

    def _later(self, peer: Peer, method: str, params: dict[str, Any]) -> None:
        # Two turns: one in which the answer is handed to its reply, one in which that writes it.
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._note, peer, method, params)


class ReplayGateway(Gateway):
    """Introduces a recording as the ToolScore that was recorded."""

    front: ReplayFront

    async def _introduced(self, ctx: Context, result: HandlerResult) -> HandlerResult:
        result = await super()._introduced(ctx, result)
        told = self.front.tape.instructions
        if not isinstance(result, dict) or told is None:
            return result
        result = {key: value for key, value in result.items() if key != "instructions"}
        return {**result, "instructions": told} if told else result

    def _input_schema(self, name: str) -> dict[str, Any] | None:
        listed = self.front.tape.lists.get("tools/list", {}).get("tools")
        for tool in listed if isinstance(listed, list) else ():
            if isinstance(tool, dict) and tool.get("name") == name:
                schema = tool.get("inputSchema")
                return schema if isinstance(schema, dict) else None
        return None

    async def _listening(self, ctx: Context, params: types.SubscriptionsListenRequestParams) -> Any:
        return await self._listen(ctx, params)


async def _nobody() -> ToolSet:
    raise FaultError(INTERNAL_ERROR, "this is a recording: there is no server behind it")


def _tell(exchange: Exchange, method: str, params: dict[str, Any]) -> None:
    if method == "notifications/message":
        exchange.log(params)
        return
    done, total, text = params.get("progress"), params.get("total"), params.get("message")
    if isinstance(done, int | float):
        total = total if isinstance(total, int | float) else None
        exchange.progress(done, total, text if isinstance(text, str) else "")


async def _ask(exchange: Exchange, method: str, params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    try:
        return "result", await exchange.ask(method, params)
    except FaultError as exc:
        return "error", exc.as_error()


def _answered(line: dict[str, Any]) -> dict[str, Any] | FaultError:
    if isinstance(result := line.get("result"), dict):
        return result
    error = _object(line.get("error"))
    code = error.get("code")
    return FaultError(
        code if isinstance(code, int) else INTERNAL_ERROR,
        str(error.get("message") or "the recorded answer says nothing"),
        error.get("data"),
    )


def _refused(method: str, miss: MissError) -> dict[str, Any]:
    """Give the answer to what is not in the recording; a tool result where there is one, so that models read it.

    Raises:
        FaultError: Where there is none.
    """
    nearest = [one.described() for one in miss.near]
    if method != "tools/call":
        raise FaultError(REFUSED, miss.message, {OUTCOME_KEY: miss.outcome, "toolscore/nearest": nearest})
    return {
        "content": [{"type": "text", "text": miss.message}],
        "isError": True,
        "_meta": {OUTCOME_KEY: miss.outcome, "toolscore/nearest": nearest},
    }


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _without_meta(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != "_meta"}


class Stage:
    """What serves the clients of a replay; in the place of a `Desk`.

    Args:
        tape: The recording.
        strict: Whether the order counts.
        delayed: Whether answers take as long as they did.
    """

    def __init__(self, tape: Tape, *, strict: bool, delayed: bool) -> None:
        bus = Bus()
        self.front = ReplayFront(tape, bus, strict=strict, delayed=delayed)
        self.gateway = ReplayGateway(self.front, bus)

    def close(self) -> None:
        """Cancel the calls that wait for their client's input."""
        self.front.parking.close()
