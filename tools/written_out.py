"""Objects and lists that a model has written out as text."""

from __future__ import annotations

import json
from typing import Any


def written_out(value: Any) -> Any:
    """Read an object or a list that came as a text of JSON, as some models write them; give all else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
