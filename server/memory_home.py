"""The bundled server `memory` of a home: how it is started as the settings have it, and where it keeps things."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..runners.errors import SpecError
from ..runners.keeping import Keeping
from ..runners.spec import Installation, ServerSpec, SourceKind
from ..tools.builtin import Builtin
from ..tools.errors import StoreError
from .database_home import store_of
from .home import Home
from .settings import Settings

if TYPE_CHECKING:
    from ..tools.memory.limits import Limits

MEMORY = "memory"
"""The server's name."""

_URL = f"{MEMORY}/database"
"""Key by which its specification refers to the URL of the shared database; the value is kept nowhere."""
_KIB, _MIB, _DAY = 1 << 10, 1 << 20, 86_400.0


def limits_of(settings: Settings) -> Limits:
    """Give what one user may keep, in the server's own units."""
    from ..tools.memory.limits import Limits

    given = settings.memory
    return Limits(
        size=given.max_size * _MIB,
        messages=given.max_messages,
        age=given.max_age * _DAY,
        message=given.max_message * _KIB,
        when_full=given.when_full,
    )


def memory_of(settings: Settings, home: Home) -> Builtin:
    """Give the server, which is in a home once somebody installed it."""
    from ..tools.memory.starting import DATABASE

    # -P: nothing that lies in the working directory is taken for a module.
    words = [
        "-P",
        "-m",
        "toolscore.tools.memory",
        "--stamped",
        "--limits",
        limits_of(settings).model_dump_json(),
    ]
    env = {}
    if settings.database.url:
        env[DATABASE] = f"${{secret:{_URL}}}"
    else:
        words += ["--file", str(home.memory_file)]
    if settings.memory.semantic == "off":
        words.append("--words-only")
    spec = ServerSpec(command=sys.executable, args=tuple(words), cwd=str(home.path), env=env)
    installation = Installation(
        server_id=MEMORY,
        kind=SourceKind.BUILTIN,
        source="toolscore",
        spec=spec,
        runtime="python",
        version=__version__,
        keeping=Keeping(start="use"),
    )

    def definitions() -> list[dict[str, Any]]:
        from ..tools.memory.definitions import definitions

        return definitions()

    return Builtin(installation, definitions, optional=True, private=True)


def database_secret(settings: Settings, home: Home) -> Callable[[str], str | None]:
    """Give what tells this server the URL of the shared database; it is asked for parts of ToolScore only."""

    def look_up(key: str) -> str | None:
        if key != _URL or not settings.database.url:
            return None
        try:
            where = store_of(settings, home)
        except StoreError as error:
            raise SpecError(str(error)) from error
        return None if isinstance(where, Path) else where

    return look_up
