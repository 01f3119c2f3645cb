"""What the own tools about leases do."""

from __future__ import annotations

from datetime import UTC, datetime

from ..tools.leases import Lease, Leases
from ..tools.outcome import Outcome, RefusalError
from . import models as m
from .call import Call
from .server_tools import Handler


class LeaseTools:
    """The own tools about leases.

    Args:
        leases: Every lease there is.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.handlers: dict[str, Handler] = {
            "acquire_server": self._acquire,
            "release_server": self._release,
        }

    async def _acquire(self, args: m.AcquireServerArguments, call: Call) -> m.LeaseResult:
        if args.lease is not None:
            return _told(self._leases.renew(args.lease, call.caller, ttl=args.ttl))
        if args.name is None:
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS, "Give the name of a server to acquire, or a lease to renew."
            )
        return _told(await self._leases.acquire(args.name, call.caller, ttl=args.ttl, wait=args.wait))

    async def _release(self, args: m.ReleaseServerArguments, call: Call) -> m.LeaseResult:
        lease = self._leases.release(args.lease, call.caller)
        return _told(lease)


def _told(lease: Lease) -> m.LeaseResult:
    return m.LeaseResult(
        lease=lease.id,
        name=lease.server,
        instance=lease.unit.key,
        ttl=lease.ttl,
        ends=datetime.fromtimestamp(lease.ends, UTC).isoformat(timespec="seconds"),
    )
