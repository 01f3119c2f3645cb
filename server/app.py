"""The composition root: one home, opened from the store up and closed the other way round."""

from __future__ import annotations

import asyncio
import importlib
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .. import __version__
from ..runners.base import BaseRunner
from ..runners.docker import address
from ..runners.errors import RunnerError, SpecError
from ..runners.filling import Lend
from ..runners.keeping import Kept
from ..runners.kinds import Runners
from ..runners.lifecycle import RestartPolicy, State
from ..runners.means import Means
from ..runners.patron import Patron
from ..runners.process import ProcessOptions, ProcessRunner
from ..runners.spec import Report, silent
from ..runners.supervisor import Supervisor, SupervisorOptions, Unit
from ..tools.builtin import settle
from ..tools.caller import OWNER
from ..tools.errors import LibraryError, SecretsError
from ..tools.finder import Finder
from ..tools.functions.functions import Functions
from ..tools.functions.names import EXECUTOR
from ..tools.gap.gap import Gaps
from ..tools.gap.proposal import Proposals
from ..tools.library import Library
from ..tools.named import NamedSecrets
from ..tools.reconcile import Reconciler
from ..tools.results import KeptResults
from ..tools.router import Router
from ..tools.rows import Origin
from ..tools.scores.keeper import keeping
from ..tools.scores.scores import Scores
from ..tools.secrets import Secrets
from ..tools.servers import Servers
from ..tools.stored_mask import StoredMask
from ..tools.vault import SecretsVault
from .approvals_home import approving, configure, guard
from .approvals_tools import ApprovalsTools
from .call import Call
from .catalog_home import catalog_of, options_of
from .catalog_tools import CatalogTools
from .database_home import look, making, reader_of, sharing, store_of
from .ensuring import Ensuring
from .functions import serve_functions
from .gap_tools import GapTools
from .gateways.home import joined, shared_by
from .home import Home, prepare
from .index_tools import IndexTools
from .journal_home import journal_of, note_change, note_state, take_journal
from .long_results import LongResults
from .memory_home import MEMORY, database_secret, memory_of
from .own_log import mask_own_log
from .owner import HomeLock
from .pins_tools import PinsTools
from .policy_common import fetch as fetch_policy
from .policy_home import policed
from .policy_tools import PolicyTools
from .python_executor import builtins_of, calling_tools, embedded
from .ray_home import ray_maker, start_again
from .scores_tools import ScoresTools
from .search_tools import SearchTools, unlisted
from .settings import Settings
from .settings_hot import Setter
from .settings_process import ProcessSettings
from .toolset import ToolSet

if TYPE_CHECKING:
    from ..tools.declared import Declared
    from ..tools.store import Store

logger = logging.getLogger(__name__)

CLIENT_INFO = {"name": "toolscore", "title": "ToolScore", "version": __version__}
"""What ToolScore calls itself towards the servers behind it (MCP `Implementation`)."""

SHUTDOWN_GRACE = 1.0
"""Seconds the servers have to end by themselves when ToolScore ends. Clients kill after four."""


