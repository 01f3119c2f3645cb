"""The bridge: Ray's driver, in a process of its own. `python -m toolscore.runners.ray.bridge`.

Ray ends its driver when the cluster's head is lost; so that is not ToolScore. What it knows (which nodes there are,
with which agents, what is free) goes to ToolScore as JSON lines on standard output, and what it is to do comes the
same way on standard input: first of all, with whom it speaks and what agents are to know.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
from typing import IO, Any

from ... import __version__
from .agents import Agents
from .imported import ray, ray_part
from .reservations import Reservations

LOOK = 0.5
"""Seconds between two looks at the nodes."""

KNOCKED_WITHIN = 3.0
"""Seconds the head's machine has to answer."""

TURN = 0.05
"""Seconds between two looks while something is on its way."""


class Bridge:
    """Ray's driver.

    Args:
        told: The first line: `address`, `namespace` and `charter`.
        out: Where ToolScore listens.
    """

    def __init__(self, told: dict[str, Any], out: IO[str]) -> None:
        self._told = told
        self._out = out
        self._orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._agents = Agents(told["namespace"], told["charter"], __version__)
        self._reservations = Reservations(self._say)
        self._last: dict[str, dict[str, Any]] | None = None

    def _say(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def run(self) -> None:
        """Connect, and tell until ToolScore closes the line."""
        threading.Thread(target=self._listen, daemon=True).start()
        address = self._told["address"]
        if not self._answers(address):
            return
        try:
            ray().init(
                address=address,
                namespace=self._told["namespace"],
                log_to_driver=False,
                configure_logging=False,
            )
        except ConnectionError as exc:
            cure = (
                "set ray.address to HOST:PORT of the cluster's head, or make this machine one of its nodes"
                if address == "auto"
                else f"something answers there: is it a head of Ray {ray().__version__}, and ray.token its token?"
            )
            raise ConnectionError(f"{_short(exc)}; {cure}") from exc
        self._say({"op": "connected", "ray": ray().__version__})
        while self._step():
            pass

    def _answers(self, address: str) -> bool:
        """Wait until somebody answers at the head's address: Ray itself waits for a minute without a word."""
        if address == "auto":
            return True
        host, _, port = address.rpartition(":")
        while True:
            try:
                socket.create_connection((host.strip("[]"), int(port)), KNOCKED_WITHIN).close()
                return True
            except OSError as exc:
                why = (
                    f"nothing answers at {address} ({exc}): start the cluster's head, or correct ray.address"
                )
                self._say({"op": "away", "why": why})
                ray()  # imported meanwhile, which takes a second
            try:
                while self._orders.get(timeout=LOOK) is not None:
                    pass  # all that matters is told again once it is connected
                return False
            except queue.Empty:
                pass

    def _listen(self) -> None:
        for line in sys.stdin:
            self._orders.put(json.loads(line))
        self._orders.put(None)

    def _step(self) -> bool:
        self._look()
        busy = self._agents.busy or self._reservations.busy
        try:
            order = self._orders.get(timeout=TURN if busy else LOOK)
        except queue.Empty:
            return True
        if order is None:
            return False
        match order["op"]:
            case "look":
                self._agents.look_at(order["node"])
            case "reserve":
                self._reservations.add(order["key"], order["node"], order["amounts"])
            case "release":
                self._reservations.drop(order["key"])
        return True

    def _look(self) -> None:
        free = _free()
        nodes = [node for node in ray().nodes() if node["Alive"]]
        self._agents.settle([node["NodeID"] for node in nodes])
        self._reservations.settle()
        told = {
            node["NodeID"]: {
                "id": node["NodeID"],
                "name": node["NodeManagerHostname"],
                "address": node["NodeManagerAddress"],
                "total": _amounts(node["Resources"]),
                "free": _amounts(free.get(node["NodeID"], {})),
                "labels": node.get("Labels") or {},
                **self._agents.told(node["NodeID"]),
            }
            for node in nodes
        }
        first, last = self._last is None, self._last or {}
        changed = [one for name, one in told.items() if last.get(name) != one]
        gone = sorted(last.keys() - told.keys())
        if first or changed or gone:
            self._say({"op": "nodes", "nodes": changed, "gone": gone, "all": first})
        else:
            self._say({"op": "alive"})
        self._last = told


def _free() -> dict[str, dict[str, float]]:
    """Give what of each node is not reserved. Ray tells that for the whole cluster only, but for this function."""
    found: dict[str, dict[str, float]] = ray_part("_private.state").available_resources_per_node()
    return found


def _amounts(resources: dict[str, float]) -> dict[str, float]:
    """Leave out what Ray keeps for itself: a resource for each node, and those of placement groups."""
    return {
        name: amount
        for name, amount in resources.items()
        if not name.startswith("node:") and "_group_" not in name and name != "object_store_memory"
    }


def _short(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()] or [type(exc).__name__]
    return " ".join(lines[:8])[:1000]


def main() -> None:
    """Run the bridge on the standard streams."""
    # Ray prints where it likes; what ToolScore reads is a descriptor only the bridge knows.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    told = json.loads(sys.stdin.readline())
    try:
        Bridge(told, out).run()
    except Exception as exc:
        out.write(json.dumps({"op": "failed", "why": _short(exc)}) + "\n")
        out.flush()
        os._exit(1)
    os._exit(0)  # what Ray does in good order takes seconds, and nothing here is left to be done


if __name__ == "__main__":
    main()
