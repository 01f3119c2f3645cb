"""Values as compact JSON, whatever is in them."""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic_core import to_json


def written(value: Any) -> bytes:
    """Write a value as compact JSON; of what JSON has not, such as lone surrogates and infinity, the nearest."""
    try:
        return to_json(value, inf_nan_mode="strings")
    except Exception:  # what a tool gives must not keep its call out of the journal
        try:
            text = json.dumps(_finite(value), ensure_ascii=False, default=str)
        except (ValueError, RecursionError, TypeError):
            text = json.dumps(f"[{type(value).__name__}, which cannot be written as JSON]")
        return text.encode("utf-8", "replace")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
