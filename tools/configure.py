"""Changing what is set for one server, while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..runners.keeping import Keeping
from .caller import Caller
from .errors import echoed
from .groups import problem
from .outcome import Outcome, RefusalError

if TYPE_CHECKING:
    from .servers import Servers

_LISTS = ("depends_on", "groups")

_LATER = {
    "start": "when ToolScore starts the next time",
    "start_timeout": "at its next start",
    "depends_on": "at its next start",
    "lease_ttl": "for the next lease",
}
"""What does not take effect at once, and when it does."""


@dataclass(frozen=True, slots=True)
class Configured:
    """What was set for a server.

    Attributes:
        keeping: All that is set for it now.
        changed: Names of what is different from before.
        notes: What somebody should know, such as what takes effect later.
    """

    keeping: Keeping
    changed: tuple[str, ...]
    notes: tuple[str, ...]


async def configure(servers: Servers, name: str, settings: Mapping[str, Any], caller: Caller) -> Configured:
    """Set some of a server's own settings; the others stay as they are.

    Args:
        servers: All servers.
        name: The server.
        settings: Fields of `Keeping`; `None` gives one back to what is set for all. Texts are taken where they can be
            read as what is wanted, and for a list with commas between its members.
        caller: In whose name.

    Raises:
        RefusalError: If there is no such server, it is not the caller's to change, or a value cannot be.
        LibraryError: If it cannot be stored; nothing is changed.
    """
    servers.may_manage(caller)
    async with servers.configuring:
        row = servers.row(name)
        if row.origin == "file":
            raise RefusalError(
                Outcome.REFUSED,
                f"Server '{name}' is declared in the configuration file: set it there, under mcpServers.{name}. "
                "The file is read again when it changes.",
            )
        before = row.installation.keeping
        keeping = _merged(name, before, settings)
        if wrong := problem(name, keeping, servers.keepings()):
            raise RefusalError(Outcome.INVALID_ARGUMENTS, f"Nothing was set for '{name}'. {wrong}")
        installation = (await servers.library.keep(name, keeping)).installation
        servers.supervisor.reconfigure(installation)
    changed = tuple(key for key in Keeping.model_fields if getattr(keeping, key) != getattr(before, key))
    notes = [f"{key} takes effect {_LATER[key]}" for key in changed if key in _LATER]
    for need in keeping.depends_on if "depends_on" in changed else ():
        if not servers.library.servers[need].enabled:
            notes.append(f"'{need}' is disabled: '{name}' cannot be started before it is enabled")
    return Configured(keeping, changed, tuple(notes))


def _merged(name: str, before: Keeping, settings: Mapping[str, Any]) -> Keeping:
    """Put new values over what is set, and check them."""
    values = before.model_dump(exclude_unset=True)
    for key, value in settings.items():
        if value is None:
            values.pop(key, None)
        else:
            listed = key in _LISTS and isinstance(value, str)
            values[key] = [part.strip() for part in value.split(",") if part.strip()] if listed else value
    unknown = [key for key in settings if key not in Keeping.model_fields]
    try:
        if not unknown:
            return Keeping.model_validate(values)
        known = ", ".join(Keeping.model_fields)
        wrong = f"There is no setting named {echoed(', '.join(unknown))}. There are: {known}."
    except ValidationError as exc:
        faults = exc.errors(include_url=False, include_input=False)
        wrong = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults) + "."
    raise RefusalError(Outcome.INVALID_ARGUMENTS, f"Nothing was set for '{name}'. {wrong}")
