"""What the configuration file said of a server when that was last taken over."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from .catalog.installing import Described
from .declared import Declared
from .secrets import Secrets


@dataclass(frozen=True, slots=True)
class Mark:
    """What the file said of a server when that was last taken over. Kept beside the server's secrets.

    Attributes:
        parts: Digests, see `Declared.parts`.
        enabled: Whether it was to run. What was switched by hand since then stays, until the file says otherwise.
        args: How many of its arguments are from the file.
        described: How its entry of the catalog described it, where it was installed from one.
    """

    parts: dict[str, str]
    enabled: bool
    args: int
    described: Described | None = None

    @classmethod
    def of(cls, entry: Declared, described: Described | None = None) -> Mark:
        """Make the mark of an entry."""
        return cls(entry.parts(), entry.enabled, len(entry.spec.args), described)

    @classmethod
    def read(cls, secrets: Secrets, name: str) -> Mark | None:
        """Give a server's mark, or `None` where there is none that can be understood."""
        try:
            found = json.loads(secrets.get(key_of(name)) or "null")
            parts, entry = dict(found["parts"]), found.get("described")
            described = (
                Described(dict(entry["entry"]), str(entry["kind"]), int(entry["words"])) if entry else None
            )
            return cls(parts, bool(found["enabled"]), int(found["args"]), described)
        except (ValueError, TypeError, KeyError):
            return None

    def write(self, secrets: Secrets, name: str) -> None:
        """Keep it."""
        secrets.set(key_of(name), json.dumps(asdict(self), sort_keys=True))


def key_of(name: str) -> str:
    """Name what a server's mark is kept under."""
    return f"{name}/declared"
