"""The policy that gateways with one store have in common: kept there, and a copy of it in each home."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..tools.policy.errors import PolicyError
from ..tools.policy.reading import parse
from ..tools.replace import replace_file
from .policy_path import shared_path

if TYPE_CHECKING:
    from ..tools.store import Store
    from .settings import Settings

logger = logging.getLogger(__name__)

KIND = "policy"
"""The kind of common text it is; there is one, without a name."""


async def fetch(store: Store, settings: Settings) -> None:
    """Bring this home's copy up to date; one that is broken is not taken, so that the one before goes on to hold.

    Raises:
        StoreError: If the store cannot be read.
    """
    if not store.shared:
        return
    from ..tools.common import Common

    found = await Common(store).get(KIND, "")
    if found is None:
        return
    path, content = shared_path(settings), found.body.encode()
    try:
        await asyncio.to_thread(parse, path, content)
    except PolicyError as error:
        logger.error("version %d of the common policy cannot be used, so it is not: %s", found.version, error)
        return

    def write() -> None:
        if not path.exists() or path.read_bytes() != content:
            replace_file(path, content)
            logger.info("version %d of the common policy was taken over", found.version)

    try:
        await asyncio.to_thread(write)
    except OSError as error:
        logger.error("the common policy cannot be taken over: %s cannot be written: %s", path, error)
