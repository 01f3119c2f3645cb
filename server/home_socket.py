"""The home's own Unix socket, where the relays of its clients come in, and the command line."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ..runners.codec import FrameError, decode
from .connection import Connection
from .hello import CLIENTS, DRAIN, DRAINING, GOODBYE, HELD, OVERVIEW, WELCOME, Hello
from .unix import UnixPeer, listen_for

logger = logging.getLogger(__name__)

METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603
REFUSED = -32010

_TURN = 0.01
"""Seconds between two looks at what is under way: nothing tells when the last of it is answered."""


class Host(Protocol):
    """Whose socket it is."""

    def accept(self, connection: Connection, hello: Hello | None) -> None:
        """Take in a client; with the hello of its relay, if it has one."""
        ...

    def clients(self, but: Connection) -> list[dict[str, Any]]:
        """Tell who is there, whoever asks left out."""
        ...

    async def overview(self, after: str | None) -> dict[str, Any]:
        """Tell all that is going on; see `Glance.look`."""
        ...

    def make_room(self, version: str) -> bool:
        """End for a newer version; tell whether that can be."""
        ...


class HomeSocket:
    """Listens on the home's socket, and parts from relays so that they lose nothing.

    Args:
        host: Whose it is.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.draining = False
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._inode = 0
        self._clients: set[_HomePeer] = set()
        self._looks: set[asyncio.Task[None]] = set()

    async def open(self, path: Path, max_frame: int | None) -> None:
        """Begin to listen."""
        self._path = path
        self._server = await listen_for(path, lambda: _HomePeer(self, max_frame))
        self._inode = path.stat().st_ino

    def came(self, peer: _HomePeer) -> None:
        """Take note of a client."""
        self._clients.add(peer)

    def left(self, peer: _HomePeer) -> None:
        """Take note that one is gone."""
        self._clients.discard(peer)

    def stop_accepting(self) -> None:
        """Take nobody new. The name goes first: a client that starts anew waits for the home then."""
        if self._path is not None:
            with suppress(OSError):
                if self._path.stat().st_ino == self._inode:  # not of one that came after the home was removed
                    self._path.unlink()
            self._path = None
        if self._server is not None:
            self._server.close()
            self._server = None

    def look(self, answering: Coroutine[Any, Any, None]) -> None:
        """Answer somebody who looks in, beside all else."""
        task = asyncio.get_running_loop().create_task(answering)
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Have relays hold back what is new, and wait until what is under way is answered.

        Args:
            seconds: How long at the most.
            hurry: Ends it early.
        """
        self.draining = True
        for peer in self._clients:
            if peer.hello is not None:
                peer.tell(DRAINING)
        deadline = time.monotonic() + seconds
        while not hurry.is_set() and time.monotonic() < deadline:
            if all(peer.is_done for peer in self._clients):
                return
            await asyncio.sleep(_TURN)

    def goodbye(self) -> None:
        """Tell relays that this is an end in order."""
        for peer in self._clients:
            if peer.hello is not None:
                peer.tell(GOODBYE)


class _HomePeer(UnixPeer):
    """One client on the home's socket. Its first frame tells whether it is a relay."""

    def __init__(self, home: HomeSocket, max_frame: int | None) -> None:
        super().__init__(max_frame)
        self._home = home
        self._begun = False
        self._held = False
        self._may_drain = False
        self.hello: Hello | None = None

    def came(self) -> None:
        self._home.came(self)

    def lost(self) -> None:
        self._home.left(self)
        super().lost()

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is under way, and nothing new will come."""
        return not self.unanswered and (self.hello is None or self._held)

    def tell(self, method: str) -> None:
        """Send a notification that is between its relay and us."""
        self.send({"jsonrpc": "2.0", "method": method})

    def take(self, frame: bytes | str) -> None:
        if self._begun and self.hello is None:
            if b"toolscore/" not in _start(frame) or not self._take_look(frame):
                super().take(frame)
        elif not self._begun:
            self._begin(frame)
        elif self._may_drain or self._home.draining:
            if not self._take_own(frame):
                super().take(frame)
        else:
            super().take(frame)

    def _begin(self, frame: bytes | str) -> None:
        self._begun = True
        message = _message(frame)
        self.hello = None if message is None else Hello.read(message)
        self._home.host.accept(self, self.hello)
        if self.hello is None:
            self.take(frame)
            return
        self._may_drain = True
        if self._home.draining:
            self.tell(DRAINING)
        else:
            self.tell(WELCOME)

    def _take_own(self, frame: bytes | str) -> bool:
        first, self._may_drain = self._may_drain, False
        message = _message(frame) if b"toolscore/" in _start(frame) else None
        if message is None:
            return False
        method = message.get("method")
        if method == HELD and self._home.draining:
            self._held = True
            return True
        if first and method == DRAIN and "id" in message and self.hello is not None:
            # It has nothing to ask for itself: it waits for our end.
            self._held = self._home.host.make_room(self.hello.version)
            if self._held:
                self.send({"jsonrpc": "2.0", "id": message["id"], "result": {}})
            else:
                text = "this ToolScore belongs to the client that started it"
                fault = {"code": REFUSED, "message": text}
                self.send({"jsonrpc": "2.0", "id": message["id"], "error": fault})
            return True
        return False

    def _take_look(self, frame: bytes | str) -> bool:
        """Answer whoever looks in from the command line; tell whether it was that."""
        message = _message(frame)
        if message is None or "id" not in message:
            return False
        match message.get("method"):
            case method if method == CLIENTS:
                self._answer(message["id"], {"clients": self._home.host.clients(self)})
            case method if method == OVERVIEW:
                params = message.get("params")
                after = params.get("cursor") if isinstance(params, dict) else None
                self._home.look(self._overview(message["id"], after if isinstance(after, str) else None))
            case _:
                return False
        return True

    async def _overview(self, identity: Any, after: str | None) -> None:
        try:
            self._answer(identity, await self._home.host.overview(after))
        except Exception:
            logger.exception("bug while telling how it is")
            fault = {"code": INTERNAL_ERROR, "message": "it failed; ToolScore's own log says why"}
            self.send({"jsonrpc": "2.0", "id": identity, "error": fault})

    def _answer(self, identity: Any, result: dict[str, Any]) -> None:
        self.send({"jsonrpc": "2.0", "id": identity, "result": result})


def _start(frame: bytes | str) -> bytes:
    return frame[:160] if isinstance(frame, bytes) else frame[:160].encode(errors="replace")


def _message(frame: bytes | str) -> dict[str, Any] | None:
    try:
        return decode(frame)
    except FrameError:
        return None
