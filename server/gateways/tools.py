"""Own tools about servers, for servers that run at another gateway: it is asked, or told what to do."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from websockets.exceptions import ConnectionClosed

from ...runners.codec import FrameError, decode, encode
from ...runners.errors import StartError
from ...tools.caller import Caller
from ...tools.outcome import Outcome, RefusalError
from ...tools.state import ServerState
from .. import models as m
from ..call import Call

if TYPE_CHECKING:
    from ...tools.gateways.gateway import Gateway
    from ..server_tools import Handler
    from ..toolset import ToolSet
    from .home import Gateways
    from .listener import Visit

logger = logging.getLogger(__name__)

ASK = "/ask"
"""Where a gateway asks another one for what an own tool says there."""

LISTENER = "gateway"
"""Where a caller came in who was passed on by another gateway; nothing of his is passed on again."""

ANSWER = 20.0
"""Seconds another gateway has for its answer; a stop waits for its server's own time."""

_MODELS: dict[str, type[BaseModel]] = {
    "server_state": m.ServerStateArguments,
    "server_logs": m.ServerLogsArguments,
    "manage_server": m.ManageServerArguments,
}


class GatewayTools:
    """Those tools.

    Args:
        gateways: The gateways.
        toolset: What does the same for the servers of this gateway.
    """

    def __init__(self, gateways: Gateways, toolset: ToolSet) -> None:
        self._gateways = gateways
        self._toolset = toolset
        self._inner: dict[str, Handler] = dict(toolset.handlers)
        self.handlers: dict[str, Handler] = {
            "list_servers": self._list_servers,
            "server_state": self._server_state,
            "server_logs": self._server_logs,
            "manage_server": self._manage_server,
        }

    async def _list_servers(self, args: m.ListServersArguments, call: Call) -> m.ListServersResult:
        listed = await self._inner["list_servers"](args, call)
        assert isinstance(listed, m.ListServersResult)
        owned: dict[str, list[str]] = {}
        for one in listed.servers:
            owner = self._gateways.owner(one.name)
            if owner is None:
                continue
            one.gateway = owner.gateway
            if owner.gateway is not None:
                owned.setdefault(owner.gateway, []).append(one.name)
            if not owner.here:
                one.state, one.reason = (
                    owner.state or one.state,
                    None if owner.state == "READY" else one.reason,
                )
        registry = self._gateways.registry
        listed.gateways = [
            m.ListedGateway(
                name=one.name,
                here=one.id == registry.me.id,
                state=one.state,
                version=one.version,
                url=one.url,
                seconds=round(max(0.0, registry.me.began + registry.up() - one.began), 1),
                servers=sorted(owned.get(one.name, [])),
                unable=dict(one.unable),
            )
            for one in registry.gateways
            if one.state != "passing"
        ]
        listed.database = self._toolset.store_trouble()
        return listed

    async def _server_state(self, args: m.ServerStateArguments, call: Call) -> ServerState:
        state = await self._inner["server_state"](args, call)
        assert isinstance(state, ServerState)
        await self._gateways.claims.look_up(args.name)
        owner = self._gateways.owner(args.name)
        if owner is None or call.caller.listener == LISTENER:
            return state
        state.gateway = owner.gateway
        if owner.here or owner.gateway is None:
            return state
        try:
            found = await self.ask(owner.id, "server_state", args, call.caller)
        except RefusalError as exc:
            state.reason = exc.message
            return state
        return ServerState.model_validate({**found, "gateway": owner.gateway})

    async def _server_logs(self, args: m.ServerLogsArguments, call: Call) -> m.ServerLogsResult:
        logs = await self._inner["server_logs"](args, call)
        assert isinstance(logs, m.ServerLogsResult)
        others = self._others()
        if call.caller.listener == LISTENER or not others or args.name == "toolscore":
            return logs
        lines = list(logs.lines)
        for found in await self._ask_all(others, "server_logs", args, call.caller):
            if isinstance(found, dict):
                lines += [str(line) for line in found["lines"]]
        # Each begins with its time, and those of several servers with their name before it.
        lines.sort(key=lambda line: line.rpartition(" | ")[2][:24] if " | " in line[:200] else line[:24])
        return m.ServerLogsResult(name=logs.name, servers=logs.servers, lines=lines[-args.lines :])

    async def _manage_server(self, args: m.ManageServerArguments, call: Call) -> BaseModel | dict[str, Any]:
        manage = self._inner["manage_server"]
        others = self._others()
        if call.caller.listener == LISTENER or not others or args.action in ("start", "enable"):
            return await manage(args, call)
        first = "stop" if args.action == "restart" else args.action
        done = await manage(args.model_copy(update={"action": first}), call)
        stop = m.ManageServerArguments(name=args.name, action="stop", force=True)
        found = await self._ask_all(others, "manage_server", stop, call.caller)
        for gateway, one in zip(others, found, strict=True):
            if isinstance(one, RefusalError) and one.outcome is not Outcome.UNKNOWN_SERVER:
                raise RefusalError(
                    Outcome.UNAVAILABLE,
                    f"It was done at this gateway, and gateway '{gateway.name}' could not be told: {one.message} "
                    "Try again in a moment.",
                )
        await self._gateways.claims.settled()
        return (
            done
            if args.action != "restart"
            else await manage(args.model_copy(update={"action": "start"}), call)
        )

    def _others(self) -> list[Gateway]:
        return [one for one in self._gateways.registry.others if one.state != "passing"]

    async def _ask_all(
        self, gateways: list[Gateway], tool: str, arguments: BaseModel, caller: Caller
    ) -> list[dict[str, Any] | RefusalError]:
        async def one(gateway: Gateway) -> dict[str, Any] | RefusalError:
            try:
                return await self.ask(gateway.id, tool, arguments, caller)
            except RefusalError as exc:
                return exc

        return await asyncio.gather(*(one(gateway) for gateway in gateways))

    async def ask(self, identity: str, tool: str, arguments: BaseModel, caller: Caller) -> dict[str, Any]:
        """Ask a gateway for what one of the tools says there.

        Raises:
            RefusalError: If it refuses, or cannot be asked.
        """
        gateway = self._gateways.registry.get(identity)
        if gateway is None:
            raise RefusalError(Outcome.UNAVAILABLE, "The gateway that ran it is gone. Try again in a moment.")
        asked = {
            "tool": tool,
            "arguments": arguments.model_dump(mode="json"),
            "principal": caller.principal,
            "rights": sorted(caller.rights),
        }
        try:
            async with asyncio.timeout(ANSWER):
                async with await self._gateways.dialer.dial(gateway, ASK, {}) as wire:
                    await wire.send(encode(asked).decode())
                    answer = decode(await wire.recv())
        except (StartError, TimeoutError, ConnectionClosed, FrameError) as exc:
            raise RefusalError(
                Outcome.UNAVAILABLE,
                f"Gateway '{gateway.name}' gives no answer: {exc or type(exc).__name__}. Try again in a moment.",
            ) from exc
        if isinstance(result := answer.get("result"), dict):
            return result
        raise RefusalError(Outcome(answer.get("outcome", "unavailable")), str(answer.get("message", "")))

    async def serve(self, visit: Visit) -> None:
        """Answer another gateway; the route `ASK`."""
        answer: dict[str, Any]
        try:
            asked = decode(await visit.wire.recv())
            tool = str(asked.get("tool"))
            arguments = _MODELS[tool].model_validate(asked.get("arguments"))
            caller = Caller(str(asked.get("principal")), LISTENER, rights=frozenset(asked.get("rights", ())))
            result = await self._inner[tool](arguments, Call(caller=caller))
            answer = {"result": result.model_dump(mode="json") if isinstance(result, BaseModel) else result}
        except RefusalError as exc:
            answer = {"outcome": str(exc.outcome), "message": exc.message}
        except (KeyError, ValidationError, FrameError) as exc:
            answer = {"outcome": "invalid_arguments", "message": f"it was asked something unknown: {exc!r}"}
        await visit.wire.send(encode(answer).decode())
