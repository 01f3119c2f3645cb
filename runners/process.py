"""`ProcessRunner`: servers as processes of this machine, and endpoints that are already somewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from .authorization import TokenVault, applies, provider_for
from .base import Channel, Child, Diagnosis, Health
from .confinement import launcher
from .diagnosis import diagnose
from .embedded import EmbeddedChild, Opened
from .environment import child_environment
from .errors import AuthorizationNeededError, RunnerError, SpecError, StartError
from .guard import Guard
from .home_runner import HomeRunner
from .known_secrets import SeenVault
from .ledger import Ledger
from .listening import Started, connect_when_up
from .log_file import FILES, MAX_BYTES
from .means import Means
from .port_owner import local_port, owner, stranger, taken
from .process_child import ProcessChild
from .programs import find_program
from .remote import HttpChannel, RemoteChild, WebSocketChannel, is_sse
from .spec import EMBEDDED, Candidate, Installation, Report, ServerSpec, SourceKind, silent
from .template import no_names


@dataclass(frozen=True)
class ProcessOptions:
    """What a `ProcessRunner` works with.

    Attributes:
        servers: Folder of the servers' own folders.
        logs: Folder of their logs.
        run: Folder of the process ledger.
        ports: Range that `${PORT}` is taken from.
        stop_grace: Seconds a server has to end once its input is closed.
        connect_timeout: Seconds until a started server must accept connections at its url.
        pass_env: Further environment variables every server receives.
        install_timeout: Seconds one installation may take.
        python: Interpreter for Python servers; ToolScore's own when `None`.
        node: Node program; found when `None`.
        secret: Looks up `${secret:KEY}`.
        builtin_secret: The same for parts of ToolScore; no other server gets what it gives, whatever its name.
        named: Looks up secrets by the names a person gave them; may wait for a keyring.
        vault: Keeps what OAuth grants for servers over HTTP; without one there is no OAuth.
        log_bytes: Bytes of one file of a log.
        log_files: Files of one log, the newest included.
        environ: ToolScore's environment.
    """

    servers: Path
    logs: Path
    run: Path
    ports: tuple[int, int] = (41000, 41999)
    stop_grace: float = 2.0
    connect_timeout: float = 30.0
    pass_env: tuple[str, ...] = ()
    install_timeout: float = 900.0
    python: str | None = None
    node: str | None = None
    secret: Callable[[str], str | None] = lambda _key: None
    builtin_secret: Callable[[str], str | None] = lambda _key: None
    named: Callable[[str], str | None] = no_names
    vault: TokenVault | None = None
    log_bytes: int = MAX_BYTES
    log_files: int = FILES
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


class ProcessRunner(HomeRunner):
    """Runs servers as child processes, and connects to those that are reached by url.

    Args:
        options: What it works with.
    """

    def __init__(self, options: ProcessOptions) -> None:
        super().__init__(Means(options))
        self._ports = self.means.ports
        self.means.connect = self._connect
        self._ledger = Ledger(options.run / "processes.jsonl")
        self._guard = self.guard = None if sys.platform == "win32" else Guard()
        self._children: dict[str, Child] = {}
        self._dialed: dict[str, WebSocketChannel] = {}
        self.embedded: dict[str, Opened] = {}
        """Makes servers live in this process, by what stands behind `embedded:` in their url."""

    def configure(self, options: ProcessOptions) -> None:
        """Work with other options from now on, but for folders, the range of ports and the sizes of logs."""
        self.means.options = options

    @property
    def _options(self) -> ProcessOptions:
        return self.means.options

    def sweep(self) -> list[str]:
        """End what a ToolScore that was killed left running in this home."""
        return self._ledger.sweep()

    async def aclose(self) -> None:
        """End the guardian, and with it whatever was not stopped."""
        if self._guard is not None:
            await self._guard.close()

    def close(self) -> None:
        """Clear the ledger; every child has ended."""
        self._ledger.close()
        self.means.logs.close()

    async def install_server(self, candidate: Candidate, report: Report = silent) -> Installation:
        """Fetch and build a server in its own folder."""
        from .installers.install import install

        return await install(
            candidate,
            servers=self._options.servers,
            report=report,
            timeout=self._options.install_timeout,
            python=self._options.python,
            node=self._options.node,
            guard=self._guard,
        )

    async def remove_server(self, installation: Installation) -> None:
        """Delete its folder and its logs."""
        from .installers.install import remove

        await remove(installation, servers=self._options.servers)
        self.means.logs.remove(installation.server_id)
        self.means.known.forget(installation.name)

    async def start_server(self, installation: Installation) -> Child:
        """Start the process, or connect, or both."""
        name = installation.server_id
        self._known[name] = installation
        self._problems.pop(name, None)
        try:
            child = await self._start(installation)
        except RunnerError as exc:
            exc.message, exc.stderr = self.masked(exc.message), self.masked(exc.stderr)
            if isinstance(exc, StartError):
                self._problems[name] = str(exc)
            raise
        self._children[name] = child
        return child

    async def _start(self, installation: Installation) -> Child:
        name, options = installation.server_id, self._options
        extra: dict[str, str] = {}
        if "${PORT" in installation.spec.model_dump_json():
            extra["PORT"] = str(self._ports.lend(name))
        spec, mask = await self.means.filled(installation, extra)
        if spec.command is None and (spec.url or "").startswith(EMBEDDED):
            return await self._embed(installation, spec)
        if spec.command is None:
            return await self._connect(name, spec)
        if spec.url is not None and "PORT" not in extra:
            await self._refuse_taken_port(name, spec.url)
        log = self.means.logs.of(name)
        log.masks = mask
        child = ProcessChild(name, log, self._guard)
        child.pipes.mask, child.pipes.note = mask, partial(log.note, "WARNING")
        environment = child_environment(
            options.environ, spec_env=spec.env, program=spec.command, pass_env=options.pass_env
        )
        self._children[name] = child  # at once, so that a start that is cancelled half-way can be undone
        if spec.command in ("uv", "uvx"):
            found = find_program(spec.command, environment.get("PATH"))
            spec = spec.model_copy(update={"command": found or spec.command})
        cwd = self._cwd(installation, spec)
        if spec.confine is not None:
            spec = self._confined(installation, spec, cwd, environment)
        await child.launch(spec, environment, cwd, self._ledger)
        if spec.url is None:
            return child
        child.pipes.discard()
        remote = await self._connect_when_up(spec, child)
        return ServedChild(child, remote)

    async def _refuse_taken_port(self, name: str, url: str) -> None:
        """Refuse a start that would end with the server unable to listen, or with somebody else's answers."""
        if (place := local_port(url)) is None:
            return
        if (who := await asyncio.to_thread(taken, *place, self._pids())) is not None:
            raise StartError(
                f"port {place[1]} is taken by {who}. Stop that, or give server '{name}' another port: ${{PORT}} in "
                "its command and its url is a free one."
            )

    def _pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in list(self._children.items()) if child.pid is not None}

    def dialed_in(self, server_id: str, channel: Channel) -> None:
        """Keep the line for the start that follows."""
        assert isinstance(channel, WebSocketChannel)
        self._dialed[server_id] = channel

    async def _embed(self, installation: Installation, spec: ServerSpec) -> EmbeddedChild:
        opened = self.embedded.get((spec.url or "").removeprefix(EMBEDDED))
        if opened is None or installation.kind is not SourceKind.BUILTIN:
            raise SpecError(f"There is no {spec.url} that could be used here.")
        child = EmbeddedChild(installation.server_id, opened)
        self._children[installation.server_id] = (
            child  # at once, so that a start that is cancelled half-way can be undone
        )
        await child.start()
        return child

    async def _connect(self, name: str, spec: ServerSpec) -> RemoteChild:
        assert spec.url is not None
        if spec.url.startswith("register:"):
            dialed = self._dialed.pop(name, None)
            if dialed is None or dialed.is_closed:
                raise SpecError(
                    f"It is not connected. It has to dial in, at /register?name={name} of a WebSocket listener."
                )
            return RemoteChild(dialed)
        if spec.url.startswith("ws"):
            channel = WebSocketChannel(spec.url, spec.headers)
            await channel.open()
            return RemoteChild(channel)
        auth = None
        if self._options.vault is not None and applies(spec.url, spec.headers):
            owner = name.partition("#")[0]  # instances are authorized together
            vault = SeenVault(self._options.vault, self.means.known)
            auth = provider_for(owner, spec.url, vault, headers=spec.headers)
        sse = is_sse(spec.url) if spec.sse is None else spec.sse
        return RemoteChild(HttpChannel(spec.url, spec.headers, sse=sse, auth=auth))

    async def _connect_when_up(self, spec: ServerSpec, child: ProcessChild) -> RemoteChild:
        async def connect() -> RemoteChild:
            assert spec.url is not None
            await self._refuse_stranger(spec.url, child)
            return await self._connect(child.server_id, spec)

        patience = self._options.connect_timeout * 0.9  # so that the supervisor's own deadline comes later
        return await connect_when_up(spec, child, patience, _listens, connect)

    async def _refuse_stranger(self, url: str, child: ProcessChild) -> None:
        """Refuse to speak to somebody else who listens where the server was to."""
        place = local_port(url)
        if place is None or child.pid is None:
            return
        if (who := await asyncio.to_thread(stranger, *place, child.pid, self._pids())) is not None:
            raise StartError(f"its port {place[1]} is taken by {who}, which answers in its stead")

    def _cwd(self, installation: Installation, spec: ServerSpec) -> Path:
        if spec.cwd is not None:
            return Path(spec.cwd).expanduser()
        return Path(installation.directory) if installation.directory else Path.home()

    def _confined(
        self, installation: Installation, spec: ServerSpec, cwd: Path, environment: Mapping[str, str]
    ) -> ServerSpec:
        """Put the launcher in front of the command, which becomes the server once it has confined itself."""
        assert spec.command is not None
        assert spec.confine is not None
        folder = None if installation.directory is None else Path(installation.directory)
        if folder is None and spec.cwd is not None and not Path.home().is_relative_to(cwd):
            # A person's whole home is not what a server has for its own, and ToolScore's is not either.
            folder = None if cwd.resolve().is_relative_to(self._options.run.resolve()) else cwd
        command, *args = launcher(
            spec.confine,
            (spec.command, *spec.args),
            folder=folder,
            cwd=cwd,
            environment=environment,
            hide=(self._options.run.absolute(),),
        )
        return spec.model_copy(update={"command": command, "args": tuple(args)})

    async def stop_server(self, server_id: str, grace: float | None = None) -> bool:
        """End it and give its port back."""
        child = self._children.pop(server_id, None)
        if child is not None:
            await child.stop(self._options.stop_grace if grace is None else grace)
        self._ports.give_back(server_id)
        return child is not None

    def child(self, server_id: str) -> Child | None:
        """Give what is left of the server that was started last under this name."""
        return self._children.get(server_id)

    def explain(self, installation: Installation, problem: str) -> Diagnosis:
        """Explain a failed start, and remember it for `diagnose`."""
        child = self._children.get(installation.server_id)
        line = child.line if isinstance(child, RemoteChild) else None
        if isinstance(line, HttpChannel) and isinstance(line.failure, AuthorizationNeededError):
            line.failure.message = self.masked(line.failure.message)
            diagnosis = Diagnosis(line.failure.message, "", unauthorized=line.failure)
        else:
            diagnosis = diagnose(
                installation, child, problem, lambda port: owner("localhost", port, self._pids())
            )
            diagnosis = replace(
                diagnosis, message=self.masked(diagnosis.message), stderr=self.masked(diagnosis.stderr)
            )
        self._problems[installation.server_id] = diagnosis.message
        return diagnosis

    def confined(self, server_id: str) -> Mapping[str, str] | None:
        """Give the layers a running server is confined by, as its launcher told them."""
        child = self._children.get(server_id)
        if isinstance(child, ServedChild):
            child = child.process
        return child.confined if isinstance(child, ProcessChild) and child.returncode is None else None

    async def health_check(self, server_id: str) -> Health:
        """Look at the process from outside."""
        child = self._children.get(server_id)
        if child is None:
            return Health(alive=False, reason="it is not running")
        if child.pid is None:
            return Health(alive=True, reason="it is a connection; only a call tells more")
        if child.returncode is not None:
            return Health(alive=False, reason=f"it exited with status {child.returncode}")
        memory, cpu = await asyncio.to_thread(measure, child.pid)
        return Health(alive=True, reason="its process runs", pid=child.pid, memory=memory, cpu=cpu)

    def masked(self, text: str) -> str:
        """Give a text without the secrets of any server that was started."""
        return self.means.masked(text)

    def cleaned(self, server_id: str, value: dict[str, Any]) -> dict[str, Any]:
        """Give an object a server sent without its secrets."""
        mask = self.means.known.answers.get(server_id.partition("#")[0])
        return value if mask is None else mask(value)


