"""`start`, `stop`, `restart`: the background ToolScore."""

from __future__ import annotations

from argparse import Namespace

from .. import background
from ..home import Home
from ..owner import current_owner
from ..policy_path import check as check_policy
from ..settings import Loaded
from .output import Output
from .passed import passed


def run(options: Namespace, loaded: Loaded, out: Output) -> int:
    """Do one of the three.

    Returns:
        The exit status.
    """
    home = Home.at(loaded.settings.home)
    try:
        if options.command == "stop":
            return _stop(home, options, loaded, out)
        with background.starting(home):
            if options.command == "start":
                return _start(home, options, loaded, out)
            owner = current_owner(home)
            if owner is not None and owner.mode == "stdio":
                out.error(
                    f"the ToolScore of this home (process {owner.pid}) was started by a client for itself, with "
                    "--standalone or --listen. Restart it from there, or use `toolscore stop` and then "
                    "`toolscore start`."
                )
                return 1
            if owner is not None and owner.mode == "service":
                out.error(
                    f"the ToolScore of this home (process {owner.pid}) was started by a service manager, which is "
                    "to restart it: `systemctl restart toolscore`, or whatever starts it."
                )
                return 1
            check_policy(loaded.settings)  # before the one that runs is stopped
            _stop(home, options, loaded, out)
            return _start(home, options, loaded, out)
    except background.BackgroundError as error:
        out.error(str(error))
        return 1


def _stop(home: Home, options: Namespace, loaded: Loaded, out: Output) -> int:
    within = background.STOP_DEADLINE + loaded.settings.shared.drain
    stopped = background.stop(home, force=options.force, within=within)
    if stopped is None:
        out.line(f"not running: no ToolScore for {home.path}")
    else:
        out.line(f"stopped: process {stopped.pid}, mode {stopped.mode}")
    return 0


def _start(home: Home, options: Namespace, loaded: Loaded, out: Output) -> int:
    running = current_owner(home)
    if running is None or running.mode == "command":
        check_policy(loaded.settings)
    owner, fresh = background.start(home, passed(options, loaded))
    if fresh:
        out.line(f"started: process {owner.pid}, home {home.path}")
        for address in owner.listening:
            out.line(f"listening: {address}")
        if any(not address.startswith("unix:") for address in owner.listening) and not options.no_token:
            out.remark("clients of the network need a token: `toolscore token show`")
        out.remark(f"log: {home.logs_dir / 'toolscore.log'}")
    else:
        out.line(f"already running: process {owner.pid}, mode {owner.mode}")
        if options.listen or options.no_token:
            out.remark(
                "It was started before, so --listen and --no-token have no effect; `restart` takes them."
            )
        elif owner.mode == "shared":
            out.remark("It ends by itself after its last client; `restart` replaces it by one that stays.")
    return 0
