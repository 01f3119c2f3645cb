"""Starting and stopping servers, one or a group of them, in the order in which they need each other."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..runners.lifecycle import State
from .caller import Caller
from .errors import echoed
from .groups import needed, needs_of, resolve_names, start_order
from .in_use import in_use, used_by
from .outcome import Outcome, RefusalError

if TYPE_CHECKING:
    from .servers import Servers

Action = Literal["start", "stop", "restart", "enable", "disable"]

_DONE = {"stop": "stopped", "restart": "restarted", "disable": "disabled"}


@dataclass(frozen=True, slots=True)
class Managed:
    """What became of one server.

    Attributes:
        name: The server.
        state: The state it is in.
        reason: Why it is not READY, where it was to be.
        retry_after: Seconds until it is tried again, where it is.
    """

    name: str
    state: State
    reason: str | None = None
    retry_after: float | None = None


async def manage(
    servers: Servers, what: str, action: Action, caller: Caller, *, force: bool = False
) -> list[Managed]:
    """Start, stop, restart, enable or disable servers, and wait for them.

    What a server needs is started before it, also where it is not among those that are meant; it is stopped after
    those among them that need it. One that fails does not keep others from starting that do not need it.

    Args:
        servers: All servers.
        what: The server's name, `@GROUP`, or `*`.
        action: What to do.
        caller: In whose name.
        force: Whether to stop what others need or use.

    Returns:
        What became of each that was meant, in the order of their names.

    Raises:
        RefusalError: If there is no such server or group, it is in use, or the one that was meant does not come up.
    """
    servers.may_manage(caller)
    names = resolve_names(what, servers.keepings())
    single = what in servers.library.servers
    if single and action in ("start", "restart") and not servers.row(what).enabled:
        raise RefusalError(Outcome.UNAVAILABLE, f"Server '{what}' is disabled. {_enable(what)}")
    if action in _DONE and not force:
        # What is down is used by nobody, but a disabled one does not come back for those that need it.
        up = [name for name in names if action == "disable" or servers.supervisor.units[name].running]
        if users := used_by(servers, up, caller):
            raise in_use(what, _DONE[action], users)
    if action in ("enable", "disable"):
        for name in names:
            await servers.enable(name, action == "enable")
    if action in _DONE:
        await _stop(servers, names)
    if action in ("start", "enable", "restart"):
        managed = await _start(servers, names)
    else:
        managed = [_now(servers, name) for name in names]
    if single and (reason := managed[0].reason) is not None:
        raise RefusalError(Outcome.FAILED_TO_START, reason, retryAfter=managed[0].retry_after)
    return managed


async def _stop(servers: Servers, names: list[str]) -> None:
    supervisor = servers.supervisor

    async def stop(name: str) -> None:
        if (unit := supervisor.units.get(name)) is not None:
            unit.stop()
            if supervisor.instances_now(name):
                await supervisor.instances(name).end()
            await unit.stopped()

    for wave in reversed(start_order(names, needs_of(servers.keepings()))):
        await asyncio.gather(*(stop(name) for name in wave))


async def _start(servers: Servers, names: list[str]) -> list[Managed]:
    needs = needs_of(servers.keepings())
    found: dict[str, Managed] = {}

    async def start(name: str) -> None:
        found[name] = _missing(name, needs.get(name, ()), found) or await _started(servers, name)

    for wave in start_order(needed(names, needs), needs):
        await asyncio.gather(*(start(name) for name in wave))
    return [found[name] for name in names]


def _missing(name: str, needs: Collection[str], found: Mapping[str, Managed]) -> Managed | None:
    """Tell which of what a server needs is not there; `None` if all is."""
    for need in needs:
        if found[need].state is not State.READY:
            why = found[need].reason or f"server '{need}' is {found[need].state}."
            return Managed(
                name,
                State.STOPPED,
                f"server '{name}' is not started, as it needs '{need}': {why}",
                found[need].retry_after,
            )
    return None


async def _started(servers: Servers, name: str) -> Managed:
    row, unit = servers.library.servers.get(name), servers.supervisor.units.get(name)
    if row is None or unit is None:
        return Managed(name, State.STOPPED, f"there is no server named '{echoed(name)}'.")
    if not row.enabled:
        return Managed(name, unit.life.state, f"server '{name}' is disabled. {_enable(name)}")
    unit.start()
    servers.supervisor.boot(unit)  # spares as well, where it has any
    for one in servers.supervisor.instances_now(name):
        if one.life.state is State.FAILED:
            one.start()  # its holder is told to do just this
    if await unit.settled() is State.READY:
        return Managed(name, State.READY)
    refusal = unit.refusal()
    return Managed(name, unit.life.state, refusal.message, refusal.retry_after)


def _now(servers: Servers, name: str) -> Managed:
    unit = servers.supervisor.units.get(name)
    return Managed(name, unit.life.state if unit is not None else State.STOPPED)


def _enable(name: str) -> str:
    return f"Enable it with manage_server(name='{name}', action='enable')."
