"""A thin front for one client of a shared ToolScore: its frames go through the Unix socket, and back.

It knows of them just enough to outlive the ToolScore behind it: when that crashes, is restarted or replaced, the
relay finds or starts the next one, agrees with it anew on what the client has agreed on, and answers itself what
nobody else can. Standard library only, and little of that: this process is what every client of a home pays for.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from types import FrameType

from .hello import DRAINING, ENVIRONMENT, GOODBYE, HELD, OWN, WELCOME, Hello, encoded, is_text, notification
from .home import HomeError
from .landlord import Reaching, UnreachableError
from .relay_frames import ANSWER, LAST, NOTICE, PIECE, REQUEST, WHOLE, Ends, Piece, Splitter, read
from .relay_patience import DRAIN, LOOK, LOOKS, WELCOME_DEADLINE, Crashes
from .relay_session import OWN_ID, Session
from .relay_streams import CHUNK, HIGH_WATER, LITTLE, READ, WRITE, Poller, Sink, output_sender, socket_sender

_GREETING, _AGREEING, _OPEN, _HOLDING, _AWAY = range(5)
"""Said hello; telling anew what was agreed; passing on; holding requests back; without a ToolScore, in no need."""

_NOT_DONE = "The ToolScore that was to do this ended before it was asked: nothing was done. Ask again."

_OWN = OWN.encode()
_OWN_NOTICE = b"notifications/" + _OWN


class _TerminatedError(Exception):
    """SIGTERM arrived."""


class _ClientGoneError(Exception):
    """Nobody reads our standard output any more."""


class Relay:
    """One client on standard input and output, and whichever ToolScore serves it.

    One thread, which never waits for one side alone: a side that does not read slows the other, and nothing else.

    Args:
        landlord: Gives connections to the ToolScore of the home.
        hello: What is said of this client.
    """

    def __init__(self, landlord: Reaching, hello: Hello) -> None:
        self._landlord = landlord
        self._hello = hello
        self._session = Session()
        send, self._out_fd = output_sender(1)
        self._out = Sink(send)
        self._line: socket.socket | None = None
        self._in = Sink(len)
        self._phase = _AWAY
        self._goodbye = self._met = self._eof = self._half_closed = False
        self._from_client, self._client_ends = Splitter(), Ends()
        self._from_owner, self._owner_ends = Splitter(), Ends()
        self._passing = False  # whether pieces of a long frame go to the ToolScore its beginning went to
        self._skipping = False  # whether that one is gone
        self._held: deque[bytes] = deque()
        self._held_size = 0
        self._mine: list[bytes] = []
        self._introduction = b""
        self._crashes = Crashes()
        self._deadline: float | None = None
        self._looks = 0
        self._poller = Poller()
        self._reading = self._receiving = LITTLE

    def run(self) -> int:
        """Relay until one side ends.

        Returns:
            The exit status: 0 when the client ended it (end of input, its pipe closed, SIGTERM).

        Raises:
            UnreachableError: If there is no ToolScore to be had. What the client asked was answered.
            HomeError: If the home cannot be used.
        """
        previous = None
        if threading.current_thread() is threading.main_thread():
            previous = signal.signal(signal.SIGTERM, _terminate)
        try:
            self._join()
            while not self._turn():
                pass
            return 0
        except (_TerminatedError, _ClientGoneError):
            return 0
        except (UnreachableError, HomeError) as error:
            with suppress(_ClientGoneError, _TerminatedError):
                self._give_up(f"ToolScore is not available: {error}")
            raise
        finally:
            if self._line is not None:
                self._line.close()
            if previous is not None:
                signal.signal(signal.SIGTERM, previous)

    def _turn(self) -> bool:
        """Wait for something to do and do it; tell whether that was all."""
        congested = self._in.waiting + self._held_size > HIGH_WATER
        self._poller.want(0, 0 if self._eof or congested else READ)
        self._poller.want(self._out_fd, WRITE if self._out.waiting else 0)
        line = self._line
        if line is not None:
            events = (0 if self._out.waiting > HIGH_WATER else READ) | (WRITE if self._in.waiting else 0)
            self._poller.want(line.fileno(), events)
        elif self._eof:
            return self._finish()
        patience = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        ready = self._poller.wait(patience)
        if not ready and self._deadline is not None and time.monotonic() >= self._deadline:
            return self._timed_out()
        for descriptor, events in ready:
            if descriptor == 0:
                self._read()
            elif descriptor == self._out_fd:
                self._say()
            elif line is not None and line is self._line:
                if events & WRITE:
                    self._put()
                if events & READ and not self._receive(line):
                    return True
        return False

    def _timed_out(self) -> bool:
        self._deadline = None
        if self._phase == _AWAY:
            self._look()
        elif self._half_closed:
            return self._finish()  # a ToolScore that says nothing any more
        elif self._phase in (_GREETING, _AGREEING):
            raise UnreachableError(
                f"it did not answer within {WELCOME_DEADLINE:g} s. See `toolscore status`; "
                "`toolscore stop --force` ends it."
            )
        return False

    # --- from the client

    def _read(self) -> None:
        try:
            chunk = os.read(0, self._reading)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""  # closed on us, or a terminal that is gone: an end like any other
        self._reading = CHUNK if len(chunk) >= LITTLE else LITTLE
        parts = self._from_client.feed(chunk) if chunk else self._from_client.rest()
        self._in.corked = len(parts) > 1
        for part, frame in parts:
            if part == WHOLE:
                self._take(frame)
            else:
                self._take_piece(part, Piece(frame))
        if self._in.corked:
            self._in.corked = False
            self._put()
        if not chunk:
            self._eof = True
            self._half_close()

    def _take(self, frame: bytes) -> None:
        """Take a whole frame of the client."""
        found = read(frame)
        kind, identity, method = found
        if kind == NOTICE and method.startswith(_OWN_NOTICE):
            return  # not the client's to say
        if kind == REQUEST and method.startswith(_OWN):
            self._say(self._session.answer(identity, method, "refused", "This is not for clients."))
        elif self._phase == _OPEN or (self._phase == _HOLDING and kind in (NOTICE, ANSWER)):
            if kind == NOTICE and self._held:
                self._withdraw(method, frame)
            if self._session.sent(found, frame):
                self._put(frame)
        elif kind == ANSWER or (kind == NOTICE and self._phase != _GREETING):
            # Of no use to whoever comes next, but for what is agreed.
            self._session.sent(found, frame)
            self._withdraw(method, frame)
        elif not frame.isspace():
            self._hold(frame)

    def _take_piece(self, part: int, piece: Piece) -> None:
        """Take a piece of a frame that is too long to be held whole."""
        self._client_ends.add(piece)
        if not self._skipping:
            if self._phase == _OPEN or self._passing:
                self._passing = True
                self._put(piece)
            else:
                self._hold(piece)
        if part == PIECE:
            return
        found = self._client_ends.read()
        if self._passing:
            self._session.sent(found, b"")
        elif self._skipping and found[0] == REQUEST:
            self._say(self._session.answer(found[1], found[2], "unavailable", _NOT_DONE))
        self._passing = self._skipping = False
        mine, self._mine = self._mine, []
        for frame in mine:
            self._put(frame)

    def _hold(self, frame: bytes) -> None:
        self._held.append(frame)
        self._held_size += len(frame)
        if self._phase == _AWAY:
            self._join()

    def _withdraw(self, method: bytes, frame: bytes) -> None:
        """Take back a request that is being held, if this cancels it."""
        if method == b"notifications/cancelled":
            cancelled = self._session.cancelled(frame)
            self._held = deque(one for one in self._held if read(one)[:2] != (REQUEST, cancelled))
            self._held_size = sum(map(len, self._held))

    def _half_close(self) -> None:
        """Close the half of the socket on which nothing will follow, for answers still to come."""
        over = self._eof and not (self._half_closed or self._held or self._in.waiting)
        if over and self._line is not None and self._phase in (_OPEN, _HOLDING):
            self._half_closed = True
            self._deadline = time.monotonic() + DRAIN
            with suppress(OSError):
                self._line.shutdown(socket.SHUT_WR)

    # --- to both sides

    def _put(self, frame: bytes = b"") -> None:
        """Write to ToolScore, or go on writing."""
        with suppress(OSError):  # the socket broke; its other direction sees it too
            if frame:
                self._in.put(frame)
            else:
                self._in.flush()
                self._half_close()

    def _put_own(self, frame: bytes) -> None:
        """Write what is ours to say, but not into the middle of a frame of the client."""
        if self._passing:
            self._mine.append(frame)
        else:
            self._put(frame)

    def _say(self, frame: bytes = b"") -> None:
        """Write to the client, or go on writing."""
        try:
            if frame:
                self._out.put(frame)
            else:
                self._out.flush()
        except OSError as error:
            raise _ClientGoneError from error

    def _finish(self) -> bool:
        """Let the last answers leave."""
        while self._out.waiting:
            select.select([], [self._out_fd], [])
            self._say()
        return True

    def _give_up(self, text: str) -> None:
        """Answer everything that is unanswered, what can be read just now included."""
        self._phase = _GREETING  # so that requests are held
        if not self._eof and select.select([0], [], [], 0)[0]:
            self._read()
        for frame in self._session.refusals(text):
            self._say(frame)
        for kind, identity, method in map(read, self._held):
            if kind == REQUEST:
                self._say(self._session.answer(identity, method, "unavailable", text))
        self._finish()

    # --- from ToolScore

    def _receive(self, line: socket.socket) -> bool:
        """Take what ToolScore says; tell whether to go on."""
        try:
            chunk = line.recv(self._receiving)
        except OSError:
            chunk = b""
        if not chunk:
            return self._ended()
        self._receiving = CHUNK if len(chunk) >= LITTLE else LITTLE
        if self._half_closed:
            self._deadline = time.monotonic() + DRAIN
        passed = []
        for part, frame in self._from_owner.feed(chunk):
            if part != WHOLE:
                self._owner_ends.add(frame)
                passed.append(frame)
                if part == LAST:
                    self._session.came(self._owner_ends.read(), b"")
            elif self._hear(frame):
                passed.append(frame)
        if passed:
            self._say(passed[0] if len(passed) == 1 else b"".join(passed))
        return True

    def _hear(self, frame: bytes) -> bool:
        """Take a frame of ToolScore; tell whether it is for the client."""
        found = read(frame)
        kind, identity, method = found
        if kind == NOTICE and method.startswith(_OWN_NOTICE):
            self._told(method.decode())
            return False
        if kind == REQUEST and method.startswith(_OWN):
            if method == ENVIRONMENT.encode():
                self._lend(frame)
            return False
        if self._introduction and kind == ANSWER and identity == self._introduction:
            self._introduction = b""
            if self._phase != _AGREEING:
                return False  # it is about to end: the next one is agreed with
            if method != b"result":
                raise UnreachableError("the next ToolScore did not take in this client again. Start it anew.")
            for agreed in self._session.agreements():
                self._put_own(agreed)
            self._opened()
            return False
        return self._session.came(found, frame)

    def _told(self, method: str) -> None:
        match method:
            case _ if method == WELCOME and self._phase == _GREETING:
                introduction = self._session.introduction()
                if introduction is None:
                    self._opened()
                else:
                    self._phase = _AGREEING
                    self._introduction = read(introduction)[1]
                    self._put(introduction)
            case _ if method == DRAINING:
                self._phase = _HOLDING
                self._deadline = None
                self._put_own(notification(HELD))
            case _ if method == GOODBYE:
                self._goodbye = True

    def _opened(self) -> None:
        """Pass on what was held until now."""
        self._phase = _OPEN
        self._deadline = None
        held, self._held, self._held_size = self._held, deque(), 0
        for frame in held:
            if isinstance(frame, Piece):
                self._put(frame)
            else:
                self._take(frame)
        self._passing = self._from_client.inside and not self._skipping
        if self._met:
            for change in self._session.changes():
                self._say(change)
        self._met = True
        self._half_close()

    def _lend(self, frame: bytes) -> None:
        """Tell the values of environment variables, of those that were offered."""
        message = json.loads(frame)
        names = message.get("params", {}).get("names", ())
        offered = {name: os.environ.get(name) for name in names if name in self._hello.names}
        values = {name: value for name, value in offered.items() if value is not None and is_text(value)}
        self._put_own(encoded({"jsonrpc": "2.0", "id": message["id"], "result": {"values": values}}))

    # --- from one ToolScore to the next

    def _join(self) -> None:
        self._greet(self._landlord.reach())

    def _look(self) -> None:
        """Look whether somebody else has started one; meanwhile nothing reaches the client, such as changes."""
        with suppress(HomeError):
            line = self._landlord.find()
            if line is not None:
                self._greet(line)
                return
        self._looks -= 1
        self._deadline = time.monotonic() + LOOK if self._looks else None

    def _greet(self, line: socket.socket) -> None:
        self._line = line
        self._in = Sink(socket_sender(line))
        self._from_owner, self._owner_ends = Splitter(), Ends()
        self._phase = _GREETING
        self._goodbye = False
        self._introduction = b""
        self._deadline = time.monotonic() + WELCOME_DEADLINE
        self._put(self._hello.frame())

    def _ended(self) -> bool:
        """Settle what was under way with a ToolScore that is gone; tell whether to go on with another one."""
        assert self._line is not None
        self._poller.want(self._line.fileno(), 0)
        self._line.close()
        self._line = None
        if self._from_owner.inside:
            self._say(b"\n")  # ends a frame that nobody can complete
        unsent = []
        for frame in self._in.unsent():
            found = read(frame) if not isinstance(frame, Piece) else None
            if found is not None and found[0] == REQUEST and not found[1].startswith(OWN_ID):
                self._session.forget(found)
                unsent.append(frame)
        told, repeated = self._session.lost()
        for frame in told:
            self._say(frame)
        if self._half_closed or (self._eof and not (self._held or unsent or repeated)):
            return not self._finish()
        self._skipping = self._skipping or self._passing
        self._passing = False
        self._mine.clear()
        for frame in reversed(repeated + unsent):
            self._held.appendleft(frame)
            self._held_size += len(frame)
        welcomed = self._phase != _GREETING
        self._phase = _AWAY
        self._deadline, self._looks = time.monotonic() + LOOK, LOOKS
        if not self._goodbye:
            time.sleep(self._crashes.back_off(welcomed))
        if not self._goodbye or self._held:
            self._join()
        return True


def _terminate(_number: int, _frame: FrameType | None) -> None:
    # Raised where the relay waits, be it for one of the sides or for a ToolScore that is starting.
    raise _TerminatedError
