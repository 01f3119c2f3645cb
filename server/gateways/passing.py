"""What a request of another gateway is here: what of it is for this hop only, and how it is refused or lost."""

from __future__ import annotations

from typing import Any

from ...tools.outcome import Outcome

ENVELOPE = (
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/logLevel",
)
LONGEST_REASON = 120
"""Bytes of a close reason."""


class Lost(Exception):
    """The server was lost in the course of it, or before: `unheard` says that it surely was not done."""

    def __init__(self, text: str, *, unheard: bool) -> None:
        super().__init__(text)
        self.text = text
        self.unheard = unheard


class Refusal(Exception):
    """It is refused, with an outcome and what else the client is told."""

    def __init__(self, outcome: Outcome, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.said = {"outcome": str(outcome), "message": message, **extra}


def opened(params: dict[str, Any]) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Take what is for this hop only out of a request: its progress token, and the envelope of the modern era."""
    meta = params.get("_meta")
    if not isinstance(meta, dict):
        return params, None, {}
    envelope = {key: meta[key] for key in ENVELOPE[1:] if key in meta}
    kept = {key: value for key, value in meta.items() if key != "progressToken" and key not in ENVELOPE}
    inner = {key: value for key, value in params.items() if key != "_meta"}
    return ({**inner, "_meta": kept} if kept else inner), meta.get("progressToken"), envelope


def fitting(reason: str) -> str:
    """Cut the reason of a close to what fits into its frame (RFC 6455, 5.5)."""
    data = reason.encode()
    return reason if len(data) <= LONGEST_REASON else data[:LONGEST_REASON].decode(errors="ignore")
