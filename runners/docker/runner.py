"""`DockerRunner`: servers as containers of a Docker engine, over its API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import uuid
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..base import Child, Diagnosis, Health, Which
from ..diagnosis import diagnose
from ..errors import InstallError, MachineAwayError, RunnerError, SpecError, StartError
from ..home_runner import HomeRunner
from ..listening import connect_when_up
from ..means import Means
from ..process import ServedChild
from ..remote import RemoteChild
from ..sampler import Usage
from ..spec import Candidate, Installation, Report, ServerSpec, silent
from .address import find
from .build import remove_built
from .child import ContainerChild
from .config import HOME_LABEL, INSTANCE_LABEL, OWNER_LABEL, SERVER_LABEL, create_body
from .engine import Engine, EngineError, need_library
from .events import Events
from .explain import explain_init
from .images import Images
from .install import install
from .leftovers import Leftovers
from .listening import listens
from .opened import layers, published
from .own import Own
from .service import ServiceChild
from .service_probe import declared
from .sweep import left_behind, server_of, sweep
from .usage import Meter
from .warden import Warden

logger = logging.getLogger(__name__)

PING = 3.0
"""Seconds an engine has to say that it is there."""

HOME_FILE = "docker-home"
"""File in the folder `run` with the id that tells this home's containers from those of others."""


