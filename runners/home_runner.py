"""What the kinds of runner of one home have in common: their means, and what they remember of what was started."""

from __future__ import annotations

from .base import BaseRunner
from .log_read import LogFolder
from .means import Means
from .spec import Installation


class HomeRunner(BaseRunner):
    """A kind of runner.

    Args:
        means: What it shares with the other kinds of its home.
    """

    def __init__(self, means: Means) -> None:
        self.means = means
        """What it shares with the other kinds of runner."""
        self._known: dict[str, Installation] = {}
        self._problems: dict[str, str] = {}

    @property
    def log_folder(self) -> LogFolder:
        """Reads all logs of this home."""
        return LogFolder(self.means.options.logs)

    async def diagnose(self, server_id: str) -> str:
        """Explain the last failure from what the server left."""
        if server_id not in self._known:
            return f"server '{server_id}' was not started yet."
        return self._problems.get(server_id) or f"nothing is known to be wrong with server '{server_id}'."
