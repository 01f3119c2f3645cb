"""`serve` over stdio: joining the ToolScore that is shared by the clients of a home, before anything heavy is loaded.

Settings are the shared one's matter, but for those that each client has for itself; a file that is wrong by now does
not keep a client from the ToolScore that runs.
"""

from __future__ import annotations

import os
import socket
import sys
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...runners.environment import NEVER
from .. import settings_home
from ..hello import PER_CLIENT, Hello, HelloError
from ..home import Home, HomeError
from ..landlord import Landlord, UnreachableError, scrubbed
from ..relay import Relay

UNUSABLE = 3
"""Exit status when the settings or the home cannot be used."""

_NO_SETTINGS = {"TOOLSCORE_HOME", "TOOLSCORE_CONFIG", *NEVER, *PER_CLIENT.values()} - {
    "TOOLSCORE_DATABASE_URL"
}
_NO_SETTINGS_PREFIXES = ("TOOLSCORE_TEST_", "TOOLSCORE_CHILD_")


def join(options: Namespace) -> int | None:
    """Relay standard input and output to the ToolScore of the home; start it if none runs.

    Args:
        options: The command line.

    Returns:
        The exit status; `None` where nothing can be shared, so that this process has to serve by itself.
    """
    if not hasattr(socket, "AF_UNIX") or not hasattr(os, "fork"):
        return None
    if not (_is_open(0) and _is_open(1)):
        return _told(["standard input and output must both be open."])
    environ = {name: value for name, value in os.environ.items() if value.strip()}
    problems: list[str] = []
    path, _origin = settings_home.resolve(options.home, environ, problems)
    hello: Hello | None = None
    try:
        hello = Hello.of(options.set, environ)
    except HelloError as error:
        problems.append(str(error))
    config = options.config or environ.get("TOOLSCORE_CONFIG")
    if config is not None:
        try:
            config = os.path.abspath(os.path.expanduser(config.strip()))  # noqa: PTH100, PTH111 - as the path of the home
        except OSError:
            problems.append(
                f"config = {config}: the working directory is not there any more. Write the path in full."
            )
    if problems or hello is None:
        return _told(problems)
    if options.record:
        from .recorded import recorded

        return recorded(
            options, lambda file: _relayed(options, environ, path, config, replace(hello, record=file))
        )
    return _relayed(options, environ, path, config, hello)


def _relayed(
    options: Namespace, environ: Mapping[str, str], path: Path, config: str | None, hello: Hello
) -> int:
    if not options.quiet:
        _remark(options, environ)
    try:
        return Relay(Landlord(Home.at(path), hello, config), hello).run()
    except HomeError as error:
        return _told([str(error)])
    except UnreachableError as error:
        return _explained(str(error), str(path), config)


def _remark(options: Namespace, environ: Mapping[str, str]) -> None:
    """Say what has no effect: the shared ToolScore takes nothing from whichever client came first but its home."""
    given = [f"--set {key}" for key in options.set if key not in PER_CLIENT]
    given += [
        name
        for name in sorted(environ)
        if name.startswith(("TOOLSCORE_", "PROCESS_PORT_RANGE_"))
        or name in ("PROCESS_TIMEOUT", "PROCESS_MAX_MEMORY")
        if name not in _NO_SETTINGS and not name.startswith(_NO_SETTINGS_PREFIXES)
    ]
    given += ["--no-token"] if options.no_token else []
    if given:
        with suppress(OSError):
            print(
                f"toolscore: {', '.join(given)} has no effect on a ToolScore that is shared: write settings into its "
                "file (`toolscore config path`), or use --standalone with a home of its own.",
                file=sys.stderr,
                flush=True,
            )


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _told(problems: list[str]) -> int:
    with suppress(OSError):
        print(*(f"toolscore: {problem}" for problem in problems), sep="\n", file=sys.stderr, flush=True)
    return UNUSABLE


def _explained(why: str, home: str, config: str | None) -> int:
    """Say why there is no ToolScore; where the settings are to blame, in their own words."""
    from ..settings import SettingsError, load

    try:
        load(home=home, config=config, environ=scrubbed(dict(os.environ)))
    except SettingsError as error:
        return _told(list(error.problems))
    _told([why])
    return 1
