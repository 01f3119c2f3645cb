"""Notes in the journal when clients come and go; those who come before it is open are noted then."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .peer import Peer

EARLY = 1000
"""Clients that may come before the journal is open; of further ones nothing is noted."""


class Visits:
    """The clients that have introduced themselves, so that their sessions have a beginning and an end."""

    def __init__(self) -> None:
        self._note: Callable[..., None] | None = None
        self._early: deque[tuple[str, dict[str, Any]]] = deque(maxlen=EARLY)
        self._begun: dict[Peer, float] = {}

    def attach(self, note: Callable[..., None]) -> None:
        """Note in the journal from now on, and who came before."""
        self._note = note
        while self._early:
            kind, fields = self._early.popleft()
            note(kind, **fields)

    def began(self, peer: Peer) -> None:
        """Note that a client has said who it is. Nothing happens where that is known."""
        if peer not in self._begun:
            self._begun[peer] = time.monotonic()
            relay = {"relay": peer.relay} if peer.relay else {}
            self._tell("session_begun", caller=peer.caller, peer=peer, at=time.time(), **relay)

    def left(self, peer: Peer) -> None:
        """Note that a client is gone, if it ever said a word."""
        begun = self._begun.pop(peer, None)
        if begun is not None:
            seconds = round(time.monotonic() - begun, 3)
            self._tell("session_ended", caller=peer.caller, peer=peer, at=time.time(), lasted=seconds)

    def _tell(self, kind: str, **fields: Any) -> None:
        if self._note is None:
            self._early.append((kind, fields))
        else:
            self._note(kind, **fields)
