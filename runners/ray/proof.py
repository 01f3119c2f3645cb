"""Who speaks on the line between ToolScore and an agent: both prove that they know what went through Ray."""

from __future__ import annotations

import hmac
import secrets

CHALLENGE = 32
"""Bytes of a challenge."""


def challenge() -> str:
    """Make what the other side's proof must be about."""
    return secrets.token_hex(CHALLENGE)


def proof(secret: str, role: str, agents: str, gateways: str, life: int, visit: int) -> str:
    """Prove to know the secret (HMAC-SHA256, RFC 2104).

    Args:
        secret: What both know.
        role: Who proves it, so that nobody's proof can be sent back to him.
        agents: The agent's challenge.
        gateways: ToolScore's challenge.
        life: Number of ToolScore's life.
        visit: Number of the link within it.
    """
    text = f"{role}\n{agents}\n{gateways}\n{life}\n{visit}"
    return hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()


def holds(given: object, expected: str) -> bool:
    """Tell whether a proof is the right one, in a time that tells nothing of it."""
    return isinstance(given, str) and hmac.compare_digest(given.encode(), expected.encode())
