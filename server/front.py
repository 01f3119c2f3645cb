"""Answers what clients ask: own tools and lists itself, all else by passing it on to the server it concerns.

Both lanes come here: the express lane with its frames, and the SDK's handlers with what it has looked at first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..runners.errors import FaultError
from ..tools.caller import CALL, MANAGE, Caller
from ..tools.errors import echoed
from ..tools.exposure import Exposure
from ..tools.leases import LEASE_KEY
from ..tools.outcome import OUTCOME_KEY, RefusalError
from ..tools.rows import Origin
from .call import Call
from .dashboard import app
from .events import Events
from .exchange import Exchange
from .opened import Opened
from .own_resources import BEGINNINGS, OwnResources, own_place, shows_app
from .parking import Parking
from .peer import LEVELS, Peer
from .tasks import TaskBook
from .toolset import ToolSet
from .visits import Visits

if TYPE_CHECKING:
    from .balanced.balance import Balance
    from .network import Network
    from .streamable import HttpListener
    from .tape.recorder import Recorder

logger = logging.getLogger(__name__)

INVALID_PARAMS = -32602
RESOURCE_NOT_FOUND = -32002
REFUSED = -32010
"""JSON-RPC code of a refusal where the answer is no tool result; from the range that is left to implementations."""

TASK_PATIENCE = 24 * 3600.0
"""Seconds the result of a task is waited for, which by its nature takes long."""


class Front:
    """Answers the clients of one ToolScore.

    Args:
        toolset: Gives the tool set once the store is open. `initialize` is answered before that.
        exposure: Which tools clients are shown that have not said what they want to be shown.
        parking: Keeps the calls that wait for the input of a modern client.
    """

    def __init__(
        self, toolset: Callable[[], Awaitable[ToolSet]], exposure: Exposure, parking: Parking
    ) -> None:
        self.parking = parking
        self.exposure = exposure
        self.peers: set[Peer] = set()
        self.under_way = 0
        """Requests that wait for their answers."""
        self.events = Events()
        self.resources = OwnResources(self)
        self.tasks = TaskBook()
        self.visits = Visits()
        self.recorder: Recorder | None = None
        """Records all clients; those that are recorded by themselves have a tape without it."""
        self.hosts: list[HttpListener] = []
        """The listeners of Streamable HTTP."""
        self.balance: asyncio.Future[Balance] | None = None
        """What makes this one of several gateways, once the store is open; `None` where it is not shared."""
        self.network: Network | None = None
        """What its network listeners share; `None` where there are none."""
        self._toolset = toolset
        self._open: Opened | None = None
        self._handlers: dict[str, Callable[[Opened, Exchange], Awaitable[dict[str, Any]]]] = {
            "tools/call": self._call_tool,
            "tools/list": self._list_tools,
            "resources/list": self._list_resources,
            "resources/templates/list": self._list_templates,
            "resources/read": self._read,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "prompts/list": self._list_prompts,
            "prompts/get": self._get_prompt,
            "completion/complete": self._complete,
            "logging/setLevel": self._set_level,
            "tasks/get": self._task,
            "tasks/result": self._task,
            "tasks/cancel": self._task,
            "tasks/list": self._list_tasks,
        }

    async def opened(self) -> Opened:
        """Wait until the library is open."""
        if self._open is None:
            toolset = await self._toolset()
            if self._open is None:
                self._open = Opened(self, toolset)
        return self._open

    async def balanced(self) -> Balance:
        """Wait until this is one of several gateways; who is cancelled meanwhile takes nothing from the others."""
        assert self.balance is not None
        return await asyncio.shield(self.balance)

    def exposure_of(self, peer: Peer | None) -> Exposure:
        """Tell which tools a client is shown."""
        return self.exposure if peer is None or peer.exposure is None else peer.exposure

    @property
    def open_now(self) -> Opened | None:
        """What `opened` gives, where it would not have to wait."""
        return self._open

    async def answer(self, exchange: Exchange) -> dict[str, Any]:
        """Answer a request.

        Returns:
            The result object as it goes on the wire, but for what the modern era adds.

        Raises:
            FaultError: The JSON-RPC error to answer with.
        """
        if not exchange.peer.caller.rights & {CALL, MANAGE}:
            raise FaultError(REFUSED, f"'{exchange.peer.caller.principal}' may dial in as a server only.")
        state = exchange.params.get("requestState")
        if state is not None and self.parking.is_own(state):
            member, value = await self.parking.resume(exchange)
            if member == "error":
                raise FaultError(value["code"], value["message"], value.get("data"))
            return value
        opened = self._open or await self.opened()
        if self.balance is not None and not exchange.carried:
            balance = await self.balanced()
            if (elsewhere := await balance.elsewhere(exchange)) is not None:
                return await balance.ask(elsewhere, exchange)
        try:
            result = await self._handlers[exchange.method](opened, exchange)
            if self.balance is not None:
                (await self.balanced()).held.note(exchange, result)
            return result
        except RefusalError as exc:
            data = {OUTCOME_KEY: str(exc.outcome)}
            data.update(
                {f"toolscore/{key}": value for key, value in exc.details.items() if value is not None}
            )
            raise FaultError(REFUSED, exc.message, data) from exc

    # --- tools

    async def _list_tools(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        _first_page(exchange)
        tools = opened.view(exchange.peer).shown.listed()
        return {"tools": app.with_app(tools) if shows_app(opened, exchange) else tools}

    async def _call_tool(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        params = exchange.params
        name, arguments = params["name"], params.get("arguments") or {}
        extra = None
        if len(params) > 2:
            extra = {key: value for key, value in params.items() if key not in ("name", "arguments", "_meta")}
        transparent, caller = None, exchange.caller
        view = opened.view(exchange.peer)
        if view.exposure.server is not None:
            transparent = view.shown.full_name(name)
            if transparent is None and not opened.toolset.knows(name, caller):
                raise FaultError(INVALID_PARAMS, f"Unknown tool: {echoed(name)}")
        call = Call(
            caller=caller,
            report=exchange.report,
            on_progress=exchange.on_progress,
            meta=exchange.passed_meta(),
            origin=origin_of(exchange),
            exchange=exchange,
            extra=extra,
            lease=exchange.meta.get(LEASE_KEY),
            faults=transparent is not None,
        )
        result = await opened.toolset.call(transparent or name, arguments, call)
        if extra is not None and "task" in extra:
            server = opened.toolset.server_of(params, transparent)
            return self.tasks.remember(exchange.peer.caller, server, result)
        return result

    # --- resources

    async def _list_resources(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        _first_page(exchange)
        view = opened.view(exchange.peer)
        own = [] if view.exposure.server is not None else self.resources.listed(opened, exchange)
        return {"resources": [*own, *view.index.resources()]}

    async def _list_templates(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        _first_page(exchange)
        view = opened.view(exchange.peer)
        own = [] if view.exposure.server is not None else self.resources.templates()
        return {"resourceTemplates": [*own, *view.index.templates()]}

    async def _read(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        uri = exchange.params["uri"]
        if uri.startswith(BEGINNINGS):
            own = await self.resources.read(opened, exchange, uri)
            if own is not None:
                return own
        server, inner = self._located(opened, exchange, uri)
        result = await self._pass(opened, exchange, server, {**exchange.params, "uri": inner})
        return result if inner == uri else _renamed(result, inner, uri)

    def _located(self, opened: Opened, exchange: Exchange, uri: str) -> tuple[str, str]:
        found = opened.view(exchange.peer).index.find_resource(uri)
        if found is None:
            raise FaultError(
                INVALID_PARAMS if exchange.modern else RESOURCE_NOT_FOUND,
                f"No server here is known to have the resource {echoed(uri)}. If you know which one has it, ask for "
                f"toolscore://resource/SERVER/{echoed(uri)}.",
                {"uri": uri},
            )
        return found

    async def _subscribe(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        uri = exchange.params["uri"]
        own = own_place(uri, opened.toolset.logs, exchange.peer.caller)
        place = own or self._located(opened, exchange, uri)
        if own is None and opened.toolset.policy is not None:
            await opened.toolset.policy.subscribing(place[0], uri, exchange.caller)
        await opened.subscriptions.add(exchange.peer, uri, *place, client=exchange.peer.caller.client)
        if exchange.peer.remembered is not None:
            await exchange.peer.remembered.follows(uri, wanted=True)
        return {}

    async def _unsubscribe(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        await opened.subscriptions.drop(exchange.peer, exchange.params["uri"])
        if exchange.peer.remembered is not None:
            await exchange.peer.remembered.follows(exchange.params["uri"], wanted=False)
        return {}

    # --- prompts

    async def _list_prompts(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        _first_page(exchange)
        return {"prompts": opened.view(exchange.peer).index.prompts()}

    async def _get_prompt(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        name = exchange.params["name"]
        server, original = self._prompt(opened, exchange, name)
        return await self._pass(opened, exchange, server, {**exchange.params, "name": original})

    def _prompt(self, opened: Opened, exchange: Exchange, name: Any) -> tuple[str, str]:
        index = opened.view(exchange.peer).index
        found = index.find_prompt(name) if isinstance(name, str) else None
        if found is None:
            raise FaultError(
                INVALID_PARAMS,
                f"There is no prompt named '{echoed(name)}'; prompts/list shows what there is.",
            )
        return found

    async def _complete(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        ref = exchange.params["ref"]
        if ref.get("type") == "ref/prompt":
            server, inner = self._prompt(opened, exchange, ref.get("name"))
            ref = {**ref, "name": inner}
        else:
            uri = ref.get("uri")
            found = None
            if isinstance(uri, str):
                begun, logs = exchange.params["argument"].get("value"), opened.toolset.logs
                values = self.resources.completed(uri, begun, logs, exchange.peer.caller)
                if values is not None:
                    return {"completion": {"values": values}}
                found = opened.view(exchange.peer).index.find_template(uri)
            if found is None:
                raise FaultError(INVALID_PARAMS, f"No server here has the resource template '{echoed(uri)}'.")
            server, inner = found
            ref = {**ref, "uri": inner}
        if "completions" not in opened.toolset.library.offers[server].capabilities:
            return {"completion": {"values": []}}
        return await self._pass(opened, exchange, server, {**exchange.params, "ref": ref})

    # --- logging, tasks

    async def _set_level(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        level = exchange.params["level"]
        if level not in LEVELS:
            raise FaultError(
                INVALID_PARAMS, f"'{echoed(level)}' is no log level; those are {', '.join(LEVELS)}."
            )
        exchange.peer.log_level = level
        opened.spread_level()
        if exchange.peer.remembered is not None:
            await exchange.peer.remembered.wants(level)
        return {}

    async def _task(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        return await self._ask_task(opened, exchange, exchange.params["taskId"])

    async def _ask_task(
        self, opened: Opened, exchange: Exchange, shown: str, method: str | None = None
    ) -> dict[str, Any]:
        place = self.tasks.find(exchange.peer.caller, shown)
        if place is None:
            raise FaultError(INVALID_PARAMS, "There is no task of that id that you started here.")
        server, identity, client = place
        caller, supervisor = exchange.caller, opened.toolset.supervisor
        if client != caller.client and supervisor.held_by(server, client) is not None:
            # Where it is, which is another process than this connection of the same principal has.
            caller = replace(caller, connection=client if isinstance(client, int) else 0)
        params = {**exchange.params, "taskId": identity}
        result = await self._pass(opened, exchange, server, params, method=method, caller=caller)
        return {**result, "taskId": shown} if result.get("taskId") == identity != shown else result

    async def _list_tasks(self, opened: Opened, exchange: Exchange) -> dict[str, Any]:
        tasks = []
        for shown in self.tasks.of(exchange.peer.caller):
            try:
                tasks.append(await self._ask_task(opened, exchange, shown, "tasks/get"))
            except FaultError:
                self.tasks.forget(exchange.peer.caller, shown)
            except RefusalError as exc:  # its server cannot be asked just now, and may know it later
                logger.info("task %s is left out: %s", shown, exc.message)
        return {"tasks": [{key: value for key, value in task.items() if key != "_meta"} for task in tasks]}

    # ---

    async def _pass(
        self,
        opened: Opened,
        exchange: Exchange,
        server: str,
        params: dict[str, Any],
        *,
        method: str | None = None,
        caller: Caller | None = None,
    ) -> dict[str, Any]:
        """Pass a request on to a server, with what of its `_meta` is for it."""
        params = {key: value for key, value in params.items() if key != "_meta"}
        if meta := exchange.passed_meta():
            params["_meta"] = meta
        return await opened.toolset.router.request(
            server,
            method or exchange.method,
            params,
            caller or exchange.caller,
            on_progress=exchange.on_progress,
            asker=exchange,
            lease=exchange.meta.get(LEASE_KEY),
            timeout=TASK_PATIENCE if exchange.method == "tasks/result" else None,
        )

    def roots_changed(self, peer: Peer) -> None:
        """Tell the servers that know this client's roots that those changed."""
        if self._open is not None:
            self._open.roots_changed(peer)

    async def joined(self, peer: Peer) -> None:
        """Take in a client."""
        if peer.tape is None and self.recorder is not None:
            peer.tape = self.recorder.session(peer)
        self.peers.add(peer)

    async def left(self, peer: Peer) -> None:
        """Let go of a client."""
        self.peers.discard(peer)
        self.visits.left(peer)
        if peer.tape is not None:
            peer.tape.left()
        if self._open is not None:
            for told in self._open.asked_roots.values():
                told.discard(peer)
            self._open.spread_level()
            self._open.toolset.supervisor.left(peer.caller.client)
            await self._open.subscriptions.left(peer)


def origin_of(exchange: Exchange) -> Origin | None:
    """Tell the command line from an agent: both come over the Unix socket, in the name of the same owner."""
    if exchange.peer.caller.listener == "unix" and exchange.meta.get("toolscore/origin") == "cli":
        return "cli"
    return None


def _first_page(exchange: Exchange) -> None:
    """Refuse a cursor: lists are given whole, so none was handed out."""
    if exchange.params.get("cursor") is not None:
        raise FaultError(
            INVALID_PARAMS, "This cursor is not one that was given here: leave it out for the whole list."
        )


def _renamed(result: dict[str, Any], inner: str, shown: str) -> dict[str, Any]:
    """Let a resource speak of itself by the uri it was asked for."""
    contents = result.get("contents")
    if not isinstance(contents, list):
        return result
    return {
        **result,
        "contents": [
            {**item, "uri": shown} if isinstance(item, dict) and item.get("uri") == inner else item
            for item in contents
        ],
    }
