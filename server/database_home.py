"""Which database the store of a home lies in."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..tools.database import DatabaseUrlError, Where, checked, escaped
from ..tools.errors import LibraryError, StoreError

LONGEST_NAME = 100
"""Characters of a gateway's name."""

LAST_LINES = 2.0
"""Seconds that sending what is left of the journal may take at the end."""

if TYPE_CHECKING:
    from ..tools.approvals.approvals import Approvals
    from ..tools.changes import Changes
    from ..tools.common_secrets import CommonSecrets
    from ..tools.functions.functions import Functions
    from ..tools.journal.reader import Reader
    from ..tools.servers import Servers
    from ..tools.store import Store
    from .home import Home
    from .settings import Settings


def store_of(settings: Settings, home: Home) -> Where:
    """Give where the store of a home lies.

    Raises:
        StoreError: If the setting cannot be filled in, or names no database.
    """
    url = settings.database.url
    if not url:
        return home.store_file
    from ..runners.errors import RunnerError
    from ..runners.template import expand
    from ..tools.named import NamedSecrets
    from ..tools.secrets import Secrets

    named = NamedSecrets(Secrets(home.secrets_file), home.path).get

    def secret(name: str) -> str | None:
        value = named(name)
        # A password may hold what means something in a URL; one that is the whole URL is one already.
        return value if value is None or "://" in value else escaped(value)

    try:
        filled = expand(url, "database.url", _variable, lambda _key: None, {}, secret)
        return checked(filled)
    except RunnerError as error:
        told = str(error).replace(", and start the server again", ", and start ToolScore again")
        raise StoreError(f"The shared database cannot be named: {told}") from None
    except LibraryError as error:
        raise StoreError(f"The password of the shared database cannot be read: {error}") from error
    except DatabaseUrlError as error:
        raise StoreError(f"database.url {error}.") from None


def _variable(name: str) -> str | None:
    value = os.environ.get(name)
    return value if value is None or "://" in value else escaped(value)


def making(store: Store, servers: Servers, home: Home) -> None:
    """Have the servers that others installed made here, where the store is shared; before any is supervised."""
    if not store.shared:
        return
    from ..tools.common import Common
    from ..tools.made import Made
    from ..tools.making import Making

    servers.making = made = Making(Common(store), servers, Made(home.made_dir))
    servers.library.here, servers.library.on_made = made.here, made.note
    servers.library.on_stored = made.tell
    rows = servers.library.servers
    rows.update({name: made.here(row) for name, row in rows.items()})


@asynccontextmanager
async def following(
    store: Store,
    servers: Servers,
    approvals: Approvals,
    functions: Functions,
    more: Mapping[str, Callable[[], Awaitable[None]]],
) -> AsyncIterator[Changes | None]:
    """Have everything here follow what other gateways change, where the store is shared.

    Args:
        store: The store.
        servers: The servers here.
        approvals: What is approved of their tools.
        functions: The functions here.
        more: What follows changes of other kinds.
    """
    if not store.shared:
        yield None
        return
    from ..tools.changes import Changes
    from ..tools.following import Following

    followed = Following(store, servers, approvals)

    async def follow(kind: str, name: str) -> None:
        if kind == "server":
            await followed.server(name)
        elif kind == "function":
            await functions.follow()
        elif kind == "lock" and servers.making is not None:
            servers.making.begin(name)
        elif kind in more:
            await more[kind]()

    async def look() -> None:
        await followed.look()
        await functions.follow()
        if servers.making is not None:
            await servers.making.look()
        for again in more.values():
            await again()

    changes = Changes(store, follow, look)
    task = asyncio.get_running_loop().create_task(changes.run())
    try:
        yield changes
    finally:
        task.cancel()
        await asyncio.wait([task])
        if servers.making is not None:
            await servers.making.close()


