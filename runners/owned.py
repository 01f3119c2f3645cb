"""A runner for one of several gateways: what all clients share runs at one, and is reached from the others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, Protocol

from .base import BaseRunner, Channel, Child, Diagnosis, Health, Which
from .errors import SpecError, StartError, UnmadeError
from .fenced import FencedChild
from .gateway_line import ENDED, ElsewhereChild, GatewayLine
from .log_read import LogFolder
from .sampler import Usage
from .spec import Candidate, Installation, Report, SourceKind, silent

logger = logging.getLogger(__name__)

DIALED = "register:"

Alone = Literal["new", "next"]
"""Why a server can run at this gateway only: the others do not have it yet, or not this version of it."""

EXPECTED = 30.0
"""Seconds from a change of its version for which a server is to start here, and not to be reached elsewhere."""


class Place(Protocol):
    """A gateway."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def name(self) -> str:
        """Its name."""
        ...


class Ownership(Protocol):
    """Knows which gateway runs what."""

    async def claim(self, server: str, *, take: bool = True, alone: Alone | None = None) -> Place | None:
        """Take a server, or learn whose it is; `None` is ours. Alone, it is ours or nobody's.

        Raises:
            StartError: If that cannot be known, or nobody can run it.
        """
        ...

    def still(self, server: str) -> Callable[[], bool]:
        """Give what tells whether a server surely was ours all the time since now."""
        ...

    def release(self, server: str, *, moving: bool = False) -> None:
        """Let go of a server, which does not run here."""
        ...

    def is_me(self, place: Place) -> bool:
        """Tell whether a gateway is this one."""
        ...

    def unable(self, server: str, why: str | None) -> None:
        """Let all know that this gateway cannot run a server; or that it can again."""
        ...

    async def connect(self, place: Place, server: str) -> Any:
        """Connect to a gateway, for a server it runs.

        Raises:
            StartError: If it cannot be reached.
        """
        ...


