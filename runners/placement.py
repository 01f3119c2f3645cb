"""What a server needs of a node of a cluster, as plain values: for which nodes it fits, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MIB = 1 << 20

OWN_PYTHON = "toolscore:python"
"""As a command: the Python that ToolScore itself runs with on the node."""

_Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Placement(BaseModel):
    """What a server needs of the node it runs on. What it names of amounts is reserved for it alone.

    Attributes:
        cpu: Processors; a part of one is possible.
        memory: Memory in MiB.
        resources: Amounts of what a cluster calls otherwise, by name, such as `GPU`.
        labels: What the node's labels must say.
        node: The one node it may run on, by its id, name or address.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    memory: int = Field(default=0, ge=0)
    resources: dict[str, _Amount] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    node: str | None = None

    @property
    def amounts(self) -> dict[str, float]:
        """What is to be reserved, as Ray counts it: memory in bytes."""
        wanted = {"CPU": self.cpu, "memory": float(self.memory * MIB), **self.resources}
        return {name: amount for name, amount in wanted.items() if amount}

    def __str__(self) -> str:
        """Say it in words, for a person."""
        parts = [f"cpu={self.cpu:g}"] if self.cpu else []
        parts += [f"memory={self.memory} MiB"] if self.memory else []
        parts += [f"{name}={amount:g}" for name, amount in sorted(self.resources.items())]
        parts += [f"label {name}={value}" for name, value in sorted(self.labels.items())]
        parts += [f"node {self.node}"] if self.node else []
        return ", ".join(parts) or "nothing in particular"


def as_placement(value: Any) -> Any:
    """Read what somebody wrote for a placement: `true` is any node, `false` is this machine."""
    if isinstance(value, bool):
        return Placement() if value else None
    return value


def lacking(wanted: Mapping[str, float], there: Mapping[str, float]) -> list[str]:
    """Name the amounts that are wanted and not there."""
    return [name for name, amount in wanted.items() if there.get(name, 0.0) + 1e-9 < amount]
