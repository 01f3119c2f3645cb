"""A ToolScore that owns its home and serves clients: `serve --standalone`, and what `start` and relays start."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .endpoint import EndpointError, parse_endpoint
from .hello import version
from .home import Home, HomeError, prepare
from .owner import JOIN_PATIENCE, HomeBusyError, HomeLock, Mode
from .run import UNUSABLE, Run
from .stderr import log_to_stderr

if TYPE_CHECKING:
    from .settings import Loaded, Settings
    from .tape.recording import Record


def serve(
    settings: Settings,
    *,
    mode: Mode = "stdio",
    listen: Sequence[str] = (),
    no_token: bool = False,
    loaded: Loaded | None = None,
    options: Sequence[str] = (),
    record: Record | None = None,
) -> int:
    """Serve until the client on standard input is gone, or a signal ends it.

    Args:
        settings: The settings.
        mode: `stdio` serves the client on standard input; the others serve the Unix socket and the listeners only:
            `background` and `service` until a signal, `shared` until its last client has been gone for a while.
        listen: Addresses to serve on; those of the settings when there are none.
        no_token: Let whoever reaches a listener come in; on loopback only.
        loaded: Where the settings come from, so that they can be read again while it serves.
        options: What it was started with, for a newer version that takes its place.
        record: Where the traffic of its clients is recorded, if it is.

    Returns:
        The exit status.
    """
    log_to_stderr(settings.log.level)
    home = Home.at(settings.home)
    addresses = list(listen) or list(settings.network.listen)
    try:
        endpoints = [parse_endpoint(address) for address in addresses]
        prepare(home)
        lock = _own(home, mode, options)
    except EndpointError as exc:
        print(f"toolscore: {exc}", file=sys.stderr)
        return UNUSABLE
    except HomeError as exc:
        print(f"toolscore: {exc}", file=sys.stderr)
        return UNUSABLE
    with lock:
        from ..runners.open_files import raise_limit
        from ..tools.errors import StoreError
        from .allocator import keep_some
        from .database_home import look, store_of
        from .own_log import keep_own_log
        from .policy_path import check as check_policy
        from .tape.event import TapeError

        keep_own_log(home, settings.log)
        raise_limit()
        keep_some()
        try:
            look(store_of(settings, home))
            check_policy(settings)
            serving = Run(settings, home, lock, mode, endpoints, no_token=no_token)
            serving.loaded = loaded
            serving.record = record
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                return runner.run(serving.run())
        except (StoreError, HomeError, TapeError) as exc:
            print(f"toolscore: {exc}", file=sys.stderr)
            return UNUSABLE


def _own(home: Home, mode: Mode, options: Sequence[str]) -> HomeLock:
    """Take the home's lock, waiting for a command that has it, or an owner that is ending.

    A service waits for whoever serves it: a client whose service crashed has started a ToolScore for itself.

    Raises:
        HomeBusyError: If somebody else serves it.
    """
    deadline = time.monotonic() + JOIN_PATIENCE
    told = False
    while True:
        try:
            return HomeLock.acquire(home, mode, version(), options)
        except HomeBusyError as exc:
            serving = exc.owner.mode != "command" and Path(exc.owner.socket).is_socket()
            if mode != "service" and (serving or time.monotonic() > deadline):
                raise
            if serving and not told:
                told = True
                print(
                    f"toolscore: {exc} This service begins when that one ends.", file=sys.stderr, flush=True
                )
        # Neither tells when it is over.
        time.sleep(0.05)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give uvloop's event loop where it is installed (`toolscore[fast]`)."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
