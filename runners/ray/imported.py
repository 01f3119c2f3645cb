"""Ray's modules, imported where they are used first: by name, so that checkers do not want an extra to be there."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def ray() -> Any:
    """Give Ray."""
    return import_module("ray")


def ray_part(name: str) -> Any:
    """Give a module of Ray, such as `util.placement_group`."""
    return import_module(f"ray.{name}")
