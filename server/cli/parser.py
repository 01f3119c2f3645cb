"""The grammar of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from ... import __version__
from . import journal_options, secret_words, tape_options

EXIT_CODES = """\
exit status:
  0    done
  1    the operation failed: an error result, a server that did not start, a doctor who misses something
  2    the command line is wrong
  3    the settings or the home cannot be used
  4    no such server, tool or token
  130  interrupted
"""

_FORCE = "also if other servers or clients use it"


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse a command line.

    Returns:
        The options: `command`, its own, `home`, `config`, `set` (a dict), `quiet`, and `rest`, what followed `--`.

    Raises:
        SystemExit: For `--help`, `--version`, and a line that is wrong.
    """
    # argparse treats `--` differently from one Python to the next, so it never sees it.
    at = argv.index("--") if "--" in argv else len(argv)
    words, rest = argv[:at], argv[at + 1 :]
    parser, commands = _parsers()
    at = _command_at(words)
    if at == len(words) and not {"-h", "--help", "--version"} & set(words):
        words.insert(at := 0, "serve")  # whose options may stand alone, too
    # A command that is not known goes to the parser of everything, which says so.
    known = at < len(words) and words[at] in commands
    options = parser.parse_args(words[:at] if known else words)
    command = words[at]
    options.command = command
    # Intermixed, or `call TOOL --json '{}'` would be an error: argparse gives up on optional positionals at
    # the first option. What was given before the command is there already and so not undone by a default.
    commands[command].parse_intermixed_args(words[at + 1 :], options)
    if rest and options.command not in {"install", "register"}:
        parser.error(f"`{options.command}` takes nothing after `--`")
    if command == "config" and options.file is not None and options.what != "check":
        commands[command].error(f"`config {options.what}` takes no FILE")
    if command == "catalog" and (problem := _catalog_problem(options)):
        commands[command].error(problem)
    if command == "token" and (problem := _token_problem(options)):
        commands[command].error(problem)
    if command == "policy" and (problem := _policy_problem(options)):
        commands[command].error(problem)
    if command == "journal" and (problem := journal_options.problem(options)):
        commands[command].error(problem)
    if command == "serve" and (problem := tape_options.problem(options)):
        commands[command].error(problem)
    if command == "secret" and (problem := secret_words.problem(options)):
        commands[command].error(problem)
    if command == "functions" and (problem := _functions_problem(options)):
        commands[command].error(problem)
    options.rest = rest
    options.set = dict(options.set)
    if getattr(options, "expose", None):
        options.set["tools.expose"] = ",".join(options.expose)
    return options


