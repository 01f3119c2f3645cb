"""What one user may keep."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

WhenFull = Literal["refuse", "oldest"]


class Limits(BaseModel):
    """What one user may keep, in all sessions together.

    Attributes:
        size: Bytes of contents, names and metadata; 0 is no limit.
        messages: How many messages; 0 is no limit.
        age: Seconds after which a message is deleted; 0 is never.
        message: Bytes one message may have.
        when_full: Whether what does not fit is refused, or the oldest messages make room for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size: int = Field(256 << 20, ge=0)
    messages: int = Field(200_000, ge=0)
    age: float = Field(0.0, ge=0)
    message: int = Field(1 << 20, ge=1)
    when_full: WhenFull = "refuse"