class Owned(BaseRunner):
    """Decides at each start where a server is.

    Args:
        inner: Runs what runs here.
        ownership: Knows which gateway runs what.
        shared: Tells whether all clients share the process of a server.
    """

    def __init__(
        self, inner: BaseRunner, ownership: Ownership, shared: Callable[[Installation], bool]
    ) -> None:
        self._inner = inner
        self._ownership = ownership
        self._shared = shared
        self._lines: dict[str, ElsewhereChild] = {}
        self._last: dict[str, ElsewhereChild] = {}
        self._places: dict[str, str] = {}
        self._at: dict[str, str] = {}
        """The ids of the gateways the lines lead to."""
        self._dialed: set[str] = set()
        self._unmade: dict[str, str] = {}
        self._expected: dict[str, float] = {}
        self.why_not: Callable[[str], str | None] = lambda _server: None
        """Says why a server cannot run here, where its environment is yet to be made."""
        self.in_the_making: Callable[[str], bool] = lambda _server: False
        """Tells whether that is being done now, and did not fail yet."""
        self.is_stored: Callable[[str], bool] = lambda _server: True
        """Tells whether a server is one that the gateways have in common, and not only about to be."""

    def concerns(self, installation: Installation) -> bool:
        """Tell whether a server runs at one gateway only: not what each client has for itself, nor an endpoint."""
        spec, url = installation.spec, installation.spec.url or ""
        return (
            "#" not in installation.server_id
            and installation.kind is not SourceKind.BUILTIN
            and (spec.command is not None or url.startswith(DIALED) or spec.engine != "process")
            and self._shared(installation)
        )

    @property
    def unmade(self) -> list[str]:
        """The servers that were found not to run here, before they were tried."""
        return list(self._unmade)

    async def note_ability(self, server: str) -> str | None:
        """Let all know whether a server can run here, as far as that is seen before it is tried; say why not."""
        why = await asyncio.to_thread(self.why_not, server)
        if why != self._unmade.get(server):
            self._ownership.unable(server, why)
            if why is None:
                self._unmade.pop(server, None)
            else:
                self._unmade[server] = why
        return why

    def expect(self, server: str) -> None:
        """Have a server start here next, as no other gateway has this version of it yet."""
        self._expected[server] = time.monotonic() + EXPECTED

    def is_here(self, server_id: str) -> bool:
        """Tell whether a server was started here last, and not reached at another gateway."""
        return server_id not in self._places

    def elsewhere(self, server_id: str) -> str | None:
        """Name the gateway that runs a server; empty where none does, or it is not known which."""
        return self._places.get(server_id)

    def moves(self, server_id: str) -> bool:
        """Tell whether a server was not reached because it moves to another gateway, or the line to it broke."""
        last = self._last.get(server_id)
        return bool(self._places.get(server_id)) and (last is None or last.code != ENDED)

    async def start_server(self, installation: Installation) -> Child:
        """Start a server here, or reach it where it runs."""
        name = installation.server_id
        self._lines.pop(name, None)
        self._last.pop(name, None)
        self._places.pop(name, None)
        why_not = await self.note_ability(installation.name)
        if not self.concerns(installation):
            if why_not is not None:
                error = UnmadeError if self.in_the_making(installation.name) else SpecError
                raise error(f"Server '{name}' cannot run at this gateway: {why_not}.")
            return await self._inner.start_server(installation)
        dials = installation.spec.command is None and (installation.spec.url or "").startswith(DIALED)
        new = not self.is_stored(name)
        alone: Alone | None = (
            "new" if new else "next" if self._expected.get(name, 0) > time.monotonic() else None
        )
        while True:
            self._places[name] = ""  # what fails now is not this server's fault
            place = await self._ownership.claim(name, take=not dials or name in self._dialed, alone=alone)
            if place is not None and not self._ownership.is_me(place):
                if dials and name in self._dialed:
                    self._dialed.discard(name)
                    raise SpecError(
                        f"A server named '{name}' is connected already, to gateway '{place.name}'."
                    )
                return await self._reach(name, place)
            del self._places[name]
            self._dialed.discard(name)
            self._expected.pop(name, None)
            still = self._ownership.still(name)
            if why_not is not None:
                self._ownership.release(name)
                error = UnmadeError if self.in_the_making(installation.name) else SpecError
                raise error(f"Server '{name}' cannot run at this gateway, nor at another: {why_not}.")
            try:
                child = await self._inner.start_server(installation)
            except SpecError as exc:
                self._ownership.release(name)
                if dials or new:
                    raise
                self._ownership.unable(name, exc.message)
                self._places[name] = ""
                try:
                    place = await self._ownership.claim(name)
                except StartError:
                    place = None
                if place is None:
                    del self._places[name]
                    self._ownership.release(name)
                    raise
                logger.warning("server %s is left to gateway '%s': %s", name, place.name, exc.message)
                return await self._reach(name, place)
            if not still():
                raise StartError(
                    f"whether server '{name}' is still this gateway's to run is not known, as the shared database "
                    "could not be reached. It is tried again by itself."
                )
            self._ownership.unable(name, None)
            fenced: Any = FencedChild(child, still)
            fenced_child: Child = fenced
            return fenced_child

    async def _reach(self, name: str, place: Place) -> ElsewhereChild:
        self._places[name] = place.name
        wire = await self._ownership.connect(place, name)
        child = self._lines[name] = self._last[name] = ElsewhereChild(GatewayLine(wire, place.name))
        self._at[name] = place.id
        return child

    def cut_off(self, gateway: str) -> None:
        """Close the lines to a gateway that is dead; one that hangs would let them wait for its answers."""
        for name, child in self._lines.items():
            if self._at[name] == gateway:
                child.kill("it is taken for dead")

    async def stop_server(self, server_id: str, grace: float | None = None) -> bool:
        """End it, or close the line to where it runs."""
        if (line := self._lines.pop(server_id, None)) is not None:
            await line.stop(0)
            return True
        return await self._inner.stop_server(server_id, grace)

    def child(self, server_id: str) -> Child | None:
        """Give what was started or reached last under this name."""
        return self._lines.get(server_id) or self._inner.child(server_id)

    def explain(self, installation: Installation, problem: str) -> Diagnosis:
        """Explain a failed start."""
        if installation.server_id in self._places:
            return Diagnosis(problem, "")
        return self._inner.explain(installation, problem)

    async def health_check(self, server_id: str) -> Health:
        """Look at a server from outside."""
        if (place := self._places.get(server_id)) is not None:
            return Health(alive=server_id in self._lines, reason=f"gateway '{place}' runs it")
        return await self._inner.health_check(server_id)

    def dialed_in(self, server_id: str, channel: Channel) -> None:
        """Keep the line of a server that has connected by itself to this gateway."""
        self._inner.dialed_in(server_id, channel)
        self._dialed.add(server_id)

    async def aclose(self) -> None:
        """End what was not stopped."""
        await self._inner.aclose()

    async def install_server(self, candidate: Candidate, report: Report = silent) -> Installation:
        """Fetch and build a server."""
        return await self._inner.install_server(candidate, report)

    async def remove_server(self, installation: Installation) -> None:
        """Delete what was installed."""
        await self._inner.remove_server(installation)

    async def remove_volumes(
        self, installation: Installation, but: Collection[str], which: Which = "none"
    ) -> list[str]:
        """Delete the data of a server that outlives it."""
        return await self._inner.remove_volumes(installation, but, which)

    async def usage(self, server_ids: Collection[str]) -> dict[str, Usage]:
        """Give what servers use of other machines than this one."""
        return await self._inner.usage(server_ids)

    async def reach(self, installation: Installation) -> None:
        """See that what a server of this gateway runs on answers."""
        if installation.server_id not in self._places:
            await self._inner.reach(installation)

    async def fetching(self, server_id: str) -> bool | None:
        """Tell whether what a server is still has to be fetched; one that runs elsewhere is asked for there."""
        return False if server_id in self._lines else await self._inner.fetching(server_id)

    def waits(self, server_id: str) -> str | None:
        """Say what a server that runs here waits for."""
        return self._inner.waits(server_id)

    def confined(self, server_id: str) -> Mapping[str, str] | None:
        """Give the layers a running server is confined by."""
        return self._inner.confined(server_id)

    def cleaned(self, server_id: str, value: dict[str, Any]) -> dict[str, Any]:
        """Give an object a server sent without its secrets."""
        return self._inner.cleaned(server_id, value)

    @property
    def log_folder(self) -> LogFolder:
        """What reads the servers' logs."""
        return self._inner.log_folder

    async def diagnose(self, server_id: str) -> str:
        """Explain the last failure of a server."""
        return await self._inner.diagnose(server_id)
