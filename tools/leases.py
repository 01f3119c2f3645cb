"""Leases: an instance of a server for one episode, from `acquire` to `release`, or to the end of its time."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass

from ..runners.instances import AllTakenError
from ..runners.session import ChildSession
from ..runners.supervisor import NotReadyError, Supervisor, Unit
from .caller import CALL, Caller
from .meant import unknown_server
from .outcome import Outcome, RefusalError
from .sight import visible

logger = logging.getLogger(__name__)

LEASE_KEY = "toolscore/lease"
"""Member of a request's `_meta` that names the lease it is made in."""

LONGEST = 24 * 3600.0
"""Seconds a lease may last at the most, unless it is renewed."""


@dataclass
class Lease:
    """One lease.

    Attributes:
        id: Its name, which nobody can guess.
        server: The server.
        caller: Who holds it.
        ttl: Seconds it lasts.
        ends: When it ends, in seconds since 1970.
        unit: The instance.
        session: The session with the process it was given; another one knows nothing of the episode.
    """

    id: str
    server: str
    caller: Caller
    ttl: float
    ends: float
    unit: Unit
    session: ChildSession
    timer: asyncio.TimerHandle | None = None


class Leases:
    """Every lease there is.

    Args:
        supervisor: Has the instances.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._leases: dict[str, Lease] = {}

    def of(self, server: str) -> list[Lease]:
        """Give the leases on a server."""
        return [lease for lease in self._leases.values() if lease.server == server]

    async def acquire(
        self, server: str, caller: Caller, *, ttl: float | None = None, wait: float = 0.0
    ) -> Lease:
        """Take an instance that is nobody else's, and have it ready.

        Args:
            server: The server, which must be one that is leased.
            caller: Who wants it.
            ttl: Seconds after which it is taken back; what is set for the server when `None`.
            wait: Seconds to wait for one where all are taken, in the order of asking.

        Raises:
            RefusalError: If there is none, or it does not start.
        """
        if CALL not in caller.rights:
            raise RefusalError(Outcome.REFUSED, f"'{caller.principal}' may not use servers.")
        unit, known = self._supervisor.units.get(server), visible(self._supervisor.units)
        if unit is None or server not in known:
            raise unknown_server(server, known)
        if not unit.enabled:
            raise RefusalError(
                Outcome.UNAVAILABLE,
                f"Server '{server}' is disabled. Enable it with manage_server(name='{server}', action='enable').",
            )
        if unit.kept.isolation != "per-lease":
            raise RefusalError(
                Outcome.REFUSED,
                f"Server '{server}' is not leased, it is {unit.kept.isolation}. "
                f"configure_server(name='{server}', settings={{'isolation': 'per-lease'}}) changes that.",
            )
        identity = secrets.token_urlsafe(16)
        instances = self._supervisor.instances(server)
        try:
            leased = await instances.take_within(identity, wait)
        except AllTakenError as exc:
            raise RefusalError(
                Outcome.LIMIT,
                f"{exc.message[0].upper()}{exc.message[1:]}. Release one, or acquire with a longer wait.",
                retryAfter=1.0,
            ) from exc
        except NotReadyError as exc:
            raise RefusalError(Outcome.UNAVAILABLE, f"{exc.message[0].upper()}{exc.message[1:]}.") from exc
        try:
            session = await leased.ready()
        except BaseException as exc:
            instances.let_go(identity)
            if isinstance(exc, NotReadyError):
                raise RefusalError(Outcome.FAILED_TO_START, exc.message, retryAfter=exc.retry_after) from exc
            raise
        ttl = min(ttl or leased.kept.lease_ttl, LONGEST)
        lease = Lease(identity, server, caller, ttl, 0.0, leased, session)
        self._leases[identity] = lease
        self._wind(lease)
        return lease

    def has(self, identity: str, principal: str) -> bool:
        """Tell whether a principal holds a lease of that name."""
        lease = self._leases.get(identity)
        return lease is not None and lease.caller.principal == principal

    def renew(self, identity: str, caller: Caller, *, ttl: float | None = None) -> Lease:
        """Let a lease last for its time from now on.

        Raises:
            RefusalError: If there is none of that name that is the caller's.
        """
        lease = self._find(identity, caller)
        if ttl is not None:
            lease.ttl = min(ttl, LONGEST)
        self._wind(lease)
        return lease

    def release(self, identity: str, caller: Caller) -> Lease:
        """End a lease; its instance is reset, or ended.

        Raises:
            RefusalError: If there is none of that name that is the caller's.
        """
        lease = self._find(identity, caller)
        self._end(lease)
        return lease

    def unit(self, server: str, caller: Caller, identity: object) -> Unit:
        """Give the instance a call is for.

        Args:
            server: The server.
            caller: Who calls.
            identity: The lease it named; `None` if it named none, which does where its connection holds just one.

        Raises:
            RefusalError: If it holds none, or not this one.
        """
        if identity is not None:
            lease = self._find(identity, caller)
            if lease.server != server:
                raise RefusalError(
                    Outcome.REFUSED, f"That lease is one on server '{lease.server}', not on '{server}'."
                )
            return self._live(lease)
        own = [lease for lease in self.of(server) if lease.caller.client == caller.client]
        if len(own) == 1:
            return self._live(own[0])
        hint = (
            f"Get one with acquire_server(name='{server}')"
            if not own
            else f"Your connection holds {len(own)}"
        )
        raise RefusalError(
            Outcome.REFUSED,
            f"Server '{server}' is used by lease. {hint}, and name it as lease in execute_tool, or as {LEASE_KEY} "
            "in the _meta of the call.",
        )

    def _find(self, identity: object, caller: Caller) -> Lease:
        lease = self._leases.get(identity) if isinstance(identity, str) else None
        if lease is None or lease.caller.principal != caller.principal:
            raise RefusalError(
                Outcome.REFUSED,
                "There is no such lease of yours here: it was released, its time is over, or it was given before a "
                "restart or by another gateway. Acquire another one.",
            )
        return lease

    def _live(self, lease: Lease) -> Unit:
        if lease.unit.closing:
            self._end(lease)
            raise RefusalError(
                Outcome.REFUSED,
                f"The instance of this lease was ended, and what it held is lost: server '{lease.server}' was "
                "stopped or restarted, or its place was needed after it had failed. Acquire another one.",
            )
        if lease.unit.session is not lease.session or lease.session.closed.is_set():
            why = f" ({lease.unit.last_exit[1].splitlines()[0]})" if lease.unit.last_exit is not None else ""
            self._end(lease)
            raise RefusalError(
                Outcome.REFUSED,
                f"The process of this lease ended by itself{why}, and what it held is lost. Acquire another one.",
            )
        return lease.unit

    def _wind(self, lease: Lease) -> None:
        if lease.timer is not None:
            lease.timer.cancel()
        lease.ends = time.time() + lease.ttl
        lease.timer = asyncio.get_running_loop().call_later(lease.ttl, self._expired, lease)

    def _expired(self, lease: Lease) -> None:
        logger.info("the lease of %s on %s ended with its time", lease.caller.principal, lease.unit.key)
        self._end(lease)

    def _end(self, lease: Lease) -> None:
        if lease.timer is not None:
            lease.timer.cancel()
        self._leases.pop(lease.id, None)
        try:
            self._supervisor.instances(lease.server).let_go(lease.id)
        except KeyError:
            logger.debug("the server of a lease was removed before it")

    def close(self) -> None:
        """End no lease any more: all servers are being ended."""
        for lease in self._leases.values():
            if lease.timer is not None:
                lease.timer.cancel()
        self._leases.clear()
