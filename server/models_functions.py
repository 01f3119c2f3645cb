"""Arguments and results of the own tools about functions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .models import Arguments, Result


class ShowFunctionsArguments(Arguments):
    """Arguments of `show_functions`."""

    name: str | None = Field(
        None, description="The function: with its source and versions. Without: all of them."
    )
    version: int | None = Field(None, ge=1, description="Another version than the current one.")


class ManageFunctionArguments(Arguments):
    """Arguments of `manage_function`."""

    name: str = Field(description="The function's name.")
    action: Literal["rollback", "remove"] = Field(
        description="rollback makes an older version the current one; remove deletes all versions."
    )
    version: int | None = Field(None, ge=1, description="For rollback; by default the one before.")


class FunctionVersion(Result):
    """One version of a function."""

    version: int
    current: bool
    created: str


class ShownFunction(Result):
    """One function of `show_functions`."""

    name: str
    tool: str
    version: int
    created: str
    description: str
    packages: list[str]
    annotations: dict[str, Any]
    source: str | None = None
    versions: list[FunctionVersion] | None = None
    file: str | None = Field(
        default=None, description="The source as a file that register_tool takes as well."
    )


class ShowFunctionsResult(Result):
    """Result of `show_functions`."""

    functions: list[ShownFunction]


class ManageFunctionResult(Result):
    """Result of `manage_function`."""

    name: str
    action: str
    version: int | None
