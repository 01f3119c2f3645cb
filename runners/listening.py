"""Waiting until a server that was just started listens at its url, and connecting to it then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import urlsplit

import anyio

from .base import Child
from .errors import SpecError, StartError
from .remote import RemoteChild, shown
from .spec import ServerSpec


class Started(Child, Protocol):
    """A server that was started, a process or a container, and is spoken to over its url."""

    server_id: str
    exited: asyncio.Event


async def connect_when_up(
    spec: ServerSpec,
    child: Started,
    patience: float,
    listens: Callable[[str | None, int], Awaitable[bool]],
    connect: Callable[[], Awaitable[RemoteChild]],
    hint: str = "",
) -> RemoteChild:
    """Connect to a server once it listens. One that does not, or cannot be connected to, is ended.

    Args:
        spec: Where it is to listen.
        child: It.
        patience: Seconds until it must.
        listens: Tells whether somebody listens at a host and port.
        connect: Connects.
        hint: What else to say of one that does not listen in time.

    Raises:
        SpecError: If its url cannot be used.
        StartError: If it ended, did not listen in time, or cannot be connected to.
    """
    assert spec.url is not None
    parts = urlsplit(spec.url)
    try:
        port = parts.port or (443 if parts.scheme in ("https", "wss") else 80)
    except ValueError as exc:
        await child.stop(0)
        raise SpecError(
            f"The url {shown(spec.url)} of server '{child.server_id}' cannot be used: {exc}."
        ) from exc
    try:
        with anyio.fail_after(patience):
            while not child.exited.is_set():
                if await listens(parts.hostname, port):
                    return await connect()
                await anyio.sleep(0.05)  # nothing tells when a port is opened
        problem = child.epitaph() + " before it listened"
    except TimeoutError:
        problem = f"it did not listen on port {port} within {patience:g} s{hint}"
    except StartError as exc:
        problem = exc.message
    await child.stop(0)
    raise StartError(f"server '{child.server_id}' cannot be reached: {problem}.", stderr=child.stderr_tail())
