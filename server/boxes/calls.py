"""The executor's tools, each call on the executor where it belongs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...runners.errors import ChildFaultError, ChildGoneError
from ...runners.patron import ProgressSink
from ...sandbox.intake import Intake
from ...sandbox.places import Place
from ...sandbox.refusal import OUTCOME_KEY, CallRefusedError
from ...sandbox.sessions import gone, too_many
from ...sandbox.settings import SandboxSettings
from .post import Post
from .posts import Posts
from .status import status
from .whereabouts import Whereabouts

AGAIN = 3
"""Times a call is taken to another executor, where the one before surely has not begun it."""


@dataclass(slots=True)
class Call:
    """One call of a tool.

    Attributes:
        name: The tool.
        arguments: Its arguments, as they came.
        params: All parameters of the request.
        principal: In whose name it is.
        token: What lets its code call tools, if it may.
        on_progress: Told of its progress, if anybody wants to know.
    """

    name: str
    arguments: dict[str, Any]
    params: dict[str, Any]
    principal: str
    token: str | None = None
    on_progress: ProgressSink | None = None


class Calls:
    """Makes calls on the executors.

    Args:
        settings: The operator's.
        posts: The executors.
        whereabouts: Which has what.
    """

    def __init__(self, settings: SandboxSettings, posts: Posts, whereabouts: Whereabouts) -> None:
        self._settings = settings
        self._posts = posts
        self._whereabouts = whereabouts
        self._intake = Intake()
        self._places: dict[str, Place] = {}
        """Places of executions whose code may call tools, by their tokens."""
        self._starting: Counter[str] = Counter()

    async def call(self, call: Call) -> dict[str, Any]:
        """Make a call.

        Returns:
            MCP `CallToolResult`; refusals too.

        Raises:
            ChildFaultError: If there is no such tool.
        """
        try:
            match call.name:
                case "python_execute" if isinstance(call.arguments.get("session"), str):
                    return await self._in_session(call, call.arguments["session"])
                case "session_start":
                    return await self._start(call)
                case "session_end" if isinstance(call.arguments.get("session"), str):
                    return await self._end(call, call.arguments["session"])
                case "sandbox_status" if not call.arguments:
                    return await status(
                        self._settings,
                        self._posts,
                        call.principal,
                        self._whereabouts,
                        tools=call.token is not None,
                    )
                case _:  # one that is not right is refused there, in the words there are for it
                    return await self._once(call)
        except CallRefusedError as exc:
            return exc.result()

    def waiting_for_a_tool(self, token: str) -> Place | None:
        """Give the place of an execution that calls a tool: somebody else may have it meanwhile."""
        return self._places.get(token)

    async def _once(self, call: Call) -> dict[str, Any]:
        packages = _packages(call.arguments)
        with self._intake.counted(_weight(call.arguments), call.principal):
            for _ in range(AGAIN):
                post = await self._posts.choosing.place(call.principal, packages)
                try:
                    with self._placed(call, post):
                        result = await post.request("tools/call", call.params, call.on_progress)
                except ChildGoneError as exc:
                    if exc.written:
                        raise _unknown(post, exc) from exc
                    continue
                finally:
                    post.give()
                self._look_at(result, post, packages)
                return result
        raise CallRefusedError(
            "unavailable",
            "Nothing was run: executors ended before they were sent the code. sandbox_status tells which nodes are "
            "used. Try again.",
        )

    def _look_at(self, result: dict[str, Any], post: Post, packages: tuple[str, ...] = ()) -> None:
        told = result.get("structuredContent")
        if isinstance(told, dict) and "status" in told:
            if packages:
                post.sets.add(packages)
            for file in told.get("files") or ():
                self._whereabouts.made(file.get("uri"), post)
            return
        outcome = (result.get("_meta") or {}).get(OUTCOME_KEY)
        if outcome == "unavailable" or (outcome == "refused" and not packages):
            # Where executions fail at once there are always free places: all work would go there.
            post.doubt()

    @contextmanager
    def _placed(self, call: Call, post: Post) -> Iterator[None]:
        """Let the tools that code calls find its place."""
        if call.token is None:
            yield
            return
        self._places[call.token] = Place(post)
        try:
            yield
        finally:
            del self._places[call.token]

    async def _in_session(self, call: Call, session: str) -> dict[str, Any]:
        home = self._whereabouts.find(call.principal, session)
        post = home.post
        with self._intake.counted(_weight(call.arguments), call.principal):
            # It can run nowhere else, so it waits there: for its turn in the session, and for a place. Of those
            # that wait for their turn none has a place.
            home.running += 1
            if home.running == 1:
                post.take()
            try:
                with self._placed(call, post):
                    result = await post.request("tools/call", call.params, call.on_progress)
            except ChildGoneError as exc:
                if not exc.written:
                    raise gone(session, home.lost or exc.message) from exc
                raise _unknown(post, exc, session) from exc
            finally:
                home.running -= 1
                if home.running == 0:
                    post.give()
            told = result.get("structuredContent")
            for file in (told.get("files") or ()) if isinstance(told, dict) else ():
                self._whereabouts.made(file.get("uri"), post)
            return result

    async def _start(self, call: Call) -> dict[str, Any]:
        mine = self._whereabouts.of(call.principal)
        if len(mine) + self._starting[call.principal] >= self._settings.sessions:
            raise too_many(self._settings.sessions, mine)
        packages = _packages(call.arguments)
        self._starting[call.principal] += 1
        try:
            for _ in range(AGAIN):
                post = await self._posts.choosing.place(call.principal, packages, session=True)
                try:
                    result = await post.request("tools/call", call.params, call.on_progress)
                except ChildGoneError:
                    continue  # a session that may have begun there is gone with its executor
                finally:
                    post.give()
                told = result.get("structuredContent")
                if isinstance(told, dict) and isinstance(told.get("session"), str):
                    self._whereabouts.began(told["session"], call.principal, post, float(told["ends_in"]))
                    if packages:
                        post.sets.add(packages)
                return result
        finally:
            self._starting[call.principal] -= 1
            if not self._starting[call.principal]:
                del self._starting[call.principal]
        raise CallRefusedError(
            "unavailable",
            f"No session was started: {AGAIN} executors ended while they began one. sandbox_status tells which nodes "
            "are used. Try again.",
        )

    async def _end(self, call: Call, session: str) -> dict[str, Any]:
        home = self._whereabouts.find(call.principal, session)
        try:
            result = await home.post.request("tools/call", call.params)
        except ChildGoneError as exc:
            raise gone(session, home.lost or exc.message) from exc
        if result.get("isError") is not True:
            self._whereabouts.ended(session)
        return result

    async def read(self, uri: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """Read a created file (`resources/read`); `None` if there is none."""
        post = self._whereabouts.holder(uri)
        if post is None:
            return None
        try:
            return await post.request("resources/read", params)
        except ChildGoneError:
            return None

    async def listed(self, params: dict[str, Any], most: int) -> list[dict[str, Any]]:
        """List the created files of a caller, of all nodes."""

        async def of(post: Post) -> list[dict[str, Any]]:
            try:
                listed = await post.request("resources/list", params)
            except (ChildGoneError, ChildFaultError):
                return []
            found: list[dict[str, Any]] = listed["resources"]
            return found

        lists = await asyncio.gather(*(of(post) for post in self._posts.all if post.usable))
        return _newest_first(lists)[:most]


def _newest_first(lists: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Join lists that each have the newest first: one of each in turn, as nobody knows their times."""
    left = [list(one) for one in lists if one]
    found: list[dict[str, Any]] = []
    while left:
        found.extend(one.pop(0) for one in left)
        left = [one for one in left if one]
    return found


def _packages(arguments: dict[str, Any]) -> tuple[str, ...]:
    asked = arguments.get("packages")
    return tuple(sorted({str(one) for one in asked})) if isinstance(asked, list) else ()


def _weight(arguments: dict[str, Any]) -> int:
    """Give the bytes that a call's input takes while it waits."""
    size = sum(len(value) for value in arguments.values() if isinstance(value, str))
    files = arguments.get("files")
    for file in files if isinstance(files, list) else ():
        if isinstance(file, dict):
            size += sum(len(value) for value in file.values() if isinstance(value, str))
    return size


def _unknown(post: Post, exc: ChildGoneError, session: str | None = None) -> CallRefusedError:
    also = (
        "" if session is None else f" Session {session} is gone with it, and so are its variables and files."
    )
    return CallRefusedError(
        "outcome_unknown",
        f"The code was sent to {post.ground.called}, then {exc.message}. Whether it ran, and how far, is not known; "
        f"check before calling again.{also}",
    )
