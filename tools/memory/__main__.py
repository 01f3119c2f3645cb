"""`python -m toolscore.tools.memory`: memory as an MCP server on standard input and output."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..errors import StoreError
from .limits import Limits
from .starting import DATABASE, Start, run


def main() -> None:
    """Serve until the client closes its end."""
    parser = argparse.ArgumentParser(
        prog="python -m toolscore.tools.memory",
        description="Keeps conversations and finds them again, as an MCP server on standard input and output. Any "
        f"MCP client can start it as a command. With {DATABASE} set to the URL of a PostgreSQL database it keeps "
        "them there.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--file", metavar="FILE", help="the SQLite file (default: memory.db in the user's data folder)"
    )
    parser.add_argument(
        "--limits", metavar="JSON", default="{}", help="what one user may keep, as one JSON object"
    )
    parser.add_argument("--words-only", action="store_true", help="do not search by meaning")
    parser.add_argument("--user", metavar="NAME", default="owner", help="whose it all is (default: owner)")
    parser.add_argument(
        "--stamped",
        action="store_true",
        help="as ToolScore runs it: whose it is stands in each request, and one without that is refused",
    )
    given = parser.parse_args()
    try:
        limits = Limits.model_validate_json(given.limits)
    except ValueError as error:
        parser.error(f"--limits: {error}")
    where = os.environ.pop(DATABASE, "") or _file(given.file)
    try:
        run(Start(where, limits, not given.words_only, None if given.stamped else given.user))
    except StoreError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _file(given: str | None) -> Path:
    if given:
        return Path(os.path.abspath(given))  # noqa: PTH100 - it need not be there
    import platformdirs

    return Path(platformdirs.user_data_dir("toolscore")) / "memory.db"


if __name__ == "__main__":
    main()
