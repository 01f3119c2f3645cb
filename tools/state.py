"""What is known of one server now, in words and figures: what it is doing, why, and what to do next."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from ..runners.lifecycle import State
from ..runners.spec import EMBEDDED
from .groups import dependents, needs_of

if TYPE_CHECKING:
    from ..runners.sampler import Usage
    from ..runners.supervisor import Unit
    from .rows import ServerRow
    from .servers import Servers


class Related(BaseModel):
    """A server that another one needs, or is needed by."""

    name: str
    state: str


class Instance(BaseModel):
    """One process of a server that is not shared, apart from the one that nobody in particular uses."""

    name: str
    state: str
    pid: int | None
    in_flight: int


class LastExit(BaseModel):
    """How a server ended, or failed to start, the last time it did either by itself."""

    at: str
    reason: str


class ServerState(BaseModel):
    """The state of one server. Times are ISO 8601 or seconds, memory is in bytes.

    Attributes:
        name: Its name.
        state: Its state, as in its life cycle.
        doing: The same in a sentence.
        since: When it came into this state.
        seconds: How long ago that is.
        next: What to do next, with the exact call where there is one.
        enabled: Whether it may run.
        restarts: How often it was started again since it was last started or stopped by hand.
        failures: Failed starts and early ends in a row.
        reason: Why it is not READY.
        retry_after: Seconds until it is started again.
        last_exit: How it ended last.
        pids: Its processes' ids, those of further instances included.
        uptime: Seconds it has been READY.
        memory: What it holds with all it started.
        cpu: Processors it keeps busy with all it started, on average over the last seconds.
        files: Files and sockets it has open with all it started; `None` where that is not known.
        processes: Processes it consists of.
        in_flight: Calls under way.
        queued: Calls that wait for their turn.
        protocol: The MCP version it spoke last; `None` for a plain service.
        depends_on: The servers it needs.
        dependents: The servers that need it.
        groups: Its groups.
        keeping: How it is kept: its own settings over those for all.
        own: Names of the settings that are its own.
        instances: The instances of one that is not shared.
        confined: What confines it, layer by layer, while it runs; `None` where it is not to be confined.
        quarantined: Its tools in quarantine, which are not called.
        findings: What was found in what it says of itself and of its tools that looks as if it were meant to mislead.
        gateway: Which of several gateways runs it; left out where there is one, or each has a process of its own.
    """

    name: str
    state: str
    doing: str
    since: str
    seconds: float
    next: str
    enabled: bool = True
    restarts: int = 0
    failures: int = 0
    reason: str | None = None
    retry_after: float | None = None
    last_exit: LastExit | None = None
    pids: list[int] = []
    uptime: float | None = None
    memory: int | None = None
    cpu: float | None = None
    files: int | None = None
    processes: int | None = None
    in_flight: int = 0
    queued: int = 0
    protocol: str | None = None
    depends_on: list[Related] = []
    dependents: list[Related] = []
    groups: list[str] = []
    keeping: dict[str, Any] = {}
    own: list[str] = []
    instances: list[Instance] = []
    confined: dict[str, str] | None = None
    quarantined: list[str] = []
    findings: list[str] = []
    gateway: str | None = Field(default=None, exclude_if=lambda gateway: gateway is None)


async def state_of(servers: Servers, name: str) -> ServerState:
    """Tell all that is known of a server.

    Raises:
        RefusalError: If there is none of that name.
    """
    began = servers.library.held.get(name)
    row, unit = servers.library.servers.get(name), servers.supervisor.units.get(name)
    if began is not None and (row is None or unit is None):
        return _on_its_way(name, began)
    if row is None and name in servers.library.missing:
        return _not_installed(name, servers.library.missing[name])
    row = servers.row(name)
    if unit is None:
        return _on_its_way(name, time.time())  # it is being removed this very moment
    units = [unit, *servers.supervisor.instances_now(name)]
    usage = await servers.supervisor.usage([one.key for one in units])
    life, now = unit.life, time.monotonic()
    seconds = max(0.0, now - life.since)
    retry_after = max(0.0, life.retry_at - now) if life.retry_at is not None else None
    needs = needs_of(servers.keepings())
    pids = {one.key: _pid(servers, one) for one in units}
    relations = {other: _related(servers, other) for other in (*needs[name], *dependents(name, needs))}
    needed = [relations[other] for other in needs[name]]
    child = servers.runner.child(unit.key)
    doing = _doing(row, unit, needed, retry_after, getattr(child, "node", None))
    if row.installation.spec.is_service and life.state is State.READY:
        health = await servers.runner.health_check(name)
        doing = f"{health.reason[:1].upper()}{health.reason[1:]}."
    if life.state is State.READY and (waits := servers.runner.waits(name)) is not None:
        doing = f"{waits[:1].upper()}{waits[1:]}."
    return ServerState(
        name=name,
        state=str(unit.shown),
        doing=doing,
        since=_iso(time.time() - seconds),
        seconds=round(seconds, 3),
        next=_next(row, unit, needed, retry_after),
        enabled=row.enabled,
        restarts=life.restarts,
        failures=life.failures,
        reason=life.reason,
        retry_after=None if retry_after is None else round(retry_after, 3),
        last_exit=None if unit.last_exit is None else _last_exit(*unit.last_exit),
        pids=[pid for pid in pids.values() if pid is not None],
        uptime=round(seconds, 3) if life.state is State.READY else None,
        in_flight=sum(one.in_flight for one in units),
        queued=sum(one.queued for one in units),
        protocol=_protocol(row, unit),
        depends_on=needed,
        dependents=[relations[other] for other in dependents(name, needs)],
        groups=list(unit.kept.groups),
        keeping=unit.kept.model_dump(mode="json"),
        own=sorted(row.installation.keeping.model_dump(exclude_defaults=True)),
        instances=[
            Instance(name=one.key, state=str(one.life.state), pid=pids[one.key], in_flight=one.in_flight)
            for one in units[1:]
        ],
        confined=confinement_of(servers, name),
        **_use(usage.values()),
    )


def _protocol(row: ServerRow, unit: Unit) -> str | None:
    if row.installation.spec.is_service:
        return None  # nobody speaks MCP with it
    return unit.session.version if unit.session is not None else row.era


def confinement_of(servers: Servers, name: str) -> dict[str, str] | None:
    """Tell the layers that confine a server, in words: none while nothing of it runs; `None` if it is not to be."""
    spec = servers.library.servers[name].installation.spec
    if spec.confine is None and spec.container is None:
        return None
    told = (servers.runner.confined(unit.key) for unit in servers.supervisor.all_of(name))
    return next((dict(layers) for layers in told if layers), {})


def _on_its_way(name: str, began: float) -> ServerState:
    """Describe a server that is not there yet, or not any more."""
    return ServerState(
        name=name,
        state=str(State.INSTALLING),
        doing="It is being installed or removed.",
        since=_iso(began),
        seconds=round(max(0.0, time.time() - began), 3),
        next="Wait until that is done: list_servers shows it then, unless it failed or was removed.",
    )


def _not_installed(name: str, reason: str) -> ServerState:
    """Describe a server that is declared and could not be installed."""
    return ServerState(
        name=name,
        state=str(State.FAILED),
        doing="The configuration file declares it, but it could not be installed.",
        since=_iso(time.time()),
        seconds=0.0,
        next=(
            "Correct it in the configuration file, which is read again when it changes. What may pass is tried again "
            "by itself; server_logs(name='toolscore') says when."
        ),
        reason=reason,
    )


def _use(usage: Collection[Usage]) -> dict[str, Any]:
    """Add up what all instances of a server use of the machine, where that is known."""
    if not usage:
        return {}
    return {
        "memory": sum(one.memory for one in usage),
        "cpu": round(sum(one.cpu for one in usage), 3),
        "files": sum(one.files for one in usage) or None,
        "processes": sum(one.processes for one in usage),
    }


def _pid(servers: Servers, unit: Unit) -> int | None:
    child = servers.runner.child(unit.key)
    return child.pid if child is not None else None


def _doing(
    row: ServerRow, unit: Unit, needed: list[Related], retry_after: float | None, node: str | None
) -> str:
    state = unit.shown
    if not row.enabled and not unit.running:
        return "It is disabled, and does not run."
    match state:
        case State.READY:
            calls = f"{unit.in_flight} call{'' if unit.in_flight == 1 else 's'} under way"
            runs = "It runs inside ToolScore's own process" if _is_embedded(row) else "It runs"
            if node is not None:
                runs = f"It runs on node {node}"
            if _is_embedded(row) and "--cluster" in row.installation.spec.args:
                runs = "It runs on the nodes of a cluster (sandbox_status tells which)"
            return f"{runs}, with {calls}" + (f" and {unit.queued} in the queue." if unit.queued else ".")
        case State.STARTING:
            if waiting := [f"'{one.name}' ({one.state})" for one in needed if one.state != State.READY]:
                return f"It waits for {', '.join(waiting)}, which it needs."
            return "It was started, and has not told its tools yet."
        case State.INSTALLING:
            if row.installation.spec.cluster is not None:
                return "What it is to start is made on its node, or downloaded there."
            if unit.unmade:
                return "It was installed by another gateway, and is being installed at this one."
            return "Its launcher downloads what it is to start."
        case State.BACKOFF:
            what = f"It ended or failed to start, {unit.life.failures} times in a row"
            return f"{what}, and is started again in {retry_after or 0:.1f} s."
        case State.STOPPING:
            return "It is being stopped."
        case State.FAILED:
            if _dials_in(row):
                return "It is away: it was connected, and is not."
            return "It is given up, and is not started again by itself."
        case _:
            if row.installation.spec.is_service:
                return "It does not run. A server that needs it starts it."
            return "It does not run. Its next call starts it."


def _next(row: ServerRow, unit: Unit, needed: list[Related], retry_after: float | None) -> str:
    name, state = row.name, unit.shown
    if not row.enabled:
        return f"manage_server(name='{name}', action='enable') lets it run again."
    lacking = [one for one in needed if one.state in (State.FAILED, State.BACKOFF)]
    start = f"manage_server(name='{name}', action='start')"
    match state:
        case State.READY if row.installation.spec.is_service:
            return "Nothing: it has no tools, and is there for the servers that need it."
        case State.STOPPED if row.installation.spec.is_service:
            return f"Start a server that needs it, or {start}."
        case State.READY:
            return f"Nothing: list_tools(server='{name}') shows what it can be asked for."
        case State.STARTING | State.INSTALLING | State.STOPPING:
            return f"Wait a moment; server_logs(name='{name}') shows what it writes meanwhile."
        case State.STOPPED:
            return f"Call one of its tools, or manage_server(name='{name}', action='start')."
        case _ if unit.unauthorized:
            return f"Have a person run `toolscore authorize {name}`."
        case _ if lacking:
            return f"See to what it needs first: server_state(name='{lacking[0].name}') tells more."
        case State.FAILED if _dials_in(row):
            return "Wait until it dials in again, or start its program where that runs."
    if state is State.BACKOFF:
        return (
            f"Wait {retry_after or 0:.1f} s, or find out why with server_logs(name='{name}'), then {start}."
        )
    return f"Read why in server_logs(name='{name}'), mend that, then {start}."


def _dials_in(row: ServerRow) -> bool:
    return (row.installation.spec.url or "").startswith("register:")


def _is_embedded(row: ServerRow) -> bool:
    return (row.installation.spec.url or "").startswith(EMBEDDED)


def _related(servers: Servers, name: str) -> Related:
    row, unit = servers.library.servers.get(name), servers.supervisor.units.get(name)
    if row is None or unit is None:
        return Related(name=name, state="not there")
    return Related(name=name, state="disabled" if not row.enabled else str(unit.shown))


def _last_exit(at: float, reason: str) -> LastExit:
    return LastExit(at=_iso(at), reason=reason)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
