"""Asking a client's language model what a task needs, where the client offers that."""

from __future__ import annotations

import asyncio
import logging

from ..runners.errors import FaultError
from .call import Call
from .peer import offers

logger = logging.getLogger(__name__)

PATIENCE = 45.0
"""Seconds the client has to answer; its person may have to agree first."""

_SAMPLING = "sampling/createMessage"


def can_sample(call: Call) -> bool:
    """Tell whether the client of a call declared that its model can be asked."""
    return call.exchange is not None and offers(call.exchange.capabilities, _SAMPLING, {})


async def needs_by_model(
    task: str, call: Call, patience: float = PATIENCE, *, english: bool = False
) -> tuple[tuple[str, ...] | None, str]:
    """Have a client's model split a task into needs.

    Args:
        task: The task.
        call: The call in whose course it is asked.
        patience: Seconds it has.
        english: Whether the needs are to be in English, whatever the task is in.

    Returns:
        The needs and nothing, or `None` and why there are none: it refused, said something else, or was not in time.
    """
    from ..tools.gap.model import answered, question

    if call.exchange is None or not can_sample(call):
        return None, "the client cannot sample"
    try:
        async with asyncio.timeout(patience):
            result = await call.exchange.ask(_SAMPLING, question(task, english=english))
    except TimeoutError:
        return None, f"the client's model gave no answer within {patience:g} s"
    except FaultError as exc:
        return None, f"the client's model could not be asked: {' '.join(exc.message.split())[:200]}"
    needs = answered(result)
    return needs, "" if needs else "the client's model did not answer with a list of needs"
