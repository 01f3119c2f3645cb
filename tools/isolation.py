"""Giving each client a process of its own, for a server that turns out to need that."""

from __future__ import annotations

import logging

from ..runners.supervisor import Supervisor
from .errors import LibraryError
from .library import Library

logger = logging.getLogger(__name__)


async def isolate(library: Library, supervisor: Supervisor, name: str) -> None:
    """Run a server `per-client` from now on, unless somebody has set how it is shared.

    A server that asks its client for something (sampling, elicitation, roots) while it serves several cannot be
    answered: nobody knows which of them it means. With a process for each client it can.

    Args:
        library: Where that is remembered; not for a server of the configuration file, which the file describes.
        supervisor: Where it is so from now on.
        name: The server.
    """
    row = library.servers.get(name)
    if row is None or row.installation.keeping.isolation is not None:
        return
    if (row.installation.spec.url or "").startswith("register:"):
        return  # it is its own process, and there is but one of it
    keeping = row.installation.keeping.model_copy(update={"isolation": "per-client"})
    # At once, before anything is waited for: the next call may be on its way.
    supervisor.reconfigure(row.installation.model_copy(update={"keeping": keeping}))
    if row.origin != "file":
        try:
            await library.keep(name, keeping)
        except LibraryError as exc:
            logger.warning(
                "server %s: that it needs a process for each client is not remembered: %s", name, exc
            )
    logger.warning(
        "server %s asked its client for something while it served several; from now on each client has a process of "
        "its own (isolation = per-client)",
        name,
    )
