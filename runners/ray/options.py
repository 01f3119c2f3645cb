"""What a cluster is spoken to with: where it is, who may, and how long things may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RayOptions:
    """How ToolScore uses a Ray cluster. Times in seconds.

    Attributes:
        address: `HOST:PORT` of the cluster's head; `auto` finds the cluster this machine is a node of.
        token: Ray's own token (`RAY_AUTH_TOKEN`), as a template; empty where none is needed, or Ray finds it.
        lease: How long an agent keeps its servers without a word of ToolScore, and so how long two copies of one
            server may live at the most after a link broke.
        connect_timeout: How long a start waits for the cluster, and for a node that fits.
        folder: Where nodes keep what is theirs; below their user's cache folder when empty.
        port: Port that agents listen on; any free one when 0.
        orphaned: How long an agent that hears of no ToolScore stays.
    """

    address: str = "auto"
    token: str = ""
    lease: float = 2.5
    connect_timeout: float = 20.0
    folder: str = ""
    port: int = 0
    orphaned: float = 120.0

    @property
    def beat(self) -> float:
        """Time between two signs of life."""
        return self.lease / BEATS

    @property
    def fence(self) -> float:
        """Time after a link's last word until what ran behind it has surely ended."""
        return self.lease + ENDING


BEATS = 6
"""Signs of life in the time of a lease; a link without so many is given up."""

ENDING = 1.0
"""Seconds it may take a node to end its servers once their lease is over, also where its agent has to be killed."""
