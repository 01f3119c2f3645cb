"""Which function does which command, and what its failures mean for the exit status."""

from __future__ import annotations

import asyncio
from argparse import Namespace

from ...tools.errors import LibraryError, StoreError
from ..home import HomeError
from ..settings import Loaded
from .backend import BackendError
from .output import Output
from .passphrase import ask_when_needed
from .results import ToolFailedError


def run_without_settings(options: Namespace) -> int | None:
    """Do one command that must work also where the settings cannot be used.

    Returns:
        The exit status; `None` if the command is another one.
    """
    out = Output(json_wanted=getattr(options, "json", False), quiet=options.quiet)
    ask_when_needed()
    try:
        match options.command:
            case "doctor":
                from . import inspection

                return inspection.run(options, out)
            case "reload":
                from . import reload

                return reload.run(options, out)
            case "config" if options.what == "check":
                from . import config

                return config.check(options, out)
            case "backup" | "restore":
                from . import backup

                return backup.run(options, out)
            case _:
                return None
    except HomeError as error:
        out.error(str(error))
        return 3
    except (BackendError, LibraryError, ToolFailedError, OSError) as error:
        out.error(str(error))
        return 1


def run_command(options: Namespace, loaded: Loaded) -> int:
    """Do one command other than `serve`.

    Returns:
        The exit status.
    """
    out = Output(json_wanted=getattr(options, "json", False), quiet=options.quiet)
    ask_when_needed()
    try:
        match options.command:
            case "start" | "stop" | "restart":
                from . import service

                return service.run(options, loaded, out)
            case "config":
                from . import config

                return config.run(options, loaded, out)
            case "import":
                from . import importing

                return importing.run(options, loaded, out)
            case "connect":
                from . import connecting

                return connecting.run(options, loaded, out)
            case "dashboard":
                from . import dashboard

                return dashboard.run(options, loaded, out)
            case "token":
                from . import token

                return token.run(options, loaded, out)
            case "secret":
                from . import secret

                return secret.run(options, loaded.settings, out)
            case "authorize":
                from . import authorize

                return asyncio.run(authorize.run(options, loaded.settings, out))
            case "logs":
                from . import logs

                return asyncio.run(logs.run(options, loaded.settings, out))
            case "scores":
                from . import scores

                return asyncio.run(scores.run(options, loaded.settings, out))
            case "index":
                from . import index

                return asyncio.run(index.run(loaded.settings, out))
            case "policy":
                from . import policy

                return asyncio.run(policy.run(options, loaded.settings, out))
            case "approvals" | "approve" | "reject":
                from . import approvals

                return asyncio.run(approvals.run(options, loaded.settings, out))
            case "journal":
                from . import journal

                return asyncio.run(journal.run(options, loaded.settings, out))
            case "lock" | "verify" | "sync" | "upgrade":
                from . import pins

                return asyncio.run(pins.run(options, loaded.settings, out))
            case "functions":
                from . import functions

                return asyncio.run(functions.run(options, loaded.settings, out))
            case "memory":
                from . import memory

                return memory.run(options, loaded.settings, out)
            case "catalog":
                from . import catalog

                return asyncio.run(catalog.run(options, loaded.settings, out))
            case "gateways":
                from . import gateways

                return asyncio.run(gateways.run(loaded.settings, out))
            case "top":
                from .top import top

                return asyncio.run(top.run(options, loaded.settings, out))
            case "status":
                from . import status

                return asyncio.run(status.status(loaded, out, options.name))
            case _:
                from . import library

                options.loaded = loaded
                return asyncio.run(library.run(options, loaded.settings, out))
    except (HomeError, StoreError) as error:
        out.error(str(error))
        return 3
    except (BackendError, LibraryError) as error:
        out.error(str(error))
        return 1
    except ToolFailedError as failure:
        if out.json_wanted:
            out.document(failure.result)
        out.error(str(failure))
        return failure.status
