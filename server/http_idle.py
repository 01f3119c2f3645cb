"""How long a session over Streamable HTTP lasts by itself."""

IDLE = 1800.0
"""Seconds after which a session without any request or open stream is ended."""
