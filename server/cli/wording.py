"""What ToolScore says to a model, said to a person at the command line: its tools are commands there."""

from __future__ import annotations

import re

_CALLS = (
    (re.compile(r"\bmanage_server\(name='([^']+)', action='(\w+)'\)"), r"`toolscore manage \1 \2`"),
    (re.compile(r"\bserver_logs\(name='([^']+)'\)"), r"`toolscore logs \1`"),
    (re.compile(r"\bserver_state\(name='([^']+)'\)"), r"`toolscore status \1`"),
    (re.compile(r"\blist_tools\(server='([^']+)'\)"), r"`toolscore list \1`"),
    (re.compile(r"\bregister_tool\(name=\.\.\., source=\.\.\.\)"), "`toolscore functions add FILE.py`"),
    (re.compile(r"\bCall sync_catalog \(or (`toolscore catalog sync`)\)"), r"Run \1"),
    (re.compile(r"\bsync_catalog\(source=\.\.\.\)"), "`toolscore catalog sync SOURCE`"),
    (re.compile(r"\blist_tools(?= shows)"), "`toolscore list`"),
    (re.compile(r"\blist_servers(?= shows)"), "`toolscore status`"),
    (re.compile(r"\binstall_server(?= adds)"), "`toolscore install SOURCE`"),
    (
        re.compile(r"\bThe arguments of (?:register_tool|install_server) are not right: (?:arguments: )?"),
        "That cannot be done: ",
    ),
)


def for_people(text: str) -> str:
    """Name the commands in place of the tools that a text tells to call next; all else stays as it is.

    Args:
        text: What a tool of ToolScore's own said.
    """
    for pattern, command in _CALLS:
        text = pattern.sub(command, text)
    return text
