"""The pages every network listener has besides MCP: what this is, how it is, and its figures. Only GET and HEAD."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .. import __version__
from ..runners.lifecycle import State
from .metrics import CONTENT_TYPE as METRICS_TYPE

if TYPE_CHECKING:
    from ..tools.journal.standing import Standing
    from .admission import HeaderLookup
    from .endpoint import Endpoint

Kind = Literal["store", "listener", "journal", "server"]
Condition = Literal["ok", "starting", "stopping", "stopped", "disabled", "failed"]
Overall = Literal["starting", "ok", "degraded", "stopping"]

OPEN_PATHS = frozenset(
    {"/", "/health", "/health/live", "/health/liveness", "/health/ready", "/health/readiness"}
)
"""Pages that need no token: they say in a word how it is."""

PATHS = (*sorted(OPEN_PATHS), "/health/detailed", "/metrics")
"""Every page there is."""

_JSON = "application/json"
_METHODS = "GET, HEAD"
_CONDITIONS: dict[State, Condition] = {
    State.READY: "ok",
    State.INSTALLING: "starting",
    State.STARTING: "starting",
    State.STOPPING: "stopping",
    State.STOPPED: "stopped",  # it starts with its first call
    State.BACKOFF: "failed",
    State.FAILED: "failed",
}
_NOT_READY = {
    "starting": "It is starting: the library is not open yet.",
    "stopping": "It is stopping, and takes no new clients.",
}


@dataclass(frozen=True, slots=True)
class Component:
    """One part of this ToolScore.

    Attributes:
        kind: What it is.
        name: Its name: of a server the one in the library, of a listener its address.
        status: How it is.
        reason: Why, where it is not ok.
        details: What else there is to know, as JSON.
    """

    kind: Kind
    name: str
    status: Condition
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Status:
    """How this ToolScore is.

    Attributes:
        phase: Where it is in its life. `ok` from when the library is open, until it begins to end.
        uptime: Seconds since its start.
        components: Its parts.
    """

    phase: Literal["starting", "ok", "stopping"]
    uptime: float = 0.0
    components: tuple[Component, ...] = ()

    @property
    def overall(self) -> Overall:
        """The one word for all of it: `degraded` if it serves, and a part of it has failed."""
        if self.phase == "ok" and any(part.status == "failed" for part in self.components):
            return "degraded"
        return self.phase


def server_component(
    name: str, state: State, *, enabled: bool = True, since: float, restarts: int, reason: str = ""
) -> Component:
    """Describe one server.

    Args:
        name: Its name.
        state: Its state.
        enabled: Whether it is to run at all; one that is not cannot fail.
        since: When it came into that state, in seconds since 1970.
        restarts: How often it was started again.
        reason: Why it is not ready, where it is not.
    """
    return Component(
        kind="server",
        name=name,
        status=_CONDITIONS[state] if enabled else "disabled",
        reason="" if state is State.READY else reason,
        details={"state": state.value, "since": since, "restarts": restarts},
    )


def journal_component(standing: Standing) -> Component:
    """Describe the journal."""
    details = {"written": standing.written, "dropped": standing.dropped, "bytes": standing.bytes}
    status: Literal["ok", "failed"] = "ok" if standing.trouble is None else "failed"
    return Component("journal", "journal", status, standing.trouble or "", details)


@dataclass(frozen=True, slots=True)
class Page:
    """An answer.

    Attributes:
        status: Its HTTP status.
        content_type: Of the body.
        body: What it says; nothing for HEAD.
        headers: Further headers; Content-Length, which for HEAD is that of GET, is among them, Content-Type not.
    """

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]


class Pages:
    """Answers requests for pages.

    Args:
        status: Gives how this ToolScore is now.
        metrics: Gives its figures, as `Metrics.render` does.
    """

    def __init__(self, status: Callable[[], Status], metrics: Callable[[], Awaitable[bytes]]) -> None:
        self._status = status
        self._metrics = metrics
        self._endpoint: Endpoint | None = None
        self._token = True

    def at(self, endpoint: Endpoint, *, token: bool) -> Pages:
        """Give the pages of one listener, which has a dashboard for browsers.

        Args:
            endpoint: What it listens on.
            token: Whether clients need a token there.
        """
        pages = Pages(self._status, self._metrics)
        pages._endpoint, pages._token = endpoint, token
        return pages

    @staticmethod
    def is_open(path: str) -> bool:
        """Tell whether a page needs no token; Host and Origin are to be checked all the same.

        Args:
            path: The path of the request; a query does not matter.
        """
        return path.partition("?")[0] in OPEN_PATHS

    async def answer(
        self, path: str, method: str = "GET", header: HeaderLookup = lambda _name: None
    ) -> Page | None:
        """Answer a request that may come in.

        Args:
            path: Its path; a query does not matter.
            method: Its method.
            header: Gives its headers.

        Returns:
            The answer, or `None` if there is no such page.
        """
        path = path.partition("?")[0]
        if path not in PATHS:
            return None
        if method not in ("GET", "HEAD"):
            page = _json(405, {"error": f"{path} can be read only: use GET or HEAD"}, {"Allow": _METHODS})
        else:
            page = self._dashboard(path, header) or await self._page(path)
        if method == "HEAD":
            return Page(page.status, page.content_type, b"", page.headers)
        return page

    def _dashboard(self, path: str, header: HeaderLookup) -> Page | None:
        if path != "/" or self._endpoint is None:
            return None
        from .dashboard.root import answered, wants_html

        if not wants_html(header):
            return None
        status, content_type, body, headers = answered(self._endpoint, header, token=self._token)
        return _page(status, content_type, body, headers)

    async def _page(self, path: str) -> Page:
        match path:
            case "/":
                return _json(200, {"name": "toolscore", "version": __version__, "paths": list(PATHS)})
            case "/health/live" | "/health/liveness":
                return _json(200, {"status": "live"})  # that it answers is the proof
            case "/metrics":
                return _page(200, METRICS_TYPE, await self._metrics())
        status = self._status()
        match path:
            case "/health":
                return _json(200 if status.phase == "ok" else 503, {"status": status.overall})
            case "/health/detailed":
                return _json(200, _detailed(status))
        if status.phase == "ok":
            return _json(200, {"status": "ready"})
        return _json(503, {"status": "not ready", "reason": _NOT_READY[status.phase]}, {"Retry-After": "1"})


def _detailed(status: Status) -> dict[str, Any]:
    return {
        "status": status.overall,
        "version": __version__,
        "uptime_seconds": round(status.uptime, 3),
        "components": [
            {
                "kind": part.kind,
                "name": part.name,
                "status": part.status,
                "reason": part.reason,
                "details": dict(part.details),
            }
            for part in status.components
        ],
    }


def _json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Page:
    return _page(status, _JSON, json.dumps(value).encode() + b"\n", headers)


def _page(status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None) -> Page:
    common = {
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Page(status, content_type, body, {**common, **(headers or {})})
