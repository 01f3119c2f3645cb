"""Why a server did not come up, read from what it left: its exit, its standard error, its noise."""

from __future__ import annotations

import re
from collections.abc import Callable

from .base import Child, Diagnosis
from .fetching import fetched
from .spec import Installation, ServerSpec

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


TAKEN = re.compile(
    r"EADDRINUSE|AddrInUse|address already in use|only one usage of each socket address"
    r"|port:? \d+ (?:is|was) (?:already )?in use|java\.net\.BindException",
    re.IGNORECASE,
)
"""How Python, Node, Rust, Go and Java say that somebody else listens on a port already."""

PORT = re.compile(
    r"""
    \('[^'\n]*',\s*(?P<pair>\d{1,5})\b       # Python: on address ('127.0.0.1', 8123)
    | (?:\d+\.\d+\.\d+\.\d+|localhost|[]*\s]|::):(?P<colon>\d{1,5})(?![\d.])  # Node :::8123, Go :8123, 127.0.0.1:8123
    | \bport[ :=]+(?P<word>\d{1,5})\b          # Java: Port 8123 was already in use; Node: port: 8123
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Where those sentences name it."""


REFUSED = 78
"""Status of the launcher of confined servers where they cannot be confined."""

REFUSAL = re.compile(r"^toolscore-confine: (.+)$", re.M)
"""The launcher's reason."""

DENIED = re.compile(
    r"EROFS|EACCES|EPERM|ENETUNREACH|EAI_AGAIN|ENOTFOUND|Read-only file system|Permission denied|not permitted"
    r"|No such file or directory|ENOENT|name resolution|Network is unreachable|dns error|tcp connect error",
    re.IGNORECASE,
)
"""What programs say that meet the walls of a confinement."""


def taken_port(text: str, spec: ServerSpec) -> int | None:
    """Find the port that a server could not listen on, in what it wrote; 0 where it does not say which."""
    if (said := TAKEN.search(text)) is None:
        return None
    # Its own line first, then those around it: Node names the port a few lines below.
    begin, end = text.rfind("\n", 0, said.start()) + 1, text.find("\n", said.end())
    line = text[begin : end if end >= 0 else None]
    for part in (line, text[begin : said.end() + 600], text[max(0, begin - 300) : begin]):
        for found in PORT.finditer(part):
            port = int(found["pair"] or found["colon"] or found["word"])
            if 0 < port < 65536:
                return port
    url = spec.url or ""
    fixed = re.search(r":(\d{1,5})(?:/|$)", url)
    return int(fixed[1]) if fixed else 0


def diagnose(
    installation: Installation,
    child: Child | None,
    problem: str,
    port_owner: Callable[[int], str] | None = None,
) -> Diagnosis:
    """Explain a failed start.

    Args:
        installation: What was started.
        child: What is left of it; `None` if it was never started.
        problem: What the one who started it saw.
        port_owner: Says who has a port.
    """
    if child is None:
        return Diagnosis(problem, "")
    stderr, noise = child.stderr_tail(), child.noise()
    if child.pid is None and child.returncode is None and not (stderr or noise):
        return Diagnosis(
            problem, ""
        )  # a connection; a process elsewhere has no pid here either, but last words
    if child.returncode == REFUSED and (refused := REFUSAL.search(stderr)):
        return Diagnosis(f"{problem.rstrip('.')}: {refused[1]}", stderr)
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
    port = taken_port(said, installation.spec)
    if port is not None:
        which = f"Port {port}" if port else "The port it listens on"
        by = f" by {port_owner(port)}" if port and port_owner is not None else " by somebody else"
        hints.append(f"{which} is taken{by}: stop that, or give this server another port in its args or env.")
    elif offered := TRANSPORT.search(said):
        if USAGE.search(said):
            extra = {"--transport": '["--transport", "stdio"]'}.get(offered[1], f'["{offered[1]}"]')
            hints.append(f"It names an argument for its transport: try again with args {extra}.")
    elif USAGE.search(said):
        hints.append("It printed its usage: it may need arguments; give them in args.")
    if port is None and LISTENING.search(said):
        hints.append(
            "It seems to listen on a port instead of its standard input: start it in its stdio mode, or register "
            "it with both a command and a url."
        )
    spec = installation.spec
    if (
        spec.confine is not None
        and not spec.confine.network
        and (source := fetched(spec.command or "", spec.args))
    ):
        hints.append(
            f"It is confined without the network, and {spec.command} fetches what it starts: install that instead, "
            f"with install_server(source={source!r}, confine=...) or `toolscore install {source} --confine`; or set "
            "network."
        )
    elif spec.confine is not None and DENIED.search(said):
        hints.append(
            "It is confined, and was denied something: see `confine` in its spec, whose write, read and network "
            "open what it needs."
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