class ServedChild(RemoteChild):
    """A process or container that was started here and is spoken to over its url."""

    def __init__(self, process: Started, remote: RemoteChild) -> None:
        super().__init__(remote.line)
        self.process = process
        # Without it the end of the process would show only in the next call over HTTP.
        self._watch = asyncio.get_running_loop().create_task(self._until_exit())

    async def _until_exit(self) -> None:
        await self.process.exited.wait()
        self.line.give_up(self.process.epitaph())

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """The process's exit status."""
        return self.process.returncode

    def stderr_tail(self) -> str:
        """Give the end of the process's standard error."""
        return self.process.stderr_tail()

    def noise(self) -> str:
        """Give nothing: what it prints is for people here, not messages."""
        return ""

    def epitaph(self) -> str:
        """Say how the process ended, or why the connection is closed."""
        return self.process.epitaph() if self.process.exited.is_set() else super().epitaph()

    def kill(self, reason: str) -> None:
        """End the process at once; the connection goes with it."""
        self.process.kill(reason)

    async def ended_within(self, seconds: float) -> bool:
        """Wait for the end of the process."""
        return await self.process.ended_within(seconds)

    async def stop(self, grace: float) -> None:
        """Close the connection, then end the process."""
        await super().stop(grace)
        await self.process.stop(grace)
        self._watch.cancel()


def measure(pid: int) -> tuple[int, float]:
    """Give the resident bytes and seconds of processor time of a process and all it started."""
    memory, cpu = 0, 0.0
    try:
        leader = psutil.Process(pid)
        for process in [leader, *leader.children(recursive=True)]:
            try:
                with process.oneshot():
                    memory += process.memory_info().rss
                    times = process.cpu_times()
                    cpu += times.user + times.system
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return memory, cpu


async def _listens(host: str | None, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
