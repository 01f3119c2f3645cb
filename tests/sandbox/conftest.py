"""What the acceptance tests of the sandbox share: one pool for a file and a user, looked after between the cases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from boxes import Boxes, Watched


@pytest.fixture(scope="module")
def tested(user: str) -> Iterator[Watched]:
    """A pool of this user, with an execution beside all others."""
    tested = Watched(Boxes(user))
    yield tested
    tested.close()


@pytest.fixture
def boxes(tested: Watched) -> Iterator[Boxes]:
    """The pool; after the case the next call works and the one beside it was not harmed."""
    yield tested.boxes
    tested.check()
