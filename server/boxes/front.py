"""The server `python-executor` as ToolScore sees it where executors are on the nodes of a cluster: one for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from ... import __version__
from ...runners.base import Message
from ...runners.errors import ChildFaultError, FaultError
from ...runners.patron import Ask
from ...sandbox.artifacts import MOST_LISTED
from ...sandbox.asking import METHOD
from ...sandbox.executor import Executor
from ...sandbox.face import (
    CALLER,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    RESOURCE_NOT_FOUND,
    Face,
    no_file,
    principal_of,
)
from ...sandbox.settings import SandboxSettings
from ...sandbox.stdio import LONGEST, SESSION_OVER
from ..nested import redeemed
from .calls import Call, Calls
from .post import Post
from .posts import Posts
from .whereabouts import Whereabouts

if TYPE_CHECKING:
    from ...runners.session import ChildSession
    from ...tools.nested import Grant

logger = logging.getLogger(__name__)


class ClusterFront:
    """ToolScore's line to all executors.

    Args:
        settings: The operator's.
        send: Takes the messages to ToolScore.
        find: Gives the grant of a token, while it is good.
    """

    def __init__(
        self,
        settings: SandboxSettings,
        send: Callable[[Message], None],
        find: Callable[[object], Grant | None],
    ) -> None:
        self._settings = settings
        self._send = send
        self._find = find
        self._whereabouts = Whereabouts()
        self._face = Face(Executor(settings, _unmade), send, __version__)
        self._tasks: dict[Any, asyncio.Task[None]] = {}
        self._calls: Calls | None = None
        self.posts: Posts | None = None
        """The executors, once there are any."""

    def open(self, posts: Posts) -> None:
        """Take calls for these executors."""
        self.posts = posts
        self._calls = Calls(self._settings, posts, self._whereabouts)

    async def close(self) -> None:
        """End what is under way; nothing is answered any more."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._face.close()

    # --- what ToolScore says

    async def handle(self, message: Message) -> None:
        """Take a message of ToolScore."""
        method, number = message.get("method"), message.get("id")
        params = message.get("params") or {}
        match method:
            case "tools/call" | "resources/read" | "resources/list":
                task = asyncio.get_running_loop().create_task(self._answer(number, method, params))
                self._tasks[number] = task
                task.add_done_callback(lambda _task: self._tasks.pop(number, None))
            case "notifications/cancelled":
                if (asked := self._tasks.get(params.get("requestId"))) is not None:
                    asked.cancel()
            case "notifications/initialized":
                pass  # executors are on their way already
            case _:
                await self._face.handle(message)

    async def _answer(self, number: Any, method: str, params: Message) -> None:
        """Answer a request; one that is cancelled is not."""
        try:
            answer: Message = {"result": await self._answered(method, params)}
        except FaultError as exc:
            answer = {"error": exc.as_error()}
        except Exception:
            logger.exception("%s failed", method)
            answer = {
                "error": {"code": INTERNAL_ERROR, "message": "the sandbox failed; ToolScore's log tells more"}
            }
        self._send({"jsonrpc": "2.0", "id": number, **answer})

    async def _answered(self, method: str, params: Message) -> Message:
        assert self._calls is not None
        if method == "tools/call":
            return await self._calls.call(self._call(params))
        if method == "resources/list":
            return {"resources": await self._calls.listed(params, MOST_LISTED)}
        uri = params.get("uri")
        if not isinstance(uri, str):
            raise ChildFaultError(INVALID_PARAMS, "resources/read needs a uri")
        found = await self._calls.read(uri, params)
        if found is None:
            raise ChildFaultError(RESOURCE_NOT_FOUND, no_file(uri), {"uri": uri})
        return found

    def _call(self, params: Message) -> Call:
        name, arguments, meta = params.get("name"), params.get("arguments"), params.get("_meta") or {}
        if not isinstance(name, str) or not isinstance(arguments or {}, dict):
            raise ChildFaultError(
                INVALID_PARAMS, "tools/call needs the name of a tool, and arguments by name"
            )
        call = Call(name, arguments or {}, params, principal_of(params))
        grant = (meta.get(CALLER) or {}).get("tools") or {}
        token = grant.get("token")
        call.token = token if isinstance(token, str) else None
        if (shown := meta.get("progressToken")) is not None:

            def heard(progress: float, total: float | None, text: str) -> None:
                told = {"progressToken": shown, "progress": progress, "message": text}
                if total is not None:
                    told["total"] = total
                self._send({"jsonrpc": "2.0", "method": "notifications/progress", "params": told})

            call.on_progress = heard
        return call

    # --- what executors say: this is their patron

    @property
    def capabilities(self) -> dict[str, Any]:
        """Offer nothing that the protocol has a name for."""
        return {}

    async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
        """Call a tool for code in a box, in the name of whoever had it run."""
        token, body = ask.params.get("token"), ask.params.get("body")
        if ask.method != METHOD or not isinstance(body, str):
            raise FaultError(METHOD_NOT_FOUND, f"ToolScore does not offer {ask.method}")
        try:
            wanted = from_json(body)
        except ValueError as exc:
            raise FaultError(INVALID_PARAMS, f"the request cannot be read: {exc}") from None
        if not isinstance(wanted, dict):
            raise FaultError(INVALID_PARAMS, "the request cannot be read: it is no object")
        grant = self._find(token)
        place = None
        if self._calls is not None and grant is not None and wanted.get("method") == "call":
            place = self._calls.waiting_for_a_tool(grant.token)
        with nullcontext() if place is None else place.given_up():
            answer = (await redeemed(grant, wanted)).decode()
        if len(answer) + answer.count('"') + answer.count("\\") > LONGEST - 1024:
            raise FaultError(INTERNAL_ERROR, f"the answer is larger than {LONGEST >> 20} MiB")
        return {"body": answer}

    def told(self, session: ChildSession, method: str, params: dict[str, Any]) -> None:
        """Note that a session is over."""
        if method == SESSION_OVER and isinstance(params.get("session"), str):
            self._whereabouts.ended(params["session"])

    def lost(self, post: Post, why: str) -> None:
        """Note that an executor is gone, and all that was on it."""
        self._whereabouts.lost(post, f"{post.ground.called}, where it was, is lost ({why})")


def _unmade(_environment: object) -> Any:
    raise AssertionError("only its tools are asked for")
