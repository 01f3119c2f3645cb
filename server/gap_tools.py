"""What `find_tool_gap` and `ensure_tools` do: split a task, judge its needs, and get what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..tools.outcome import Outcome, RefusalError
from . import models_gap as m
from .asking import can_sample, needs_by_model
from .call import Call
from .gap_answer import answer
from .server_tools import Handler

if TYPE_CHECKING:
    from ..tools.gap.gap import Gaps, Judged
    from .ensuring import Ensuring

LONG = 300
"""Characters from which on a task is worth asking the client's model about."""

_UNFIT = 3
"""Needs of which it is said that the best server cannot be installed."""

ENGLISH = (
    "the installed tools are described in English, and by the words of another language they are not found: pass "
    "needs=[...] in English"
)


class GapTools:
    """The own tools about what is missing.

    Args:
        gaps: Judges needs.
        ensuring: Gets what is missing.
    """

    def __init__(self, gaps: Gaps, ensuring: Ensuring) -> None:
        self._gaps = gaps
        self._ensuring = ensuring
        self.handlers: dict[str, Handler] = {
            "find_tool_gap": self._find_tool_gap,
            "ensure_tools": self._ensure_tools,
        }

    async def _find_tool_gap(self, args: m.FindToolGapArguments, call: Call) -> m.FindToolGapResult:
        needs, split, notes = await self._needs(args, call)
        judged = await self._judged(needs, {})
        notes = [*notes, *await self._remarks(judged)]
        return await asyncio.to_thread(
            answer, judged, m.FindToolGapResult, split=split, notes=notes, max_tokens=args.max_tokens
        )

    async def _ensure_tools(self, args: m.EnsureToolsArguments, call: Call) -> m.EnsureToolsResult:
        needs, split, notes = await self._needs(args, call)
        judged = await self._judged(needs, args.settings)
        done: list[m.EnsuredServer] = []
        if args.install != "never" and any(one.label != "covered" for one in judged):
            ensured = self._ensuring.begin(args, call)
            judged = await ensured.fill(judged)
            done, notes = ensured.done, [*notes, *ensured.notes]
        notes = list(dict.fromkeys([*notes, *await self._remarks(judged)]))
        return await asyncio.to_thread(
            answer,
            judged,
            m.EnsureToolsResult,
            split=split,
            notes=notes,
            max_tokens=args.max_tokens,
            done=done,
        )

    async def _judged(self, needs: Sequence[str], settings: Mapping[str, Any]) -> list[Judged]:
        return [await self._gaps.judge(need, settings) for need in needs]

    async def _remarks(self, judged: Sequence[Judged]) -> list[str]:
        notes = [ENGLISH] if any(one.foreign and one.label == "unsure" for one in judged) else []
        notes += [one.unfit.note(one.need) for one in judged if one.unfit is not None][:_UNFIT]
        return [*notes, *await self._gaps.notes()]

    async def _needs(
        self, args: m.FindToolGapArguments | m.EnsureToolsArguments, call: Call
    ) -> tuple[Sequence[str], Literal["given", "rules", "model"], list[str]]:
        """Give the needs of a task, who split it, and what is to be said about that.

        Raises:
            RefusalError: If there is nothing in it that could be a need.
        """
        from ..tools.gap.needs import LONGEST, LONGEST_NEED, MOST, clean, split

        notes: list[str] = []
        if args.needs:
            given = [" ".join(clean(need, LONGEST_NEED).split()) for need in args.needs]
            given = list(dict.fromkeys(need for need in given if any(one.isalnum() for one in need)))
            if not given:
                raise RefusalError(
                    Outcome.INVALID_ARGUMENTS, "The needs hold no words: say what is needed in each."
                )
            if len(given) > MOST:
                notes.append(
                    f"only the first {MOST} of {len(given)} needs were looked at: ask again for the rest"
                )
            return given[:MOST], "given", notes
        found = split(args.task)
        if not found.needs:
            raise RefusalError(
                Outcome.INVALID_ARGUMENTS,
                "The task holds no words: say in plain words what is to be done, such as 'convert a PDF to text'.",
            )
        foreign = self._gaps.is_foreign(args.task)
        hard = foreign or not found.sure or len(args.task) > LONG
        if args.ask == "auto" and hard and can_sample(call):
            await call.report(0, None, "asking the client's model to split the task")
            needs, why = await needs_by_model(args.task, call, english=foreign)
            if needs:
                return needs, "model", notes
            notes.append(f"the task was split by rules: {why}")
        if len(args.task) > LONGEST:
            notes.append(f"only the first {LONGEST} characters of the task were read")
        elif found.cut:
            notes.append(f"only the first {MOST} needs were looked at: ask again for the rest of the task")
        return found.needs, "rules", notes
