"""The grammar of `lock`, `verify`, `sync` and `upgrade`."""

from __future__ import annotations

from .values import Command, add_repeatable, pair


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    lock = command("lock", "Write what exactly is installed into a file, without secrets.")
    lock.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="toolscore.lock",
        help="(default: toolscore.lock; - : standard output)",
    )
    verify = command("verify", "Compare what is installed with its pins, or with a lock.", json=True)
    verify.add_argument("file", metavar="FILE", nargs="?", help="a lock; without one the home's own pins")
    add_repeatable(verify, "--accept", "NAME", "first take the tools of this server as they are (repeatable)")
    sync = command("sync", "Install exactly what a lock names, by its hashes.", json=True)
    sync.add_argument("file", metavar="FILE", help="the lock; - : standard input")
    sync.add_argument("--dry-run", action="store_true", help="change nothing, only show what would be done")
    sync.add_argument("--prune", action="store_true", help="remove servers that the lock does not name")
    sync.add_argument(
        "--other-tools", action="store_true", help="also servers whose tools are others than locked"
    )
    add_repeatable(
        sync,
        "--from",
        "NAME=PATH",
        "where the folder or bundle of a server is here (repeatable)",
        dest="places",
        kind=pair,
    )
    add_repeatable(
        sync,
        "--secret",
        "KEY=VALUE",
        "the value of a secret that is missing, such as weather/env/API_KEY=... (repeatable)",
        dest="secrets",
        kind=pair,
    )
    sync.add_argument("--yes", action="store_true", help="do not ask")
    upgrade = command(
        "upgrade", "Put another version of a server in its place, once it has started.", json=True
    )
    upgrade.add_argument("name", metavar="NAME")
    which = upgrade.add_mutually_exclusive_group()
    which.add_argument(
        "--to",
        metavar="VERSION",
        help="the version, branch, tag or commit, or the new file of a bundle (default: the newest)",
    )
    which.add_argument(
        "--rollback", action="store_true", help="return to the version before the last upgrade"
    )
    upgrade.add_argument("--diff", action="store_true", help="change nothing, only show what is different")
    upgrade.add_argument("--yes", action="store_true", help="do not ask")
