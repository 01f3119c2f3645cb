"""What gateways tell each other of a store they share, once it is committed (PostgreSQL `NOTIFY`)."""

CHANNEL = "toolscore"
"""Where they do."""


def notice(teller: str, kind: str, name: str) -> str:
    """Put a notice together; the name is last, as it may hold anything."""
    return f"{teller} {kind} {name}"[:4000].replace("\0", "?")


def read_notice(said: str) -> tuple[str, str, str]:
    """Take a notice apart: who tells, the kind of what changed, and its name."""
    teller, _, rest = said.partition(" ")
    kind, _, name = rest.partition(" ")
    return teller, kind, name
