"""Sends what was written to an OpenTelemetry collector, in a thread of its own: in batches, bounded, best effort."""

from __future__ import annotations

import importlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from ... import __version__
from .address import headers_for, traces_address
from .otlp import request

logger = logging.getLogger(__name__)

BATCH = 512
"""Spans of one request."""

BATCH_BYTES = 4 << 20
"""Bytes of their records."""

EVERY = 2.0
"""Seconds in which spans are gathered."""

WAITING = 16_384
WAITING_BYTES = 32 << 20
"""Records that may wait, and bytes of them; of further ones no span is sent."""

TIMEOUT = 10.0
"""Seconds one request may take."""

TRIES = 4
FIRST_RETRY = 1.0
"""Tries of one batch, and seconds until the second one, doubled each time."""

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which a batch is sent again (OTLP/HTTP, "Retryable Response Codes")."""

LAST_SPANS = 1.5
"""Seconds the last spans have when ToolScore ends."""


class Sender:
    """Sends records as spans.

    Args:
        endpoint: The collector's address.
        headers: Headers to send, with references (see `header.split_header`).
        variable: Gives environment variables.
        secret: Gives secrets.
    """

    def __init__(
        self,
        endpoint: str,
        headers: Iterable[str],
        variable: Callable[[str], str | None],
        secret: Callable[[str], str | None],
    ) -> None:
        self.sent = 0
        """Spans the collector took."""
        self.unsent = 0
        """Spans it did not take, or that found no room here."""
        self._address = traces_address(endpoint)
        self._headers = tuple(headers)
        self._variable, self._secret = variable, secret
        self._queue: deque[bytes] = deque()
        self._put = self._taken = 0
        self._end = threading.Event()
        self._hurry = threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._run, name="toolscore-journal-otlp", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def offer(self, lines: Sequence[bytes]) -> None:
        """Take lines of the journal; called in its writer's thread."""
        for line in lines:
            if len(self._queue) >= WAITING or self._put - self._taken + len(line) > WAITING_BYTES:
                self.unsent += 1
                continue
            self._put += len(line)
            self._queue.append(line)
        if len(self._queue) >= BATCH:
            self._hurry.set()

    def close(self) -> None:
        """Send what waits, and end."""
        self._end.set()
        self._hurry.set()
        self._thread.join(LAST_SPANS)

    def _run(self) -> None:
        http: Any = importlib.import_module("httpx2")
        try:
            headers = headers_for(self._address, self._headers, self._variable, self._secret)
        except Exception as exc:
            logger.error("no spans are sent: %s", exc)
            self._lost()
            return
        headers |= {"Content-Type": "application/json", "User-Agent": f"toolscore/{__version__}"}
        with http.Client(headers=headers, timeout=TIMEOUT, follow_redirects=False) as client:
            while True:
                self._hurry.wait(EVERY)
                self._hurry.clear()
                while self._queue:
                    self._send(client, http.HTTPError, self._batch())
                if self._end.is_set():
                    return

    def _lost(self) -> None:
        """Count what comes from now on: nothing can be sent."""
        while not self._end.is_set():
            self._end.wait(EVERY)
            self.unsent += len(self._queue)
            self._queue.clear()
            self._taken = self._put

    def _batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._queue and len(batch) < BATCH and size < BATCH_BYTES:
            line = self._queue.popleft()
            batch.append(line)
            size += len(line)
        self._taken += size
        return batch

    def _send(self, client: Any, failure: type[Exception], batch: Sequence[bytes]) -> None:
        pause, why = FIRST_RETRY, ""
        try:
            body = to_json(request([from_json(line) for line in batch], __version__))
        except ValueError as exc:
            self.unsent += len(batch)
            logger.warning("%d records cannot be sent as spans: %s", len(batch), exc)
            return
        for number in range(TRIES):
            try:
                answer = client.post(self._address, content=body)
            except failure as exc:
                why = str(exc) or type(exc).__name__
            else:
                if answer.status_code < 300:
                    rejected = _rejected(answer.content)
                    self.sent += len(batch) - rejected
                    self.unsent += rejected
                    if self._told:
                        self._told = False
                        logger.info("the collector at %s takes spans again", self._address)
                    return
                why = f"it answered with status {answer.status_code}"
                if answer.status_code not in AGAIN:
                    break
            if number + 1 < TRIES and self._end.wait(pause):
                break  # not when it ends: that must not wait for a collector that is not there
            pause *= 2
        self.unsent += len(batch)
        if not self._told:
            self._told = True
            logger.warning("the collector at %s does not take spans: %s", self._address, why)


def _rejected(body: bytes) -> int:
    """Give how many spans of a request were not taken (`partialSuccess`)."""
    try:
        told = from_json(body)["partialSuccess"]["rejectedSpans"]
        return max(0, int(told))
    except (ValueError, KeyError, TypeError):
        return 0
