"""`python -m toolscore.sandbox`: the python-executor, an MCP server on standard input and output."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from . import options
from .settings import SandboxSettings, SettingsError


def main() -> None:
    """Serve until the client closes its end."""
    parser = argparse.ArgumentParser(
        prog="python -m toolscore.sandbox",
        description="Runs Python code in isolated boxes, as an MCP server on standard input and output. Any MCP "
        "client can start it as a command; it needs no ToolScore around it. The tool sandbox_status says what "
        "protects here.",
        allow_abbrev=False,
    )
    options.add(parser)
    parser.add_argument(
        "--settings",
        metavar="JSON",
        default="{}",
        help="settings as one JSON object, as ToolScore gives them",
    )
    parser.add_argument(
        "--state", metavar="FOLDER", help="private folder for temporary things (default: one of its own)"
    )
    parser.add_argument(
        "--environments",
        metavar="FOLDER",
        help="where installed packages are kept (default: in the user's cache folder)",
    )
    parser.add_argument(
        "--node",
        action="store_true",
        help="as ToolScore runs it on the nodes of a cluster: tools are called over the standard streams, and what "
        "is in the folder of --state goes first",
    )
    given = parser.parse_args()
    try:
        settings = options.settings(given.settings, given, os.environ)
    except SettingsError as exc:
        parser.error(str(exc))
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    if sys.stdin is not None and sys.stdin.isatty():
        print(
            "This is an MCP server: it waits for messages of a client. End it with Ctrl-D.", file=sys.stderr
        )
    try:
        with _folder(given.state) as folder:
            state = Path(os.path.abspath(folder))  # noqa: PTH100 - it need not be there
            if given.node:
                shutil.rmtree(state, ignore_errors=True)  # of an executor that was killed
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            asyncio.run(_serve(settings, state, _environments(given.environments), given.node))
    except OSError as exc:
        parser.exit(1, f"{parser.prog}: {exc}; give another folder with --state, or make room\n")


def _folder(given: str | None) -> AbstractContextManager[str]:
    return nullcontext(given) if given else tempfile.TemporaryDirectory(prefix="toolscore-sandbox-")


def _environments(given: str | None) -> Path:
    if given:
        return Path(os.path.abspath(given))  # noqa: PTH100 - it need not be there
    import platformdirs

    return Path(platformdirs.user_cache_dir("toolscore-sandbox")) / "packages"


async def _serve(settings: SandboxSettings, state: Path, packages: Path, node: bool) -> None:
    from .. import __version__
    from .compose import composed
    from .stdio import serve

    await serve(composed(settings, state, packages), __version__, node=node)


if __name__ == "__main__":
    main()
