"""Answering a modern server that needs input, for a client of the handshake era, which is asked in its own way."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ..runners.errors import FaultError
from ..runners.patron import ProgressSink
from ..runners.session import ChildSession
from .outcome import Outcome, RefusalError

MAX_ROUNDS = 10
"""Times a server may ask for input in the course of one call; the SDKs' clients have the same bound."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.25
"""Seconds before a call is repeated for a server that gave nothing but a state."""


class Asker(Protocol):
    """The request of a client that a call is made for."""

    @property
    def modern(self) -> bool:
        """Whether its client speaks the 2026-07-28 era, and so answers `input_required` itself."""
        ...

    @property
    def envelope(self) -> dict[str, Any]:
        """What a modern server is told of the client in `_meta`: its capabilities and log level."""
        ...

    async def ask(
        self, method: str, params: dict[str, Any], on_progress: ProgressSink | None = None
    ) -> dict[str, Any]:
        """Ask the client for something.

        Raises:
            FaultError: If it cannot be asked, or answers with an error.
        """
        ...


async def answered(
    session: ChildSession,
    method: str,
    params: dict[str, Any],
    result: dict[str, Any],
    asker: Asker | None,
    *,
    timeout: float,
    on_progress: ProgressSink,
) -> dict[str, Any]:
    """Ask for what a server requires, repeat the request with it, until there is a result.

    Args:
        session: The session with the server, of the modern era.
        method: The request's method.
        params: Its parameters.
        result: The server's first result, which is `input_required`.
        asker: Whose client is asked.
        timeout: Seconds for each round.
        on_progress: Told of the server's progress.

    Raises:
        RefusalError: If the client cannot give what is required.
        ChildFaultError: If the server answers with an error.
    """
    pause = FIRST_PAUSE
    for _ in range(MAX_ROUNDS):
        requests = result.get("inputRequests")
        again = {key: value for key, value in params.items() if key not in ("requestState", "inputResponses")}
        if isinstance(requests, dict) and requests:
            again["inputResponses"] = await _responses(requests, asker)
        else:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        if isinstance(state := result.get("requestState"), str):
            again["requestState"] = state
        result = await session.request(
            method,
            again,
            timeout=timeout,
            on_progress=on_progress,
            owner=asker,
            envelope=asker.envelope if asker is not None else None,
        )
        if result.get("resultType") != "input_required":
            return result
    raise RefusalError(
        Outcome.REFUSED, f"The server asked for input more than {MAX_ROUNDS} times; it was not called again."
    )


async def _responses(requests: dict[str, Any], asker: Asker | None) -> dict[str, Any]:
    responses = {}
    for key, request in requests.items():
        method = request.get("method") if isinstance(request, dict) else None
        params = request.get("params") if isinstance(request, dict) else None
        if asker is None or not isinstance(method, str):
            raise RefusalError(
                Outcome.REFUSED, "The server asks its caller for input, and nobody is there to give it."
            )
        try:
            responses[key] = await asker.ask(method, params if isinstance(params, dict) else {})
        except FaultError as exc:
            raise RefusalError(
                Outcome.REFUSED, f"The server asks for input that cannot be given: {exc.message}."
            ) from exc
    return responses
