"""What one client has agreed with its ToolScore, so that it can be agreed anew with another. No input or output."""

from __future__ import annotations

import json
import os
from typing import Any

from .relay_frames import ANSWER, NOTICE, REQUEST, Frame, key

OUTCOME = "toolscore/outcome"
REFUSED = -32010
"""JSON-RPC code of a refusal, as ToolScore itself has it."""

LOST = (
    "The ToolScore that was doing this ended before it answered: it may or may not have been done. Look at what it "
    "should have changed before you ask for it again."
)

_PREFIX = f"toolscore-relay-{os.urandom(4).hex()}-"  # which no client can hit upon
OWN_ID = b'"' + _PREFIX.encode()
"""How the ids of the relay's own requests begin, as JSON."""

_KEPT = frozenset(
    {
        b"initialize",
        b"server/discover",
        b"ping",
        b"subscriptions/listen",
        b"resources/subscribe",
        b"resources/unsubscribe",
        b"logging/setLevel",
    }
)
"""Requests that are remembered whole, because they are repeated to the next ToolScore."""

_REPEATED = frozenset({b"initialize", b"server/discover", b"ping", b"subscriptions/listen"})
"""Those that change nothing, and so are repeated when they were not answered."""

_ACKNOWLEDGED = b"notifications/subscriptions/acknowledged"
_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


class Session:
    """One client's session, seen from between it and its ToolScore."""

    def __init__(self) -> None:
        self._in_flight: dict[bytes, tuple[bytes, bytes]] = {}
        self._questions: set[bytes] = set()
        self._stale: set[bytes] = set()
        self._initialize: bytes | None = None
        self._initialized: bytes | None = None
        self._level: bytes | None = None
        self._subscribed: dict[str, bytes] = {}
        self._acknowledged: set[bytes] = set()
        self._acknowledge_again: set[bytes] = set()
        self._numbers = 0

    # --- what passes

    def sent(self, frame: Frame, whole: bytes) -> bool:
        """Note a frame of the client.

        Returns:
            Whether it is passed on; a late answer to a ToolScore that is gone is not.
        """
        kind, identity, method = frame
        if kind == REQUEST:
            self._in_flight[identity] = (method, whole if method in _KEPT else b"")
        elif kind == ANSWER:
            if identity in self._stale:
                self._stale.discard(identity)
                return False
            self._questions.discard(identity)
        elif kind == NOTICE:
            if method == b"notifications/cancelled":
                # A cancelled request is never answered (MCP).
                cancelled = self.cancelled(whole)
                self._in_flight.pop(cancelled, None)
                self._acknowledged.discard(cancelled)
            elif method == b"notifications/initialized":
                self._initialized = whole
        return True

    def came(self, frame: Frame, whole: bytes) -> bool:
        """Note a frame of ToolScore.

        Returns:
            Whether it is passed on to the client.
        """
        kind, identity, method = frame
        if kind == ANSWER:
            asked, kept = self._in_flight.pop(identity, (b"", b""))
            self._acknowledged.discard(identity)
            if kept and method == b"result":
                self._agreed(asked, kept)
            return not identity.startswith(OWN_ID)
        if kind == REQUEST:
            self._questions.add(identity)
        elif method == b"notifications/cancelled":
            self._questions.discard(self.cancelled(whole))
        elif method == _ACKNOWLEDGED:
            meta = _params(whole).get("_meta")
            told = key(meta.get(_SUBSCRIPTION)) if isinstance(meta, dict) else b""
            if told in self._acknowledge_again:
                self._acknowledge_again.discard(told)
                return False
            self._acknowledged.add(told)
        return True

    @staticmethod
    def cancelled(whole: bytes) -> bytes:
        """Tell which request a `notifications/cancelled` is about."""
        return key(_params(whole).get("requestId"))

    def _agreed(self, method: bytes, frame: bytes) -> None:
        match method:
            case b"initialize":
                self._initialize = frame
            case b"logging/setLevel":
                self._level = frame
            case b"resources/subscribe":
                self._subscribed[str(_params(frame).get("uri"))] = frame
            case b"resources/unsubscribe":
                self._subscribed.pop(str(_params(frame).get("uri")), None)

    # --- when a ToolScore is gone

    @property
    def busy(self) -> bool:
        """Whether anything of the client is unanswered."""
        return bool(self._in_flight)

    def forget(self, frame: Frame) -> None:
        """Take back a request that was not delivered."""
        if frame[0] == REQUEST:
            self._in_flight.pop(frame[1], None)

    def lost(self) -> tuple[list[bytes], list[bytes]]:
        """Settle what was under way with a ToolScore that is gone.

        Returns:
            What the client is told, and which of its requests are repeated to the next ToolScore.
        """
        told, repeated = [], []
        for identity, (method, frame) in self._in_flight.items():
            if method in _REPEATED and frame:  # of one that was too long to be held there is none
                repeated.append(frame)
            else:
                told.append(self.answer(identity, method, "outcome_unknown", LOST))
        self._in_flight.clear()
        self._acknowledge_again = set(self._acknowledged)
        for identity in self._questions:
            reason = "the ToolScore that asked is gone"
            params = {"requestId": json.loads(identity), "reason": reason}
            told.append(_encoded({"method": "notifications/cancelled", "params": params}))
        self._stale |= self._questions
        self._questions.clear()
        return told, repeated

    def answer(self, identity: bytes, method: bytes, outcome: str, text: str) -> bytes:
        """Answer a request in the place of a ToolScore that cannot."""
        if method == b"tools/call":
            result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": True}
            if self._initialize is None:  # the 2026-07-28 version of MCP wants this
                result["resultType"] = "complete"
            result["_meta"] = {OUTCOME: outcome}
            return _encoded({"id": json.loads(identity), "result": result})
        error = {"code": REFUSED, "message": text, "data": {OUTCOME: outcome}}
        return _encoded({"id": json.loads(identity), "error": error})

    def refusals(self, text: str) -> list[bytes]:
        """Answer everything that is unanswered, because there will be no ToolScore any more."""
        return [
            self.answer(identity, method, "unavailable", text)
            for identity, (method, _) in self._in_flight.items()
        ]

    # --- agreeing anew

    def introduction(self) -> bytes | None:
        """Give the request by which the next ToolScore gets to know the client; `None` if it needs none."""
        return None if self._initialize is None else self._own(self._initialize)

    def agreements(self) -> list[bytes]:
        """Give what has to be told once the introduction was answered."""
        frames = [] if self._initialized is None else [self._initialized]
        wanted = ([] if self._level is None else [self._level]) + list(self._subscribed.values())
        return frames + [self._own(frame) for frame in wanted]

    def changes(self) -> list[bytes]:
        """Tell the client that everything may be different with the next ToolScore."""
        if self._initialized is None:
            return []
        kinds = ("tools", "resources", "prompts")
        return [_encoded({"method": f"notifications/{kind}/list_changed"}) for kind in kinds]

    def _own(self, frame: bytes) -> bytes:
        """Give a request of the client an id under which its answer is not passed on."""
        self._numbers += 1
        return _encoded({**json.loads(frame), "id": f"{_PREFIX}{self._numbers}"})


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode() + b"\n"


def _params(frame: bytes) -> dict[str, Any]:
    try:
        params = json.loads(frame).get("params")
    except (ValueError, AttributeError):
        return {}
    return params if isinstance(params, dict) else {}