class DockerRunner(HomeRunner):
    """Runs servers in containers. The engine may go and come back; nothing here has to be started again for that.

    Args:
        means: What it shares with the other kinds of runner.
        host: The setting `docker.host`; empty where nothing is set.
    """

    def __init__(self, means: Means, host: str = "") -> None:
        need_library()
        super().__init__(means)
        self.host = host
        self._engine: Engine | None = None
        self._meter: Meter | None = None
        self._events: Events | None = None
        self._swept: asyncio.Task[None] | None = None
        self._children: dict[str, Child] = {}
        self._owner = uuid.uuid4().hex
        self._home: str | None = None
        self._own: Own | None = None
        self._warden: Warden | None = None
        self._leftovers: Leftovers | None = None
        self._images = Images()
        self._unclean: set[str] = set()
        """Servers of which a container may be left, as the end of the last one is not known."""

    @property
    def own(self) -> Own:
        """Networks and volumes of this home.

        Raises:
            MachineAwayError: If there is no engine.
        """
        if self._own is None:
            self._own = Own(self.engine, self.home)
        return self._own

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            MachineAwayError: If there is none.
        """
        if self._engine is None:
            self._engine = Engine(find(self.host, self.means.options.environ))
            self._meter = Meter(self._engine)
            self._leftovers = Leftovers(self._engine)
            self._events = Events(self._engine, f"{HOME_LABEL}={self.home}")
        return self._engine

    @property
    def home(self) -> str:
        """The id of this home, made when it is first needed."""
        if self._home is None:
            path = self.means.options.run / HOME_FILE
            try:
                self._home = path.read_text("ascii").strip() or None
            except FileNotFoundError:
                self._home = None
            if self._home is None:
                self._home = uuid.uuid4().hex
                path.parent.mkdir(parents=True, exist_ok=True)
                new = path.with_suffix(".new")
                new.write_text(f"{self._home}\n", "ascii")
                new.chmod(0o600)
                new.replace(path)
        return self._home

    async def aclose(self) -> None:
        """End the containers that were not stopped, and close all connections."""
        await asyncio.gather(*(self.stop_server(name, 0) for name in list(self._children)))
        if self._swept is not None:
            self._swept.cancel()
            await asyncio.wait([self._swept])
        if self._leftovers is not None:
            await self._leftovers.aclose()
        if self._own is not None:
            await self._own.tidy()
        if self._events is not None:
            await self._events.aclose()
        if self._warden is not None:
            await asyncio.to_thread(self._warden.close)
        if self._engine is not None:
            await self._engine.aclose()

    async def sweep(self) -> None:
        """Remove what a ToolScore that was killed left of this home, once in a life.

        Raises:
            MachineAwayError: If the engine cannot be reached; the next call tries again.
        """
        if self._swept is None or (self._swept.done() and self._swept.exception() is not None):
            self._swept = asyncio.get_running_loop().create_task(self._sweep())
        await asyncio.shield(self._swept)

    async def _sweep(self) -> None:
        for name in await sweep(self.engine, self.home, self._owner, self.means.logs):
            logger.warning("ended what a killed ToolScore had left of server %s", name)
        for one in await left_behind(self.engine, self.home, self._owner):  # what could not be removed yet
            self._unclean.add(server_of(one))

    async def install_server(self, candidate: Candidate, report: Report = silent) -> Installation:
        """Get its image, where the engine does not have it."""
        options = self.means.options
        try:
            async with asyncio.timeout(options.install_timeout):
                return await install(
                    self.engine, candidate, report, options.environ, options.servers, self.home
                )
        except TimeoutError:
            raise InstallError(
                f"Getting {candidate.source} took longer than {options.install_timeout:g} seconds and was stopped; "
                "the engine keeps what it has, so try again, or allow it more time."
            ) from None
        except EngineError as error:
            raise InstallError(f"{candidate.source} cannot be installed; the engine says: {error}") from error
        except MachineAwayError as error:
            raise InstallError(error.message) from error

    async def remove_server(self, installation: Installation) -> None:
        """Delete its containers and its logs; its image stays, as others may use it."""
        # If the engine is away, the next start of this home removes what is left.
        with contextlib.suppress(RunnerError):
            await self._remove_left(installation.server_id)
            await self.own.tidy(installation.server_id)
            await remove_built(self.engine, installation.name, self.home)
        from ..installers.install import remove

        await remove(installation, servers=self.means.options.servers)
        self.means.logs.remove(installation.server_id)
        self.means.known.forget(installation.name)

    async def start_server(self, installation: Installation) -> Child:
        """Make and start its container; join its streams, or connect to its url."""
        name = installation.server_id
        self._known[name] = installation
        self._problems.pop(name, None)
        try:
            return await self._start(installation)
        except EngineError as error:
            failure = StartError(
                f"server '{name}' cannot start; the engine says: {self.means.masked(error.message)}"
            )
            self._problems[name] = str(failure)
            raise failure from error
        except RunnerError as error:
            error.message, error.stderr = self.means.masked(error.message), self.means.masked(error.stderr)
            if isinstance(error, StartError):
                self._problems[name] = str(error)
            raise

    async def remove_volumes(
        self, installation: Installation, but: Collection[str], which: Which = "none"
    ) -> list[str]:
        """Remove the volumes of this home's own that only this server uses."""
        container = installation.spec.container
        names = [] if container is None else [one for one in container.own_volumes if one not in but]
        return await self.own.remove_volumes(installation.server_id, names, which) if names else []

    async def _start(self, installation: Installation) -> Child:
        began = asyncio.get_running_loop().time()
        name = installation.server_id
        engine = self.engine
        service = installation.spec.is_service
        if service and "#" in name:
            raise SpecError(
                f"service '{name.partition('#')[0]}' runs once for all: set its isolation to shared."
            )
        await self.sweep()
        if self._warden is None:
            self._warden = Warden(engine.address, f"{OWNER_LABEL}={self._owner}")
        extra: dict[str, str] = {}
        if "${PORT" in installation.spec.model_dump_json():
            extra["PORT"] = str(self.means.ports.lend(name, same=service))
        spec, mask = await self.means.filled(installation, extra)
        if spec.container is None or not spec.container.image:
            raise SpecError(f"server '{name}' names no image; install it from docker:IMAGE.")
        image = await self._images.of(engine, installation, spec.container.image)
        spoken = spec.url is None and not service
        if spec.url is not None:
            spec = spec.model_copy(update={"container": published(spec.container, extra.get("PORT"))})
        log = self.means.logs.of(name)
        log.masks = mask
        child = ContainerChild(name, engine, log, spoken=spoken)
        child.line.mask, child.line.note = mask, lambda text: log.note("WARNING", text)
        if name in self._unclean:
            await self._remove_left(name)
        self._unclean.add(name)
        self._children[name] = child  # at once, so that a start that is cancelled half-way can be undone
        kept = self.means.kept.under(installation.keeping)
        _plain, _, number = name.partition("#")
        title = f"toolscore-{installation.name}{f'-{number}' if number else ''}-{secrets.token_hex(4)}"
        assert spec.container is not None
        with self.own.joining():
            made = await self.own.made(name, spec.container)
            body = create_body(
                spec.model_copy(update={"container": made}),
                image=image,
                kept=kept,
                labels=self._labels(name),
                spoken=spoken,
            )
            await child.launch(title, body)
            if self._events is not None and child.id is not None:
                self._events.listen(child.id, child.told)
        if spoken:
            return child
        if spec.container.service is not None:
            probed = declared(spec.container.service, image)
            plain = self._children[name] = ServiceChild(child, engine, probed, spec.container.network)
            passed = asyncio.get_running_loop().time() - began
            # A little less than a start may take, so that it is told what is wrong with it.
            self.means.served.up(name, await plain.up(max(0.1, 0.95 * kept.start_timeout - passed)))
            return plain
        remote = await self._connect_when_up(spec, child)
        served = self._children[name] = ServedChild(child, remote)
        return served

    def _labels(self, server_id: str) -> dict[str, str]:
        name, _, number = server_id.partition("#")
        return {
            HOME_LABEL: self.home,
            SERVER_LABEL: name,
            INSTANCE_LABEL: number or "1",
            OWNER_LABEL: self._owner,
        }

    async def _remove_left(self, server_id: str) -> None:
        """Remove containers of a server that an earlier start left."""
        wanted = {key: value for key, value in self._labels(server_id).items() if key != OWNER_LABEL}
        filters = {"label": [f"{key}={value}" for key, value in wanted.items()]}
        found = await self.engine.ask(
            "GET", "/containers/json", params={"all": True, "filters": json.dumps(filters)}
        )
        for one in found:
            try:
                await self.engine.ask("DELETE", f"/containers/{one['Id']}", params={"force": True, "v": True})
            except EngineError as error:
                if error.status not in (404, 409):
                    raise

    async def _connect_when_up(self, spec: ServerSpec, child: ContainerChild) -> RemoteChild:
        patience = (
            self.means.options.connect_timeout * 0.9
        )  # so that the supervisor's own deadline comes later
        hint = ". In a container it has to listen on all addresses (0.0.0.0), not on its own loopback"
        connect = partial(self.means.connect, child.server_id, spec)
        return await connect_when_up(spec, child, patience, listens, connect, hint)

    async def stop_server(self, server_id: str, grace: float | None = None) -> bool:
        """End its container, remove it, and give its port back."""
        child = self._children.pop(server_id, None)
        self.means.served.down(server_id)
        if child is not None:
            await child.stop(self.means.options.stop_grace if grace is None else grace)
            if (container := _container(child)) is not None and container.id:
                if self._meter is not None:
                    self._meter.forget(container.id)
                if self._events is not None:
                    self._events.forget(container.id)
                if container.removed:
                    self._unclean.discard(server_id)
                elif self._leftovers is not None:
                    self._leftovers.add(container.id)
        self.means.ports.give_back(server_id)
        return child is not None

    def child(self, server_id: str) -> Child | None:
        """Give what is left of the server that was started last under this name."""
        return self._children.get(server_id)

    def explain(self, installation: Installation, problem: str) -> Diagnosis:
        """Explain a failed start, and remember it for `diagnose`."""
        child = self._children.get(installation.server_id)
        if child is not None and (why := explain_init(child.stderr_tail())) is not None:
            found = Diagnosis(f"server '{installation.server_id}' cannot start: {why}", child.stderr_tail())
        elif isinstance(child, ServiceChild):
            found = Diagnosis(
                f"service '{installation.server_id}' cannot start: {problem}", child.stderr_tail()
            )
        else:
            found = diagnose(installation, child, problem)
        masked = self.means.masked
        found = replace(found, message=masked(found.message), stderr=masked(found.stderr))
        self._problems[installation.server_id] = found.message
        return found

    async def reach(self, installation: Installation) -> None:
        """See that the engine answers."""
        with contextlib.suppress(EngineError):
            await self.engine.ask("GET", "/_ping", patience=PING)

    def waits(self, server_id: str) -> str | None:
        """Say that the line to its container is cut, which it is while the engine is away."""
        container = _container(self._children.get(server_id))
        if container is None or container.exited.is_set() or not container.line.cut.is_set():
            return None
        return (
            "the Docker engine cannot be reached; its container may well run, and calls wait for the engine"
        )

    def confined(self, server_id: str) -> Mapping[str, str] | None:
        """Give what closes its container, in words."""
        child = self._children.get(server_id)
        installation = self._known.get(server_id)
        if child is None or installation is None or installation.spec.container is None:
            return None
        return layers(installation.spec.container)

    async def usage(self, server_ids: Collection[str]) -> dict[str, Usage]:
        """Ask the engine what some servers use."""
        if self._meter is None:
            return {}
        found = {name: _container(self._children.get(name)) for name in server_ids}
        return await self._meter.look(
            {name: one.id for name, one in found.items() if one is not None and one.id is not None}
        )

    def cleaned(self, server_id: str, value: dict[str, Any]) -> dict[str, Any]:
        """Give an object a server sent without its secrets."""
        mask = self.means.known.answers.get(server_id.partition("#")[0])
        return value if mask is None else mask(value)

    async def health_check(self, server_id: str) -> Health:
        """Ask the engine about its container."""
        container = _container(self._children.get(server_id))
        if container is None or container.id is None or self._meter is None:
            return Health(alive=False, reason="it is not running")
        if container.exited.is_set():
            return Health(alive=False, reason=container.epitaph())
        cpu = await self._meter.cpu_seconds(container.id)
        usage = (await self._meter.look({server_id: container.id})).get(server_id)
        child = self._children.get(server_id)
        told = child.health() if isinstance(child, ServiceChild) else None
        if usage is None:
            reason = told or "its container was started; the engine does not answer now"
            return Health(alive=True, reason=reason)
        return Health(alive=True, reason=told or "its container runs", memory=usage.memory, cpu=cpu)


def _container(child: Child | None) -> ContainerChild | None:
    if isinstance(child, ServedChild | ServiceChild) and isinstance(child.process, ContainerChild):
        return child.process
    return child if isinstance(child, ContainerChild) else None
