"""Takes a request to the right process of its server: a place in its queue, an instance, a grant to call tools."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..runners.errors import ChildFaultError
from ..runners.instances import AllTakenError
from ..runners.patron import ProgressSink
from ..runners.supervisor import NotReadyError, Supervisor, Unit
from .caller import Caller
from .delivery import Delivery, not_ready, queued
from .leases import Leases
from .library import Library
from .nested import Grants, stamped, unstamped
from .outcome import Outcome, RefusalError
from .passage import Passage

OURS = "toolscore/"
"""How members of `_meta` begin that no server but ToolScore's own has a say in."""


class Carrier:
    """Takes requests to servers.

    Args:
        library: Which servers there are.
        supervisor: What is live.
    """

    def __init__(self, library: Library, supervisor: Supervisor) -> None:
        self._library = library
        self._supervisor = supervisor
        self.leases = Leases(supervisor)
        """Who holds which instance of servers that are leased."""
        self.nested: Grants | None = None
        """Lets code that a builtin server runs call tools, in its caller's name."""
        self.vet: Callable[[Unit, str], None] | None = None
        """Asked, once a process is ready, whether a tool may be called there."""
        self.deputies: dict[str, Grants] = {}
        """Lets single builtin servers pass a call on to another server, in its caller's name, whatever code may."""

    async def send(
        self,
        passage: Passage,
        params: dict[str, Any],
        *,
        what: str,
        on_progress: ProgressSink | None,
        replayable: bool,
        lease: object,
    ) -> dict[str, Any]:
        """Take a request to its server.

        Args:
            passage: The request.
            params: Its parameters, as the server is to see them.
            what: What it is, for those who read of its end.
            on_progress: Told of the server's progress.
            replayable: Whether making it a second time does no more than once.
            lease: The lease this is done in, where the server is one that is leased.

        Raises:
            RefusalError: If it was not made, or its outcome is not known.
            ChildFaultError: If the server answered with an error.
        """
        server, method, caller, asker = passage.server, passage.method, passage.caller, passage.asker
        timeout = passage.timeout
        row = self._library.servers.get(server)
        if row is None:  # a task outlives the server that began it
            raise RefusalError(Outcome.UNAVAILABLE, f"Server '{server}' was removed.", excused=True)
        if not row.enabled:
            raise RefusalError(
                Outcome.UNAVAILABLE,
                f"Server '{server}' is disabled. Enable it with manage_server(name='{server}', "
                "action='enable').",
                excused=True,
            )
        unit = self._supervisor.units.get(server)
        if unit is None:
            raise RefusalError(Outcome.UNAVAILABLE, f"Server '{server}' is being removed.", excused=True)
        if unit.kept.isolation != "shared":
            unit = self._own_instance(unit, caller, lease)
        limit = timeout if timeout is not None else unit.kept.timeout
        key = caller.connection or caller.principal
        gate = unit.gate
        if not gate.try_enter(key):
            limit = await queued(gate, key, limit, what, server)
        grant = None
        try:
            if row.origin != "builtin":
                params = unstamped(params)
            else:
                grants = self.deputies.get(server, self.nested)
                if grants is not None and method == "tools/call":
                    inner = replace(caller, span=passage.span) if passage.span else caller
                    grant = grants.make(server, inner, gate, key, asker)
                params = stamped(params, caller, grants, grant)
            nested = caller.depth > 0
            result = await Delivery(
                method, params, what, limit, asker, nested, on_progress, replayable, self.vet
            ).to(unit)
            if "_meta" in result and row.origin != "builtin":
                result["_meta"] = _not_ours(result["_meta"])
            return result
        except ChildFaultError as exc:
            if row.origin != "builtin":
                exc.data = _not_ours(exc.data)
            raise
        finally:
            if grant is not None:
                grant.close()
            gate.leave(key)
            unit.last_used = time.monotonic()

    def _own_instance(self, unit: Unit, caller: Caller, lease: object) -> Unit:
        """Choose the process of a server that is not shared."""
        if unit.kept.isolation == "per-lease":
            return self.leases.unit(unit.name, caller, lease)
        if caller.listener == "command":
            return unit
        try:
            return self._supervisor.instances(unit.name).take(caller.client)
        except AllTakenError as exc:
            raise RefusalError(
                Outcome.LIMIT,
                f"{exc.message[0].upper()}{exc.message[1:]}. Each client has one of its own; try again when another "
                "client is gone.",
                retryAfter=5.0,
            ) from exc
        except NotReadyError as exc:
            raise not_ready(exc) from exc


def _not_ours(said: Any) -> Any:
    """Give what a server says of its answer without what only ToolScore says: which outcome, where the rest is."""
    if not isinstance(said, dict) or not any(key.startswith(OURS) for key in said):
        return said
    return {key: value for key, value in said.items() if not key.startswith(OURS)}
