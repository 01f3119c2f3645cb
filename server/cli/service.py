"""`start`, `stop`, `restart`: the background ToolScore."""

from __future__ import annotations

from argparse import Namespace

from .. import background
from ..home import Home, current_owner
from ..settings import Loaded
from .output import Output


def run(options: Namespace, loaded: Loaded, out: Output) -> int:
    """Do one of the three.

    Returns:
        The exit status.
    """
    home = Home.at(loaded.settings.home)
    try:
        if options.command == "start":
            return _start(home, options, loaded, out)
        if options.command == "restart":
            owner = current_owner(home)
            if owner is not None and owner.mode == "stdio":
                out.error(
                    f"the ToolScore of this home (process {owner.pid}) was started by a client, over stdio. "
                    "Restart it from there, or use `toolscore stop` and then `toolscore start`."
                )
                return 1
        stopped = background.stop(home, force=options.force)
        if stopped is None:
            out.line(f"not running: no ToolScore for {home.path}")
        else:
            out.line(f"stopped: process {stopped.pid}, mode {stopped.mode}")
        return _start(home, options, loaded, out) if options.command == "restart" else 0
    except background.BackgroundError as error:
        out.error(str(error))
        return 1


def _start(home: Home, options: Namespace, loaded: Loaded, out: Output) -> int:
    # Absolute, because it runs in another directory; the file only if one was named, so that it may come later.
    passed = ["--home", str(home.path)]
    if loaded.config_file != home.config_file:
        passed += ["--config", str(loaded.config_file)]
    for key, value in options.set.items():
        passed += ["--set", f"{key}={value}"]
    for address in options.listen:
        passed += ["--listen", address]
    if options.no_token:
        passed.append("--no-token")
    owner, fresh = background.start(home, passed)
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
    return 0
