"""Which executor has what: sessions, each on the node it began on, and created files."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ...sandbox.artifacts import PREFIX
from ...sandbox.sessions import gone, unknown
from .post import Post

REMEMBERED = 4096
"""Ended sessions of which it is still known where they were."""

FILES = 65536
"""Executions of which it is known where their files are."""


@dataclass(eq=False, slots=True)
class Home:
    """Where a session is, or was.

    Attributes:
        session: Its id.
        principal: Whose it is.
        post: Its executor, which knows how it ended where it is over.
        ends: When it ends at the latest.
        running: Calls in it that are under way.
        over: Whether it has ended.
        lost: Why its executor is gone; empty while that is there.
    """

    session: str
    principal: str
    post: Post
    ends: float
    running: int = 0
    over: bool = False
    lost: str = ""


class Whereabouts:
    """What is known of them.

    Args:
        now: The clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._homes: dict[str, Home] = {}
        self._past: OrderedDict[str, Home] = OrderedDict()
        self._files: OrderedDict[str, Post] = OrderedDict()

    def began(self, session: str, principal: str, post: Post, ends_in: float) -> None:
        """Note where a session has begun."""
        self._homes[session] = Home(session, principal, post, self._now() + ends_in)
        post.sessions.add(session)

    def of(self, principal: str) -> list[str]:
        """Give the sessions of a principal."""
        now = self._now()
        for home in [home for home in self._homes.values() if home.ends < now and not home.running]:
            self.ended(home.session)  # also where its executor could not say so
        return [home.session for home in self._homes.values() if home.principal == principal]

    def find(self, principal: str, session: str) -> Home:
        """Give where a session is.

        Raises:
            CallRefusedError: If the principal has no such session, or its executor is gone.
        """
        home = self._homes.get(session) or self._past.get(session)
        if home is None or home.principal != principal:
            raise unknown(session)
        if home.lost:
            raise gone(session, home.lost)
        return home

    def ended(self, session: str) -> None:
        """Note that a session has ended."""
        if (home := self._homes.pop(session, None)) is None:
            return
        home.over = True
        home.post.sessions.discard(session)
        self._past[session] = home
        while len(self._past) > REMEMBERED:
            self._past.popitem(last=False)

    def made(self, uri: object, post: Post) -> None:
        """Note where a created file is."""
        if isinstance(uri, str) and uri.startswith(PREFIX):
            execution = uri.removeprefix(PREFIX).partition("/")[0]
            self._files[execution] = post
            self._files.move_to_end(execution)
            while len(self._files) > FILES:
                self._files.popitem(last=False)

    def holder(self, uri: str) -> Post | None:
        """Give the executor that has a created file, if it has not ended."""
        return self._files.get(uri.removeprefix(PREFIX).partition("/")[0])

    def lost(self, post: Post, why: str) -> None:
        """Note that an executor has ended, and all on it."""
        for home in [home for home in self._homes.values() if home.post is post]:
            self.ended(home.session)
        for home in self._past.values():
            if home.post is post and not home.lost:
                home.lost = why
        for execution in [execution for execution, holder in self._files.items() if holder is post]:
            del self._files[execution]
