"""The executor put together: one for its own process, the same for ToolScore's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .errors import SandboxRefusedError
from .executor import Executor
from .places import Places
from .settings import SandboxSettings
from .supplies import Boxes, Packages


def composed(settings: SandboxSettings, state: Path, packages: Path, mode: str = "separate") -> Executor:
    """Give an executor whose boxes are real ones.

    Args:
        settings: The operator's.
        state: A private folder for temporary things; it goes with whoever made it.
        packages: A folder for environments of packages, which stays; it is made when the first is.
        mode: How the executor runs: `separate` or `embedded`.
    """
    places = Places(settings.most)  # of all pools together
    return Executor(
        settings,
        lambda environment: _pool(settings, state, environment, places),
        _environments(settings, packages),
        state,
        mode,
    )


def _environments(settings: SandboxSettings, folder: Path) -> Packages | None:
    if not (settings.packages or settings.preload or settings.allow_packages):
        return None  # and nothing of it is imported
    from .packages import Environments

    return Environments(folder, own=settings.packages, preload=settings.preload)


def _pool(settings: SandboxSettings, state: Path, environment: Any, places: Places) -> Boxes:
    try:
        from .pool import Pool, PoolConfig
    except ImportError as exc:  # a part of the standard library that only some platforms have
        raise SandboxRefusedError(f"There is no isolation on this platform ({sys.platform}): {exc}") from None
    config = PoolConfig(
        limits=settings.limits,
        warm=settings.warm,
        most=settings.most,
        environment=environment,
        minimum=settings.minimum,
        state=state,
    )
    return Pool(config, places)