@asynccontextmanager
async def open_library(
    settings: Settings,
    home: Home,
    *,
    start: bool,
    origin: Origin = "agent",
    declared: Mapping[str, Declared] | None = None,
    patron: Patron | None = None,
    on_state: Callable[[Unit], None] = lambda _unit: None,
    lend: Lend | None = None,
) -> AsyncIterator[ToolSet]:
    """Open a home whose lock is held: store, library, supervisor, tools; closed in reverse.

    Args:
        settings: The settings.
        home: The home.
        start: Whether to start the enabled servers now, or each at its first call.
        origin: Owner of the rows that are added.
        declared: What the configuration file declares, where the servers are about to be brought in line with it.
        patron: Takes what servers ask and tell by themselves.
        on_state: Told of every change of a server's state.
        lend: Gives environment variables of clients, which servers want and ToolScore has not.

    Raises:
        StoreError: If the store cannot be used, with the reason and the next step.
    """
    runner = ProcessRunner(_process_options(settings, home))
    means = runner.means
    means.lend = lend or means.lend
    means.kept = kept_of(settings.process)
    address.configure(settings.docker.host, means.options.environ)
    runners = Runners(
        runner,
        {
            "docker": partial(_in_containers, settings.docker.host),
            "ray": ray_maker(settings, runner, lambda key: start_again(supervisor, key)),
        },
    )
    mask_own_log(means.masked)
    for name in await asyncio.to_thread(runner.sweep):
        logger.warning("ended what a killed ToolScore had left of server %s", name)
    for folder in (home.sandbox_dir, home.results_dir):
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    # Importing the store's libraries takes longer than all the rest; clients are answered meanwhile.
    module = await asyncio.to_thread(importlib.import_module, "toolscore.tools.store")
    store: Store = await module.Store.open(await asyncio.to_thread(store_of, settings, home))
    store.folder = home.servers_dir
    try:
        library = Library(store)
        approvals = await approving(library, store, settings)
        await library.load()
        journal = journal_of(settings, home, runner, library)
        options = _kept_as(settings, SupervisorOptions(client_info=CLIENT_INFO, patron=patron))
        scores = Scores(library, mask=means.masked)
        async with (
            keeping(scores, store),
            joined(settings, home, store, __version__, passing=origin == "cli") as gateways,
            AsyncExitStack() as afterwards,  # what may take its time does so when no server waits to be ended
            Supervisor(*shared_by(gateways, runners, options), stop_grace=SHUTDOWN_GRACE) as supervisor,
        ):
            runs = supervisor.runner
            if journal is not None:
                afterwards.push_async_callback(journal.aclose)
                library.on_change = partial(note_change, journal)  # until clients are told as well
            secrets = Secrets(home.secrets_file)
            servers = Servers(library, supervisor, runs, secrets, home.servers_dir)
            means.known.stored = stored = StoredMask(secrets)
            await asyncio.to_thread(stored.look)
            servers.named = NamedSecrets(secrets, home.path).get
            making(store, servers, home)

            states: WeakKeyDictionary[Unit, tuple[State, float]] = WeakKeyDictionary()

            def changed(unit: Unit) -> None:
                servers.changed(unit)
                now = unit.life.state, unit.life.since
                if states.get(unit) == now:
                    return  # it listed something else, and is as it was
                states[unit] = now
                if gateways is not None:
                    gateways.changed(unit)
                note_state(journal, unit)
                on_state(unit)

            supervisor.on_change = changed
            servers.builtins = builtins_of(settings, home) | {MEMORY: memory_of(settings, home)}
            servers.catalog = catalog = catalog_of(settings, home, _readable(secrets.get))
            library.on_listed = catalog.listed
            functions = Functions(servers, store, __version__)
            await functions.load()
            await settle(servers)
            await functions.settle()
            for name in await servers.tidy():
                logger.warning("deleted what an interrupted installation of %s had left", name)
            # What the file says otherwise by now must not be started as it was.
            but = set[str]()
            if declared is not None:
                planned = await Reconciler(servers).plan(declared)
                but = planned.touched
                library.coming.expect(entry.name for entry in planned.added)
            if gateways is not None:
                gateways.attach(servers, means.known.answers)
            servers.bring_back(start=start, but=but)
            if start and (home.path / "docker-home").exists():
                sweeping = asyncio.create_task(_sweep_containers(runners))
                afterwards.callback(sweeping.cancel)
            router = Router(library, supervisor)
            guard(router, approvals, supervisor)
            router.masks = means.known.answers
            vectors = home.vectors_dir if settings.tools.semantic == "auto" else None
            # One command is over before the models are loaded: it goes by words.
            finder = Finder(library, scores, own=unlisted, vectors=vectors, patient=origin != "cli")
            afterwards.push_async_callback(finder.aclose)
            long_results = LongResults(KeptResults(home.results_dir), settings.tools.result_limit)
            router.score = scores.observe
            try:
                toolset = ToolSet(servers, router, runs, page_size=settings.tools.page_size, origin=origin)
                toolset.setters = setters(toolset, runner, home)
                toolset.scores = scores
                toolset.gateways = gateways
                if gateways is not None:
                    gateways.extend(toolset)
                reader = partial(reader_of, settings, home) if store.shared else None
                take_journal(journal, toolset, settings, _readable(secrets.get), reader)
                toolset.masked = means.masked
                toolset.extend(ScoresTools(scores, library, router).handlers)
                pins = PinsTools(servers, origin=origin)
                pins.approvals = approvals
                toolset.extend(pins.handlers)
                toolset.extend(SearchTools(library, finder).handlers)
                toolset.extend(IndexTools(library, finder, by_meaning=vectors is not None).handlers)
                toolset.overview.follow(finder)
                toolset.extend(CatalogTools(catalog, servers).handlers)
                deciding = ApprovalsTools(approvals, library)
                deciding.approved = partial(_pinned, servers)
                toolset.take_approvals(deciding)
                toolset.setters["trust"] = lambda settings: configure(approvals, settings)
                gaps = Gaps(library, finder, Proposals(catalog, library))
                toolset.extend(GapTools(gaps, Ensuring(toolset, gaps)).handlers)
                toolset.setters["catalog"] = lambda settings: catalog.configure(options_of(settings))
                if origin != "cli":  # a command is over before that would begin
                    catalog.keep_fresh()
                toolset.take_long_results(long_results)
                runner.embedded[EXECUTOR] = embedded(settings, home, router, runners)
                serve_functions(functions, toolset, runner)
                await fetch_policy(store, settings)

                async def follow_policy() -> None:
                    await fetch_policy(store, settings)
                    if toolset.policy is not None:
                        toolset.setters["policy"](settings)

                async with (
                    aclosing(toolset.overview),
                    calling_tools(settings, home, toolset),
                    policed(settings, toolset, watched=start and origin != "cli") as policy,
                ):
                    deciding.allowed = policy.approves
                    toolset.extend(PolicyTools(policy, toolset, home).handlers)
                    if origin == "cli":  # a command is over before anybody else changes anything
                        yield toolset
                        return
                    async with sharing(
                        store, servers, approvals, functions, settings, home, follow_policy
                    ) as changes:
                        toolset.changes = changes
                        yield toolset
            finally:
                finder.stop()
                await asyncio.to_thread(long_results.close)
                await library.arrived()
                await catalog.aclose()
        runner.close()
    finally:
        await runners.aclose()
        await store.close()