def _command_at(words: list[str]) -> int:
    """Find the first word that is neither a global option nor the value of one."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        valued = {"--home", "--config", "--set", "--listen", "--expose", *tape_options.VALUED}
        at += 2 if words[at] in valued else 1
    return min(at, len(words))


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key.strip(), value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _endpoint(text: str) -> str:
    from ..endpoint import EndpointError, parse_endpoint

    try:
        parse_endpoint(text)
    except EndpointError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _rights(text: str) -> list[str]:
    from ..tokens import RIGHTS

    rights = [part.strip() for part in text.split(",") if part.strip()]
    if not rights or not set(rights) <= set(RIGHTS):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of {', '.join(RIGHTS)}, such as call,manage"
        )
    return rights


def _token_problem(options: argparse.Namespace) -> str | None:
    if options.what in ("create", "revoke"):
        if options.name is None:
            return f"`token {options.what}` needs the NAME of a token"
    elif options.name is not None:
        return f"`token {options.what}` takes no NAME"
    if options.allow is None:
        options.allow = ["call"]
    elif options.what != "create":
        return f"`token {options.what}` takes no --allow; what a token allows is fixed when it is created"
    return None


_FUNCTIONS = {
    "list": ("", ()),
    "show": ("NAME", ("version",)),
    "add": ("FILE", ("name", "package")),
    "rollback": ("NAME", ("version",)),
    "remove": ("NAME", ()),
    "export": ("FOLDER", ("name", "version")),
    "import": ("FOLDER", ()),
}
"""What `functions` does, to what, and with which options."""


def _functions_problem(options: argparse.Namespace) -> str | None:
    target, allowed = _FUNCTIONS[options.what]
    if bool(target) != (options.target is not None):
        return f"`functions {options.what}` {f'needs a {target}' if target else 'takes nothing more'}"
    for option in ("name", "version", "package"):
        if getattr(options, option) and option not in allowed:
            return f"`functions {options.what}` takes no --{option}"
    if options.what == "export" and options.version and not options.name:
        return "`functions export --version` needs the --name of the function"
    return None


def _catalog_problem(options: argparse.Namespace) -> str | None:
    count = len(options.words)
    match options.what:
        case "sync" if count > 1:
            return "`catalog sync` takes one SOURCE at the most"
        case "sync" if options.forget and not count:
            return "`catalog sync --forget` needs the SOURCE to forget"
        case "search" if not count:
            return "`catalog search` needs the WORDS to search for"
        case "show" if count != 1:
            return "`catalog show` needs the NAME of one server"
        case "sources" if count:
            return "`catalog sources` takes no words"
    if options.what != "sync" and (options.full or options.forget):
        return f"`catalog {options.what}` takes neither --full nor --forget"
    return None


def _policy_problem(options: argparse.Namespace) -> str | None:
    count = len(options.words)
    match options.what:
        case "check" if count > 1:
            return "`policy check` takes one FILE at the most"
        case "explain" if count != 2:
            return "`policy explain` needs a CLIENT, and a TOOL, a SERVER or a SOURCE"
        case "show" | "template" if count:
            return f"`policy {options.what}` takes nothing more"
    if options.what != "explain" and (options.listener or options.action):
        return f"`policy {options.what}` takes neither --listener nor --action"
    return None


def _globals(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("global options")
    group.add_argument("--home", metavar="DIR", help="the home (TOOLSCORE_HOME)")
    group.add_argument("--config", metavar="FILE", help="the settings file (TOOLSCORE_CONFIG)")
    group.add_argument(
        "--set",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="a setting, such as process.timeout=60 (repeatable)",
    )
    group.add_argument("--quiet", action="store_true", help="no progress and no remarks")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"toolscore: {message}\n{self.format_usage()}")


def _pins(command: Callable[..., argparse.ArgumentParser]) -> None:
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
    verify.add_argument(
        "--accept",
        metavar="NAME",
        action="append",
        default=[],
        help="first take the tools of this server as they are (repeatable)",
    )
    sync = command("sync", "Install exactly what a lock names, by its hashes.", json=True)
    sync.add_argument("file", metavar="FILE", help="the lock; - : standard input")
    sync.add_argument("--dry-run", action="store_true", help="change nothing, only show what would be done")
    sync.add_argument("--prune", action="store_true", help="remove servers that the lock does not name")
    sync.add_argument(
        "--other-tools", action="store_true", help="also servers whose tools are others than locked"
    )
    sync.add_argument(
        "--from",
        dest="places",
        metavar="NAME=PATH",
        type=_pair,
        action="append",
        default=[],
        help="where the folder or bundle of a server is here (repeatable)",
    )
    sync.add_argument(
        "--secret",
        dest="secrets",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="the value of a secret that is missing, such as weather/env/API_KEY=... (repeatable)",
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


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Make the parser of everything, and those of the commands by name."""
    parser = _Parser(
        prog="toolscore",
        description="One MCP server in front of all the others. Without a command: serve.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"toolscore {__version__}")
    _globals(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, text: str, *, json: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        _globals(sub)
        if json:
            sub.add_argument("--json", action="store_true", help="one JSON document on standard output")
        return sub

    serve = command("serve", "Speak MCP on standard input and output (the default).")
    serve.add_argument("--standalone", action="store_true", help="one process for this client alone")
    serve.add_argument("--background", action="store_true", help=argparse.SUPPRESS)
    serve.add_argument("--shared", action="store_true", help=argparse.SUPPRESS)
    _listening(serve)
    tape_options.add(serve)
    _listening(command("start", "Start the background ToolScore of this home."))
    for name, text in (
        ("stop", "Stop the ToolScore that runs for this home."),
        ("restart", "Stop and start the background ToolScore of this home."),
    ):
        stop = command(name, text)
        stop.add_argument("--force", action="store_true", help="kill it if it does not end by itself")
        if name == "restart":
            _listening(stop)

    install = command("install", "Install a server; what follows `--` are its arguments.", json=True)
    install.usage = (
        "toolscore install SOURCE [--name NAME] [--env K=V]... [--give K=V]... [--confine] [--json] "
        "[-- ARGS...]"
    )
    install.add_argument(
        "source",
        metavar="SOURCE",
        help="pypi:NAME[@VERSION], npm:NAME[@VERSION], git+URL[@REF], a folder, an .mcpb file or its "
        "https://...#sha256=CHECKSUM, registry:NAME[@VERSION][#KIND] of the catalog, 'command: ...', or builtin:NAME "
        "for a part of ToolScore that was uninstalled",
    )
    install.add_argument("--name", help="the server's name; otherwise made from the source")
    _env(install)
    install.add_argument(
        "--give",
        dest="settings",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="what a registry: entry or a bundle asks for by name (repeatable)",
    )
    _confine(install)
    _accept(install)
    register = command("register", "Register a server that is already there.", json=True)
    register.usage = (
        "toolscore register NAME [--url URL] [--header K=V]... [--env K=V]... [--confine] [--json] "
        "[-- COMMAND ARGS...]"
    )
    register.add_argument("name", metavar="NAME")
    register.add_argument("--url", help="a ws://, wss://, http:// or https:// endpoint")
    register.add_argument("--header", metavar="KEY=VALUE", type=_pair, action="append", default=[])
    _env(register)
    _confine(register)
    _accept(register)
    uninstall = command("uninstall", "Remove a server and everything installed for it.", json=True)
    uninstall.add_argument("name", metavar="NAME")
    uninstall.add_argument("--force", action="store_true", help=_FORCE)

    listing = command("list", "List the servers and their tools.", json=True)
    listing.add_argument("server", metavar="SERVER", nargs="?", help="only this server")
    call = command("call", "Call a tool.", json=True)
    call.add_argument("tool", metavar="TOOL", help="its name, such as time__get_current_time")
    call.add_argument(
        "arguments",
        metavar="JSON",
        nargs="?",
        default="{}",
        help="its arguments, a JSON object; `-` reads standard input, @FILE a file",
    )
    call.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="give up after this long")
    status = command("status", "Show what runs, or all that is known of one server.", json=True)
    status.add_argument("name", metavar="NAME", nargs="?", help="only this server, in full")
    logs = command("logs", "Show what servers wrote on standard error, and ToolScore's own log.", json=True)
    logs.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="a server, toolscore for its own, @GROUP; without any: all of them",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="show lines as they come, until Ctrl-C")
    logs.add_argument("--lines", metavar="N", type=_count, help="how many lines there are at first")
    logs.add_argument(
        "--level", choices=["debug", "info", "warning", "error"], help="only lines of this level and above"
    )
    scores = command("scores", "Show how well tools really work, from all calls so far.", json=True)
    scores.add_argument("name", metavar="NAME", nargs="?", help="only this tool, or the tools of this server")
    scores.add_argument(
        "--order",
        choices=["worst", "used"],
        default="worst",
        help="the worst first (default), or the most used",
    )
    scores.add_argument(
        "--limit", metavar="N", type=_count, default=20, help="how many tools, up to 100 (default: 20)"
    )
    _approvals(command)
    journal_options.add_options(
        command("journal", "Show what was done: calls, installs, failures.", json=True)
    )
    _pins(command)
    functions = command(
        "functions", "Show, add, remove, export or import functions that are tools.", json=True
    )
    functions.usage = (
        "toolscore functions list | show NAME [--version N] | add FILE [--name NAME] [--package NAME]... | "
        "rollback NAME [--version N] | remove NAME | export FOLDER [--name NAME [--version N]] | import FOLDER"
    )
    functions.add_argument("what", metavar="ACTION", choices=list(_FUNCTIONS), help=", ".join(_FUNCTIONS))
    functions.add_argument(
        "target", metavar="NAME|FILE|FOLDER", nargs="?", help="a function, its file, or a folder of files"
    )
    functions.add_argument("--name", help="for add: its name; for export: only this function")
    functions.add_argument(
        "--version",
        metavar="N",
        type=_count,
        help="another version than the current one, which is all that export writes otherwise",
    )
    functions.add_argument(
        "--package",
        metavar="NAME",
        action="append",
        default=[],
        help="for add: a package it needs (repeatable)",
    )
    catalog = command("catalog", "Bring the catalog of servers up to date, and search it.", json=True)
    catalog.usage = (
        "toolscore catalog sync [SOURCE] [--full | --forget] | search WORDS... [--limit N] | show NAME[@VERSION] | "
        "sources"
    )
    catalog.add_argument(
        "what", metavar="sync|search|show|sources", choices=["sync", "search", "show", "sources"]
    )
    catalog.add_argument(
        "words",
        metavar="WORDS",
        nargs="*",
        help="sync: a registry, a folder or a file, otherwise those of catalog.sources; search: what is needed; "
        "show: the server",
    )
    catalog.add_argument(
        "--limit", metavar="N", type=_count, default=5, help="search: up to 25 servers (default: 5)"
    )
    catalog.add_argument("--full", action="store_true", help="sync: read all again, not only what changed")
    catalog.add_argument("--forget", action="store_true", help="sync: drop SOURCE and what it gave instead")
    policy = command("policy", "Check the policy, show it, or explain what it decides.", json=True)
    policy.usage = (
        "toolscore policy check [FILE] | show | explain CLIENT TOOL|SERVER|SOURCE [--listener KIND] "
        "[--action WHAT] | template"
    )
    policy.add_argument(
        "what", metavar="check|show|explain|template", choices=["check", "show", "explain", "template"]
    )
    policy.add_argument(
        "words",
        metavar="WORDS",
        nargs="*",
        help="check: another file than the one in use; explain: the name of a token (or owner, token, anyone), and a "
        "tool, a server, or what is to be installed",
    )
    policy.add_argument(
        "--listener",
        choices=["stdio", "unix", "websocket", "http", "command"],
        help="explain: where the client comes in",
    )
    policy.add_argument(
        "--action",
        choices=["see", "call", "install", "manage", "approve"],
        help="explain: what is to be done (default: call, or install for a source)",
    )
    manage = command("manage", "Start, stop, restart, enable or disable servers.", json=True)
    manage.add_argument("name", metavar="NAME", help="a server, @GROUP, or * for all")
    manage.add_argument("action", metavar="ACTION", choices=["start", "stop", "restart", "enable", "disable"])
    manage.add_argument("--force", action="store_true", help=_FORCE)
    configure = command(
        "configure", "Change how one server is kept; docs/servers.md has the settings.", json=True
    )
    configure.usage = "toolscore configure NAME KEY=VALUE... [--json]"
    configure.add_argument("name", metavar="NAME")
    configure.add_argument(
        "settings",
        metavar="KEY=VALUE",
        type=_pair,
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

    token = command("token", "Show, create, list or revoke what clients show on the network.", json=True)
    token.usage = "toolscore token show|create|list|revoke [NAME] [--allow RIGHT,...] [--json]"
    token.add_argument(
        "what", metavar="show|create|list|revoke", choices=["show", "create", "list", "revoke"]
    )
    token.add_argument("name", metavar="NAME", nargs="?", help="whose, for create and revoke")
    token.add_argument(
        "--allow",
        metavar="RIGHT,...",
        type=_rights,
        help="what a new one allows: call, manage, register (default: call)",
    )

    secret_words.add_to(command)
    command("doctor", "Show what this machine offers.", json=True)
    config = command(
        "config",
        "Show the settings, a template for their file, its path, or what reading it would change.",
        json=True,
    )
    config.usage = "toolscore config show|template|path|check [FILE] [--origin] [--json]"
    config.add_argument(
        "what", metavar="show|template|path|check", choices=["show", "template", "path", "check"]
    )
    config.add_argument("file", metavar="FILE", nargs="?", help="for check: another file than the one in use")
    config.add_argument("--origin", action="store_true", help="with where each value comes from")
    command("reload", "Have the running ToolScore read its configuration file again.", json=True)
    backup = command("backup", "Write a backup of the home, also while it is in use.", json=True)
    backup.add_argument(
        "file", metavar="FILE", nargs="?", help="a .tar.gz file; otherwise toolscore-DATE.tar.gz here"
    )
    backup.add_argument("--no-secrets", action="store_true", help="leave secrets and tokens out")
    restore = command("restore", "Make a home of a backup.", json=True)
    restore.add_argument("file", metavar="FILE", help="what `backup` wrote")
    restore.add_argument("--force", action="store_true", help="move a home aside that is there already")
    command("version", "Show the version.")
    return parser, dict(commands.choices)


def _approvals(command: Callable[..., argparse.ArgumentParser]) -> None:
    shown = command(
        "approvals", "Show the tools in quarantine: what changed, and what was found in them.", json=True
    )
    shown.add_argument("server", metavar="SERVER", nargs="?", help="only this server")
    for name, text in (
        ("approve", "Approve tools in quarantine, after a look at what changed."),
        ("reject", "Note that tools in quarantine are not wanted; they stay there."),
    ):
        decide = command(name, text, json=True)
        decide.add_argument("server", metavar="SERVER")
        decide.add_argument(
            "tool", metavar="TOOL", nargs="?", help="only this tool; otherwise one after the other"
        )
        decide.add_argument(
            "--digest",
            metavar="D",
            help="exactly this definition (12 characters or more), without being asked",
        )
        if name == "approve":
            decide.add_argument("--yes", action="store_true", help="without being asked")
        else:
            decide.set_defaults(yes=True)


def _accept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept-findings", action="store_true", help="approve its tools whatever is found in them"
    )


def _listening(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expose",
        metavar="WHAT",
        action="append",
        default=[],
        help="what clients are shown: own, all, server:NAME or a pattern such as time__* (tools.expose; repeatable)",
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        type=_endpoint,
        action="append",
        default=[],
        help="serve on this address too, such as ws://127.0.0.1:8765/mcp (repeatable)",
    )
    parser.add_argument(
        "--no-token",
        action="store_true",
        help="let every program and user of this machine in (loopback only)",
    )


def _confine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "confinement (docs/servers.md)", "Any of these confines it: read-only files, no network."
    )
    group.add_argument("--confine", action="store_true", help="with nothing else opened")
    for option, text in (
        ("--allow-write", "a folder it can write besides its own (repeatable)"),
        ("--allow-read", "a place it can read although it is hidden (repeatable)"),
        ("--hide", "a place it does not see (repeatable)"),
    ):
        group.add_argument(option, metavar="PATH", action="append", default=[], help=text)
    group.add_argument("--allow-network", action="store_true", help="leave it the network")


def _env(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--env",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="for the server (repeatable)",
    )
