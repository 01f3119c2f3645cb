"""The router hides a server's secrets in whatever came of a call, from callers and from those who write it down."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed import house
from toolscore.runners.answer_mask import AnswerMask
from toolscore.runners.errors import ChildFaultError
from toolscore.tools.caller import OWNER
from toolscore.tools.passage import Passage

KEY = "t0p-s3cret-value"


async def test_answers_errors_and_refusals_are_masked_before_anybody_sees_them(tmp_path: Path) -> None:
    async with house(tmp_path) as one:
        seen: list[Passage] = []
        one.router.watch = seen.append
        plain = await one.call("echo", text=KEY)
        assert KEY in str(plain)  # as long as it is nobody's secret
        one.router.masks = {"faulty": AnswerMask([KEY, "Tuesday", "out of order"])}

        assert KEY not in str(await one.call("echo", text=KEY))
        assert seen[-1].result is not None
        assert KEY not in str(seen[-1].result)

        with pytest.raises(ChildFaultError) as fault:
            await one.router.call("faulty__error", {}, OWNER, faults=True)
        assert (fault.value.message, fault.value.data) == ("***", {"since": "***"})
        assert seen[-1].said == "***"
        assert "Tuesday" not in str(await one.call("error"))


async def test_a_refusal_that_quotes_a_secret_is_masked(tmp_path: Path) -> None:
    async with house(tmp_path, timeout=0.2) as one:
        seen: list[Passage] = []
        one.router.watch = seen.append
        one.router.masks = {"faulty": AnswerMask(["faulty__sleep"])}
        refusal = await one.refused("sleep", seconds=30)
        assert "'***'" in refusal.message
        assert "faulty__sleep" not in f"{refusal} {refusal.result()} {seen[-1].said}"
