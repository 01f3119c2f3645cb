"""The contract of runners, kept by those that stand in front of others."""

from __future__ import annotations

import pytest

from toolscore.runners.base import BaseRunner
from toolscore.runners.kinds import Runners
from toolscore.runners.owned import Owned

MADE_OF_OTHERS = {"logs"}
"""What is made of other methods of the same runner."""


@pytest.mark.parametrize(
    ("runner", "has_no_gateways"), [(Owned, set[str]()), (Runners, {"elsewhere", "moves"})]
)
def test_a_runner_in_front_of_others_passes_on_all_that_the_contract_has(
    runner: type[BaseRunner], has_no_gateways: set[str]
) -> None:
    contract = {name for name in vars(BaseRunner) if not name.startswith("_")}
    assert {"start_server", "usage", "log_folder"} < contract
    # One that is inherited would answer what is so of no runner in particular, and nobody would notice.
    assert contract - MADE_OF_OTHERS - has_no_gateways - vars(runner).keys() == set()
