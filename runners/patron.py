"""What a session with a server is served for: who answers the server's own requests and hears what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .session import ChildSession

ProgressSink = Callable[[float, float | None, str], None]
"""Takes progress, total (where known) and a text."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request of a server to its client, which may be meant for one of ToolScore's clients.

    Attributes:
        method: `sampling/createMessage`, `elicitation/create`, `roots/list`, or whatever it sends.
        params: Its parameters, untouched.
        owners: In whose names requests to this server are in flight, oldest first.
        on_progress: Takes the progress of the answer; `None` where the server did not ask for it.
    """

    method: str
    params: dict[str, Any]
    owners: list[Any]
    on_progress: ProgressSink | None = None


class Patron(Protocol):
    """Takes what a server says by itself."""

    @property
    def capabilities(self) -> dict[str, Any]:
        """The client capabilities that are declared to servers (MCP `ClientCapabilities`)."""
        ...

    async def asked(self, session: ChildSession, ask: Ask) -> dict[str, Any]:
        """Answer a request of a server.

        Returns:
            The result object.

        Raises:
            FaultError: What the server is answered instead, as a JSON-RPC error.
        """
        ...

    def told(self, session: ChildSession, method: str, params: dict[str, Any]) -> None:
        """Take a notification that is neither progress, nor a cancellation, nor a list change."""
        ...
