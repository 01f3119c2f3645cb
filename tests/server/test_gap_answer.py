"""The next step that an answer about what is missing names is one that can be made."""

from __future__ import annotations

from dataclasses import replace

from toolscore.server.gap_answer import answer
from toolscore.server.models_gap import FindToolGapResult
from toolscore.tools.gap.gap import Judged
from toolscore.tools.gap.proposal import GIVEN, Proposal, Unfit

BOARD = Proposal(
    name="io.example/board",
    score=0.5,
    why="matches chess",
    about="A chess engine",
    fetches="connects to https://c.example/mcp",
    missing=(),
    lacking=(),
    values=(),
    shared=(),
    secrets=(),
    licence=None,
    published=None,
    tool="install_server",
    arguments={"source": "registry:io.example/board@1.0.0"},
    given={},
    own={},
)


def told(*judged: Judged) -> str:
    return answer(judged, FindToolGapResult, split="given", notes=[], max_tokens=2000).next


def test_the_next_step_is_one_that_can_be_made() -> None:
    gap = Judged("find the best chess move", "gap", 0.9, (), (BOARD,), least=0.3)
    far = replace(gap, proposals=(replace(BOARD, score=0.01),), least=0.05)
    none = replace(gap, proposals=())
    unfit = replace(far, unfit=Unfit("io.example/kiln", 0.9, "no containers here"))
    unsure = replace(none, label="unsure")
    # Notes are named where there are any.
    assert "see notes" not in told(far)
    assert "No known server fills the gap" in told(far)
    assert "sync_catalog" in told(far)
    assert "see notes" in told(unfit)
    assert "fit far less well" in told(unfit)
    assert "those named" not in told(replace(unfit, proposals=()))
    # A gap that no server fills has no call to make, whatever others have.
    assert told(gap).startswith("For each gap make one of the calls")
    assert told(gap, none).startswith("For each gap with a server that fits make one of the calls")
    assert "fills the others: sync_catalog" in told(gap, far)
    assert "fills the others: see notes" in told(gap, unfit)
    # Of what is unsure only that is named which is there.
    assert "call their tools" not in told(unsure)
    assert "other words" in told(unsure)
    assert "servers" not in told(replace(far, label="unsure"))
    assert "call named at one of their servers" in told(replace(gap, label="unsure"))
    assert "in English" in told(replace(far, label="unsure", foreign=True))
    assert "server" not in told(replace(far, label="unsure", foreign=True))
    assert "in English" in told(gap, replace(unsure, foreign=True))


def test_a_secret_that_was_given_for_no_server_is_to_be_given_under_the_servers_name() -> None:
    settings = {"X-Key": GIVEN}
    near = replace(
        BOARD, values=("X-Key",), shared=("X-Key",), arguments={**BOARD.arguments, "settings": settings}
    )
    gap = Judged("find the best chess move", "gap", 0.9, (), (near,), least=0.3)
    assert "under the server's name" in told(gap)
    assert 'settings={"io.example/board": {...}}' in told(gap)
    # One that is no secret goes to whoever asks for it.
    assert "ensure_tools with them as settings" in told(replace(gap, proposals=(replace(near, shared=()),)))