@asynccontextmanager
async def sharing_secrets(store: Store, servers: Servers, home: Home) -> AsyncIterator[CommonSecrets | None]:
    """Keep the secrets of gateways alike meanwhile, where the store is shared and there is a passphrase."""
    from ..tools import passphrase

    if not store.shared or await asyncio.to_thread(passphrase.given, ask=False) is None:
        yield None
        return
    from ..runners.lifecycle import State
    from ..tools.common import Common
    from ..tools.common_secrets import CommonSecrets

    one = CommonSecrets(Common(store), servers.secrets, home.common_secrets_file)

    def changed(_keys: set[str]) -> None:
        for unit in servers.supervisor.units.values():
            if unit.enabled and unit.life.state is State.FAILED:
                unit.start()  # it may have failed for want of just that

    one.on_change = changed
    servers.secrets_travel = True
    task = asyncio.get_running_loop().create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def sharing(
    store: Store,
    servers: Servers,
    approvals: Approvals,
    functions: Functions,
    settings: Settings,
    home: Home,
    policy: Callable[[], Awaitable[None]],
) -> AsyncIterator[Changes | None]:
    """Be one of several gateways meanwhile, where the store is shared: follow the others, and tell them."""
    async with sending(store, settings, home), sharing_secrets(store, servers, home) as secrets:

        async def follow_secrets() -> None:
            if secrets is not None:
                await secrets.sync()

        more = {"policy": policy, "secrets": follow_secrets}
        async with following(store, servers, approvals, functions, more) as changes:
            yield changes


def gateway_of(home: Home) -> str:
    """Give the name of a home among those that share a store; it is made once, and stays.

    Raises:
        StoreError: If it cannot be kept.
    """
    import secrets
    import socket

    from ..tools.replace import replace_file

    try:
        if (found := home.gateway_file.read_text(encoding="utf-8").strip()) and len(found) <= LONGEST_NAME:
            return found
    except (OSError, ValueError):
        pass
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:40] or "gateway"
    name = f"{host}-{secrets.token_hex(4)}"
    try:
        replace_file(home.gateway_file, f"{name}\n".encode())
    except OSError as error:
        raise StoreError(f"The gateway's name cannot be kept in {home.gateway_file}: {error}.") from error
    return name


@asynccontextmanager
async def sending(store: Store, settings: Settings, home: Home) -> AsyncIterator[None]:
    """Send the journal to a shared store meanwhile, and what is left of it at the end if that takes no time."""
    if not store.shared or not settings.journal.enabled or not settings.journal.shared:
        yield
        return
    from ..tools.journal.sending import Sending

    one = Sending(store, gateway_of(home), home.journal_dir, settings.journal.max_age * 86_400)
    task = asyncio.get_running_loop().create_task(one.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LAST_LINES):
                while await one.send():
                    pass


def reader_of(settings: Settings, home: Home) -> Reader:
    """Give what reads the journal: of this home, or of all gateways where the store is shared."""
    from ..tools.journal.others import AllReader
    from ..tools.journal.reader import Reader

    try:
        where = store_of(settings, home)
        if not isinstance(where, Path):
            return AllReader(home.journal_dir, gateway_of(home), where)
    except StoreError as error:
        found = Reader(home.journal_dir)
        found.unreadable["journals of other gateways"] = str(error)
        return found
    return Reader(home.journal_dir)


def has_store(settings: Settings) -> bool:
    """Tell whether there is anything to look at, without making a home."""
    from .home import Home
    from .owner import current_owner

    home = Home.at(settings.home)
    # One that runs may have been told of a shared database that this command was not told of.
    return bool(settings.database.url) or home.store_file.exists() or current_owner(home) is not None


def look(where: Where) -> None:
    """Refuse a file that could not be opened later. A shared database is looked at when it is opened.

    Raises:
        StoreError: As in `preflight`.
    """
    from ..tools.preflight import preflight

    if isinstance(where, Path):
        preflight(where)
