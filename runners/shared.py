"""What all servers under one supervisor share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .base import BaseRunner
from .options import SupervisorOptions
from .sampler import Sampler

if TYPE_CHECKING:
    from .unit import Unit


@dataclass
class Shared:
    """What all servers of a supervisor share.

    Attributes:
        runner: What starts them.
        options: How they are kept.
        slots: Bounds the starts that run at the same time.
        sampler: Measures what they use.
        on_change: Called with a unit after every change of its state.
    """

    runner: BaseRunner
    options: SupervisorOptions
    slots: asyncio.Semaphore
    sampler: Sampler
    on_change: Callable[[Unit], None] = field(default=lambda _unit: None)
