"""The grammar of `manage`, `configure` and `authorize`."""

from __future__ import annotations

from .values import FORCE, Command, pair


def add_to(command: Command) -> None:
    """Add the grammar to the command line."""
    manage = command("manage", "Start, stop, restart, enable or disable servers.", json=True)
    manage.add_argument("name", metavar="NAME", help="a server, @GROUP, or * for all")
    manage.add_argument("action", metavar="ACTION", choices=["start", "stop", "restart", "enable", "disable"])
    manage.add_argument("--force", action="store_true", help=FORCE)
    configure = command(
        "configure", "Change how one server is kept; docs/servers.md has the settings.", json=True
    )
    configure.usage = "toolscore configure NAME KEY=VALUE... [--json]"
    configure.add_argument("name", metavar="NAME")
    configure.add_argument(
        "settings",
        metavar="KEY=VALUE",
        type=pair,
        nargs="+",
        help="such as timeout=60 or groups=web,nightly; without a value, what is set for all holds again",
    )

    authorize = command("authorize", "Let ToolScore use a server that wants to be authorized.", json=True)
    authorize.add_argument("name", metavar="NAME")
    authorize.add_argument("--no-browser", action="store_true", help="only print the address to visit")
    authorize.add_argument("--client-id", metavar="ID", help="of a machine's credentials, without a person")
    authorize.add_argument(
        "--client-secret-env", metavar="VAR", help="environment variable that holds their secret"
    )
    authorize.add_argument(
        "--issuer", metavar="URL", help="the only authorization server that may see their secret"
    )
