"""What holds for every test."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from postgres import make_where, pgvector, postgres, where
from registry import registry
from toolscore_client import BARE, WORDS_ONLY
from turns import TURNS, Turns

__all__ = ["make_where", "pgvector", "postgres", "registry", "where"]

# Most tests count servers and tools, so the homes they make are empty: without the servers that are part of
# ToolScore. Those that are about these take it out again.
os.environ.update(BARE | WORDS_ONLY)

# How long one example takes, or is made, is the matter of a machine that may stand still for a while. Whoever wants
# other examples than those that everybody has says `--hypothesis-profile=exploring`.
_unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("exploring", _unhurried)
settings.register_profile("repeatable", _unhurried, derandomize=True)
settings.load_profile("repeatable")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A script that runs the tests in the background has it ignored, and what they start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32":
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # which such a script has ignored as well

FOLDER = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes of `pytest -n` take turns; whoever starts them makes the folder for it."""
    if (told := getattr(config, "workerinput", None)) is not None:
        config.stash[TURNS] = Turns(Path(told["turns"]))
    elif config.getoption("numprocesses", None):
        config.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="toolscore-turns-"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process where the others are met."""
    node.workerinput["turns"] = str(node.config.stash[FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing."""
    if TURNS in config.stash:
        config.stash[TURNS].close()
    if FOLDER in config.stash:
        shutil.rmtree(config.stash[FOLDER], ignore_errors=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test when it is its turn."""
    turns = item.config.stash.get(TURNS, None)
    with nullcontext() if turns is None else turns.turn(item.get_closest_marker("alone") is not None):
        return (yield)