def _in_containers(host: str, means: Means) -> BaseRunner:
    """Make the runner of containers, which is loaded with the first server that needs it."""
    from ..runners.docker.runner import DockerRunner

    return DockerRunner(means, host)


async def _sweep_containers(runners: Runners) -> None:
    """Remove the containers that a ToolScore which was killed left, also of servers that are not started now."""
    from ..runners.docker.runner import DockerRunner

    try:
        runner = runners.of("docker")
        assert isinstance(runner, DockerRunner)
        await runner.sweep()
    except RunnerError as exc:  # the first server that is started tries again
        logger.warning("what may be left of containers was not looked for: %s", exc)


async def _pinned(servers: Servers, name: str) -> None:
    """Pin the tools of a server as they are approved now."""
    from ..tools.pins.accepting import pin_tools

    try:
        await pin_tools(servers, name)
    except LibraryError as exc:  # `toolscore verify` tells of it
        logger.warning("server %s: the pin of its tools is the one before: %s", name, exc)


def setters(toolset: ToolSet, runner: ProcessRunner, home: Home) -> dict[str, Setter]:
    """Give what takes changed settings over while ToolScore runs, by the names in `settings_hot.HOT`."""

    def servers(settings: Settings) -> None:
        runner.means.kept = kept_of(settings.process)
        toolset.supervisor.configure(_kept_as(settings, toolset.supervisor.options))

    def process(settings: Settings) -> None:
        runner.configure(_process_options(settings, home))
        servers(settings)

    def tools(settings: Settings) -> None:
        toolset.page_size = settings.tools.page_size
        if toolset.long_results is not None:
            toolset.long_results.limit = settings.tools.result_limit

    return {"servers": servers, "runner": process, "tools": tools}


def _kept_as(settings: Settings, options: SupervisorOptions) -> SupervisorOptions:
    """Give the supervisor's options as the settings have them."""
    return replace(
        options,
        kept=kept_of(settings.process),
        start_concurrency=settings.process.start_concurrency,
        fetch_timeout=settings.install.timeout,
        policy=RestartPolicy(limit=settings.process.restart_limit),
    )


def kept_of(process: ProcessSettings) -> Kept:
    """Give what holds for every server that has nothing else set for itself."""
    shared = Kept.model_fields.keys() & ProcessSettings.model_fields.keys()
    return Kept(**{name: getattr(process, name) for name in shared})


def _process_options(settings: Settings, home: Home) -> ProcessOptions:
    process, install = settings.process, settings.install
    secrets = Secrets(home.secrets_file)
    return ProcessOptions(
        servers=home.servers_dir,
        logs=home.logs_dir,
        run=home.path,
        ports=(process.port_range_start, process.port_range_end),
        stop_grace=process.stop_grace,
        connect_timeout=process.start_timeout,
        pass_env=process.pass_env,
        install_timeout=install.timeout,
        python=install.python or None,
        node=install.node or None,
        secret=_readable(secrets.get),
        builtin_secret=database_secret(settings, home),
        named=_readable(NamedSecrets(secrets, home.path).get),
        vault=SecretsVault(secrets),
        log_bytes=settings.log.max_size << 20,
        log_files=settings.log.files,
    )


def _readable(get: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """Tell a runner of secrets that cannot be read in words of its own floor."""

    def look_up(key: str) -> str | None:
        try:
            return get(key)
        except SecretsError as exc:
            raise SpecError(str(exc)) from exc

    return look_up


class LocalTools:
    """ToolScore's own tools without a running ToolScore, for the command line.

    Args:
        toolset: The tools.
    """

    def __init__(self, toolset: ToolSet) -> None:
        self._toolset = toolset

    async def call(self, name: str, arguments: dict[str, Any], report: Report = silent) -> dict[str, Any]:
        """Call one as the owner of the home; see `ToolSet.call`."""
        return await self._toolset.call(name, arguments, Call(caller=OWNER, report=report))

    async def clients(self) -> list[dict[str, Any]]:
        """Give none: nobody else is served."""
        return []


@asynccontextmanager
async def open_toolset(settings: Settings) -> AsyncIterator[LocalTools]:
    """Open the home for one command, taking its lock meanwhile. Servers start at their first call only.

    Raises:
        HomeError: If the home cannot be used.
        HomeBusyError: If somebody else holds it.
        StoreError: If its store cannot be used.
    """
    home = Home.at(settings.home)
    prepare(home)
    with HomeLock.acquire(home, "command", __version__):
        look(store_of(settings, home))
        async with open_library(settings, home, start=False, origin="cli") as toolset:
            yield LocalTools(toolset)
