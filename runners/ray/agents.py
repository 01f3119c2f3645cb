"""The bridge's agents: one on each node, made where it is missing, and asked where it is reached. Never waits."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from .imported import ray, ray_part

AGAIN = 0.5
"""Seconds after which something that failed is tried again; longer each time."""

LONGEST = 15.0

PATIENCE = 20.0
"""Seconds an agent has to answer: a new one has to be started first."""


@dataclass
class _Node:
    handle: Any = None
    asked: Any = None
    asked_at: float = 0.0
    where: dict[str, Any] | None = None
    problem: str | None = None
    next_at: float = 0.0
    failures: int = 0


class Agents:
    """The agents of all nodes.

    Args:
        namespace: Ray's namespace, one for each home.
        charter: What they are told.
        version: ToolScore's, which must be theirs.
    """

    def __init__(self, namespace: str, charter: dict[str, Any], version: str) -> None:
        self._namespace = namespace
        self._charter = charter
        self._version = version
        self._nodes: dict[str, _Node] = {}

    @property
    def busy(self) -> bool:
        """Whether an answer is waited for."""
        return any(node.asked is not None for node in self._nodes.values())

    def told(self, node: str) -> dict[str, Any]:
        """Give what ToolScore is told of a node's agent."""
        known = self._nodes[node]
        return {"agent": known.where, "problem": known.problem}

    def look_at(self, node: str) -> None:
        """Ask an agent anew where it is: its line was lost."""
        if (known := self._nodes.get(node)) is not None:
            known.next_at = 0.0
            if known.asked is None:
                known.where = None

    def settle(self, nodes: list[str]) -> None:
        """Bring agents in line with the nodes there are, and take their answers."""
        for gone in self._nodes.keys() - set(nodes):
            known = self._nodes.pop(gone)
            if known.handle is not None:
                self._end(known.handle)
        now = time.monotonic()
        for name in nodes:
            known = self._nodes.setdefault(name, _Node())
            if known.asked is not None:
                ready, _ = ray().wait([known.asked], timeout=0)
                if ready:
                    self._answered(name, known)
                elif now - known.asked_at > PATIENCE:
                    self._failed(known, f"its agent did not answer within {PATIENCE:g} s")
            elif known.where is None and now >= known.next_at:
                self._ask(name, known, now)

    def _ask(self, name: str, known: _Node, now: float) -> None:
        from .agent import Agent

        affinity = ray_part("util.scheduling_strategies").NodeAffinitySchedulingStrategy
        try:
            if known.handle is None:
                actor: Any = ray().remote(Agent)
                known.handle = actor.options(
                    name=f"toolscore-{name}",
                    namespace=self._namespace,
                    get_if_exists=True,
                    lifetime="detached",
                    max_restarts=-1,
                    max_task_retries=0,
                    num_cpus=0,
                    scheduling_strategy=affinity(name, soft=False),
                ).remote()
            known.asked = known.handle.where.remote(self._charter)
            known.asked_at = now
        except Exception as exc:
            self._failed(known, str(exc))

    def _answered(self, name: str, known: _Node) -> None:
        exceptions = ray_part("exceptions")
        try:
            where: dict[str, Any] = ray().get(known.asked)
        except exceptions.ActorUnavailableError:
            known.asked, known.next_at = None, time.monotonic() + AGAIN / 2  # Ray is restarting it
            return
        except exceptions.RayActorError as exc:
            # Ray restarts one whose process died, but not one that could never be made, whose name it keeps.
            if known.failures:
                self._end(known.handle)
                known.handle = None
            self._failed(known, _cause(exc))
            return
        except Exception as exc:
            if "LaterLifeError" not in str(exc):
                self._end(known.handle)
            known.handle = None
            self._failed(known, _cause(exc))
            return
        if where["version"] == self._version:
            known.asked, known.where, known.problem, known.failures = None, where, None, 0
            return
        problem = (
            f"it has ToolScore {where['version']}, and this is {self._version}: install the same version on all "
            "nodes, for the Python that Ray runs with"
        )
        # An agent that stayed from before an upgrade; the next one has the code that is on the node now.
        self._end(known.handle)
        known.handle = None
        self._failed(known, problem)

    def _failed(self, known: _Node, problem: str) -> None:
        known.asked, known.where, known.problem = None, None, problem
        known.failures += 1
        known.next_at = time.monotonic() + min(LONGEST, AGAIN * 2 ** min(known.failures - 1, 10))

    def _end(self, handle: Any) -> None:
        try:
            ray().kill(handle, no_restart=True)
        except Exception as exc:
            print(f"an agent could not be ended: {exc}", flush=True)


def _cause(exc: Exception) -> str:
    """Say in one line why an agent cannot be."""
    text = str(exc)
    if "ModuleNotFoundError" in text or "No module named" in text:
        missing = next((line for line in text.splitlines() if "No module named" in line), "")
        return (
            f"ToolScore is not installed there ({missing.strip()[:200]}): run `pip install 'toolscore[ray]'` on the "
            "node, for the Python that Ray runs with"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = re.sub(r"^[\w.]*(Error|Exception): ", "", lines[-1] if lines else type(exc).__name__)
    return f"its agent cannot run: {said[:600]}"
