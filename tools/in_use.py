"""Who would miss a server: the servers that need it, and the clients whose calls it is answering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

from .caller import Caller
from .groups import dependents, needs_of
from .outcome import Outcome, RefusalError

if TYPE_CHECKING:
    from ..runners.supervisor import Unit
    from .servers import Servers


def used_by(servers: Servers, names: Collection[str], caller: Caller, *, removing: bool = False) -> list[str]:
    """Tell who would miss servers that are about to be stopped.

    Args:
        servers: All servers.
        names: The ones that are to be stopped. That they need each other does not count.
        caller: Who asks for it. Its own calls do not count.
        removing: Whether they do not come back: then also servers that do not run miss what they need.

    Returns:
        A clause for each, such as `server 'web' needs 'db'`.
    """
    needs, units = needs_of(servers.keepings()), servers.supervisor.units
    users = []
    for name in names:
        for other in dependents(name, needs):
            unit = units.get(other)
            if other not in names and (removing or (unit is not None and unit.running)):
                users.append(f"server '{other}' needs '{name}'")
        if held := servers.supervisor.holders(name) - {caller.client}:
            isolation = units[name].kept.isolation
            one = "lease" if isolation == "per-lease" else "other client"
            users.append(
                f"{len(held)} {one}{'' if len(held) == 1 else 's'} with a process of '{name}' to itself"
            )
        if any(unit.undone.any() for unit in servers.supervisor.all_of(name)):
            users.append(f"'{name}' is at work on a task")
        calls: Counter[str] = Counter()
        for unit in servers.supervisor.all_of(name):
            calls.update(_others(unit, caller))
        for client, count in sorted(calls.items()):
            users.append(f"{count} call{'' if count == 1 else 's'} of {client} under way on '{name}'")
    return users


def in_use(what: str, done: str, users: Collection[str]) -> RefusalError:
    """Refuse to do something to servers that would be missed.

    Args:
        what: The servers, as the caller named them.
        done: What would be done to them, such as `stopped`.
        users: What `used_by` tells.
    """
    return RefusalError(
        Outcome.REFUSED,
        f"'{what}' is in use and was not {done}: {'; '.join(users)}. See to those first, or do it all the same with "
        "force=true (--force at the command line).",
    )


def _others(unit: Unit, caller: Caller) -> dict[str, int]:
    """Count the calls under way or waiting at a unit, by client, without those of one caller."""
    owners = unit.session.owners if unit.session is not None else []
    known = {owner.caller.client: owner.caller for owner in owners if hasattr(owner, "caller")}
    calls: dict[str, int] = {}
    for key, counts in unit.gate.counts().items():
        client = known.get(key)
        if key == caller.client or (client is not None and _same(client, caller)):
            continue
        name = "another client" if client is None else f"'{client.principal}' ({client.listener})"
        calls[name] = calls.get(name, 0) + sum(counts)
    return calls


def _same(one: Caller, other: Caller) -> bool:
    """Tell whether two callers are one client. Over HTTP each request may come as a connection of its own."""
    return one.listener == other.listener == "http" and one.principal == other.principal
