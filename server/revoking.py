"""Cutting off who is in by a token that is not good any more: revoked, made anew, or with other rights."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .private_file import PrivateFileError
from .tokens import Identity, Tokens

logger = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at the tokens; the files are only read when they changed."""

REVOKED = "the token this came in by is not valid any more"


class Revoking:
    """Knows who is in, and looks from time to time whether they still may be. It looks only while somebody is.

    Args:
        tokens: The tokens; `None` where none is needed, and so nobody is cut off.
    """

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = tokens
        self._inside: dict[object, tuple[Identity, Callable[[], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._told = ""

    @contextmanager
    def inside(self, identity: Identity, end: Callable[[], None]) -> Iterator[None]:
        """Count somebody as being in.

        Args:
            identity: Who it is.
            end: Ends what they have here.
        """
        if self._tokens is None:
            yield
            return
        key = object()
        self._inside[key] = identity, end
        self._later()
        try:
            yield
        finally:
            self._inside.pop(key, None)

    def _later(self) -> None:
        if self._timer is None and self._inside:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)

    def look(self) -> None:
        """Look now: the tokens have changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._look()

    def _look(self) -> None:
        self._timer = None
        assert self._tokens is not None
        try:
            good = self._tokens.good()
        except PrivateFileError as error:
            # Nobody new is let in either; who is in was found good by what there was.
            if self._told != str(error):
                self._told = str(error)
                logger.error("whether tokens were revoked cannot be told: %s", error)
            self._later()
            return
        self._told = ""
        for key, (identity, end) in list(self._inside.items()):
            if (identity.digest, identity.rights) not in good:
                self._inside.pop(key, None)
                logger.warning("'%s' is cut off: %s", identity.principal, REVOKED)
                end()
        self._later()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._inside.clear()
