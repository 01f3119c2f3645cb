"""Whether the arguments of a call that failed were such as its tool's schema asks for."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

logger = logging.getLogger(__name__)

AT_ONCE = 1_000
"""Parts of a schema that are looked at without a thread: one or two milliseconds."""

AT_MOST = 30_000
"""Parts that are looked at in a thread. What is left undecided then is taken as fitting."""


async def fits(arguments: dict[str, Any], schema: Any) -> bool:
    """Tell whether arguments fit a schema, or at least are not found not to.

    Nobody is excused by a schema that takes for ever to look through, so that a server which wants its errors not
    to count gains nothing by one.

    Args:
        arguments: What the tool was called with.
        schema: The tool's `inputSchema`, whatever its server sent as one.
    """
    if not isinstance(schema, dict):
        return True
    if (found := _fits(arguments, schema, AT_ONCE)) is None:
        found = await asyncio.to_thread(_fits, arguments, schema, AT_MOST)
    return found is not False


def _fits(arguments: dict[str, Any], schema: dict[str, Any], steps: int) -> bool | None:
    from ..fitting import UndecidedError, problem

    try:
        return problem(arguments, schema, steps) is None
    except UndecidedError:
        return None
    except Exception:  # a schema of a kind that nobody has thought of is not the caller's fault
        logger.exception("bug in looking whether arguments fit a schema")
        return True
