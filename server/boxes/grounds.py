"""Where an executor runs: a node of the cluster, or this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ...runners.base import Child
from ...runners.errors import StartError
from ...runners.placement import Placement
from ...runners.process import ProcessRunner
from ...runners.spec import Installation

if TYPE_CHECKING:
    from ...runners.ray.nodes import Node
    from ...runners.ray.runner import RayRunner

GRACE = 2.0
"""Seconds an executor has to end its boxes before it is killed."""

Made = Callable[[str, int, Placement | None], Installation]
"""Makes the installation of an executor: its key, its places, and what it needs of its node."""


@dataclass(frozen=True, slots=True)
class Wants:
    """What a place for an execution needs of its node.

    Attributes:
        cpu: Processors that are reserved for it.
        memory: MiB of memory that are.
        labels: What the node's labels must say.
        most: Places a node has at the most.
    """

    cpu: float = 0.0
    memory: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    most: int = 8

    def of(self, places: int, node: str) -> Placement:
        """Give what so many places need of a node."""
        return Placement(cpu=self.cpu * places, memory=self.memory * places, labels=self.labels, node=node)


class Ground(Protocol):
    """Where one executor runs."""

    @property
    def key(self) -> str:
        """What the runner knows the executor by."""
        ...

    @property
    def called(self) -> str:
        """How it is called in messages."""
        ...

    @property
    def absent(self) -> str | None:
        """Why nothing can be started there now; `None` if it can."""
        ...

    def places(self, held: int = 0) -> int:
        """Give the places there is room for.

        Args:
            held: How many of them the executor has now.

        Raises:
            StartError: If there is none, with what is missing.
        """
        ...

    async def start(self, places: int) -> Child:
        """Start the executor.

        Raises:
            RunnerError: If it cannot be started.
        """
        ...

    async def stop(self) -> None:
        """End it, and give its room back."""
        ...


class NodeGround:
    """A node of the cluster.

    Args:
        ray: Starts it.
        node: The node.
        key: What the runner knows the executor by.
        wants: What a place needs.
        made: Makes its installation.
    """

    def __init__(self, ray: RayRunner, node: Node, key: str, wants: Wants, made: Made) -> None:
        self._ray = ray
        self.node = node
        self.key = key
        self._wants = wants
        self._made = made

    @property
    def called(self) -> str:
        """How it is called in messages."""
        return f"node {self.node.called}"

    @property
    def absent(self) -> str | None:
        """Why nothing can be started there now."""
        return None if self.node.open else self.node.problem or "its agent is not reached yet"

    def places(self, held: int = 0) -> int:
        """Count as many as its free processors and memory, as Ray counts them, have room for."""
        wants = self._wants
        one = wants.of(1, self.node.id)
        if not held and (missing := self.node.misses(one, now=True)):
            raise StartError(f"it lacks {', '.join(missing)}")
        room = [
            int((self.node.free.get(name, 0.0) + 1e-6) / each) + held for name, each in one.amounts.items()
        ]
        return min(wants.most, *room) if room else wants.most

    async def start(self, places: int) -> Child:
        """Start the executor there."""
        return await self._ray.start_server(
            self._made(self.key, places, self._wants.of(places, self.node.id))
        )

    async def stop(self) -> None:
        """End it."""
        await self._ray.stop_server(self.key, GRACE)
        self._ray.cluster.forget(self.key)


class HomeGround:
    """This machine, where the operator allows it while the cluster has no node.

    Args:
        process: Starts it.
        key: What the runner knows the executor by.
        most: Its places.
        made: Makes its installation.
    """

    called = "ToolScore's own machine"
    absent = None

    def __init__(self, process: ProcessRunner, key: str, most: int, made: Made) -> None:
        self._process = process
        self.key = key
        self._most = most
        self._made = made

    def places(self, held: int = 0) -> int:
        """Count what the settings say."""
        return self._most

    async def start(self, places: int) -> Child:
        """Start the executor here."""
        return await self._process.start_server(self._made(self.key, places, None))

    async def stop(self) -> None:
        """End it."""
        await self._process.stop_server(self.key, GRACE)
