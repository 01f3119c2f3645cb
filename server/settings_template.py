"""The settings file as a template: every setting at its default, commented out, with what it does."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from .settings_model import options

_HEAD = """\
# ToolScore settings. Every line that sets something is commented out and shows the default.
#
# Stronger than this file: environment variables (named below each setting), then the command line
# (--set process.timeout=60). `toolscore config show --origin` tells what holds and where it comes from.
# The home itself is set with --home or TOOLSCORE_HOME only.
"""

_SERVERS = """\
# Servers, as other clients write them; docs/configuration.md has all keys. They are the file's own: those that leave
# it are removed. One that is fetched, one that is a program, and one that is elsewhere:
#
# [mcpServers.time]
# source = "pypi:mcp-server-time"
#
# [mcpServers.files]
# command = "npx"
# args = ["-y", "@modelcontextprotocol/server-filesystem", "/srv/data"]
# max_memory = 512
#
# [mcpServers.search]
# url = "https://search.example/mcp"
# headers = { Authorization = "Bearer ${SEARCH_TOKEN}" }
"""


def _toml(value: Any) -> str:
    # JSON's strings, numbers and arrays of strings are TOML's too.
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def template() -> str:
    """Write the template, in TOML."""
    lines = [_HEAD]
    group = ""
    for option in options().values():
        if option.group != group:
            group = option.group
            lines.append(f"[{group}]\n")
        lines += textwrap.wrap(option.description, 96, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"# Must be {option.expects}. Environment: {', '.join(option.environment)}")
        lines.append(f"#{option.name} = {_toml(option.default)}\n")
    lines.append(_SERVERS)
    return "\n".join(lines)
