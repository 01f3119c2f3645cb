"""A cluster as ToolScore uses it: its nodes kept in sight, a line to each, places taken and given back."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import MachineAwayError, StartError
from ..guard import Guard
from ..placement import Placement
from .control import Control, Message
from .identity import Identity
from .link import Link, Route
from .nodes import Node, best, explained
from .options import RayOptions
from .tls import gateways_side

logger = logging.getLogger(__name__)

SETTLED = 1.0
"""Seconds a start waits for a node that fits although all that are known do not."""

TOLD_WITHIN = 10.0
"""Seconds nodes have for what they are told all together."""

AGAIN = 0.3
"""Seconds before an agent that could not be reached is tried again."""


@dataclass(frozen=True, slots=True)
class _Fence:
    node: str
    folder: str
    until: float


@dataclass(slots=True)
class _Place:
    node: Node
    amounts: dict[str, float]
    answer: asyncio.Future[str | None] | None = None


class Cluster:
    """The nodes of a cluster.

    Args:
        options: How it is used.
        identity: Which home uses it.
        guard: Starts the bridge.
        environment: The bridge's environment.
        on_room: Called with a server that found no place, when there is one.
    """

    def __init__(
        self,
        options: RayOptions,
        identity: Identity,
        guard: Guard | None,
        environment: Mapping[str, str],
        on_room: Callable[[str], None],
    ) -> None:
        self.options = options
        self.identity = identity
        self.nodes: dict[str, Node] = {}
        self.route: Route = _straight
        """Where an agent's address leads; the tests put something in between."""
        self.trouble = "it is being connected to"
        """What is wrong with the bridge; nothing while it is in order."""
        self.watchers: set[Callable[[], None]] = set()
        """Told when something of the nodes may be otherwise than before."""
        self._secret = secrets.token_hex(32)
        self._visits = 0
        self._on_room = on_room
        self._changed = asyncio.Event()
        self._tasks: dict[Node, asyncio.Task[None]] = {}
        self._places: dict[str, _Place] = {}
        self._fences: dict[str, _Fence] = {}
        self._wanting: dict[str, Placement] = {}
        charter = {
            "life": identity.life,
            "secret": self._secret,
            "folder": f"{options.folder or '~/.cache/toolscore/nodes'}/{identity.namespace}",
            "port": options.port,
            "lease": options.lease,
            "orphaned": options.orphaned,
        }
        told = {"address": options.address, "namespace": identity.namespace, "charter": charter}
        self.control = Control(guard, told, environment, self._told, self._bridge_lost)

    async def aclose(self) -> None:
        """Let go of the cluster; what still runs on it ends."""
        await self.control.aclose()
        nodes = {*self.nodes.values(), *self._tasks}
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for node in nodes:
            link, node.link = node.link, None
            if link is not None:
                link.lose("ToolScore is ending")

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for told in list(self.watchers):
            told()
        for key, wanted in list(self._wanting.items()):
            if best(self.nodes.values(), wanted) is not None:
                del self._wanting[key]
                self._on_room(key)

    def _bridge_lost(self, why: str) -> None:
        self.trouble = why
        for place in self._places.values():
            if place.answer is not None and not place.answer.done():
                place.answer.set_result(why)
        self._tell()

    def _told(self, message: Message) -> None:
        match message["op"]:
            case "connected":
                self.trouble = ""
                for key, place in self._places.items():  # Ray took them back with the bridge before this one
                    self._reserve(key, place)
            case "away":
                if self.trouble != message["why"]:
                    logger.warning("the Ray cluster is away: %s", message["why"])
                self.trouble = message["why"]
            case "nodes":
                gone = set(message["gone"])
                if message["all"]:
                    gone = self.nodes.keys() - {one["id"] for one in message["nodes"]}
                self._seen(message["nodes"], gone)
            case "reserved":
                self._reserved(message["key"], None)
            case "refused":
                self._reserved(message["key"], message["why"])
        self._tell()

    def _seen(self, told: list[dict[str, Any]], gone: set[str]) -> None:
        for name in gone:
            if (node := self.nodes.pop(name, None)) is None:
                continue
            if node.link is not None:
                # Ray has given it up. A line that is still open shows that its agent lives, and is kept to its end.
                logger.warning("node %s left the Ray cluster", node.called)
            elif (task := self._tasks.pop(node, None)) is not None:
                task.cancel()
        for one in told:
            name = one["id"]
            if (known := self.nodes.get(name)) is not None:
                node = known
            else:
                node = self.nodes[name] = Node(name)
                self._tasks[node] = asyncio.get_running_loop().create_task(self._attend(node))
            if one["problem"] is not None and one["problem"] != node.problem:
                logger.warning("node %s of the Ray cluster: %s", one["name"], one["problem"])
            node.take(one)

    async def _attend(self, node: Node) -> None:
        """Keep a line to a node's agent for as long as the node is known."""
        while self.nodes.get(node.id) is node:
            if node.agent is None:
                await self._changed.wait()
                continue
            agent = node.agent
            try:
                over = await self._connect(node, agent)
            except (OSError, StartError, TimeoutError) as exc:
                logger.info("the agent of node %s is not reached: %s", node.called, exc or type(exc).__name__)
                self.control.order({"op": "look", "node": node.id})
                await asyncio.sleep(AGAIN)
                continue
            await over.wait()
            self.control.order({"op": "look", "node": node.id})

    async def _connect(self, node: Node, agent: dict[str, Any]) -> asyncio.Event:
        over = asyncio.Event()

        def lost(link: Link, why: str) -> None:
            if node.link is link:
                node.link = None
                self._fence(node, agent, link)
                logger.warning("node %s was lost: %s", node.called, why)
            over.set()
            self._tell()

        self._visits += 1
        link = Link(self._secret, self.identity.life, self._visits, self.options.beat, lost)
        try:
            async with asyncio.timeout(self.options.lease * 2):
                host, port = await self.route(agent["host"], agent["port"])
                context = gateways_side(agent["certificate"])
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: link, host, port, ssl=context, server_hostname="")
                await link.ready
        except BaseException:
            link.lose("it was not reached")
            raise
        node.link = link
        for key, fence in list(self._fences.items()):
            if fence.node == node.id and fence.folder == agent["folder"]:
                del self._fences[key]  # a line is opened only once all that ran behind the last one has ended
        self._tell()
        return over

    def _fence(self, node: Node, agent: dict[str, Any], link: Link) -> None:
        until = link.last_word + self.options.fence
        for key, place in self._places.items():
            if place.node is node:
                self._fences[key] = _Fence(node.id, agent["folder"], until)

    async def clear(self, key: str) -> None:
        """Wait until what was started under a name before has surely ended, if its node was lost."""
        loop = asyncio.get_running_loop()
        while (fence := self._fences.get(key)) is not None:
            if (left := fence.until - loop.time()) <= 0:
                del self._fences[key]
                return
            await self._change_within(left)

    async def _change_within(self, seconds: float) -> None:
        waiting = asyncio.get_running_loop().create_task(self._changed.wait())
        try:
            await asyncio.wait({waiting}, timeout=seconds)
        finally:
            waiting.cancel()

    async def take(self, key: str, wanted: Placement, *, waits: bool = True) -> Node:
        """Take a place for a server, where it fits and where the load is least.

        Args:
            key: The server.
            wanted: What it needs.
            waits: Whether it is tried again by itself when there is none.

        Raises:
            MachineAwayError: If there is none, with what is missing where.
        """
        self.control.open()
        self._wanting.pop(key, None)
        loop = asyncio.get_running_loop()
        began = loop.time()
        full: dict[str, str] = {}
        while True:
            nodes = [node for node in self.nodes.values() if node.id not in full]
            if (node := best(nodes, wanted)) is not None:
                place = self._places[key] = _Place(node, wanted.amounts)
                node.count += 1
                try:
                    refused = await self._reserved_for(key, place)
                except BaseException:
                    self.release(key)
                    raise
                if refused is None:
                    return node
                self.release(key)
                full[node.id] = refused
                continue
            settled = bool(self.nodes) and all(node.open or node.problem for node in self.nodes.values())
            patience = SETTLED if settled and not self.trouble else self.options.connect_timeout
            if (left := began + patience - loop.time()) <= 0:
                if waits:
                    self._wanting[key] = wanted
                raise MachineAwayError(
                    explained(list(self.nodes.values()), wanted, self.trouble, waits=waits)
                )
            await self._change_within(left)

    async def _reserved_for(self, key: str, place: _Place) -> str | None:
        """Reserve with Ray what a server needs; tell why that is refused."""
        if not place.amounts or self.trouble:
            return None
        place.answer = asyncio.get_running_loop().create_future()
        self._reserve(key, place)
        refused = await place.answer
        return None if self.trouble else refused

    def _reserve(self, key: str, place: _Place) -> None:
        if place.amounts:
            self.control.order({"op": "reserve", "key": key, "node": place.node.id, "amounts": place.amounts})

    def _reserved(self, key: str, refused: str | None) -> None:
        place = self._places.get(key)
        if place is None:
            return
        if place.answer is not None and not place.answer.done():
            place.answer.set_result(refused)
        elif refused is not None:
            logger.warning("what server %s needs is not reserved with Ray any more: %s", key, refused)

    async def tell_all(self, message: Message) -> None:
        """Ask something of every node that is reached; what one of them answers changes nothing."""
        links = [node.link for node in self.nodes.values() if node.open and node.link is not None]
        with suppress(TimeoutError):
            async with asyncio.timeout(TOLD_WITHIN):
                await asyncio.gather(*(link.ask(message) for link in links), return_exceptions=True)

    def forget(self, key: str) -> None:
        """Tell nobody any more when there is a place."""
        self._wanting.pop(key, None)

    def place_of(self, key: str) -> Node:
        """Give the node that a server has its place on.

        Raises:
            KeyError: If it has none.
        """
        return self._places[key].node

    def release(self, key: str) -> None:
        """Give a place back. One that found none is still told of it: a failed start is taken down, too."""
        place = self._places.pop(key, None)
        if place is not None:
            place.node.count -= 1
            if place.amounts:
                self.control.order({"op": "release", "key": key})


async def _straight(host: str, port: int) -> tuple[str, int]:
    return host, port
