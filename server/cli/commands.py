"""Which function does which command, and what its failures mean for the exit status."""

from __future__ import annotations

import asyncio
from argparse import Namespace

from ...tools.errors import LibraryError, StoreError
from ..home import HomeError
from ..settings import Loaded
from .backend import BackendError
from .output import Output


def run_command(options: Namespace, loaded: Loaded) -> int:
    """Do one command other than `serve`.

    Returns:
        The exit status.
    """
    out = Output(json_wanted=getattr(options, "json", False), quiet=options.quiet)
    try:
        match options.command:
            case "start" | "stop" | "restart":
                from . import service

                return service.run(options, loaded, out)
            case "config" | "doctor":
                from . import inspection

                return inspection.run(options, loaded, out)
            case "token":
                from . import token

                return token.run(options, loaded, out)
            case "authorize":
                from . import authorize

                return asyncio.run(authorize.run(options, loaded.settings, out))
            case "status":
                from . import status

                return asyncio.run(status.status(loaded.settings, out))
            case _:
                from . import library

                return asyncio.run(library.run(options, loaded.settings, out))
    except (HomeError, StoreError) as error:
        out.error(str(error))
        return 3
    except (BackendError, LibraryError) as error:
        out.error(str(error))
        return 1
