"""What a source says of the tool that is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Signature:
    """What a source says of its tool.

    Attributes:
        entry: Name of the function.
        description: What it does.
        input_schema: JSON Schema of its arguments, an object.
        output_schema: JSON Schema of its result, where that is an object.
        notes: What could be better said.
        calls_tools: Whether it imports the module by which code calls other tools.
    """

    entry: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    notes: list[str] = field(default_factory=list)
    calls_tools: bool = False
