"""What every group of settings is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def setting(default: Any, expects: str, description: str, *also: str, **limits: Any) -> Any:
    """Declare one setting.

    Args:
        default: Its default.
        expects: What a value must be, to follow the words "must be".
        description: What it does.
        *also: Environment variables it may come from besides its own `TOOLSCORE_*` one.
        **limits: Limits for pydantic.
    """
    extra: dict[str, Any] = {"expects": expects, "also": list(also)}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Group(BaseModel):
    """A table of settings."""

    # Strict, because a file's `timeout = true` or `"300"` is a slip; texts of the environment are read first.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
