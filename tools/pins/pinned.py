"""Pins that know the tools of their server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...runners.installers.pinning import pin_command
from ...runners.pin import Pin
from ...runners.spec import Installation, SourceKind
from ..rows import tool_rows


def with_tools(installation: Installation, listed: Iterable[Mapping[str, Any]] | None) -> Installation:
    """Add the tools to the pin of an installation, and make one for what is there already.

    Args:
        installation: It.
        listed: Its tools; `None` where they are not known.
    """
    pin = installation.pin
    if installation.kind is SourceKind.BUILTIN:
        return installation
    if pin is None and installation.kind in (SourceKind.COMMAND, SourceKind.REGISTERED):
        pin = pin_command(installation.spec, installation.source)
    if listed is not None:
        tools = {row.name: row.digest for row in tool_rows(installation.name, listed)}
        pin = (pin or Pin(source=installation.source)).model_copy(
            update={"tools": dict(sorted(tools.items()))}
        )
    return installation.model_copy(update={"pin": pin})
