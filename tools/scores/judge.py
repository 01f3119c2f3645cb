"""Whose fault it is that a call failed: what counts against a tool, and what does not."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

from ..outcome import OUTCOME_KEY

OK = "ok"
ERROR = "error"
UNFINISHED = "unfinished"
"""A result that is none yet: a task that was begun, or a question to the client before the tool goes on."""

INVALID = "invalid_arguments"

REFUSED = "refused"

CODE_FAILED = "code_failed"
"""The caller's own code, which is what the tool `RUNS_CODE` runs, did not do what it should."""

RUNS_CODE = "python_execute"

FAILURES = frozenset(
    {ERROR, "server_error", "timed_out", "outcome_unknown", "failed_to_start", "unavailable"}
)
"""Outcomes that count against a tool. All others are excused: the caller's own mistakes (wrong arguments, no right,
no approval, cancelled) and circumstances (still being installed, too many calls at once)."""

ANSWERED = frozenset({OK, ERROR, "server_error"})
"""Outcomes with an answer of the tool's, whose time tells how fast it is."""

UNSENT = frozenset({"failed_to_start", "unavailable"})
"""Outcomes of calls that never reached the server. Trying again and again meanwhile tells nothing new."""

LOOKED_AT = 256
"""Characters of an error's text by which it is judged."""

_LAST = 1_000
"""Characters at the end of a text in which the exception is that a function ended with."""

_CODE = frozenset({"error", "exited", "crashed", "timeout", "cpu", "memory", "output_limit", "no_result"})
"""How code in the sandbox ends badly by its own doing (`sandbox.execution.Status`)."""

# What is excused is what nothing but the arguments can be the reason of, by its first words. "Not found", "access
# denied", a refused connection, and whatever else is said in a server's own words count: a tool that is badly set up,
# or whose service is gone, says the same.
_BEFORE = r"(?:Error executing tool [^\n:]{1,128}: |Error calling tool '[^'\n]{1,128}': |(?:Value)?Error: )?"

# The arguments did not fit the tool's schema. In order: the TypeScript SDK (an McpError made a result), both SDKs'
# low-level check, servers that check with zod by themselves, pydantic's models of arguments and calls as the Python
# SDK and FastMCP name them (but not of an answer of some service), and the reference server for files, of a path that
# its operator has not allowed.
_MISTAKES = re.compile(
    _BEFORE + r"(?:MCP error -32602\b|Input validation error: |"
    r"Invalid (?:arguments?|parameters?|params|input)(?: for [^\n:]{1,128})?(?::|\.?$)|"
    r"Missing required (?:arguments?|parameters?)\b|"
    r"\d{1,6} validation errors? for (?:[^\n\[\]]{0,128}Arguments|call\[[^\n\[\]]{1,128}\])(?:\n|$)|"
    r"Access denied - path outside allowed directories)"
)

# Of these, what no schema says: it is the caller's mistake even where the arguments fit.
_BEYOND_SCHEMA = re.compile(_BEFORE + r"Access denied - path outside allowed directories")

# One of the arguments is named as what is wrong.
_NAMED = re.compile(
    _BEFORE + r"(?:Invalid ['\"`]?(\w{2,64})['\"`]?(?::|\.?$)|"
    r"['\"`]?(\w{2,64})['\"`]? (?:must be|must not be|should be|is required|is not (?:a )?valid|is invalid)\b)"
)
_MOST_ARGUMENTS = 200

# A function that wants other tools where its caller may not call them from code.
_NOT_ENABLED = "ImportError: calling tools from code is not enabled for you: "


def judged(
    result: dict[str, Any],
    tool: str = "",
    *,
    own: bool = False,
    schema: Any = None,
    fitting: bool | None = None,
) -> str:
    """Tell what an `isError` result is: an `error` of the tool, or something that does not count against it.

    Args:
        result: The result (MCP `CallToolResult`).
        tool: The tool's name at its server.
        own: Whether its server is part of ToolScore.
        schema: Its `inputSchema`, whatever a server sent as one.
        fitting: Whether the arguments were such as it asks for; `None` if that is not known. Where they were not,
            that was the reason, whatever the server says; where they were, no talk of wrong arguments excuses it.
    """
    text = told(result)
    if own:
        meta = result.get("_meta")
        code = meta.get(OUTCOME_KEY) if isinstance(meta, dict) else None
        if isinstance(code, str):
            return code  # a server of somebody else's is not taken at its word
        said = result.get("structuredContent")
        if tool == RUNS_CODE and isinstance(said, dict) and said.get("status") in _CODE:
            return CODE_FAILED
        if _NOT_ENABLED in text[-_LAST:]:
            return REFUSED
    if fitting is False:
        return INVALID
    mistakes = _BEYOND_SCHEMA if fitting else _MISTAKES
    if mistakes.match(text[:LOOKED_AT]) or _blames_argument(text[:LOOKED_AT], schema):
        return INVALID
    return ERROR


def _blames_argument(text: str, schema: Any) -> bool:
    """Tell whether a text names one of a tool's arguments as wrong: `Invalid timezone: ...`, `days must be ...`."""
    found = _NAMED.match(text)
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if found is None or not isinstance(properties, dict):
        return False
    said = (found[1] or found[2]).casefold()
    if said in ("input", "response", "result", "output"):
        return False  # as it is said of what a service has answered
    for name in islice(properties, _MOST_ARGUMENTS):
        known = name.casefold() if isinstance(name, str) else ""
        # `source_timezone` is often called by its last word.
        if known == said or (known.endswith(said) and known[-len(said) - 1] in "_-"):
            return True
    return False


def told(result: dict[str, Any]) -> str:
    """Give the first text of a result."""
    content = result.get("content")
    if isinstance(content, list):
        for block in content[:8]:
            if isinstance(block, dict) and isinstance(text := block.get("text"), str):
                return text
    return ""
