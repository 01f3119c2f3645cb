"""An environment with numpy, pandas and matplotlib, which takes long to make and is kept between runs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cache import once
from toolscore.sandbox.building import CACHES
from toolscore.sandbox.nursery import Environment
from toolscore.sandbox.packages import Environments

PACKAGES = ("matplotlib", "numpy", "pandas")


def folder() -> Path:
    """The folder of environments it is in."""

    def make(folder: Path) -> None:
        asyncio.run(Environments(folder).get(PACKAGES))
        assert next(folder.glob(f"*/site/{CACHES}/matplotlib/fontlist-*.json"))

    return once(f"sandbox-packages-{sys.implementation.cache_tag}", make)


def environment() -> Environment:
    """The environment itself."""
    return asyncio.run(Environments(folder()).get(PACKAGES))
