"""Values, limits and names of a schema as short texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

from pydantic_core import to_json

from .purpose import plain

CHOICES = 12
"""Values of an enumeration, or alternatives, that are written out."""

LONGEST_NAME = 200
LONGEST_VALUE = 60


def limits(node: dict[str, Any], kind: str) -> str:
    """Write what a text or a number must be besides; empty where that is nothing."""
    if kind == "string":
        if isinstance(form := node.get("format"), str) and len(form) <= LONGEST_VALUE:
            return f" ({plain(form)})"
        if isinstance(pattern := node.get("pattern"), str) and len(pattern) <= LONGEST_VALUE:
            return f" /{plain(pattern)}/"
        return ""
    low, high = _limit(node, "inimum", ">", max), _limit(node, "aximum", "<", min)
    if low.startswith(">= ") and high.startswith("<= "):
        return f" {low[3:]}..{high[3:]}"
    return "".join(f" {one}" for one in (", ".join(filter(None, (low, high))),) if one)


def _limit(node: dict[str, Any], name: str, sign: str, tighter: Callable[[float, float], float]) -> str:
    """Write one limit, the tighter one where there is one with and one without the number itself."""
    whole, beyond = node.get(f"m{name}"), node.get(f"exclusiveM{name}")
    if beyond is True:  # as it was written in draft 4
        whole, beyond = None, whole
    if _number(beyond) and (not _number(whole) or tighter(whole, beyond) == beyond):
        return f"{sign} {beyond}"
    return f"{sign}= {whole}" if _number(whole) else ""


def _number(value: Any) -> TypeGuard[float]:
    # Integers may be of any size here, and Python refuses to write the largest.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18


def abridged(value: Any) -> str:
    """Write a value as JSON, a long text in part."""
    if isinstance(value, str) and len(value) > LONGEST_VALUE:
        value = plain(f"{value[: LONGEST_VALUE - 20]}…{value[-19:]}")
    return literal(value) or "any"


def literal(value: Any) -> str | None:
    """Write a value as JSON, if that is short."""
    if isinstance(value, dict | list) and len(value) > CHOICES:
        return None
    if isinstance(value, str) and (len(value) > LONGEST_VALUE or not _sayable(value)):
        return None
    try:
        text = to_json(value).decode()
    except (ValueError, RecursionError, OverflowError):
        return None
    return text if len(text) <= LONGEST_VALUE * 2 else None


def nameable(name: str) -> bool:
    """Tell whether a name can be written whole."""
    return len(name) <= LONGEST_NAME and _sayable(name)


def _sayable(text: str) -> bool:
    return plain(text) == text
