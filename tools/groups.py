"""Servers that need others, and groups of servers: in which order they start, and which names a name stands for.

Nothing in here knows a process. A map of needs tells, for each server, the servers it needs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from ..runners.keeping import Keeping
from .errors import echoed
from .outcome import Outcome, RefusalError

Needs = Mapping[str, Collection[str]]
"""Which servers each server needs."""

GROUP = "@"
"""What a group's name is told from a server's by, wherever either can be given."""

ALL = "*"
"""Every server."""

_GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def needed(names: Iterable[str], needs: Needs) -> set[str]:
    """Give servers together with all they need, and what that needs in turn."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left.extend(needs.get(name, ()))
    return found


def dependents(name: str, needs: Needs) -> list[str]:
    """Give the servers that need a server, also by way of others; in the order of their names."""
    return sorted(other for other in needs if other != name and name in needed([other], needs))


def start_order(names: Iterable[str], needs: Needs) -> list[list[str]]:
    """Put servers into waves: whatever one needs is in an earlier wave than itself.

    Args:
        names: The servers. What lies between two of them counts, whether it is one of them or not.
        needs: Which servers each server needs.

    Returns:
        The waves, each in the order of its names.

    Raises:
        ValueError: If they need each other in a circle.
    """
    wanted = set(names)
    sorter = TopologicalSorter({name: needs.get(name, ()) for name in needed(wanted, needs)})
    try:
        sorter.prepare()
    except CycleError as exc:
        raise ValueError(f"these servers need each other: {spelled(exc.args[1][::-1])}") from exc
    waves = []
    while sorter.is_active():
        ready = sorter.get_ready()
        sorter.done(*ready)
        if wave := sorted(wanted.intersection(ready)):
            waves.append(wave)
    return waves


def cycle(needs: Needs) -> list[str] | None:
    """Find servers that need each other in a circle.

    Returns:
        One such circle, each server before one it needs, the first again at the end; `None` if there is none.
    """
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as exc:
        found: list[str] = exc.args[1][::-1]
        return found
    return None


def spelled(circle: Iterable[str]) -> str:
    """Spell a circle out: `a needs b needs a`."""
    return " needs ".join(circle)


def needs_of(keepings: Mapping[str, Keeping]) -> dict[str, tuple[str, ...]]:
    """Give which servers each server needs."""
    return {name: keeping.depends_on for name, keeping in keepings.items()}


def members(group: str, keepings: Mapping[str, Keeping]) -> list[str]:
    """Give the servers of a group, in the order of their names."""
    return sorted(name for name, keeping in keepings.items() if group in keeping.groups)


def resolve_names(what: str, keepings: Mapping[str, Keeping]) -> list[str]:
    """Give the servers a name stands for: a server's own, `@GROUP`, or `*` for all.

    Raises:
        RefusalError: `unknown_server`, with the names there are.
    """
    if what == ALL:
        return sorted(keepings)
    if what.startswith(GROUP):
        if found := members(what.removeprefix(GROUP), keepings):
            return found
        groups = sorted({f"{GROUP}{group}" for keeping in keepings.values() for group in keeping.groups})
        hint = f"There are: {', '.join(groups)}."
        if not groups:
            hint = (
                "No server is in a group yet: configure_server(name=…, settings={'groups': […]}), or at the command "
                "line `toolscore configure NAME groups=…`, puts one into it."
            )
        raise RefusalError(Outcome.UNKNOWN_SERVER, f"There is no group '{echoed(what)}'. {hint}")
    if what in keepings:
        return [what]
    raise unknown(what, keepings)


def unknown(name: str, known: Iterable[str]) -> RefusalError:
    """Say that there is no server of a name."""
    names = ", ".join(sorted(known)) or "none yet"
    return RefusalError(
        Outcome.UNKNOWN_SERVER, f"There is no server named '{echoed(name)}'. There are: {names}."
    )


def problem(name: str, keeping: Keeping, others: Mapping[str, Keeping]) -> str | None:
    """Tell why a server cannot need and belong to what is set for it; `None` if it can.

    Args:
        name: The server.
        keeping: What is to be set for it.
        others: What is set for the servers there are; that of the server itself does not count.
    """
    known = {**others, name: keeping}
    for group in keeping.groups:
        if not _GROUP_NAME.fullmatch(group):
            return (
                f"groups: '{echoed(group)}' cannot be a group's name: it consists of at most 32 letters A-Z and a-z, "
                f"digits, `-` and `_`, starts with a letter or digit, and is given here without the '{GROUP}'."
            )
    if unknown := [f"'{need}'" for need in keeping.depends_on if need not in known]:
        names = ", ".join(sorted(set(known) - {name})) or "none"
        return f"depends_on: there is no server named {echoed(' or '.join(unknown))}. There are: {names}."
    needs = needs_of(known)
    if circle := cycle({one: needs.get(one, ()) for one in needed([name], needs)}):
        return f"depends_on: they would wait for each other for ever: {spelled(circle)}."
    return None
