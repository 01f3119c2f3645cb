"""What is in the folder of packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolscore.sandbox.nursery import Environment

index = pytest.mark.index


def site(environment: Environment) -> Path:
    assert environment.site is not None
    return environment.site


def folders(path: Path, pattern: str) -> list[str]:
    return sorted(found.name for found in path.glob(pattern))
