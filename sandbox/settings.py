"""What the operator decides about the sandbox, as plain values that cross a command line as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .isolation import Tier
from .limits import Limits
from .requirements import NAME, REQUIREMENT


class SettingsError(ValueError):
    """Settings that cannot hold; the message names the one and says why."""


def json_object(text: str, said: str) -> dict[str, Any]:
    """Read settings that are given as JSON.

    Args:
        text: The JSON.
        said: How a sentence on what is wrong with it begins.

    Raises:
        SettingsError: If it is no JSON object.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise SettingsError(f"{said}: not valid JSON: {exc}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{said}: one JSON object is to be given")
    return values


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Settings of the sandbox, whichever process it runs in.

    Attributes:
        limits: What one execution may use at the most; a caller can lower each, never raise it.
        packages: Packages that all code finds, as requirements (`numpy`, `pandas==2.3.0`).
        preload: Modules that are imported before a box is made, so that code finds them loaded.
        allow_packages: Names of further packages a call may ask for; `*` is any.
        warm: Boxes kept ready.
        most: Boxes that run at the same time; more executions wait.
        minimum: The weakest isolation that code is run with.
        session_ttl: Seconds a session lives at the most.
        session_idle: Seconds after which a session that is not used ends.
        sessions: Sessions of one principal at the same time.
        sessions_in_all: Sessions of all principals together.
        embed_limit: Bytes of a created file up to which a result holds the file itself, not a link.
        embed_total: Bytes of all files one result holds.
        keep_bytes: Bytes of created files that are kept for reading them by their links.
        keep_seconds: Seconds they are kept at the most.
    """

    limits: Limits = field(default_factory=Limits)
    packages: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    allow_packages: tuple[str, ...] = ()
    warm: int = 2
    most: int = 8
    minimum: Tier = Tier.REDUCED
    session_ttl: float = 3600.0
    session_idle: float = 600.0
    sessions: int = 4
    sessions_in_all: int = 16
    embed_limit: int = 64 << 10
    embed_total: int = 256 << 10
    keep_bytes: int = 256 << 20
    keep_seconds: float = 3600.0

    def to_json(self) -> str:
        """Give them as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> SandboxSettings:
        """Read them; what is left out has its default.

        Raises:
            SettingsError: If it is no JSON object, or a setting is unknown or has a value that cannot hold.
        """
        return cls.of(json_object(text, "the settings"))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> SandboxSettings:
        """Make them of plain values, as JSON has them.

        Raises:
            SettingsError: If a setting is unknown or has a value that cannot hold.
        """
        limits = values.get("limits", {})
        if not isinstance(limits, Mapping):
            raise SettingsError("limits: an object of limits by name")
        rest = {name: value for name, value in values.items() if name != "limits"}
        return cls(limits=Limits(**_read(Limits(), limits, "limits.")), **_read(cls(), rest, ""))


def _read(defaults: Any, values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    known = {entry.name: getattr(defaults, entry.name) for entry in fields(defaults)}
    if unknown := sorted(str(name) for name in values if name not in known):
        raise SettingsError(
            f"unknown: {', '.join(prefix + name for name in unknown)}; "
            f"there are {', '.join(prefix + name for name in known)}"
        )
    return {name: _value(prefix + name, value, known[name]) for name, value in values.items()}


def _value(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, Tier):
        tiers = [tier for tier in Tier if tier is not Tier.NONE]
        if not isinstance(value, str) or value not in tiers:
            raise SettingsError(f"{name}: one of {', '.join(tiers)}, not {value!r}")
        return Tier(value)
    if isinstance(default, tuple):
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise SettingsError(f"{name}: a list of texts, not {value!r}")
        if not all(isinstance(item, str) and item for item in value):
            raise SettingsError(f"{name}: a list of texts that are not empty")
        pattern, meant = _TEXTS[name]
        if wrong := [item for item in value if not pattern.fullmatch(item)]:
            raise SettingsError(f"{name}: {meant}, not {wrong[0][:100]!r}")
        return tuple(value)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, int):
        if not number or value != int(value) or value < 0:
            raise SettingsError(f"{name}: a whole number of 0 or more, not {value!r}")
        if value == 0 and name not in _MAY_BE_ZERO:
            raise SettingsError(f"{name}: more than 0")
        if value < (least := _LEAST.get(name, 0)):
            raise SettingsError(f"{name}: {least} or more, not {int(value)}")
        return int(value)
    if not number or value <= 0:
        raise SettingsError(f"{name}: a number above 0, not {value!r}")
    return float(value)


_TEXTS = {
    "packages": (re.compile(REQUIREMENT), "packages such as numpy or pandas==2.3.0"),
    "preload": (re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*"), "modules such as numpy or matplotlib.pyplot"),
    "allow_packages": (re.compile(rf"\*|{NAME}"), "names of packages, or *"),
}
_LEAST = {"limits.memory": 32 << 20, "limits.open_files": 16}
"""Below these the sandbox itself cannot work."""

_MAY_BE_ZERO = {"warm", "sessions", "sessions_in_all", "embed_limit", "embed_total", "keep_bytes"}
