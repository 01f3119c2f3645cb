"""The grammar of the command line."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import NoReturn

from ... import __version__
from . import completing
from .grammar import (
    approvals,
    catalog,
    clients,
    dashboard,
    functions,
    installing,
    journal,
    managing,
    memory,
    pins,
    policy,
    secret,
    serving,
    tape,
    token,
    upkeep,
    using,
)
from .grammar.values import add_repeatable, pair

EXIT_CODES = """\
exit status:
  0    done
  1    the operation failed: an error result, a server that did not start, a doctor who misses something
  2    the command line is wrong
  3    the settings or the home cannot be used
  4    no such server, tool or token
  130  interrupted
"""

_FAMILIES = (
    serving,
    clients,
    installing,
    using,
    approvals,
    journal,
    pins,
    functions,
    catalog,
    policy,
    managing,
    memory,
    dashboard,
    token,
    secret,
    upkeep,
)
"""In the order of `--help`."""
_PROBLEMS = {
    "catalog": catalog.problem,
    "config": upkeep.problem,
    "connect": clients.problem,
    "functions": functions.problem,
    "journal": journal.problem,
    "policy": policy.problem,
    "secret": secret.problem,
    "serve": tape.problem,
    "token": token.problem,
}
"""What tells what is wrong with a line whose words are right one by one."""


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse a command line.

    Returns:
        The options: `command`, its own, `home`, `config`, `set` (a dict), `quiet`, and `rest`, what followed `--`.

    Raises:
        SystemExit: For `--help`, `--version`, and a line that is wrong.
    """
    if completing.asked():
        completing.answer(*_parsers())
    # argparse treats `--` differently from one Python to the next, so it never sees it.
    at = argv.index("--") if "--" in argv else len(argv)
    words, rest = argv[:at], argv[at + 1 :]
    parser, commands = _parsers()
    at = _command_at(words)
    if at == len(words) and not {"-h", "--help", "--version"} & set(words):
        words.insert(at := 0, "serve")  # whose options may stand alone, too
    # A command that is not known goes to the parser of everything, which says so.
    known = at < len(words) and words[at] in commands
    if not known:
        for word in words[:at]:
            # Said before its value is taken for a command; `serve`'s own options may stand without it.
            of_serve = word.partition("=")[0] in commands["serve"]._option_string_actions
            if word.startswith("--") and word != "--version" and not of_serve:
                parser.error(_no_option(word, commands["serve"]))
    options = parser.parse_args(words[:at] if known else words)
    command = words[at]
    options.command = command
    # Intermixed, or `call TOOL --json '{}'` would be an error: argparse gives up on optional positionals at
    # the first option. What was given before the command is there already and so not undone by a default.
    commands[command].parse_intermixed_args(words[at + 1 :], options)
    if rest and options.command not in {"install", "register"}:
        parser.error(f"`{options.command}` takes nothing after `--`")
    if (tell := _PROBLEMS.get(command)) and (problem := tell(options)):
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
        valued = {"--home", "--config", "--set", "--listen", "--expose", *tape.VALUED}
        at += 2 if words[at] in valued else 1
    return min(at, len(words))


def _globals(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("global options")
    group.add_argument("--home", metavar="DIR", help="the home (TOOLSCORE_HOME)")
    group.add_argument("--config", metavar="FILE", help="the settings file (TOOLSCORE_CONFIG)")
    add_repeatable(
        group, "--set", "KEY=VALUE", "a setting, such as process.timeout=60 (repeatable)", kind=pair
    )
    group.add_argument("--quiet", action="store_true", help="no progress and no remarks")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"toolscore: {_plainer(message, self)}\n{self.format_usage()}")


_CHOICE = re.compile(
    r"argument (?P<what>.+?): invalid choice: '(?P<given>.*)' \(choose from (?P<known>.*)\)", re.DOTALL
)
_UNKNOWN = "unrecognized arguments: "
_NEAR = 0.65
"""How much a word must be like another to be asked about (`difflib`)."""


def _plainer(message: str, parser: argparse.ArgumentParser) -> str:
    """Say in plain words what argparse says of a wrong word, with the words that are near."""
    if (found := _CHOICE.fullmatch(message)) is not None:
        known = [word.strip(" '\"") for word in found["known"].split(",")]
        given, near = found["given"], _meant(found["given"], known)
        if found["what"] == "COMMAND":
            return f"there is no command '{given}'. {near}{_SEE.format('toolscore')}"
        return f"{found['what']} cannot be '{given}'. {near}It is one of {', '.join(known)}."
    if message.startswith(_UNKNOWN):
        words = message.removeprefix(_UNKNOWN).split(" ")
        if words[0].startswith("-"):
            return _no_option(words[0], parser)
        return f"`{parser.prog}` does not take {' '.join(words)}. {_SEE.format(parser.prog)}"
    return message


_SEE = "`{} --help` shows what there is."


def _no_option(word: str, parser: argparse.ArgumentParser) -> str:
    name = word.partition("=")[0]
    near = _meant(name, [option for option in parser._option_string_actions if option.startswith("--")])
    return f"`{parser.prog}` has no option {name}. {near}{_SEE.format(parser.prog)}"


def _meant(word: str, known: list[str]) -> str:
    """Ask whether one of the nearest words is meant; nothing where none is near."""
    near = difflib.get_close_matches(word, known, n=2, cutoff=_NEAR)
    near += [one for one in known if word and one.startswith(word) and one not in near][:1]
    return f"Did you mean {' or '.join(f'`{one}`' for one in near[:2])}? " if near else ""


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

    for family in _FAMILIES:
        family.add_to(command)
    return parser, dict(commands.choices)
