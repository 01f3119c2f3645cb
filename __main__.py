"""`python -m toolscore`, the same as the `toolscore` command."""

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    from toolscore.server.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
