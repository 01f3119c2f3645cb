"""Telling a download from a start: programs such as `npx` and `uvx` fetch a server first, and then start it.

What a launcher does shows in the processes below it. While it downloads there are none; while it installs there are
its helpers: scripts of packages, builds, git. As soon as anything else is there, that is the server.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import dropwhile

import psutil

LAUNCHERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "npx": ((),),
    "pnpx": ((),),
    "bunx": ((),),
    "uvx": ((),),
    "npm": (("exec",), ("x",)),
    "pnpm": (("dlx",),),
    "yarn": (("dlx",),),
    "bun": (("x",),),
    "pipx": (("run",),),
    "uv": (("run",), ("tool", "run"), ("tool", "uvx")),
}
"""Package managers, and the subcommands with which they fetch what they start."""

INSTALLING = frozenset({"install", "i", "ci", "add", "rebuild", "pack", "sync", "pip"})
"""Subcommands with which one works for another: `bun add` for bunx, `npm install` for a package from git."""

VALUED = frozenset(
    [
        "--directory",
        "--project",
        "--cache-dir",
        "--config-file",
        "--color",
        "--python-preference",
        "--allow-insecure-host",
        "--prefix",
        "--cache",
        "--registry",
        "--userconfig",
        "--loglevel",
        "--workspace",
        "-w",
        "--dir",
        "-C",
        "--cwd",
        "--config",
    ]
)
"""Options that take the next word as their value, where they stand before the subcommand."""

SCRIPTS = frozenset(
    [
        "preinstall",
        "install",
        "postinstall",
        "preprepare",
        "prepare",
        "postprepare",
        "prepublish",
        "prepack",
        "postpack",
    ]
)
"""Values of `npm_lifecycle_event` in what belongs to an installation. The server itself has `npx`, `bunx` or none."""

HELPERS = frozenset({"git", "ssh", "keyring", "ldd", "tar", "node-gyp", "make"})
"""Programs that launchers call."""

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ash", "ksh", "fish"})

_MANAGER = re.compile(
    rf"({'|'.join(sorted(LAUNCHERS, key=len, reverse=True))})(-cli)?(-\d[\w.]*)?"
    r"(\.(exe|cmd|bat|ps1|cjs|mjs|js))?"
)

_UV_HELPER = re.compile(
    r"""get_interpreter_info     # uv asks a Python what it is
      | pip_compileall           # uv compiles what it installed
      | [\\/]builds-v\d+[\\/]    # uv builds a package in an environment of its own
      | import\ .+\ as\ backend  # the same in the environment that is there: no build isolation
    """,
    re.VERBOSE,
)


def is_launcher(command: str, args: Sequence[str]) -> bool:
    """Tell whether a command line fetches a server before it starts it.

    Args:
        command: The program; `env`, `cmd /c` and `sh -c` in front of a launcher are seen through.
        args: Its arguments.
    """
    program = _program([command, *args])
    return program is not None and _launches(*program)


def still_fetching(pid: int) -> bool:
    """Tell whether a launcher has not started the server yet. It looks at processes, so it belongs in a thread.

    A launcher that hangs, without a network for instance, fetches for ever; the caller has to bound that.

    Args:
        pid: The launcher's process.

    Returns:
        Whether it downloads or installs; `False` as soon as anything below it is none of its helpers, and where the
        system does not tell.
    """
    try:
        launcher = psutil.Process(pid)
        return launcher.status() != psutil.STATUS_ZOMBIE and _fetches(launcher)
    except (psutil.Error, OSError):
        return False


def _fetches(process: psutil.Process) -> bool:
    argv = _argv(process)
    program = _program(argv)
    if program is None and argv:
        return False  # the server took the place of its launcher, as with `pipx run`
    # What pipx starts below itself are pip and venv.
    return (program is not None and program[0] == "pipx") or all(
        _helps(child) for child in process.children()
    )


def _helps(process: psutil.Process) -> bool:
    """Tell whether a process right below a launcher is not the server, nor starts it."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE or not (argv := _argv(process)):
            return True  # it ended, or does not run its program yet
        if (
            _UV_HELPER.search("\n".join(argv[:16]))
            or _name(argv[0]) in HELPERS
            or _name(argv[0])[:3] == "ld-"
        ):
            return True
        try:
            environment = process.environ()
        except psutil.AccessDenied:
            environment = {}
        if environment.get("npm_lifecycle_event") in SCRIPTS or "_PACOTE_NO_PREPARE_" in environment:
            return True
        program = _program(argv)
        if program is None:
            return False
        if (words := _words(program[1])) and words[0] in INSTALLING:
            return True
        # Another launcher, or this one before it became another program. npm is just "npm" for a moment.
        return (_launches(*program) or not words) and _fetches(process)
    except psutil.NoSuchProcess:
        return True


def _argv(process: psutil.Process) -> list[str]:
    argv = process.cmdline()
    # npm makes its command line a title, in one piece.
    return argv[0].split() if argv and not any(argv[1:]) else [word for word in argv if word]


def _name(path: str) -> str:
    return re.split(r"[\\/]", path)[-1].lower()


def _program(argv: Sequence[str]) -> tuple[str, list[str]] | None:
    """Find the package manager that a command line runs, with its arguments."""
    words = list(argv)
    for _ in range(5):
        if not words:
            return None
        name, rest = _name(words[0]), words[1:]
        if found := _MANAGER.fullmatch(name):
            return found[1], rest
        name = name.removesuffix(".exe")
        if name == "env":
            words = list(dropwhile(lambda word: word.startswith("-") or "=" in word, rest))
        elif name == "cmd":
            words = list(dropwhile(lambda word: word.startswith("/"), rest))
        elif name in SHELLS and len(rest) > 1 and re.fullmatch(r"-[a-z]*c", rest[0]):
            try:
                words = shlex.split(rest[1])
            except ValueError:
                return None
            words = words[1:] if words[:1] == ["exec"] else words
        elif name in SHELLS or name.startswith(("node", "python")):
            words = list(dropwhile(lambda word: word.startswith("-"), rest))
        else:
            return None
    return None


def _launches(name: str, args: Sequence[str]) -> bool:
    words = _words(args)
    return any(tuple(words[: len(subcommand)]) == subcommand for subcommand in LAUNCHERS[name])


def _words(args: Sequence[str]) -> list[str]:
    """Give the first words that are no options: the subcommand."""
    words: list[str] = []
    takes_value = False
    for arg in args:
        if takes_value:
            takes_value = False
        elif arg.startswith("-"):
            takes_value = arg in VALUED
        else:
            words.append(arg)
    return words[:2]
