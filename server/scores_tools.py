"""What the own tool about scores does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..tools.caller import MANAGE
from ..tools.meant import unknown_server
from ..tools.names import OWN_SERVER
from ..tools.outcome import Outcome, RefusalError
from ..tools.scores.score import LastFailure, ToolScore, VersionScore, explained
from ..tools.sight import CURRENT, visible
from . import models_scores as m
from .call import Call
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.library import Library
    from ..tools.router import Router
    from ..tools.scores.scores import Scores


class ScoresTools:
    """The own tool about scores.

    Args:
        scores: The scores.
        library: Which tools there are.
        router: Looks names up, and says which ones are near.
    """

    def __init__(self, scores: Scores, library: Library, router: Router) -> None:
        self._scores = scores
        self._library = library
        self._router = router
        self.handlers: dict[str, Handler] = {"tool_score": self._tool_score}

    async def _tool_score(self, args: m.ToolScoreArguments, call: Call) -> m.ToolScoreResult:
        if args.tool is not None and args.server is not None:
            raise RefusalError(Outcome.INVALID_ARGUMENTS, "Give a tool or a server, not both.")
        if OWN_SERVER in (args.server, (args.tool or "").partition("__")[0]):
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS, "ToolScore's own tools have no scores; those of servers have."
            )
        await self._scores.ready()
        texts = MANAGE in call.caller.rights
        if args.tool is not None:
            sight = CURRENT.get()
            if sight is not None and not sight.named(args.tool, args.tool.partition("__")[0]):
                raise self._router.lookup.unknown(args.tool)
            found = self._scores.of(args.tool)
            if found is None:
                tool = self._router.lookup.find(args.tool)  # which refuses, if there is none
                note = f"'{tool.name}' was not called yet, or not for half a year: nothing is known of it."
                return m.ToolScoreResult(scores=[], total=0, note=note)
            return m.ToolScoreResult(scores=[_shown(found, texts=texts, versions=True)], total=1)
        if args.server is not None and args.server not in (known := visible(self._library.servers)):
            raise unknown_server(args.server, known)
        scores, total = await self._scores.listed(args.server, order=args.order, limit=args.limit)
        return m.ToolScoreResult(
            scores=[_shown(one, texts=texts, versions=False) for one in scores], total=total
        )


def _shown(told: ToolScore, *, texts: bool, versions: bool) -> m.ToolScored:
    return m.ToolScored(
        **{**_numbers(told.all), "version": told.version},
        name=told.name,
        server=told.server,
        last_failure=_failure(told.last, texts=texts) if told.last is not None else None,
        versions=[_numbers(one) for one in told.versions] if versions else [],
        explained=explained(told),
    )


def _numbers(told: VersionScore) -> dict[str, Any]:
    p50, p90, p99 = (None if value is None else float(f"{value:.3g}") for value in told.seconds)
    return {
        "version": told.version,
        "score": None if told.bound is None else round(told.bound, 3),
        "expected": None if told.expected is None else round(told.expected, 3),
        "successes": told.successes,
        "failures": told.failures,
        "excused": told.excused,
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "since": _time(told.since),
        "last_call": _time(told.at),
    }


def _failure(last: LastFailure, *, texts: bool) -> dict[str, str | None]:
    # What a tool said to one client is not for every other one, like ToolScore's own log.
    text = last.text if texts else None
    return {"at": _time(last.at), "kind": last.kind, "text": text, "version": last.version}


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "unknown"
