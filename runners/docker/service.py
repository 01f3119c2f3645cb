"""A plain service in a container. Those above the runner speak MCP with it as with any server; this file answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import anyio

from ..base import Message
from ..embedded import EmbeddedChannel
from ..errors import MachineAwayError, StartError
from ..handshake import HANDSHAKE_VERSION, METHOD_NOT_FOUND
from ..line_only import LineOnly
from ..served import Place
from ..service import Service
from .child import ContainerChild
from .engine import Engine, EngineError
from .service_probe import CommandProbe, HttpProbe, Probe, ProbeFailedError, TcpProbe, looked

SOON = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds before each further look at one that starts."""

ENDING = 10.0
"""Seconds until it is known how a container has ended that does not run any more."""


class ServiceChild(LineOnly[EmbeddedChannel]):
    """One service, from its start to its end.

    Args:
        process: Its container, which was started.
        engine: The engine.
        service: How its health is told.
        network: The network it is on, as its spec names it.
    """

    def __init__(self, process: ContainerChild, engine: Engine, service: Service, network: str) -> None:
        super().__init__(EmbeddedChannel(process.server_id))
        self.process = process
        self.works_since: float | None = None
        """When its probe last began to succeed."""
        self.seen: float | None = None
        """When it last succeeded."""
        self.problem: str | None = None
        """What is wrong since."""
        self._engine = engine
        self._service = service
        self._network = network
        self._published: dict[int, tuple[str, int]] = {}
        self._address = ""
        self._probe: Probe | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ending = asyncio.get_running_loop().create_task(self._until_exit())
        self.line.connect(self._answer)

    async def _answer(self, message: Message) -> None:
        """Be the server that it is not: one that offers nothing."""
        if "id" not in message or "method" not in message:
            return
        answer: dict[str, Any]
        match message["method"]:
            case "initialize":
                info = {"name": self.process.server_id, "version": ""}
                answer = {
                    "result": {
                        "protocolVersion": HANDSHAKE_VERSION,
                        "capabilities": {},
                        "serverInfo": info,
                    }
                }
            case "ping":
                answer = {"result": {}}
            case method:
                text = f"this is a plain service, which has no {method}"
                answer = {"error": {"code": METHOD_NOT_FOUND, "message": text}}
        self.line.deliver({"jsonrpc": "2.0", "id": message["id"], **answer})

    async def up(self, patience: float) -> Place:
        """Wait until it works; watch over it from then on.

        Args:
            patience: Seconds that may take.

        Returns:
            Where it is.

        Raises:
            StartError: If it ends before, or does not work in that time.
            EngineError: If the engine refuses to tell of it.
            MachineAwayError: If the engine cannot be reached.
        """
        await self._look_up()
        self._probe = self._made()
        tries = 0
        try:
            with anyio.fail_after(patience):
                while not self.process.exited.is_set():
                    if self._probe is None:
                        break
                    with contextlib.suppress(MachineAwayError):
                        self.problem = await looked(self._probe, self._service.timeout)
                        if self.problem is None:
                            break
                    with anyio.move_on_after(SOON[min(tries, len(SOON) - 1)]):
                        await self.process.exited.wait()
                    tries += 1
        except TimeoutError:
            raise StartError(
                f"its probe ({self._probe}) did not succeed within {patience:.3g} s: {self.problem or 'no answer'}",
                stderr=self.stderr_tail(),
            ) from None
        if self.process.exited.is_set():
            raise self._ended()
        self.works_since = self.seen = time.monotonic()
        if self._probe is not None:
            self._watching = asyncio.get_running_loop().create_task(self._watch(self._probe))
        return Place(self._network, self._known_port, dict(self._published))

    def _ended(self) -> StartError:
        return StartError(f"{self.process.epitaph()} before it worked", stderr=self.stderr_tail())

    @property
    def _known_port(self) -> int | None:
        return self._service.port or next(iter(self._published), None)

    async def _look_up(self) -> None:
        """Learn from the engine where its ports are."""
        told = await self._engine.ask("GET", f"/containers/{self.process.id}/json")
        if not told["State"].get("Running"):
            await self.process.ended_within(ENDING)
            raise self._ended()
        settings = told["NetworkSettings"]
        away = self._engine.address.host
        for inside, places in (settings.get("Ports") or {}).items():
            number, _, kind = inside.partition("/")
            for one in places or ():
                if kind == "tcp":
                    host = one["HostIp"]
                    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - what it is published at, not what is bound here
                        host = away or "127.0.0.1"
                    self._published.setdefault(int(number), (host, int(one["HostPort"])))
        found = [one.get("IPAddress") for one in (settings.get("Networks") or {}).values()]
        self._address = next((one for one in found if one), "")

    async def reached(self, port: int) -> tuple[str, int]:
        """Give where one of its ports is reached from here: as others on this machine do, if they can."""
        if port in self._published:
            return self._published[port]
        if self._network == "host":
            return self._engine.address.host or "127.0.0.1", port
        if not self._address:
            raise ProbeFailedError(
                f"its port {port} cannot be reached, as it has no network: give it one, or a command as its probe"
            )
        return self._address, port

    def _made(self) -> Probe | None:
        service = self._service
        if service.command is not None:
            assert self.process.id is not None
            return CommandProbe(self._engine, self.process.id, service.command)
        if service.http is not None:
            return HttpProbe(self, *service.http_parts)
        port = self._known_port
        return None if port is None else TcpProbe(self, port)

    async def _watch(self, probe: Probe) -> None:
        """Look again and again, one look at a time; end it once it has failed too often in a row."""
        failures = 0
        while True:
            await asyncio.sleep(self._service.interval)
            try:
                problem = await looked(probe, self._service.timeout)
                if problem is not None:
                    # While the engine is away its proxies may be as well: that says nothing of the service.
                    state = await self._state()
                    problem = "it is paused" if state.get("Paused") else problem
            except MachineAwayError:
                continue
            self.problem = problem
            if problem is None:
                failures, self.seen = 0, time.monotonic()
                continue
            failures += 1
            if failures >= self._service.retries:
                times = "" if failures == 1 else f" {failures} times in a row"
                self.kill(f"its probe ({probe}) failed{times}: {problem}")
                return

    async def _state(self) -> dict[str, Any]:
        try:
            told = await self._engine.ask("GET", f"/containers/{self.process.id}/json", patience=10.0)
        except EngineError:
            return {}
        found: dict[str, Any] = told["State"]
        return found

    def health(self) -> str:
        """Say in a sentence what its probe tells."""
        if self._probe is None:
            return "it runs; there is no probe for it"
        if self.problem is not None:
            return f"its probe ({self._probe}) fails: {self.problem}"
        ago = time.monotonic() - (self.seen or time.monotonic())
        return f"its probe ({self._probe}) succeeded {ago:.1f} s ago"

    async def _until_exit(self) -> None:
        await self.process.exited.wait()
        self.line.close(self.process.epitaph())

    @property
    def returncode(self) -> int | None:
        """The container's exit status."""
        return self.process.returncode

    def stderr_tail(self) -> str:
        """Give the end of what it wrote."""
        return self.process.stderr_tail()

    def epitaph(self) -> str:
        """Say how it ended."""
        return self.process.epitaph()

    def kill(self, reason: str) -> None:
        """End it at once, for a reason that later answers will give."""
        self.process.kill(reason)
        self.line.close(reason)  # at once, however long the engine takes

    async def ended_within(self, seconds: float) -> bool:
        """Wait for the end of its container."""
        return await self.process.ended_within(seconds)

    async def stop(self, grace: float) -> None:
        """End it, and remove its container."""
        for task in (self._watching, self._ending):
            if task is not None:
                task.cancel()
        self.line.close()
        await self.process.stop(grace)
