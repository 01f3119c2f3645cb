"""Why a server did not come up, read from what it left: its exit, its standard error, its noise."""

from __future__ import annotations

import re

from .base import Child, Diagnosis
from .spec import Installation

SDK_TWO = re.compile(
    r"No module named 'mcp\.server\.fastmcp'"
    r"|cannot import name '\w+' from 'mcp[\w.]*'"
    r"|No module named 'mcp[\w.]*'"
    r"|'(?:Server|FastMCP|MCPServer|ServerSession|ClientSession)' object has no attribute '\w+'"
    r"|module 'mcp[\w.]*' has no attribute"
    r"|mcp[/\\]\S*\.py"
    r"|(?:Server|FastMCP|MCPServer|\w+)\.__init__\(\) got an unexpected keyword argument"
)
"""Traces of a server that was written for version 1 of the Python SDK and got version 2."""

USAGE = re.compile(
    r"^\s*usage: |\bUsage: |required: |COMMAND \[ARGS\]|missing (?:a )?(?:sub)?command", re.IGNORECASE | re.M
)
TRANSPORT = re.compile(r"(?<![\w-])(--transport|--stdio|stdio)(?![\w-])")
LISTENING = re.compile(r"Uvicorn running on|listening on (?:port|http)|Running on http", re.IGNORECASE)


def diagnose(installation: Installation, child: Child | None, problem: str) -> Diagnosis:
    """Explain a failed start.

    Args:
        installation: What was started.
        child: What is left of it; `None` if it was never started.
        problem: What the one who started it saw.
    """
    if child is None or child.pid is None:
        return Diagnosis(problem, "")
    stderr, noise = child.stderr_tail(), child.noise()
    said = f"{stderr}\n{noise}"
    hints: list[str] = []
    constraint = None
    if (
        installation.runtime == "python"
        and "mcp<2" not in installation.constraints
        and "Traceback" in stderr
        and SDK_TWO.search(stderr)
    ):
        constraint = "mcp<2"
        hints.append(
            "It was written for version 1 of the MCP SDK; its own environment needs the constraint mcp<2."
        )
    if offered := TRANSPORT.search(said):
        if USAGE.search(said):
            extra = {"--transport": '["--transport", "stdio"]'}.get(offered[1], f'["{offered[1]}"]')
            hints.append(f"It names an argument for its transport: try again with args {extra}.")
    elif USAGE.search(said):
        hints.append("It printed its usage: it may need arguments; give them in args.")
    if LISTENING.search(said):
        hints.append(
            "It seems to listen on a port instead of its standard input: start it in its stdio mode, or register "
            "it with both a command and a url."
        )
    if noise and not hints:
        hints.append(
            f"On standard output it printed text that is no MCP message, beginning with {_first_line(noise)!r}: "
            "it may be no MCP server."
        )
    if not hints:
        hints.append("It may be no MCP server, or need arguments, settings or secrets (args, env) to start.")
    return Diagnosis(" ".join([problem.rstrip(".") + ".", *hints]), stderr or noise, constraint)


def _first_line(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= 80 else line[:79] + "…"
