"""The command line. Each command imports what it needs when it runs, so that `serve` stays light."""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import Namespace
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..owner import Mode

_WITHOUT_SETTINGS = frozenset({"reload", "config", "backup", "restore", "doctor"})
"""Commands that may have nothing to do with settings, and so work also where those are wrong."""


def run(argv: list[str]) -> int:
    """Run one command line.

    Args:
        argv: The arguments, without the program's name.

    Returns:
        The exit status; the end of `toolscore --help` says what each means.
    """
    _open_stderr()
    if "TOOLSCORE_PASSPHRASE" in os.environ:
        from ...tools import passphrase

        passphrase.take()  # before anything is started that could see it
    if "TOOLSCORE_TOKEN" in os.environ:
        from .. import given_token

        given_token.take()
    from .parser import parse

    try:
        try:
            status = _run(parse(argv))
        except SystemExit as end:  # argparse has said what it had to say
            status = end.code if isinstance(end.code, int) else 2
        if sys.stdout is not None:  # whoever started this may have closed it
            sys.stdout.flush()
    except KeyboardInterrupt:
        with suppress(OSError):
            print("toolscore: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _nowhere()  # the reader has what it wanted (`toolscore list | head`)
        return 0
    except OSError as error:
        _nowhere()
        with suppress(OSError):
            print(f"toolscore: {_told(error)}", file=sys.stderr)
        return 1
    return status


def _told(error: OSError) -> str:
    """Say what the system did not allow, and what to do: nobody who knew more of it has."""
    from ...tools.replace import next_step

    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}. {next_step(error)}"


def _nowhere() -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain about it while it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if sys.stdout is not None:
            os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _run(options: Namespace) -> int:
    if options.command == "version":
        from ... import __version__

        print(f"toolscore {__version__}")
        return 0
    if options.command == "completion":
        from .completing import code

        print(code(options.shell), end="")
        return 0
    if options.command == "config" and options.what == "template":
        # Without loading any: it is what one asks for when the settings are broken.
        from ..settings import template

        print(template(), end="")
        return 0
    alone = options.command == "serve" and (
        options.standalone or options.service or options.background or options.shared or options.listen
    )
    if options.command == "serve" and options.replay:
        from .replay import replay

        return replay(options)
    if options.command == "serve" and not alone:
        from .join import join

        if (status := join(options)) is not None:
            return status

    if options.command in _WITHOUT_SETTINGS:
        from .commands import run_without_settings

        _open_others()
        _end_as_on_ctrl_c()
        if (status := run_without_settings(options)) is not None:
            return status

    from ..settings import SettingsError, load

    try:
        loaded = load(options.set, home=options.home, config=options.config)
    except SettingsError as error:
        for problem in error.problems:
            print(f"toolscore: {problem}", file=sys.stderr)
        return 3
    if options.command in ("serve", "start", "restart"):
        from ...tools.errors import SecretsError
        from ..home import Home
        from .passphrase import unlock

        try:
            unlock(Home.at(loaded.settings.home), anew=options.command == "restart")
        except SecretsError as error:
            print(f"toolscore: {error}", file=sys.stderr)
            return 3
    if options.command == "serve":
        from ..serve import serve
        from .grammar import tape
        from .passed import passed

        return serve(
            loaded.settings,
            mode=_mode(options),
            listen=options.listen,
            no_token=options.no_token,
            loaded=loaded,
            options=passed(options, loaded),
            record=tape.record(options),
        )

    from .commands import run_command

    _open_others()
    _end_as_on_ctrl_c()
    return run_command(options, loaded)


def _mode(options: Namespace) -> Mode:
    for mode in ("service", "shared", "background"):
        if getattr(options, mode):
            return mode
    return "stdio"


def _open_stderr() -> None:
    """Send to nowhere what is said on standard error, if it is closed: `print` would say it on standard output."""
    if sys.stderr is None:
        sys.stderr = open(_null(2), "w", encoding="utf-8", errors="replace")  # noqa: SIM115 - for good


def _open_others() -> None:
    """Let standard input and output lead nowhere if they are closed: a file of ours must not take their place."""
    if sys.stdin is None:
        sys.stdin = open(_null(0), encoding="utf-8")  # noqa: SIM115 - for good
    if sys.stdout is None:
        sys.stdout = open(_null(1), "w", encoding="utf-8", errors="replace")  # noqa: SIM115 - for good


def _null(number: int) -> int:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    return number


def _end_as_on_ctrl_c() -> None:
    """Let an operation that is ended from outside undo what it began."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's `&` has it, in a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)
