"""The limit on open files: raised here, where a thousand clients are a thousand descriptors, and not in servers.

Programs that use `select` or close every possible descriptor at their start count on the usual low limit.
"""

from __future__ import annotations

import sys
from contextlib import suppress

_before: tuple[int, int] | None = None


def raise_limit() -> None:
    """Raise this process's soft limit to the hard one, where a child's can be set back."""
    global _before  # noqa: PLW0603 - a limit of the process is one
    if sys.platform != "linux":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            _before = (soft, hard)


def child_limits() -> dict[int, tuple[int, int]]:
    """Give the limits a child is to have because they are not this process's own."""
    if sys.platform != "linux" or _before is None:
        return {}
    import resource

    return {resource.RLIMIT_NOFILE: _before}
