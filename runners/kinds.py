"""`Runners`: all kinds of runner behind the one contract, each server with the kind its spec asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from .base import BaseRunner, Channel, Child, Diagnosis, Health, Which
from .log_read import LogFolder
from .means import Means
from .process import ProcessRunner
from .spec import Candidate, Engine, Installation, Report, silent

if TYPE_CHECKING:
    from .sampler import Usage

Maker = Callable[[Means], BaseRunner]
"""Makes a runner of one kind, when the first server needs it.

Raises `InstallError` where what it needs is not installed.
"""


class Runners(BaseRunner):
    """Gives every server to the runner of its kind. One that nobody needs is never made, nor imported.

    Args:
        process: Runs servers on this machine.
        makers: Make the other kinds.
    """

    def __init__(self, process: ProcessRunner, makers: Mapping[Engine, Maker]) -> None:
        self.process = process
        self._makers = makers
        self._made: dict[Engine, BaseRunner] = {}
        self._by_server: dict[str, BaseRunner] = {}
        self.spread: dict[str, Callable[[], Awaitable[Usage | None]]] = {}
        """Servers in ToolScore's own process that have others do their work, and what gives what these use."""

    def of(self, engine: Engine) -> BaseRunner:
        """Give the runner of a kind.

        Raises:
            InstallError: If what it needs is not installed, with how to install it.
        """
        if engine == "process":
            return self.process
        if (runner := self._made.get(engine)) is None:
            runner = self._made[engine] = self._makers[engine](self.process.means)
        return runner

    @property
    def made(self) -> Mapping[Engine, BaseRunner]:
        """The runners other than the process runner that were needed so far."""
        return self._made

    def _running(self, server_id: str) -> BaseRunner:
        return self._by_server.get(server_id, self.process)

    async def aclose(self) -> None:
        """End what was not stopped, of all kinds."""
        try:
            for runner in self._made.values():
                await runner.aclose()
        finally:
            await self.process.aclose()

    async def install_server(self, candidate: Candidate, report: Report = silent) -> Installation:
        """Fetch and build a server where it is to run."""
        return await self.of(candidate.engine).install_server(candidate, report)

    async def remove_server(self, installation: Installation) -> None:
        """Delete what was installed, and the server's logs."""
        await self.of(installation.spec.engine).remove_server(installation)

    async def remove_volumes(
        self, installation: Installation, but: Collection[str], which: Which = "none"
    ) -> list[str]:
        """Delete the data of a server that outlives it, where it ran."""
        return await self.of(installation.spec.engine).remove_volumes(installation, but, which)

    async def start_server(self, installation: Installation) -> Child:
        """Start a server with the runner of its kind."""
        runner, name = self.of(installation.spec.engine), installation.server_id
        if runner is self.process:
            self._by_server.pop(name, None)  # as nothing is known of most, of which there may be thousands
        else:
            self._by_server[name] = runner
        return await runner.start_server(installation)

    def dialed_in(self, server_id: str, channel: Channel) -> None:
        """Keep the line of a server that has connected by itself."""
        self.process.dialed_in(server_id, channel)

    async def stop_server(self, server_id: str, grace: float | None = None) -> bool:
        """End a server with the runner that started it."""
        return await self._running(server_id).stop_server(server_id, grace)

    def child(self, server_id: str) -> Child | None:
        """Give what was started last under this name."""
        return self._running(server_id).child(server_id)

    def explain(self, installation: Installation, problem: str) -> Diagnosis:
        """Explain a failed start."""
        return self._running(installation.server_id).explain(installation, problem)

    async def reach(self, installation: Installation) -> None:
        """See that what it runs on answers."""
        await self._running(installation.server_id).reach(installation)

    def waits(self, server_id: str) -> str | None:
        """Say what a server that runs waits for."""
        return self._running(server_id).waits(server_id)

    def confined(self, server_id: str) -> Mapping[str, str] | None:
        """Give the layers a running server is confined by."""
        return self._running(server_id).confined(server_id)

    async def usage(self, server_ids: Collection[str]) -> dict[str, Usage]:
        """Ask every other kind of runner for its own, and those for the whole that are spread over machines."""
        found: dict[str, Usage] = {}
        for runner in set(self._made.values()):
            found |= await runner.usage([one for one in server_ids if self._by_server.get(one) is runner])
        for name in self.spread.keys() & set(server_ids):
            if (used := await self.spread[name]()) is not None:
                found[name] = used
        return found

    async def fetching(self, server_id: str) -> bool | None:
        """Ask the runner that starts a server whether what it is still has to be fetched."""
        return await self._running(server_id).fetching(server_id)

    def cleaned(self, server_id: str, value: dict[str, Any]) -> dict[str, Any]:
        """Give an object a server sent without its secrets."""
        return self.process.cleaned(server_id, value)

    async def health_check(self, server_id: str) -> Health:
        """Look at a server from outside."""
        return await self._running(server_id).health_check(server_id)

    @property
    def log_folder(self) -> LogFolder:
        """Reads all logs of this home."""
        return self.process.log_folder

    async def diagnose(self, server_id: str) -> str:
        """Explain the last failure of a server."""
        return await self._running(server_id).diagnose(server_id)
