"""What gateways know of each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

State = Literal["serving", "passing", "draining"]
"""Whether it serves, is there for one command only, or is on its way out."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One life of a gateway.

    Attributes:
        id: Random, another one for each life.
        name: What its operator calls it.
        url: Where the other gateways reach it: `ws://HOST:PORT` or `wss://HOST:PORT`.
        epoch: Higher than that of all that came before.
        version: Of its ToolScore.
        began: When it came (seconds since 1970, by the database's clock).
        age: Seconds since its last sign of life, when this was read.
        state: Whether it serves.
        unable: The servers it cannot run, and why.
    """

    id: str
    name: str
    url: str
    epoch: int
    version: str
    began: float
    age: float
    state: State
    unable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lease:
    """Who runs a server.

    Attributes:
        server: The server.
        gateway: The gateway's id; empty where nobody has it.
        epoch: Higher than at any time before.
        state: The state the server is in there.
    """

    server: str
    gateway: str
    epoch: int
    state: str = ""


def preferred(server: str, gateways: Iterable[Gateway]) -> Gateway | None:
    """Choose who is to run a server that nobody runs: all come to the same choice, and share servers evenly.

    By rendezvous hashing (Thaler and Ravishankar, 1998): when one goes, only what it had moves.

    Args:
        server: The server.
        gateways: Those that are there; who drains, or cannot run it, is not chosen.
    """
    fit = [one for one in gateways if one.state == "serving" and server not in one.unable]
    return max(fit, key=lambda one: (_weight(server, one), one.id), default=None)


def _weight(server: str, gateway: Gateway) -> bytes:
    # By the name, which stays over a restart, so that servers come back to where they were.
    return blake2b(f"{gateway.name}\0{server}".encode(), digest_size=8).digest()
