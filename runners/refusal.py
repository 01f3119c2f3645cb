"""Saying why a server cannot be used now, and what to do about it."""

from __future__ import annotations

import time

from .lifecycle import Lifecycle, State
from .options import NotReadyError
from .spec import Installation

DOWNLOAD_RETRY = 5.0
"""Seconds after which a caller may ask again whose server is still being downloaded."""

START_RETRY = 1.0
"""The same of a server that is still starting."""


def refusal(installation: Installation, life: Lifecycle, *, unmade: bool = False) -> NotReadyError:
    """Say why a call cannot be served now.

    Args:
        installation: The server.
        life: Its life so far.
        unmade: Whether what is to be started is still being made.
    """
    name = installation.name
    if unmade and life.state is State.FAILED:
        return NotReadyError(
            f"server '{name}' was installed by another gateway and is being installed at this one, for "
            f"{time.monotonic() - life.since:.0f} s by now. Call again in a moment.",
            state=State.INSTALLING,
            retry_after=DOWNLOAD_RETRY,
        )
    retry_after = max(0.0, life.retry_at - time.monotonic()) if life.retry_at is not None else None
    reason = life.reason or "it is not running"
    if (installation.spec.url or "").startswith("register:") and life.state is State.FAILED:
        # It did not fail to start: it is away, and comes back by itself.
        return NotReadyError(f"server '{name}' is away: {reason}", state=State.STOPPED)
    if life.state is State.INSTALLING:
        return NotReadyError(
            f"server '{name}' is being downloaded, for {time.monotonic() - life.since:.0f} s by now, and starts by "
            "itself after that. Call again in a moment.",
            state=State.INSTALLING,
            retry_after=DOWNLOAD_RETRY,
        )
    if life.state is State.STARTING:
        before = f" The try before this one failed: {life.reason.rstrip('.')}." if life.reason else ""
        return NotReadyError(
            f"server '{name}' is still starting, for {time.monotonic() - life.since:.0f} s by now. Call again in a "
            f"moment, or see server_state(name='{name}').{before}",
            state=State.STARTING,
            retry_after=START_RETRY,
        )
    text = f"server '{name}' is {life.state}: {reason.rstrip('.')}."
    if retry_after is not None:
        text += f" It is started again in {retry_after:.1f} s."
    elif life.state is State.FAILED:
        text += f" After mending that, start it with manage_server(name='{name}', action='start')."
    return NotReadyError(text, state=life.state, retry_after=retry_after)
