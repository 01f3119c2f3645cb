"""The nodes of a cluster as ToolScore knows them: what each has, its agent, the line to it; and which one to take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..placement import Placement, lacking
from .link import Link


@dataclass(eq=False)
class Node:
    """One node.

    Attributes:
        id: Ray's id of it.
        name: Its host's name.
        address: Its address.
        total: What it has, by Ray's names.
        free: What of it Ray has not reserved.
        labels: Its labels.
        agent: Where its agent is reached; `None` while it has none.
        problem: Why it has none.
        link: The line to it, once it is open.
        count: Servers that run on it, or are about to.
    """

    id: str
    name: str = ""
    address: str = ""
    total: dict[str, float] = field(default_factory=dict)
    free: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    agent: dict[str, Any] | None = None
    problem: str | None = None
    link: Link | None = None
    count: int = 0

    def take(self, told: dict[str, Any]) -> None:
        """Take what the bridge tells of it."""
        self.name, self.address = told["name"], told["address"]
        self.total, self.free, self.labels = told["total"], told["free"], told["labels"]
        self.agent, self.problem = told["agent"], told["problem"]

    @property
    def open(self) -> bool:
        """Whether servers can be started on it."""
        return self.link is not None and not self.link.closed and self.link.ready.done()

    @property
    def called(self) -> str:
        """How it is called in messages."""
        return f"{self.name} ({self.address}, {self.id[:8]})"

    def misses(self, wanted: Placement, *, now: bool) -> list[str]:
        """Say what it lacks for a server; nothing, if it would do.

        Args:
            wanted: What the server needs.
            now: Whether what others have reserved counts as missing.
        """
        if wanted.node is not None and wanted.node not in (self.id, self.name, self.address):
            return [f"it is not {wanted.node}"]
        missing = [
            f"label {name}={value}" for name, value in wanted.labels.items() if self.labels.get(name) != value
        ]
        amounts = wanted.amounts
        never = lacking(amounts, self.total)
        missing += [_amount(name, amounts[name]) for name in never]
        if now:
            busy = [name for name in lacking(amounts, self.free) if name not in never]
            missing += [f"{_amount(name, amounts[name])} free" for name in busy]
        return missing


def _amount(name: str, amount: float) -> str:
    if name == "memory":
        return f"memory={amount / (1 << 20):g} MiB"
    return f"{'cpu' if name == 'CPU' else name}={amount:g}"


def best(nodes: Iterable[Node], wanted: Placement) -> Node | None:
    """Give the node that fits and has the fewest servers for its processors."""
    fitting = [node for node in nodes if node.open and not node.misses(wanted, now=True)]
    return min(
        fitting, key=lambda node: (node.count / max(node.total.get("CPU", 1.0), 1.0), node.id), default=None
    )


def explained(nodes: list[Node], wanted: Placement, bridge: str, *, waits: bool = True) -> str:
    """Say why there is no node for a server, and what would help.

    Args:
        nodes: All there are.
        wanted: What the server needs.
        bridge: What is wrong with the bridge, or nothing.
        waits: Whether it is tried again by itself.
    """
    again = "It is tried again all the time." if waits else "Try again then."
    if bridge:
        return f"the Ray cluster cannot be reached: {bridge.rstrip('.?')}. {again}"
    if not nodes:
        return f"the Ray cluster has no nodes yet. {again}"
    told = []
    for node in nodes:
        missing = node.misses(wanted, now=True)
        why = (
            f" lacks {', '.join(missing)}"
            if missing
            else f": {node.problem or 'its agent is not reached yet'}"
        )
        told.append(node.called + why)
    fitting = [node for node in nodes if not node.misses(wanted, now=False)]
    if not fitting:
        cure = "once such a node joins; change what it needs with `cluster` otherwise"
    elif all(node.problem and not node.misses(wanted, now=True) for node in fitting):
        cure = "once that is mended"
    else:
        cure = "once a node has room"
    start = "It starts by itself" if waits else "Try again"
    return f"no node of the Ray cluster fits ({wanted}): {'; '.join(told[:8])}. {start} {cure}."
