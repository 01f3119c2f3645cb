"""What a look through a definition found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["high", "medium", "low"]

ORDER: dict[str, int] = {"high": 0, "medium": 1, "low": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that poisoning looks like.

    Attributes:
        kind: Which kind of thing, such as `instruction` or `hidden`.
        severity: How much it matters.
        place: Where: the path in the definition, such as `inputSchema.properties.path.description`.
        excerpt: What stands there, with everything in it made visible.
        said: What it is, in a few words.
    """

    kind: str
    severity: Severity
    place: str
    excerpt: str
    said: str

    def as_json(self) -> dict[str, str]:
        """Give it as it is stored and shown."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Finding:
        """Read what `as_json` gave."""
        return cls(**{name: str(value[name]) for name in cls.__slots__})  # type: ignore[arg-type]


def worst(findings: Iterable[Finding]) -> Severity | None:
    """Give the highest severity; `None` where nothing was found."""
    return min((one.severity for one in findings), key=ORDER.__getitem__, default=None)
