"""What looks at a running ToolScore come to: a line for each server, with rates between looks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

RATE = 5.0
"""Seconds over which rates are averaged."""

RECENT = 60.0
"""Seconds whose calls the median duration is of; of all since the start, where there were none."""

SORTS = ("state", "name", "memory", "cpu", "calls", "errors", "p50", "score", "restarts")
"""What servers can be sorted by."""

_TROUBLE = {
    "failed": 0,
    "backoff": 1,
    "installing": 2,
    "starting": 3,
    "stopping": 4,
    "ready": 5,
    "stopped": 6,
}
"""The order of states: what wants to be seen comes first."""


@dataclass(frozen=True, slots=True)
class Line:
    """One server at one look.

    Attributes:
        name: Its name.
        state: Its state, in lower case; `disabled` where it is.
        restarts: How often it was started again.
        memory: Bytes it holds with all it started; `None` where nothing of it runs here.
        cpu: Processors it keeps busy, likewise.
        rate: Calls that were over in a second; `None` before there were two looks.
        calls: Calls that were over since ToolScore's start.
        errors: Those of them that were no success.
        p50: Seconds that half of the calls did not exceed; `None` without any.
        score: Share of calls that succeeds at the least, 0 to 1; `None` where nothing is known.
        in_flight: Calls under way.
        queued: Calls that wait for their turn.
        tools: Its tools.
        instances: Further processes of one that is not shared.
        quarantined: Its tools in quarantine.
        reason: Why it is not ready, or what else there is to say.
        groups: Its groups.
    """

    name: str
    state: str
    restarts: int = 0
    memory: int | None = None
    cpu: float | None = None
    rate: float | None = None
    calls: int = 0
    errors: int = 0
    p50: float | None = None
    score: float | None = None
    in_flight: int = 0
    queued: int = 0
    tools: int = 0
    instances: int = 0
    quarantined: int = 0
    reason: str = ""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it at one look.

    Attributes:
        version: Of the running ToolScore.
        pid: Its process.
        uptime: Seconds it serves.
        clients: Clients there are, whoever looks left out.
        memory: Bytes of its own process.
        cpu: Processors that one keeps busy; `None` before there were two looks.
        lines: The servers, by name.
        journal: How the journal is, as `Standing` has it; `None` where there is none.
        sandbox: How the sandbox is; `None` where it does not run.
        events: What happened, oldest first.
        trouble: What is wrong with a shared store.
        encoding: Of how many tools the meaning is encoded so far, and of how many it will be; `None` where all are.
    """

    version: str
    pid: int
    uptime: float
    clients: int
    memory: int
    cpu: float | None
    lines: tuple[Line, ...]
    journal: dict[str, Any] | None
    sandbox: dict[str, Any] | None
    events: tuple[dict[str, Any], ...]
    trouble: str | None = None
    encoding: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON; durations are in seconds, memory in bytes, `rate` in calls a second."""
        told = asdict(self)
        told["servers"] = told.pop("lines")
        return told


class Figures:
    """Makes pictures of looks, of which it remembers the last minute.

    Args:
        kept: Events that are remembered.
    """

    def __init__(self, kept: int = 200) -> None:
        self._looks: deque[dict[str, Any]] = deque()
        self._events: deque[dict[str, Any]] = deque(maxlen=kept)
        self.cursor: str | None = None
        """After the last event that was told."""

    def forget(self) -> None:
        """Begin anew: it is another ToolScore that is looked at."""
        self._looks.clear()
        self.cursor = None

    def take(self, look: dict[str, Any]) -> Picture:
        """Take in what was told, and give the picture.

        Args:
            look: As `Glance.look` gives it.
        """
        if self.cursor is None:
            self._events.clear()
        self._events.extend(look["events"])
        self.cursor = look["cursor"]
        now = look["at"]
        look["by_name"] = {server["name"]: server for server in look["servers"]}
        self._looks.append(look)
        # One older than the time remains: rates are between it and now.
        while len(self._looks) > 2 and now - self._looks[1]["at"] >= RECENT:
            self._looks.popleft()
        before = self._back(RATE)
        recent = self._back(RECENT)
        own = look["own"]
        passed = now - before["at"] if before is not None else 0.0
        cpu = None
        if before is not None and passed > 0 and before["own"]["pid"] == own["pid"]:
            cpu = max(0.0, own["cpu_seconds"] - before["own"]["cpu_seconds"]) / passed
        lines = [
            _line(
                server,
                before and before["by_name"].get(server["name"]),
                recent and recent["by_name"].get(server["name"]),
                passed,
                look["bounds"],
            )
            for server in look["servers"]
        ]
        lines += [
            Line(one["name"], str(one["state"]).lower(), reason=_first(one.get("reason")))
            for one in look["missing"]
        ]
        return Picture(
            version=str(look["version"]),
            pid=own["pid"],
            uptime=look["uptime"],
            clients=max(0, look["clients"] - 1),
            memory=own["memory"],
            cpu=cpu,
            lines=tuple(lines),
            journal=look["journal"],
            sandbox=look["sandbox"],
            events=tuple(self._events),
            trouble=look.get("trouble"),
            encoding=look.get("encoding"),
        )

    def _back(self, seconds: float) -> dict[str, Any] | None:
        """Give the youngest look that is so old, or the oldest there is; not the last one itself."""
        now = self._looks[-1]["at"]
        found = None
        for look in list(self._looks)[:-1]:
            if found is None or now - look["at"] >= seconds:
                found = look
        return found


def _line(
    server: dict[str, Any],
    before: dict[str, Any] | None,
    recent: dict[str, Any] | None,
    passed: float,
    bounds: Sequence[float],
) -> Line:
    since = (recent or {}).get("seconds") or []
    counts: list[int] = server["seconds"]
    if since and len(since) == len(counts) and sum(counts) > sum(since):
        counts = [one - other for one, other in zip(counts, since, strict=True)]
    state = str(server["state"]).lower()
    idle = not server["enabled"] and state in ("stopped", "failed")
    held = server["quarantined"]
    reason = _first(server["reason"]) if state != "ready" else ""
    if not reason and held:
        reason = f"{held} tool{'' if held == 1 else 's'} in quarantine: toolscore approvals {server['name']}"
    return Line(
        name=server["name"],
        state="disabled" if idle else state,
        restarts=server["restarts"],
        memory=server["memory"],
        cpu=server["cpu"],
        rate=max(0, server["calls"] - before["calls"]) / passed
        if before is not None and passed > 0
        else None,
        calls=server["calls"],
        errors=server["errors"],
        p50=median(counts, bounds),
        score=server["score"],
        in_flight=server["in_flight"],
        queued=server["queued"],
        tools=server["tools"],
        instances=server["instances"],
        quarantined=held,
        reason=reason,
        groups=tuple(server["groups"]),
    )


def _first(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def median(counts: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Give the seconds that half of the calls did not exceed, from their numbers by class of duration.

    Args:
        counts: How many lasted up to each bound, and last how many lasted longer.
        bounds: The upper bounds, in seconds.
    """
    half = sum(counts) / 2
    if not half:
        return None
    reached = 0
    for place, count in enumerate(counts):
        if reached + count >= half:
            if place >= len(bounds):
                return bounds[-1]
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * (half - reached) / count
        reached += count
    return None


