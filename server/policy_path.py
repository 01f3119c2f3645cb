"""Where the policy file is, and whether it can be used: looked at before anything is started or loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .home import Home, HomeError

if TYPE_CHECKING:
    from ..tools.policy.errors import PolicyError
    from .settings import Settings

NAME = "policy.toml"
"""The policy file in a home, where none is named."""


SHARED_NAME = "policy.shared.toml"
"""This home's copy of the policy that gateways with one store have in common."""


def shared_path(settings: Settings) -> Path:
    """Give where that copy is; it counts where the store is shared, and before any other file."""
    return Home.at(settings.home).path / SHARED_NAME


class BadPolicyError(HomeError):
    """The policy file cannot be used, so ToolScore does not start."""


def path_of(settings: Settings) -> tuple[Path, bool]:
    """Give the policy file, and whether it must be there."""
    if settings.database.url and (shared := shared_path(settings)).exists():
        return shared, True
    named = settings.policy.file
    if not named:
        return Home.at(settings.home).path / NAME, False
    # Which leaves as it is what it does not know; that of a Path raises.
    return Home.at(settings.home).path / os.path.expanduser(named), True  # noqa: PTH111


def check(settings: Settings) -> None:
    """Make sure, before anything is started, that the policy file can be used.

    Raises:
        BadPolicyError: If it cannot.
    """
    path, required = path_of(settings)
    if not required and not os.path.lexists(path):  # a link to nowhere is no absence of a policy
        return
    from ..tools.policy.errors import PolicyError
    from ..tools.policy.reading import read

    try:
        read(path)
    except FileNotFoundError:
        raise BadPolicyError(
            f"{path}: there is no such file, though policy.file, or a link in the home, names it."
        ) from None
    except PolicyError as error:
        raise BadPolicyError(refused(error)) from error


def refused(error: PolicyError) -> str:
    """Say why ToolScore does not start."""
    return f"the policy cannot be used, so ToolScore does not start:\n{error}"
