"""`RayRunner`: servers on the nodes of a Ray cluster."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..base import Child, Diagnosis, Health
from ..diagnosis import diagnose
from ..environment import child_environment
from ..errors import InstallError, RunnerError, StartError
from ..guard import Guard
from ..home_runner import HomeRunner
from ..launching import is_launcher
from ..means import Means
from ..sampler import Usage
from ..spec import Candidate, Installation, Report, ServerSpec, silent
from ..template import expand
from .child import RayChild
from .cluster import Cluster
from .identity import next_life
from .link import Link
from .options import RayOptions

MISSING = (
    "Servers on a Ray cluster need Ray, which is not installed here: run `pip install 'toolscore[ray]'` for the "
    "Python that ToolScore runs with, and try again."
)

MEASURED_WITHIN = 5.0
"""Seconds an agent has to measure a server."""


class RayRunner(HomeRunner):
    """Runs servers as processes of the nodes of a cluster.

    Args:
        means: What it shares with the other kinds of runner.
        options: How the cluster is used.
        guard: Starts the bridge.

    Raises:
        InstallError: If Ray is not installed.
    """

    def __init__(self, means: Means, options: RayOptions, guard: Guard | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise InstallError(MISSING)
        super().__init__(means)
        self.on_room: Callable[[str], None] = lambda _key: None
        """Called with a server that found no node, when there is one."""
        self.cluster = Cluster(
            options,
            next_life(means.options.run),
            guard,
            self._environment(options),
            self._room,
        )
        self._children: dict[str, RayChild] = {}

    def _room(self, key: str) -> None:
        self.on_room(key)

    def _environment(self, options: RayOptions) -> dict[str, str]:
        """Give the bridge what Ray looks for, and no usage statistics to send."""
        environ = self.means.options.environ
        environment = child_environment(environ, spec_env={}, program="python")
        environment |= {name: value for name, value in environ.items() if name.startswith("RAY_")}
        environment["RAY_USAGE_STATS_ENABLED"] = "0"
        if options.token:
            named = self.means.options.named
            token = expand(options.token, "ray.token", environ.get, lambda _key: None, {}, named)
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        return environment

    async def aclose(self) -> None:
        """Let go of the cluster."""
        await self.cluster.aclose()

    async def install_server(self, candidate: Candidate, report: Report = silent) -> Installation:
        """Make a server ready to start."""
        from .fetched import kept_at_home

        assert candidate.cluster is not None
        servers, key = self.means.options.servers, f"{candidate.name} (installing)"
        telling: set[asyncio.Task[None]] = set()

        async def passed_on(told: dict[str, Any]) -> None:
            await report(told["done"], told["total"], told["text"])

        def tell(told: dict[str, Any]) -> None:
            task = asyncio.get_running_loop().create_task(passed_on(told))
            telling.add(task)
            task.add_done_callback(telling.discard)

        try:
            node = await self.cluster.take(key, candidate.cluster, waits=False)
            if node.link is None:
                raise InstallError(f"node {node.called} was lost just now; try again.")
            await report(0, None, f"installing on node {node.called}")
            request = {"what": "install", "candidate": candidate.model_dump(mode="json")}
            told = await node.link.ask(request | {"timeout": self.means.options.install_timeout}, tell)
            return await asyncio.to_thread(kept_at_home, told, candidate, servers)
        except StartError as exc:
            raise InstallError(f"{exc.message.rstrip('.')}. Nothing was kept.", stderr=exc.stderr) from exc
        finally:
            self.cluster.release(key)

    async def remove_server(self, installation: Installation) -> None:
        """Delete what was installed, on all nodes that are reached, and the server's logs."""
        from ..installers.install import remove

        await remove(installation, servers=self.means.options.servers)
        await self.cluster.tell_all({"what": "forget", "server": installation.name})
        self.means.logs.remove(installation.server_id)
        self.means.known.forget(installation.name)

    async def start_server(self, installation: Installation) -> Child:
        """Start it on the node that fits best."""
        key = installation.server_id
        self._known[key] = installation
        self._problems.pop(key, None)
        try:
            return await self._start(installation)
        except RunnerError as exc:
            exc.message, exc.stderr = self.means.masked(exc.message), self.means.masked(exc.stderr)
            if isinstance(exc, StartError):
                self._problems[key] = str(exc)
            raise

    async def _start(self, installation: Installation) -> RayChild:
        key, wanted = installation.server_id, installation.spec.cluster
        assert wanted is not None
        spec, mask = await self.means.filled(installation, {})
        await self.cluster.clear(key)
        node = await self.cluster.take(key, wanted)
        log = self.means.logs.of(key)
        log.masks = mask
        child = RayChild(key, log, node.called)
        child.pipes.mask, child.pipes.note = mask, partial(log.note, "WARNING")
        self._children[key] = child  # at once, so that a start that is cancelled half-way can be undone
        if node.link is None:
            raise StartError(f"node {node.called} was lost just now; it is tried again on another one.")
        await child.place(node.link, await self._request(installation, spec))
        log.note("INFO", f"it runs on node {node.called}")
        return child

    async def _request(self, installation: Installation, spec: ServerSpec) -> dict[str, Any]:
        from .fetched import as_installed
        from .installing import HERE, renamed

        options = self.means.options
        try:
            installed = await asyncio.to_thread(as_installed, installation, options.install_timeout)
        except OSError as exc:
            raise StartError(f"the locks of server '{installation.name}' cannot be read: {exc}") from exc
        request = {
            "server": installation.server_id,
            "command": spec.command,
            "args": list(spec.args),
            "env": spec.env,
            "cwd": spec.cwd,
            "confine": None if spec.confine is None else spec.confine.model_dump(),
            "pass_env": list(options.pass_env),
        }
        if installed is None:
            return request
        placed: dict[str, Any] = renamed(request, str(installation.directory), HERE)
        return placed | {"installed": installed}

    async def stop_server(self, server_id: str, grace: float | None = None) -> bool:
        """End it and give its place back."""
        child = self._children.pop(server_id, None)
        if child is not None:
            await child.stop(self.means.options.stop_grace if grace is None else grace)
        self.cluster.release(server_id)
        return child is not None

    def child(self, server_id: str) -> Child | None:
        """Give what is left of the server that was started last under this name."""
        return self._children.get(server_id)

    def explain(self, installation: Installation, problem: str) -> Diagnosis:
        """Explain a failed start, and remember it for `diagnose`."""
        child = self._children.get(installation.server_id)
        diagnosis = diagnose(installation, child, problem)
        if child is not None:
            diagnosis = replace(diagnosis, message=f"{diagnosis.message} (It ran on node {child.node}.)")
        masked = self.means.masked
        diagnosis = replace(diagnosis, message=masked(diagnosis.message), stderr=masked(diagnosis.stderr))
        self._problems[installation.server_id] = diagnosis.message
        return diagnosis

    def confined(self, server_id: str) -> Mapping[str, str] | None:
        """Give the layers a running server is confined by, as its launcher told them."""
        child = self._children.get(server_id)
        return child.confined if child is not None and child.returncode is None else None

    async def usage(self, server_ids: Collection[str]) -> dict[str, Usage]:
        """Ask each node what some servers use there."""
        by_link: dict[Link, dict[int, str]] = {}
        for server_id in server_ids:
            child = self._children.get(server_id)
            if child is not None and child.remote is not None and child.returncode is None:
                by_link.setdefault(child.remote.link, {})[child.remote.number] = server_id

        async def of(link: Link, names: dict[int, str]) -> dict[str, Usage]:
            try:
                async with asyncio.timeout(MEASURED_WITHIN):
                    told = await link.ask({"what": "usage", "children": list(names)})
            except (RunnerError, TimeoutError):
                return {}
            return {names[int(number)]: Usage(**used) for number, used in told["usage"].items()}

        found = await asyncio.gather(*(of(link, names) for link, names in by_link.items()))
        return {name: used for one in found for name, used in one.items()}

    async def fetching(self, server_id: str) -> bool | None:
        """Tell whether its node still makes what is installed, or its launcher there still downloads it."""
        child, known = self._children.get(server_id), self._known.get(server_id)
        if child is None or known is None:
            return None
        if child.remote is None:
            return True
        if child.returncode is not None or not is_launcher(known.spec.command or "", known.spec.args):
            return False
        try:
            told = await child.remote.link.ask({"what": "fetching", "child": child.remote.number})
        except RunnerError:
            return False
        return bool(told["fetching"])

    async def health_check(self, server_id: str) -> Health:
        """Ask its node."""
        child = self._children.get(server_id)
        if child is None or child.remote is None:
            return Health(alive=False, reason="it is not running")
        if child.returncode is not None:
            return Health(alive=False, reason=child.epitaph())
        remote = child.remote
        try:
            async with asyncio.timeout(MEASURED_WITHIN):
                told = await remote.link.ask({"what": "measure", "child": remote.number})
        except (RunnerError, TimeoutError):
            return Health(alive=True, reason=f"node {child.node} does not tell at the moment")
        memory, cpu = told.get("memory"), told.get("cpu")
        return Health(alive=True, reason=f"its process runs on node {child.node}", memory=memory, cpu=cpu)
