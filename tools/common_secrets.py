"""Secrets that gateways of a shared store have in common: sealed with a passphrase that all of them were given.

The database never sees a value, nor the passphrase. Without the passphrase each gateway has what is in its own home.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from . import passphrase
from .errors import LibraryError, OverwrittenError, SecretsError
from .named import IN_RING
from .replace import replace_file
from .seal import Seal, seal, sealed_part, unseal
from .secrets import Secrets

if TYPE_CHECKING:
    from .common import Common

logger = logging.getLogger(__name__)

KIND = "secrets"
"""The kind of the common text; there is one, without a name."""

EVERY = 1.0
"""Seconds between two looks at the secrets of this home; their file is read only where it is another one."""

TURNS = 10
"""Times that it is tried again, where other gateways change secrets at the same time."""

_WHERE = "the common secrets"

Values = dict[str, str]


class CommonSecrets:
    """Keeps the secrets of one home and the common ones alike.

    What is changed here is changed for all, and what others change is so here. Where both changed one, it is as it
    was changed first.

    Args:
        common: Where they are.
        secrets: The secrets of this home.
        file: Keeps, sealed, what both had in common last.
    """

    def __init__(self, common: Common, secrets: Secrets, file: Path) -> None:
        self._common = common
        self._secrets = secrets
        self._file = file
        self._base: Values | None = None
        self._seal: Seal | None = None
        self._syncing = asyncio.Lock()
        self._told: str | None = None
        self.on_change: Callable[[set[str]], None] = lambda _keys: None
        """Called with the keys that are others now."""

    async def run(self) -> None:
        """Look for ever whether secrets were changed here, and tell the others."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                if self._base is None or await asyncio.to_thread(self._local) != self._base:
                    await self.sync()
            except LibraryError as error:
                self._trouble(str(error))
            except Exception:
                logger.exception("bug while sharing secrets")
                await asyncio.sleep(30)

    async def sync(self) -> None:
        """Bring both in line.

        Raises:
            StoreError: If the store cannot be read or written.
            SecretsError: If the secrets cannot be read or written, here or there; nothing is changed then.
        """
        phrase = await asyncio.to_thread(passphrase.given, ask=False)
        if phrase is None:
            return
        async with self._syncing:
            for _turn in range(TURNS):
                try:
                    await self._once(phrase)
                    self._told = None
                    return
                except OverwrittenError:
                    continue

    async def _once(self, phrase: str) -> None:
        if self._base is None:
            self._base = await asyncio.to_thread(self._kept, phrase)
        found = await self._common.get(KIND, "")
        theirs: Values = {}
        if found is not None:
            theirs, self._seal = await asyncio.to_thread(_opened, found.body.encode(), phrase)
        local, base = await asyncio.to_thread(self._local), self._base
        merged = dict(theirs)
        for key in local.keys() | base.keys():
            mine = local.get(key)
            if mine == base.get(key) or theirs.get(key) != base.get(key):
                continue
            if mine is None:
                merged.pop(key, None)
            else:
                merged[key] = mine
        if merged != theirs:
            body = await asyncio.to_thread(self._sealed, merged, phrase)
            version = found.version if found is not None else 0
            await self._common.put(KIND, "", body.decode(), "gateway", version)
        changed = {key for key in merged.keys() | local.keys() if merged.get(key) != local.get(key)}
        if changed:
            await asyncio.to_thread(self._apply, {key: merged.get(key) for key in changed})
        if merged != base:
            body = await asyncio.to_thread(self._sealed, merged, phrase)
            await asyncio.to_thread(self._keep, body)
            self._base = merged
        if changed:
            self.on_change(changed)

    def _local(self) -> Values:
        return {key: value for key, value in self._secrets.values().items() if _travels(key)}

    def _apply(self, values: dict[str, str | None]) -> None:
        self._secrets.set_many({key: value for key, value in values.items() if value is not None})
        for key, value in values.items():
            if value is None:
                self._secrets.delete(key)

    def _kept(self, phrase: str) -> Values:
        try:
            return _opened(self._file.read_bytes(), phrase)[0]
        except (OSError, SecretsError):
            return {}  # the common ones hold where both have one

    def _keep(self, body: bytes) -> None:
        try:
            replace_file(self._file, body)
        except OSError as error:
            raise SecretsError(f"{self._file} cannot be written: {error}.") from error

    def _sealed(self, values: Values, phrase: str) -> bytes:
        if self._seal is None:
            self._seal = Seal.new(phrase)
        return seal(json.dumps(values, sort_keys=True).encode(), phrase, self._seal, _WHERE)

    def _trouble(self, why: str) -> None:
        if self._told != why:
            logger.warning("secrets are not shared with other gateways for now: %s", why)
            self._told = why


def _travels(key: str) -> bool:
    """Tell whether a secret is common: not what says of this home alone where things are."""
    return not (key.startswith(IN_RING) or key.endswith("/declared"))


def _opened(body: bytes, phrase: str) -> tuple[Values, Seal]:
    try:
        part = sealed_part(json.loads(body))
    except ValueError:
        part = None
    if part is None:
        raise SecretsError(f"{_WHERE.capitalize()} are damaged. Put the database's backup back.")
    content, made = unseal(part, phrase, _WHERE)
    values: Values = json.loads(content)
    return values, made