def arranged(lines: Sequence[Line], sort: str, *, backwards: bool = False, wanted: str = "") -> list[Line]:
    """Give the servers to be shown, in order.

    Args:
        lines: All of them.
        sort: One of `SORTS`. Numbers come with the highest first, scores with the lowest.
        backwards: The other way round.
        wanted: Only those with this in name, state or groups; capitals do not matter, `@GROUP` is a group.
    """
    text = wanted.casefold()
    found = [line for line in lines if not text or _fits(line, text)]
    found.sort(key=lambda line: line.name)
    found.sort(key=_KEYS[sort])
    return found[::-1] if backwards else found


def _fits(line: Line, text: str) -> bool:
    if text.startswith("@"):
        return any(group.casefold().startswith(text[1:]) for group in line.groups)
    return text in line.name.casefold() or text in line.state


_KEYS: dict[str, Callable[[Line], Any]] = {
    "state": lambda line: _TROUBLE.get(line.state, 7),
    "name": lambda line: line.name,
    "memory": lambda line: -(line.memory or 0),
    "cpu": lambda line: -(line.cpu or 0.0),
    "calls": lambda line: (-(line.rate or 0.0), -line.calls),
    "errors": lambda line: -line.errors,
    "p50": lambda line: -(line.p50 or 0.0),
    "score": lambda line: 2.0 if line.score is None else line.score,
    "restarts": lambda line: -line.restarts,
}
