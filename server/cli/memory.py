"""`memory`: the bundled server memory by itself, with the same data as behind ToolScore."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ...tools.errors import StoreError
from ..database_home import store_of
from ..home import Home, prepare
from ..memory_home import limits_of
from ..settings import Settings
from .output import Output


def run(options: Namespace, settings: Settings, out: Output) -> int:
    """Serve one client on standard input and output until it closes them.

    Returns:
        The exit status.
    """
    from ...tools.memory.starting import Start, run

    home = Home.at(settings.home)
    prepare(home)
    where = store_of(settings, home)
    if isinstance(where, Path):
        where = home.memory_file
    try:
        run(Start(where, limits_of(settings), settings.memory.semantic == "auto", options.user))
    except StoreError as error:
        out.error(str(error))
        return 3
    return 0
