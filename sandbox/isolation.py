"""What protects from the code that runs: layers, each active or not and why, and the tier they make together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Tier(StrEnum):
    """How much protects, in one word."""

    FULL = "full"
    """Namespaces with a root of its own, Landlock where there is one, a system call filter, limits."""
    REDUCED = "reduced"
    """No user namespaces: Landlock, a system call filter without sockets and processes, limits."""
    LIMITS = "limits"
    """Only limits of the operating system: they protect from mistakes, not from an attacker."""
    NONE = "none"
    """Nothing."""

    @property
    def rank(self) -> int:
        """How strong it is: 0 is nothing."""
        return [Tier.NONE, Tier.LIMITS, Tier.REDUCED, Tier.FULL].index(self)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer.

    Attributes:
        name: `namespaces`, `root`, `landlock`, `seccomp`, `capabilities`, `limits`, `memory`, `processes`, `network`.
        active: Whether the self-test in a box found it to hold.
        detail: What was found, or why it is not there.
    """

    name: str
    active: bool
    detail: str = ""

    def __str__(self) -> str:
        if self.active:
            return f"active ({self.detail})" if self.detail else "active"
        return f"unavailable ({self.detail or 'not tried'})"


@dataclass(frozen=True, slots=True)
class Isolation:
    """What was found to protect."""

    tier: Tier = Tier.NONE
    layers: tuple[Layer, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Give it as `sandbox_status` and results tell it."""
        return {"tier": str(self.tier), "layers": {layer.name: str(layer) for layer in self.layers}}
