"""The page of the command line, from its grammar."""

from __future__ import annotations

import argparse

from markdown_cells import cell, code

from toolscore.server.cli import parser as grammar

_HEAD = """\
# Every command

`toolscore COMMAND --help` says the same. Without a command it is `serve`. While a ToolScore runs, commands go through
its Unix socket: one home has one owner.
"""
_AFTER = """
`--json`, where a command has it, gives one JSON document on standard output, whatever the outcome.
"""


def page() -> str:
    """Write the page."""
    whole, commands = grammar._parsers()
    shared = {option for action in whole._actions for option in action.option_strings}
    parts = [_HEAD, "## Global options\n", "They may stand before or behind the command.\n"]
    parts += _table([one for one in whole._actions if one.option_strings])
    parts += [_AFTER, "## Exit statuses\n", "| status | meaning |", "|---|---|"]
    for number, said in exit_statuses().items():
        parts.append(f"| `{number}` | {cell(said)} |")
    for name in sorted(commands):
        parts.append(_section(name, commands[name], shared))
    return "\n".join(parts)


def exit_statuses() -> dict[str, str]:
    """Give what each exit status means."""
    split = (line.split(maxsplit=1) for line in grammar.EXIT_CODES.splitlines()[1:])
    return {words[0]: words[1] for words in split}


def _section(name: str, parser: argparse.ArgumentParser, shared: set[str]) -> str:
    own = [one for one in parser._actions if not set(one.option_strings) & shared]
    usage = parser.usage or _usage(name, own)
    lines = [f"\n## {name}\n", f"{cell(parser.description or '')}\n", "```text", usage, "```\n"]
    plain: list[argparse.Action] = []
    apart: list[str] = []
    for group in parser._action_groups:
        actions = [one for one in group._group_actions if one in own and one.help is not argparse.SUPPRESS]
        if actions and group.description:
            apart += [f"\n**{cell(str(group.title))}** {cell(group.description)}\n", *_table(actions)]
        else:
            plain += actions
    return "\n".join([*lines, *(_table(plain) if plain else []), *apart])


def _usage(name: str, actions: list[argparse.Action]) -> str:
    words = ["toolscore", name]
    for one in actions:
        if one.option_strings:
            continue
        shown = _metavar(one)
        words.append(f"[{shown}]" if one.nargs in ("?", "*") else shown)
    options = [one for one in actions if one.option_strings]
    return " ".join([*words, *(["[OPTIONS]"] if options else [])])


def _metavar(one: argparse.Action) -> str:
    shown = one.metavar if one.metavar is not None else one.dest.upper()
    text = " ".join(shown) if isinstance(shown, tuple) else shown
    return f"{text}..." if one.nargs in ("*", "+") else text


def _table(actions: list[argparse.Action]) -> list[str]:
    lines = ["| | meaning |", "|---|---|"]
    for one in actions:
        takes = "" if one.nargs == 0 else f" {_metavar(one)}"
        name = ", ".join(f"{option}{takes}" for option in one.option_strings) or _metavar(one)
        about = cell((one.help or "").replace("%%", "%"))
        choices = [str(choice) for choice in one.choices or ()]
        if choices and not all(choice in f"{about} {name}" for choice in choices):
            about += f"{' ' if about else ''}One of {', '.join(f'`{choice}`' for choice in choices)}."
        if isinstance(one.default, str | int | float) and one.default not in (False, "", argparse.SUPPRESS):
            about += "" if str(one.default) in about else f" Otherwise {code(str(one.default))}."
        lines.append(f"| {code(name)} | {about} |")
    return lines
