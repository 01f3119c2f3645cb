"""What has to be done so that the servers of a home are as the configuration file declares them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from ..runners.keeping import Keeping
from .declared import Declared
from .groups import problem, start_order
from .mark import Mark
from .rows import ServerRow


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be done so that the servers are as declared.

    Attributes:
        added: Declared and not there.
        changed: Declared otherwise than before, and in what.
        removed: There, and not declared any more.
        refused: Declared under a name that another server has, and why that cannot be.
    """

    added: tuple[Declared, ...] = ()
    changed: tuple[tuple[Declared, tuple[str, ...]], ...] = ()
    removed: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def touched(self) -> set[str]:
        """The servers that are there and will not stay as they are."""
        return {*self.removed, *(entry.name for entry, _what in self.changed)}


def plan(
    declared: Mapping[str, Declared],
    rows: Mapping[str, ServerRow],
    mark: Callable[[str], Mark | None],
    unreadable: Container[str] = (),
) -> Plan:
    """Compare what is declared with what is there.

    Args:
        declared: What the file declares.
        rows: What is there, of any origin.
        mark: Gives the mark of a server.
        unreadable: Names of servers whose rows cannot be understood.
    """
    # One that is part of ToolScore makes room for one that is declared.
    rows = {name: row for name, row in rows.items() if row.origin != "builtin" or name not in declared}
    keepings = {name: row.installation.keeping for name, row in rows.items() if row.origin != "file"}
    keepings = {name: entry.keeping for name, entry in declared.items()} | keepings
    added: list[Declared] = []
    changed: list[tuple[Declared, tuple[str, ...]]] = []
    refused: list[tuple[str, str]] = []
    for name, entry in declared.items():
        row = rows.get(name)
        if row is None and name in unreadable:
            refused.append((name, "its row in the store cannot be understood; uninstall it first"))
        elif (row is None or row.origin == "file") and (wrong := problem(name, entry.keeping, keepings)):
            refused.append((name, wrong))
        elif row is None:
            # What may not run is not fetched either, until it may.
            if entry.enabled or entry.source is None:
                added.append(entry)
        elif row.origin != "file":
            whose = "the command line" if row.origin == "cli" else "an agent"
            refused.append(
                (name, f"there is a server of that name from {whose}; rename one, or remove the other")
            )
        elif what := _differences(entry, row, mark(name)):
            changed.append((entry, what))
    removed = tuple(name for name, row in rows.items() if row.origin == "file" and name not in declared)
    needs = {entry.name: entry.keeping.depends_on for entry in added}
    order = [name for wave in start_order(needs, needs) for name in wave]
    added.sort(key=lambda entry: order.index(entry.name))
    return Plan(tuple(added), tuple(changed), removed, tuple(refused))


def _differences(entry: Declared, row: ServerRow, mark: Mark | None) -> tuple[str, ...]:
    if mark is None:
        return ("source",) if entry.source is not None else ("command",)
    parts, keeping = entry.parts(), row.installation.keeping
    what = sorted(key for key in parts.keys() | mark.parts.keys() if parts.get(key) != mark.parts.get(key))
    what += [key for key in Keeping.model_fields if getattr(entry.keeping, key) != getattr(keeping, key)]
    if entry.enabled != mark.enabled:
        what.append("disabled")
    return tuple(what)
