"""Which home speaks to a cluster, and in which of its lives: a number that only grows."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

FILE = "cluster.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """A home in one life.

    Attributes:
        namespace: Ray's namespace for it, which no other home has.
        life: Number of this life.
    """

    namespace: str
    life: int


def next_life(home: Path) -> Identity:
    """Begin the next life of a home, written down before anybody hears of it.

    Raises:
        OSError: If it cannot be written.
    """
    path = home / FILE
    try:
        known = json.loads(path.read_text("utf-8"))
        identity = Identity(str(known["namespace"]), int(known["life"]) + 1)
    except (OSError, ValueError, KeyError, TypeError):
        # Nobody's agents are taken over under a name that is made now.
        identity = Identity(f"toolscore-{secrets.token_hex(8)}", 1)
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"namespace": identity.namespace, "life": identity.life}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return identity
