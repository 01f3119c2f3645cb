"""What a client is told when a request fails for a reason of this machine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from toolscore.server.exchange import Exchange
from toolscore.server.front import Front
from toolscore.server.serving import serve
from toolscore.tools.errors import StoreError


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StoreError("The store cannot be written: the disk is full. Free some space."), "Free some space."),
        (RuntimeError("a bug"), "its log has the details"),
    ],
)
async def test_a_store_that_fails_is_told_with_what_to_do_and_a_bug_is_not_shown(
    error: Exception, told: str
) -> None:
    answers: list[tuple[str, dict[str, Any]]] = []

    async def failing(_exchange: object) -> None:
        raise error

    def finished(_exchange: object, member: str, value: dict[str, Any]) -> None:
        answers.append((member, value))

    front = SimpleNamespace(under_way=0, answer=failing, parking=SimpleNamespace(finished=finished))
    asked = SimpleNamespace(peer=SimpleNamespace(tape=None), tape=None, method="tools/call")
    await serve(cast("Front", front), cast("Exchange", asked))
    ((member, value),) = answers
    assert (member, value["code"]) == ("error", -32603)
    assert told in value["message"]
    assert ("a bug" in value["message"], front.under_way) == (False, 0)
