"""What servers need of nodes, reserved with Ray: a placement group each, of one bundle, on the node that was chosen.

They belong to the bridge's job: when the bridge ends, Ray takes them back, and the next one is told to make them
anew. A server's process is none of Ray's, so that nothing happens to it meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .imported import ray_part

PATIENCE = 3.0
"""Seconds Ray has to make a reservation on a node that had room when it was chosen."""


@dataclass
class _Reservation:
    group: Any
    node: str
    since: float
    ready: bool = False


class Reservations:
    """All that is reserved.

    Args:
        say: Tells ToolScore.
    """

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._held: dict[str, _Reservation] = {}

    @property
    def busy(self) -> bool:
        """Whether one is on its way."""
        return any(not one.ready for one in self._held.values())

    def add(self, key: str, node: str, amounts: dict[str, float]) -> None:
        """Reserve something for a server; what it had is given back."""
        self.drop(key)
        try:
            group = ray_part("util.placement_group").placement_group(
                [amounts], strategy="STRICT_PACK", bundle_label_selector=[{"ray.io/node-id": node}]
            )
        except Exception as exc:
            self._say({"op": "refused", "key": key, "why": str(exc)[:500]})
            return
        self._held[key] = _Reservation(group, node, time.monotonic())
        self.settle()

    def settle(self) -> None:
        """Tell of those that were made, and give up those that could not be."""
        for key, one in list(self._held.items()):
            if one.ready:
                continue
            if one.group.wait(0.02):
                one.ready = True
                self._say({"op": "reserved", "key": key, "node": one.node})
            elif time.monotonic() - one.since > PATIENCE:
                self.drop(key)
                self._say({"op": "refused", "key": key, "why": "the node has no room for it any more"})

    def drop(self, key: str) -> None:
        """Give something back."""
        one = self._held.pop(key, None)
        if one is not None:
            ray_part("util.placement_group").remove_placement_group(one.group)
