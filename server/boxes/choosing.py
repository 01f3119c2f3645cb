"""Which executor runs what: the one with most free places; where there are none, everybody waits in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...sandbox.refusal import CallRefusedError
from .post import Post


@dataclass(eq=False, slots=True)
class _Waiter:
    turn: asyncio.Future[Post]
    packages: tuple[str, ...]
    session: bool


class Choosing:
    """The places of all executors.

    Args:
        posts: Gives the executors there are; those of the last resort come last, behind `None`.
        patience: Seconds somebody waits while not one of them can be used.
        hopeful: Tells whether one is about to be usable, so that it is worth waiting longer.
        deserted: Told when that time is over; gives why nothing can be used.
    """

    def __init__(
        self,
        posts: Callable[[], tuple[Iterable[Post], Post | None]],
        patience: float,
        hopeful: Callable[[], bool],
        deserted: Callable[[], str],
    ) -> None:
        self._posts = posts
        self._patience = patience
        self._hopeful = hopeful
        self._deserted = deserted
        self._waiting: dict[str, deque[_Waiter]] = {}
        """Who waits, by owner; whose turn is next is first."""
        self._timer: asyncio.TimerHandle | None = None
        self._given_up = False
        """Whether there was nothing for so long that nobody waits for it any more."""
        self.closed = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(line) for line in self._waiting.values())

    async def place(self, owner: str, packages: tuple[str, ...] = (), *, session: bool = False) -> Post:
        """Take a place, as soon as there is one; it is to be given back (`Post.give`).

        Args:
            owner: For whom. Where several wait, each owner gets one in turn, however many it asked for.
            packages: What is wanted beyond the packages of all code.
            session: Whether a session is to begin there.

        Raises:
            CallRefusedError: If no executor can be used.
        """
        waiter = _Waiter(asyncio.get_running_loop().create_future(), packages, session)
        if not self._waiting and (post := self._best(waiter)) is not None:
            post.take()
            return post
        if self._given_up or self.closed:
            raise self._refusal()
        self._waiting.setdefault(owner, deque()).append(waiter)
        self.settle()
        try:
            return await waiter.turn
        except BaseException:
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                waiter.turn.result().give()
            else:
                self._forget(owner, waiter)
            raise

    def _refusal(self) -> CallRefusedError:
        if self.closed:
            return CallRefusedError("unavailable", "Nothing was run: the sandbox is being closed.")
        return CallRefusedError("unavailable", f"Nothing was run. {self._deserted()}")

    def _best(self, waiter: _Waiter) -> Post | None:
        posts, last = self._posts()
        usable = [post for post in posts if post.usable]
        if not usable and last is not None and last.usable:
            usable = [last]
        free = [post for post in usable if post.free > 0]
        if waiter.session:
            return min(free, key=lambda post: (len(post.sessions) / post.most, -post.free), default=None)
        wanted = waiter.packages
        return max(free, key=lambda post: (not wanted or wanted in post.sets, post.free), default=None)

    def settle(self) -> None:
        """Give out what has become free, and see to it that nobody waits for ever."""
        while self._waiting:
            owner, line = next(iter(self._waiting.items()))
            post = self._best(line[0])
            if post is None:
                break
            waiter = line.popleft()
            del self._waiting[owner]
            if line:
                self._waiting[owner] = line  # behind the others
            if not waiter.turn.done():
                post.take()
                waiter.turn.set_result(post)
        self._keep_time()

    def _keep_time(self) -> None:
        posts, last = self._posts()
        if any(post.usable for post in posts) or (last is not None and last.usable):
            self._given_up = False
            self._stop()
        elif self._timer is None and not self._given_up and not self.closed:
            self._timer = asyncio.get_running_loop().call_later(self._patience, self._late)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._hopeful():
            self._keep_time()
            return
        self._given_up = True
        self._refuse_all()

    def _refuse_all(self) -> None:
        refusal = self._refusal()
        if not self._given_up and not self.closed:
            return  # there is hope after all
        waiting, self._waiting = self._waiting, {}
        for line in waiting.values():
            for waiter in line:
                if not waiter.turn.done():
                    waiter.turn.set_exception(CallRefusedError(refusal.outcome, refusal.message))

    def hope(self) -> None:
        """Begin to wait anew: something that may be usable has come."""
        self._given_up = False
        self._keep_time()

    def close(self) -> None:
        """Refuse whoever waits."""
        self.closed = True
        self._stop()
        self._refuse_all()

    def _forget(self, owner: str, waiter: _Waiter) -> None:
        line = self._waiting.get(owner)
        if line is not None and waiter in line:
            line.remove(waiter)
            if not line:
                del self._waiting[owner]
